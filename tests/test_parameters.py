"""Parameter counts: hand derivations, published totals with their source, and laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.io.models import load_model, preset_names
from roofline.model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm, Position
from roofline.parameters import (
    Role,
    Shard,
    active_parameter_count,
    attention_tensors,
    layer_tensors,
    mlp_tensors,
    model_tensors,
    outer_tensors,
    parameter_count,
)
from roofline.structs import STORED_BYTE, Dtype

whole = st.integers(1, 64).map(float)


def total(tensors):
    return sum(tensor.elements for tensor in tensors)


def tiny(attention=None, mlp=None, **changes):
    layer = Layer(attention or Attention(4.0, 4.0, 8.0), mlp or Mlp(64.0, gated=True))
    values = {
        "name": "tiny", "family": "llama", "hidden": 32.0, "vocabulary": 100.0, "layers": (layer,) * 3,
        "tied_embeddings": False, "max_context": 128.0, "norm": Norm.RMS, "position": Position.ROTARY,
    }  # fmt: skip
    return Model(**(values | changes))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Llama 3.1 8B: 2·128256·4096 + 32·(2·4096² + 2·4096·1024 + 3·4096·14336 + 2·4096) + 4096; the Hub: 8.03 B.
        ("llama-3.1-8b", 8_030_261_248),
        # Llama 3.1 70B: 2·128256·8192 + 80·(2·8192² + 2·8192·1024 + 3·8192·28672 + 2·8192) + 8192.
        ("llama-3.1-70b", 70_553_706_496),
        # Llama 2 7B: 2·32000·4096 + 32·(4·4096² + 3·4096·11008 + 2·4096) + 4096 (arXiv 2307.09288 rounds to 7B).
        ("llama-2-7b", 6_738_415_616),
        # GPT-2 small: 50257·768 + 1024·768 + 12·(12·768² + 13·768) + 2·768; "124M" in openai/gpt-2 DEVELOPERS.md.
        ("gpt2-small", 124_439_808),
        # GPT-2 XL: 50257·1600 + 1024·1600 + 48·(12·1600² + 13·1600) + 2·1600; "1558M" in the same file.
        ("gpt2-xl", 1_557_611_200),
        # Mixtral 8x7B: 2·32000·4096 + 32·(2·4096² + 2·4096·1024 + 8·3·4096·14336 + 8·4096 + 2·4096) + 4096;
        # 46.7B in arXiv 2401.04088's announcement.
        ("mixtral-8x7b", 46_702_792_704),
        # OPT-350M: 50272·512 + 2·512·1024 + 2050·1024 + 24·(12·1024² + 13·1024), no final norm; the checkpoint's size.
        ("opt-350m", 331_196_416),
        # BERT-base: (30522 + 512 + 2)·768 + 2·768 + 12·(12·768² + 13·768) + 768² + 768; 110M in arXiv 1810.04805.
        ("bert-base-uncased", 109_482_240),
        # Qwen2.5 7B: 2·152064·3584 + 28·(2·3584² + 2·3584·512 + 3584 + 2·512 + 3·3584·18944 + 2·3584) + 3584.
        ("qwen2.5-7b", 7_615_616_512),
        # Qwen3 30B-A3B: 2·151936·2048 + 48·(2·2048·4096 + 2·2048·512 + 256 + 128·3·2048·768 + 130·2048) + 2048.
        ("qwen3-30b-a3b", 30_532_122_624),
        # gpt-oss 20b: the total of the released checkpoint, 20.9B in the model card (arXiv 2508.10925, table 1).
        ("gpt-oss-20b", 20_914_757_184),
        # Falcon 7B: 65024·4544 + 32·(2·4544² + 2·4544·64 + 8·4544² + 2·4544) + 2·4544.
        ("falcon-7b", 6_921_720_704),
        # Gemma 2 9B: report (arXiv 2408.00118, table 1): 917,962,752 embedding + 8,324,201,984 non-embedding.
        ("gemma-2-9b", 917_962_752 + 8_324_201_984),
        # Gemma 2 27B: the same table: 1,180,237,824 + 26,047,480,320.
        ("gemma-2-27b", 1_180_237_824 + 26_047_480_320),
    ],
)
def test_published_counts(name, count):
    assert parameter_count(load_model(name).model) == count


def test_deepseek_v3_by_hand():
    """671 B in arXiv 2412.19437; the routers' correction bias (58·256) included, multi-token prediction not."""
    attention = 7168 * 1536 + 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 + 512 * 128 * 256 + 128 * 128 * 7168
    dense = 3 * 7168 * 18432
    routed = 257 * 3 * 7168 * 2048 + 256 * 7168 + 256
    by_hand = 2 * 129280 * 7168 + 61 * (attention + 2 * 7168) + 3 * dense + 58 * routed + 7168
    model = load_model("deepseek-v3").model
    assert parameter_count(model) == by_hand == 671_026_419_200
    assert active_parameter_count(model) == by_hand - 58 * 248 * 3 * 7168 * 2048
    assert active_parameter_count(model) == pytest.approx(37e9, rel=0.02)  # "37B activated", the abstract


def test_gpt_oss_active_count_is_published_without_the_embedding():
    """5.13 B and 3.61 B active (arXiv 2508.10925, table 1: embedding excluded, unembedding included)."""
    for name, active in (("gpt-oss-120b", 5.13e9), ("gpt-oss-20b", 3.61e9)):
        model = load_model(name).model
        assert active_parameter_count(model) - model.vocabulary * model.hidden == pytest.approx(active, rel=2e-3)


