"""Dense architectures of Hugging Face configs: one small function for each, from fields to a Model.

Source of every rule and of every default: the configuration and modelling classes of the named architecture in
Hugging Face transformers. A default appears here only where published config.json files leave the field out.
"""

from collections.abc import Callable
from dataclasses import replace

from ..model import Attention, Layer, Mlp, Model, Norm, Position
from .hf_fields import LARGEST_CONTEXT, Fields
from .hf_parts import (
    ACTIVATIONS,
    decoder,
    qwen3_attention,
    qwen_windows,
    read_attention,
    read_bias,
    read_gated,
    read_head_dim,
    read_heads,
    read_layer_count,
    read_plain,
    read_windows,
)


def _llama(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_attention(f, hidden, **read_bias(f))
    mlp = read_gated(f, f.flag("mlp_bias", False))
    return decoder(f, name, "llama", hidden, [attention] * layers, [mlp] * layers)


def _mistral(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_windows(f, read_attention(f, hidden), f.nullable("sliding_window"), [True] * layers)
    return decoder(f, name, "mistral", hidden, attention, [read_gated(f)] * layers)


def _qwen2(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = qwen_windows(f, read_attention(f, hidden, qkv_bias=True), layers)
    return decoder(f, name, "qwen2", hidden, attention, [read_gated(f)] * layers)


def _qwen3(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    return decoder(f, name, "qwen3", hidden, qwen3_attention(f, hidden, layers), [read_gated(f)] * layers)


def _gemma_mlp(f: Fields) -> Mlp:
    """The activation under either of its two names; both may be there, the class reads hidden_activation."""
    if f.has("hidden_act") or not f.has("hidden_activation"):
        f.word("hidden_act", ACTIVATIONS)
    if f.has("hidden_activation"):
        f.word("hidden_activation", ACTIVATIONS)
    else:
        f.ignore(("hidden_activation",))
    return Mlp(f.count("intermediate_size"), gated=True)


def _gemma(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    heads, kv_heads = read_heads(f)
    attention = Attention(heads, kv_heads, f.count("head_dim"), **read_bias(f))
    return decoder(f, name, "gemma", hidden, [attention] * layers, [_gemma_mlp(f)] * layers, tied=True)


def _gemma2(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    heads, kv_heads = read_heads(f)
    attention = Attention(heads, kv_heads, f.count("head_dim"), **read_bias(f))
    stack = read_windows(f, attention, f.count("sliding_window"), [index % 2 == 0 for index in range(layers)])
    return decoder(f, name, "gemma2", hidden, stack, [_gemma_mlp(f)] * layers, norm_count=4.0, tied=True)


def _gemma3(f: Fields, name: str) -> Model:
    """Published text configs of Gemma 3 leave out what equals the default of Gemma3TextConfig."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    heads, kv_heads = f.count("num_attention_heads", 8.0), f.count("num_key_value_heads", 4.0)
    if heads % kv_heads:
        raise f.error("num_key_value_heads", f"a divisor of num_attention_heads = {heads:.0f}")
    head_dim = f.count("head_dim", 256.0)
    attention = Attention(heads, kv_heads, head_dim, qk_norm=2.0 * head_dim, **read_bias(f))
    every = f.count("_sliding_window_pattern" if f.has("_sliding_window_pattern") else "sliding_window_pattern", 6.0)
    local = [(index + 1) % every != 0 for index in range(layers)]
    f.word("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh")
    return Model(
        name=name,
        family="gemma3",
        hidden=hidden,
        vocabulary=f.count("vocab_size", 262208.0),
        layers=tuple(
            Layer(entry, Mlp(f.count("intermediate_size"), gated=True), 4.0)
            for entry in read_windows(f, attention, f.count("sliding_window"), local)
        ),
        tied_embeddings=f.flag("tie_word_embeddings", True),
        max_context=f.count("max_position_embeddings", 131072.0, most=LARGEST_CONTEXT),
        norm=Norm.RMS,
        position=Position.ROTARY,
    )


def _phi(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    f.fixed("qk_layernorm", False, "norms on queries and keys")
    attention = read_attention(f, hidden, qkv_bias=True, output_bias=True)
    mlp = read_plain(f, hidden, "intermediate_size", "hidden_act", bias=True)
    model = decoder(f, name, "phi", hidden, [attention] * layers, [mlp] * layers, norm_count=1.0, norm=Norm.LAYER)
    return replace(model, head_bias=True)


def _phi3(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    for field in ("attention_bias", "mlp_bias", "lm_head_bias"):
        f.fixed(field, False, "the class has no such bias")
    attention = read_windows(f, read_attention(f, hidden), f.nullable("sliding_window"), [True] * layers)
    return decoder(f, name, "phi3", hidden, attention, [read_gated(f)] * layers)


def _gpt2(f: Fields, name: str) -> Model:
    hidden, layers = f.count("n_embd"), read_layer_count(f, "n_layer")
    f.fixed("add_cross_attention", False, "an encoder beside the decoder")
    heads = f.count("n_head")
    if hidden % heads:
        raise f.error("n_head", f"a divisor of n_embd = {hidden:.0f}")
    positions = f.count("n_positions", most=LARGEST_CONTEXT)
    return Model(
        name=name,
        family="gpt2",
        hidden=hidden,
        vocabulary=f.count("vocab_size"),
        layers=(
            Layer(
                Attention(heads, heads, hidden / heads, qkv_bias=True, output_bias=True),
                read_plain(f, hidden, "n_inner", "activation_function", bias=True),
            ),
        )
        * layers,
        tied_embeddings=f.flag("tie_word_embeddings", True),
        max_context=positions,
        norm=Norm.LAYER,
        position=Position.LEARNED,
        position_rows=positions,
    )


def _opt(f: Fields, name: str) -> Model:
    """Position rows: two more than the context, an offset in OPTLearnedPositionalEmbedding."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    bias = f.flag("enable_bias", True)
    f.fixed("layer_norm_elementwise_affine", True, "norms without parameters")
    heads = f.count("num_attention_heads")
    if hidden % heads:
        raise f.error("num_attention_heads", f"a divisor of hidden_size = {hidden:.0f}")
    attention = Attention(heads, heads, hidden / heads, qkv_bias=bias, output_bias=bias)
    mlp = read_plain(f, hidden, "ffn_dim", "activation_function", bias)
    model = decoder(
        f, name, "opt", hidden, [attention] * layers, [mlp] * layers, tied=True, norm=Norm.LAYER,
        position=Position.LEARNED,
    )  # fmt: skip
    removed = f.flag("_remove_final_layer_norm", False)
    embedding = f.count("word_embed_proj_dim", hidden)
    return replace(
        model,
        position_rows=model.max_context + 2.0,
        embedding_dim=0.0 if embedding == hidden else embedding,
        final_norm=f.flag("do_layer_norm_before", True) and not removed,
    )


def _falcon(f: Fields, name: str) -> Model:
    """Published files leave out the context (2048 in FalconConfig) and the MLP's width."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    heads = f.count("num_attention_heads")
    grouped, multi_query = f.flag("new_decoder_architecture", False), f.flag("multi_query", True)
    kv_heads = f.count("num_kv_heads", heads)
    if grouped and heads % kv_heads:
        raise f.error("num_kv_heads", f"a divisor of num_attention_heads = {heads:.0f}")
    if not grouped:
        kv_heads = 1.0 if multi_query else heads
    bias, parallel = f.flag("bias", False), f.flag("parallel_attn", True)
    attention = Attention(heads, kv_heads, read_head_dim(f, hidden, heads), qkv_bias=bias, output_bias=bias)
    mlp = Mlp(f.count("ffn_hidden_size", 4.0 * hidden), gated=False, bias=bias)
    f.word("activation", ACTIVATIONS, "gelu")
    norms = f.count("num_ln_in_parallel_attn", 2.0, most=2)
    return Model(
        name=name,
        family="falcon",
        hidden=hidden,
        vocabulary=f.count("vocab_size"),
        layers=(Layer(attention, mlp, norms if grouped else (1.0 if parallel else 2.0)),) * layers,
        tied_embeddings=f.flag("tie_word_embeddings", True),
        max_context=f.count("max_position_embeddings", 2048.0, most=LARGEST_CONTEXT),
        norm=Norm.LAYER,
        position=Position.NONE if f.flag("alibi", False) else Position.ROTARY,
    )


def _gpt_neox(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    bias = f.flag("attention_bias", True)
    heads = f.count("num_attention_heads")
    attention = Attention(heads, heads, read_head_dim(f, hidden, heads), qkv_bias=bias, output_bias=bias)
    mlp = read_plain(f, hidden, "intermediate_size", "hidden_act", bias=True)
    return decoder(f, name, "gpt-neox", hidden, [attention] * layers, [mlp] * layers, norm=Norm.LAYER)


def _cohere(f: Fields, name: str) -> Model:
    """Command R. Its layer norms have a scale and no shift, so they count as RMS norms; one norm in a layer."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_attention(f, hidden, **read_bias(f))
    normed = (attention.heads + attention.kv_heads) * attention.head_dim * f.flag("use_qk_norm", False)
    stack = [replace(attention, qk_norm=normed)] * layers
    return decoder(f, name, "cohere", hidden, stack, [read_gated(f)] * layers, norm_count=1.0, tied=True)


def _cohere2(f: Fields, name: str) -> Model:
    """Command R7B: three local layers, then a global one. Norms as in Command R."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    every = f.count("_sliding_window_pattern" if f.has("_sliding_window_pattern") else "sliding_window_pattern", 4.0)
    attention = read_attention(f, hidden, **read_bias(f))
    local = [(index + 1) % every != 0 for index in range(layers)]
    stack = read_windows(f, attention, f.nullable("sliding_window"), local)
    return decoder(f, name, "cohere2", hidden, stack, [read_gated(f)] * layers, norm_count=1.0, tied=True)


def _starcoder2(f: Fields, name: str) -> Model:
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    bias = f.flag("use_bias", True)
    f.fixed("mlp_type", "default", "gated MLPs")
    f.fixed("norm_type", "layer_norm", "RMS norms")
    attention = read_windows(f, read_attention(f, hidden, bias, bias), f.nullable("sliding_window"), [True] * layers)
    mlp = read_plain(f, hidden, "intermediate_size", "hidden_act", bias)
    return decoder(f, name, "starcoder2", hidden, attention, [mlp] * layers, tied=True, norm=Norm.LAYER)


def _olmo2(f: Fields, name: str) -> Model:
    """OLMo 2 normalises whole query and key vectors, all heads together."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    attention = read_attention(f, hidden, **read_bias(f))
    attention = replace(attention, qk_norm=(attention.heads + attention.kv_heads) * attention.head_dim)
    return decoder(f, name, "olmo2", hidden, [attention] * layers, [read_gated(f)] * layers)


def _bert(f: Fields, name: str, family: str = "bert", offset: float = 0.0) -> Model:
    """The encoder and its pooler; a masked-language-model head is not counted."""
    hidden, layers = f.count("hidden_size"), read_layer_count(f)
    f.fixed("position_embedding_type", "absolute", "relative positions")
    f.fixed("is_decoder", False, "a causal encoder")
    f.fixed("add_cross_attention", False, "a second model beside it")
    attention = read_attention(f, hidden, qkv_bias=True, output_bias=True)
    mlp = read_plain(f, hidden, "intermediate_size", "hidden_act", bias=True)
    model = decoder(
        f, name, family, hidden, [attention] * layers, [mlp] * layers, tied=True, norm=Norm.LAYER,
        position=Position.LEARNED,
    )  # fmt: skip
    return replace(
        model,
        causal=False,
        position_rows=model.max_context,
        max_context=model.max_context - offset,
        token_type_rows=f.count("type_vocab_size"),
        embedding_norm=True,
        final_norm=False,
        pooler=True,
    )


def _roberta(f: Fields, name: str) -> Model:
    """BERT whose position table begins behind the padding index: 514 rows for 512 tokens."""
    return _bert(f, name, "roberta", offset=2.0)


DENSE: dict[str, Callable[[Fields, str], Model]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "GemmaForCausalLM": _gemma,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "PhiForCausalLM": _phi,
    "Phi3ForCausalLM": _phi3,
    "GPT2LMHeadModel": _gpt2,
    "OPTForCausalLM": _opt,
    "FalconForCausalLM": _falcon,
    "GPTNeoXForCausalLM": _gpt_neox,
    "CohereForCausalLM": _cohere,
    "Cohere2ForCausalLM": _cohere2,
    "Starcoder2ForCausalLM": _starcoder2,
    "Olmo2ForCausalLM": _olmo2,
    "BertModel": _bert,
    "BertForMaskedLM": _bert,
    "BertForPreTraining": _bert,
    "RobertaModel": _roberta,
    "RobertaForMaskedLM": _roberta,
}
