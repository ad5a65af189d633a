"""Named transformer layers as kernels: the dimensions of a projection, a norm, a rotary embedding, ..."""

from dataclasses import dataclass

from ...structs import Array, Number
from ..records import Family


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that turn a layer's name into a kernel's dimensions; `gated`: 1 for a gated MLP, 0 for a plain one."""

    hidden: Number
    width: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    vocabulary: Number
    gated: Number = 1.0


SHAPES = {"Llama-3.1-8B": ModelShape(4096.0, 14336.0, 32.0, 8.0, 128.0, 128256.0)}
"""By the last part of the model's name. Source: config.json of meta-llama/Llama-3.1-8B."""

Kernel = tuple[Family, dict[str, Number]]

VALUE_BYTE = 2.0
"""All these sets run 16-bit activations."""

TOKEN_ID_BYTE = 8.0
"""PyTorch token ids are int64."""


def gemm(row: Array, n: Number, k: Number) -> Kernel:
    """A dense projection of `row` rows."""
    return Family.GEMM, {"m": row, "n": n, "k": k, "copies": 1.0}


def pointwise(family: Family, row: Array, read: Number, write: Number) -> Kernel:
    """A kernel that reads and writes so many 16-bit values per row.

    Ids and positions that it reads, 8 bytes beside thousands, are left out as in the kernels of a model's step: a
    step's sizes would otherwise lie just outside those measured.
    """
    return family, {"row": row, "read_byte": read * VALUE_BYTE, "write_byte": write * VALUE_BYTE}


def layer(name: str, row: Array, shape: ModelShape, share: Number) -> Kernel | None:
    """The kernel behind a layer's name on one of `share` tensor-parallel devices; None for an unknown name.

    Names of Vidur (`attn_pre_proj`, `mlp_act`, ...) and of LLMServingSim (`qkv_proj`, `act_fn`, ...). Norms, residual
    additions and the embedding's output are not divided by tensor parallelism; the rest is. A norm that adds the
    residual (vLLM's fused kernel) reads and writes two rows, the plain RMS norm one. LLMServingSim's "layernorm" is
    the mean of both: its profiler runs one layer, whose input norm has no residual to add, and divides the time of
    the layer's two norms by their number (profiler/core/hooks/timings.py).
    """
    hidden, width = shape.hidden, shape.width / share
    query, key = shape.heads * shape.head_dim / share, shape.kv_heads * shape.head_dim / share
    match name:
        case "attn_pre_proj" | "qkv_proj":
            return gemm(row, query + 2.0 * key, hidden)
        case "q_proj":
            return gemm(row, query, hidden)
        case "attn_post_proj" | "o_proj":
            return gemm(row, hidden, query)
        case "mlp_up_proj" | "gate_up_proj":
            return gemm(row, (1.0 + shape.gated) * width, hidden)
        case "gate_proj" | "up_proj":
            return gemm(row, width, hidden)
        case "mlp_down_proj" | "down_proj":
            return gemm(row, hidden, width)
        case "lm_head":
            return gemm(row, shape.vocabulary / share, hidden)
        case "emb" | "embedding":
            return pointwise(Family.EMBEDDING, row, hidden, hidden)
        case "input_layernorm" | "post_attention_layernorm":
            return pointwise(Family.NORM, row, hidden, hidden)
        case "layernorm":
            return pointwise(Family.NORM, row, 1.5 * hidden, 1.5 * hidden)
        case "final_layernorm":
            return pointwise(Family.NORM, row, 2.0 * hidden, 2.0 * hidden)
        case "mlp_act" | "act_fn":
            return pointwise(Family.ACTIVATION, row, (1.0 + shape.gated) * width, width)
        case "attn_rope" | "rotary_emb":
            return pointwise(Family.ROPE, row, query + key, query + key)
        case "add":
            return pointwise(Family.RESIDUAL, row, 2.0 * hidden, hidden)
        case "sampler":
            return pointwise(Family.SAMPLING, row, shape.vocabulary, TOKEN_ID_BYTE / VALUE_BYTE)
    return None