def test_gpt_oss_checkpoint_size():
    """60.8 GiB and 12.8 GiB (arXiv 2508.10925, table 1): routed experts in MXFP4, everything else in bf16."""
    for name, size in (("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)):
        loaded = load_model(name)
        stored = sum(
            tensor.elements * repeats * STORED_BYTE[loaded.expert_dtype if tensor.role is Role.EXPERT else Dtype.BF16]
            for tensor, repeats in model_tensors(loaded.model)
        )
        assert round(stored / 2**30, 1) == size


def test_attention_by_hand():
    attention = Attention(8.0, 2.0, 16.0, qkv_bias=True, output_bias=True, qk_norm=32.0, sinks=True)
    by_hand = 2 * 100 * 128 + 2 * 100 * 32 + (128 + 2 * 32) + 100 + 32 + 8
    assert total(attention_tensors(attention, 100.0)) == by_hand


def test_latent_attention_without_query_compression():
    """DeepSeek-V2-Lite: arXiv 2405.04434, appendix B."""
    attention = LatentAttention(16.0, None, 512.0, 128.0, 64.0, 128.0)
    by_hand = 2048 * 16 * 192 + 2048 * 576 + 512 + 512 * 16 * 256 + 16 * 128 * 2048
    assert total(attention_tensors(attention, 2048.0)) == by_hand


def test_mixture_by_hand():
    moe = Moe(16.0, 4.0, 50.0, gated=True, bias=True, shared=2.0, shared_width=30.0, router_bias=True, shared_gate=True)
    expert = 3 * 20 * 50 + 2 * 50 + 20
    assert total(mlp_tensors(moe, 20.0)) == 16 * 20 + 16 + 16 * expert + 3 * 20 * 60 + 2 * 60 + 20 + 20


def test_outside_of_the_layers_by_hand():
    model = tiny(
        norm=Norm.LAYER, embedding_dim=16.0, position_rows=130.0, token_type_rows=2.0, embedding_norm=True,
        pooler=True, head_bias=True,
    )  # fmt: skip
    outside = 2 * 100 * 16 + 2 * 16 * 32 + 130 * 32 + 2 * 32 + 2 * 32 + 2 * 32 + 32 * 32 + 32 + 100
    assert total(outer_tensors(model)) == outside
    assert parameter_count(model) == outside + 3 * total(layer_tensors(model.layers[0], model))


def test_an_encoder_has_no_head():
    assert parameter_count(tiny()) - parameter_count(tiny(causal=False)) == 100 * 32
    assert parameter_count(tiny()) - parameter_count(tiny(tied_embeddings=True)) == 100 * 32


def test_equal_layers_are_listed_once():
    model = load_model("llama-3.1-405b").model
    assert len(model_tensors(model)) == len(outer_tensors(model)) + len(layer_tensors(model.layers[0], model))


def test_what_splits_how():
    """Megatron-LM (arXiv 1909.08053), section 3: column-parallel, then row-parallel; biases after the sum whole."""
    attention = Attention(4.0, 2.0, 8.0, qkv_bias=True, output_bias=True)
    layer = layer_tensors(Layer(attention, Mlp(64.0, True, bias=True)), tiny())
    shard = {tensor.name: tensor.shard for tensor in layer}
    assert shard["query"] is shard["query_bias"] is shard["attention_output"] is Shard.HEADS
    assert shard["key"] is shard["value_bias"] is Shard.KV_HEADS
    assert shard["gate"] is shard["up"] is shard["up_bias"] is Shard.OUTPUT
    assert shard["down"] is Shard.INPUT
    assert shard["down_bias"] is shard["attention_output_bias"] is shard["norm"] is Shard.REPLICATED
    assert all(tensor.shard is Shard.EXPERTS for tensor in mlp_tensors(Moe(4.0, 2.0, 8.0, True), 8.0)[1:])


def test_quantised_roles_hold_matrices_only():
    for name in preset_names():
        for tensor, _ in model_tensors(load_model(name).model):
            assert tensor.role not in (Role.LINEAR, Role.EXPERT) or min(tensor.rows, tensor.columns) > 1


@given(heads=whole, dim=whole, hidden=whole)
def test_every_head_its_own_key_is_plain_multi_head_attention(heads, dim, hidden):
    assert total(attention_tensors(Attention(heads, heads, dim), hidden)) == 4 * heads * dim * hidden


@given(heads=whole, group=st.integers(2, 16), dim=whole, hidden=whole)
def test_grouping_saves_keys_and_values_only(heads, group, dim, hidden):
    full = Attention(heads * group, heads * group, dim)
    saved = total(attention_tensors(full, hidden)) - total(attention_tensors(replace(full, kv_heads=heads), hidden))
    assert saved == 2 * (group - 1) * heads * dim * hidden


@given(hidden=whole, wider=whole, width=whole, gated=st.booleans(), bias=st.booleans())
def test_wider_is_larger(hidden, wider, width, gated, bias):
    small = tiny(hidden=hidden, mlp=Mlp(width, gated, bias))
    assert parameter_count(tiny(hidden=hidden + wider, mlp=Mlp(width, gated, bias))) > parameter_count(small)
    assert parameter_count(tiny(hidden=hidden, mlp=Mlp(width + wider, gated, bias))) > parameter_count(small)


@given(experts=whole, width=whole, shared=whole, bias=st.booleans())
def test_using_every_expert_makes_all_parameters_active(experts, width, shared, bias):
    moe = Moe(experts, experts, width, gated=True, bias=bias, shared=shared, shared_width=width)
    model = tiny(mlp=moe)
    assert active_parameter_count(model) == parameter_count(model)
    used = tiny(mlp=replace(moe, per_token=experts / 2))
    expert = 3 * 32 * width + (2 * width + 32) * bias
    assert parameter_count(used) - active_parameter_count(used) == 3 * experts / 2 * expert
