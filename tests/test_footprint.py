"""KV cache, weights and activations by hand."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.footprint import BLOCK_TOKEN, footprint, kv_byte_per_sequence, weight_byte
from roofline.io.models import load_model
from roofline.structs import Dtype
from roofline.workload import AttentionKind, Parallelism, Precision
from tests.builders import device, model, scenario

BF16 = Precision()


def kv(name, token, precision=BF16, spread=None):
    return float(kv_byte_per_sequence(load_model(name).model, np.float64(token), precision, spread or Parallelism())[0])


@pytest.mark.parametrize(
    ("name", "token", "expected"),
    [
        # Llama-3.1-8B: 32 layers, 8 KV heads of 128, keys and values in 2 bytes: 131,072 bytes a token.
        ("llama-3.1-8b", 1024, 1024 * 2 * 32 * 8 * 128 * 2),
        # 1000 tokens take 63 blocks of 16 = 1008 tokens.
        ("llama-3.1-8b", 1000, 1008 * 2 * 32 * 8 * 128 * 2),
        ("llama-3.1-8b", 1, 16 * 2 * 32 * 8 * 128 * 2),
        # DeepSeek-V3: 61 layers, one latent of 512 and a rotary key of 64 in 2 bytes: 70,272 bytes a token.
        ("deepseek-v3", 1024, 1024 * 61 * (512 + 64) * 2),
        # gpt-oss-120b: 36 layers, 8 KV heads of 64; every other layer keeps 128 tokens.
        ("gpt-oss-120b", 4096, 18 * 2 * 8 * 64 * 2 * (4096 + 128)),
        # Gemma-3-27b: 62 layers, 16 KV heads of 128; five of six keep 1024 tokens: 52 local, 10 global.
        ("gemma-3-27b", 8192, 2 * 16 * 128 * 2 * (10 * 8192 + 52 * 1024)),
        # Gemma-2-9B: 42 layers, 8 KV heads of 256, every other local with 4096.
        ("gemma-2-9b", 8192, 21 * 2 * 8 * 256 * 2 * (8192 + 4096)),
        # Below the window a local layer keeps everything.
        ("gemma-3-27b", 512, 2 * 16 * 128 * 2 * 62 * 512),
        # Encoders keep nothing.
        ("bert-base-uncased", 512, 0),
    ],
)
def test_cache_by_hand(name, token, expected):
    assert kv(name, token) == expected


def test_fp8_cache_is_half():
    assert kv("llama-3.1-8b", 4096, replace(BF16, kv=Dtype.FP8)) == kv("llama-3.1-8b", 4096) / 2


def test_cache_is_split_over_kv_heads_and_then_replicated():
    whole = kv("llama-3.1-8b", 1024)
    assert kv("llama-3.1-8b", 1024, spread=Parallelism(tp=8)) == whole / 8
    assert kv("llama-3.1-8b", 1024, spread=Parallelism(tp=16)) == whole / 8
    # The latent of MLA cannot be split by heads: every rank keeps all of it.
    assert kv("deepseek-v3", 1024, spread=Parallelism(tp=8)) == kv("deepseek-v3", 1024)


def test_weights_by_hand():
    # Llama-3.1-8B: 8,030,261,248 parameters in 2 bytes.
    of = load_model("llama-3.1-8b").model
    assert weight_byte(of, BF16, Parallelism()).tolist() == [2 * 8_030_261_248]
    # int4: embeddings, head and norms stay in 16 bits; 6,979,321,856 linear parameters cost 0.5 + 2/128 bytes.
    linear = 32 * (4096 * (4096 + 1024 + 1024) + 4096 * 4096 + 3 * 4096 * 14336)
    narrow = weight_byte(of, replace(BF16, weights=Dtype.INT4), Parallelism())[0]
    assert narrow == linear * (0.5 + 2 / 128) + (8_030_261_248 - linear) * 2


def test_gpt_oss_checkpoint_size():
    # OpenAI's gpt-oss-120b checkpoint is 60.8 GiB: MXFP4 experts, the rest in bf16 (model card, arXiv 2508.10925).
    loaded = load_model("gpt-oss-120b")
    precision = Precision(weights=Dtype.BF16, experts=Dtype.FP4)
    assert weight_byte(loaded.model, precision, Parallelism())[0] / 2**30 == pytest.approx(60.8, rel=0.005)


def test_tied_embedding_is_copied_to_the_last_stage():
    tied = model(tied_embeddings=True)
    alone = weight_byte(tied, BF16, Parallelism())
    split = weight_byte(tied, BF16, Parallelism(pp=2))
    assert split.sum() - alone.sum() == 1024 * 128 * 2


def test_activations_by_hand():
    # 4 prompts of 64 tokens: residual, its normed copy, and gate, up and product of the MLP (3 x 256), in 2 bytes;
    # logits of 4 sequences in fp32.
    held = footprint(model(), device(), scenario())
    assert held.activation_byte == 256 * (2 * 128 + 3 * 256) * 2 + 4 * 1024 * 4
    # Unfused attention adds 8 heads of 64 x 64 scores twice for every prompt.
    plain = footprint(model(), device(), scenario(attention=AttentionKind.UNFUSED))
    assert plain.activation_byte - held.activation_byte == 2 * 4 * 64 * 64 * 8 * 2


def test_long_prefills_are_split_by_the_engine():
    held = footprint(model(), device(), scenario(batch=1000.0))
    assert held.activation_byte == 8192 * (2 * 128 + 3 * 256) * 2 + 1000 * 1024 * 4


def test_blocks_are_those_of_the_paged_cache():
    assert BLOCK_TOKEN == 16
