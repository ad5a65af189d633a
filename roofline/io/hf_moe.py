"""Mixture-of-experts architectures of Hugging Face configs: one small function for each, from fields to a Model.

Source of every rule and of every default: the configuration and modelling classes of the named architecture in
Hugging Face transformers. A default appears here only where published config.json files leave the field out.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..model import LatentAttention, Mlp, Model, Moe, Norm
from .hf_fields import Fields
from .hf_parts import (
    decoder,
    qwen3_attention,
    qwen_windows,
    read_attention,
    read_bias,
    read_gated,
    read_layer_count,
    read_per_token,
    read_windows,
)


def _mixtral(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_windows(f, read_attention(f, hidden), f.nullable("sliding_window"), [True] * layers)
    experts, mlp = f.count("num_local_experts"), read_gated(f)
    moe = Moe(experts, read_per_token(f, experts), mlp.width, gated=True)
    return decoder(f, name, "mixtral", hidden, attention, [moe] * layers)


def _phi_moe(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_attention(f, hidden, **read_bias(f))
    stack = read_windows(f, attention, f.nullable("sliding_window"), [True] * layers)
    experts, mlp = f.count("num_local_experts"), read_gated(f)
    moe = Moe(experts, read_per_token(f, experts), mlp.width, gated=True)
    model = decoder(f, name, "phimoe", hidden, stack, [moe] * layers, norm=Norm.LAYER)
    return replace(model, head_bias=f.flag("lm_head_bias", False))


def _qwen_sparse(f: Fields, layers: int) -> list[bool]:
    """Which layers route tokens to experts."""
    step = f.count("decoder_sparse_step", 1.0)
    dense = f.integers("mlp_only_layers", layers) or []
    return [(index + 1) % step == 0 and index not in dense for index in range(layers)]


def _qwen2_moe(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = qwen_windows(f, read_attention(f, hidden, qkv_bias=f.flag("qkv_bias", True)), layers)
    experts, dense = f.count("num_experts"), read_gated(f)
    moe = Moe(
        experts, read_per_token(f, experts), f.count("moe_intermediate_size"), gated=True, shared=1.0,
        shared_width=f.count("shared_expert_intermediate_size"), shared_gate=True,
    )  # fmt: skip
    mlp = [moe if sparse else dense for sparse in _qwen_sparse(f, layers)]
    return decoder(f, name, "qwen2-moe", hidden, attention, mlp)


def _qwen3_moe(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    experts, dense = f.count("num_experts"), read_gated(f)
    moe = Moe(experts, read_per_token(f, experts), f.count("moe_intermediate_size"), gated=True)
    mlp = [moe if sparse else dense for sparse in _qwen_sparse(f, layers)]
    return decoder(f, name, "qwen3-moe", hidden, qwen3_attention(f, hidden, layers), mlp)


def _deepseek(f: Fields, name: str, routing: str) -> Model:
    """DeepSeek-V2, V3, R1, Kimi K2. "noaux_tc" is the router bias of DeepSeek-V3 (arXiv 2412.19437, 2.1.2)."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    f.fixed("attention_bias", False, "biases in latent attention")
    heads = f.count("num_attention_heads")
    if f.count("num_key_value_heads", heads) != heads:
        raise f.error("num_key_value_heads", f"num_attention_heads = {heads:.0f}, as latent attention has no groups")
    attention = LatentAttention(
        heads, f.nullable("q_lora_rank"), f.count("kv_lora_rank"), f.count("qk_nope_head_dim"),
        f.count("qk_rope_head_dim"), f.count("v_head_dim"),
    )  # fmt: skip
    experts, dense = f.count("n_routed_experts"), read_gated(f)
    width = f.count("moe_intermediate_size")
    method = f.word("topk_method", ("greedy", "group_limited_greedy", "noaux_tc"), routing)
    moe = Moe(
        experts, read_per_token(f, experts), width, gated=True, shared=f.count("n_shared_experts", 0.0, least=0),
        shared_width=width, router_bias=method == "noaux_tc",
    )  # fmt: skip
    first, every = f.count("first_k_dense_replace", least=0), f.count("moe_layer_freq", 1.0)
    mlp = [moe if index >= first and index % every == 0 else dense for index in range(layers)]
    return decoder(f, name, "deepseek", hidden, [attention] * layers, mlp)


