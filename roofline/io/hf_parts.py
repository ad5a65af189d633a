"""What the architectures of Hugging Face configs have in common: heads, windows, MLPs, the outside of the model."""

from collections.abc import Sequence
from dataclasses import replace

from ..model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm, Position
from .hf_fields import LARGEST_CONTEXT, MOST_LAYERS, Fields

ACTIVATIONS = (
    "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "relu",
)  # fmt: skip
"""Element-wise functions: all of them one pass over the data."""

_WINDOWED = ("sliding_attention", "chunked_attention")


def read_layer_count(f: Fields, name: str = "num_hidden_layers") -> int:
    """The number of layers."""
    return int(f.count(name, most=MOST_LAYERS))


def read_heads(f: Fields) -> tuple[float, float]:
    """(query heads, key/value heads); without the latter every query head has its own."""
    heads = f.count("num_attention_heads")
    kv_heads = f.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise f.error("num_key_value_heads", f"a divisor of num_attention_heads = {heads:.0f}")
    return heads, kv_heads


def read_head_dim(f: Fields, hidden: float, heads: float) -> float:
    """`head_dim`, or hidden size / heads where the file leaves it out."""
    given = f.optional("head_dim")
    if given is None and hidden % heads:
        raise f.error("num_attention_heads", f"a divisor of the hidden size {hidden:.0f}", "Or state head_dim.")
    return hidden / heads if given is None else given


def read_attention(f: Fields, hidden: float, qkv_bias: bool = False, output_bias: bool = False) -> Attention:
    """Grouped-query attention of the usual field names, without a window."""
    heads, kv_heads = read_heads(f)
    return Attention(heads, kv_heads, read_head_dim(f, hidden, heads), qkv_bias=qkv_bias, output_bias=output_bias)


def read_bias(f: Fields, default: bool = False) -> dict[str, bool]:
    """attention_bias, where it stands for all four projections."""
    bias = f.flag("attention_bias", default)
    return {"qkv_bias": bias, "output_bias": bias}


def read_windows(f: Fields, attention: Attention, window: float | None, local: Sequence[bool]) -> list[Attention]:
    """`attention` for each layer, with the window where the layer is local. `layer_types` in the file wins."""
    stated = f.words("layer_types", (*_WINDOWED, "full_attention"), len(local))
    flags = [entry in _WINDOWED for entry in stated] if stated else local
    if window is None:
        if stated and any(flags):
            raise f.error("sliding_window", "a whole number, because layer_types names layers that have a window")
        return [attention] * len(local)
    return [replace(attention, window=window) if flag else attention for flag in flags]


def read_gated(f: Fields, bias: bool = False) -> Mlp:
    """A gate/up/down MLP."""
    f.word("hidden_act", ACTIVATIONS)
    return Mlp(f.count("intermediate_size"), gated=True, bias=bias)


def read_plain(f: Fields, hidden: float, width: str, activation: str, bias: bool) -> Mlp:
    """An up/down MLP; four times the hidden size where the file states no width (GPT-2, Falcon)."""
    f.word(activation, ACTIVATIONS)
    return Mlp(f.count(width, 4.0 * hidden), gated=False, bias=bias)


def read_per_token(f: Fields, experts: float, name: str = "num_experts_per_tok") -> float:
    """How many of the `experts` one token is sent to."""
    chosen = f.count(name)
    if chosen > experts:
        raise f.error(name, f"at most the number of experts, {experts:.0f}")
    return chosen


def decoder(
    f: Fields, name: str, family: str, hidden: float, attention: Sequence[Attention | LatentAttention],
    mlp: Sequence[Mlp | Moe], norm_count: float = 2.0, tied: bool = False, norm: Norm = Norm.RMS,
    position: Position = Position.ROTARY,
) -> Model:  # fmt: skip
    """The part that all decoders have in common. `tied` is the class's default."""
    return Model(
        name=name,
        family=family,
        hidden=hidden,
        vocabulary=f.count("vocab_size"),
        layers=tuple(Layer(a, m, norm_count) for a, m in zip(attention, mlp, strict=True)),
        tied_embeddings=f.flag("tie_word_embeddings", tied),
        max_context=f.count("max_position_embeddings", most=LARGEST_CONTEXT),
        norm=norm,
        position=position,
    )


def qwen_windows(f: Fields, attention: Attention, layers: int) -> list[Attention]:
    """Qwen: windows only with use_sliding_window, and only from layer max_window_layers on."""
    used = f.flag("use_sliding_window", False)
    window = f.optional("sliding_window")
    first = f.count("max_window_layers", float(layers), least=0)
    return read_windows(f, attention, window if used else None, [used and index >= first for index in range(layers)])


def qwen3_attention(f: Fields, hidden: float, layers: int) -> list[Attention]:
    """Qwen3: head_dim is a field of its own, and queries and keys are normalised head by head."""
    heads, kv_heads = read_heads(f)
    head_dim = f.count("head_dim")
    attention = Attention(heads, kv_heads, head_dim, qk_norm=2.0 * head_dim, **read_bias(f))
    return qwen_windows(f, attention, layers)