def _glm4_moe(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_attention(f, hidden, qkv_bias=f.flag("attention_bias", False))
    attention = replace(attention, qk_norm=2.0 * attention.head_dim * f.flag("use_qk_norm", False))
    experts, dense = f.count("n_routed_experts"), read_gated(f)
    width = f.count("moe_intermediate_size")
    moe = Moe(
        experts, read_per_token(f, experts), width, gated=True, shared=f.count("n_shared_experts", 0.0, least=0),
        shared_width=width, router_bias=True,
    )  # fmt: skip
    first = f.count("first_k_dense_replace", least=0)
    mlp = [moe if index >= first else dense for index in range(layers)]
    return decoder(f, name, "glm4-moe", hidden, [attention] * layers, mlp)


def _gpt_oss(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = replace(read_attention(f, hidden, **read_bias(f, True)), sinks=True)
    stack = read_windows(f, attention, f.count("sliding_window"), [index % 2 == 0 for index in range(layers)])
    experts, mlp = f.count("num_local_experts"), read_gated(f)
    chosen = "num_experts_per_tok" if f.has("num_experts_per_tok") else "experts_per_token"
    per_token = read_per_token(f, experts, chosen)
    f.ignore(("num_experts_per_tok", "experts_per_token"))
    moe = Moe(experts, per_token, mlp.width, gated=True, bias=True, router_bias=True)
    return decoder(f, name, "gpt-oss", hidden, stack, [moe] * layers)


def _llama4(f: Fields, name: str) -> Model:
    """Llama4TextConfig: every 4th layer has no rotary embedding and sees everything, the others see their chunk.

    A chunk is modelled as a window of its length, an upper bound. The norms on queries and keys have no parameters.
    """
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    interval = f.count("no_rope_layer_interval", 4.0)
    rotary = f.integers("no_rope_layers", 2) or [int((index + 1) % interval != 0) for index in range(layers)]
    if len(rotary) != layers:
        raise f.error("no_rope_layers", f"a list of {layers} entries, one for each layer")
    attention = read_attention(f, hidden, **read_bias(f))
    stack = read_windows(f, attention, f.nullable("attention_chunk_size"), [bool(entry) for entry in rotary])
    experts, routed = f.count("num_local_experts"), read_gated(f)
    dense = Mlp(f.count("intermediate_size_mlp"), gated=True)
    moe = Moe(experts, read_per_token(f, experts), routed.width, gated=True, shared=1.0, shared_width=routed.width)
    step = int(f.count("interleave_moe_layer_step", 1.0))
    sparse = set(f.integers("moe_layers", layers) or range(step - 1, layers, step))
    mlp = [moe if index in sparse else dense for index in range(layers)]
    return decoder(f, name, "llama4", hidden, stack, mlp)


MIXTURES: dict[str, Callable[[Fields, str], Model]] = {
    "MixtralForCausalLM": _mixtral,
    "PhimoeForCausalLM": _phi_moe,
    "PhiMoEForCausalLM": _phi_moe,
    "Qwen2MoeForCausalLM": _qwen2_moe,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "DeepseekV2ForCausalLM": partial(_deepseek, routing="greedy"),
    "DeepseekV3ForCausalLM": partial(_deepseek, routing="noaux_tc"),
    "Glm4MoeForCausalLM": _glm4_moe,
    "GptOssForCausalLM": _gpt_oss,
    "Llama4ForCausalLM": _llama4,
}
