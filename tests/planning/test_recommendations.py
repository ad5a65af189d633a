"""Five things that a planner would check by hand, each with its derivation."""

import json

import numpy as np
import pytest

import roofline
from roofline.cli.app import run
from roofline.footprint import layer_kv_byte
from roofline.kernels.moe import touched_experts
from roofline.structs import STORED_BYTE, Dtype
from roofline.workload import Precision

LLAMA_70B_PARAMETERS = 70.553706e9
"""Llama-3.1-70B by hand: 80 layers of 2 x 8192^2 (Q, O) + 2 x 8192 x 1024 (K, V) + 3 x 8192 x 28672 (MLP) + 2 x 8192
(norms), two tables of 128256 x 8192, and a last norm."""


def test_llama_70b_in_bf16_does_not_fit_80_gb_and_the_answer_says_what_would(capsys):
    layer = 2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192
    assert 80 * layer + 2 * 128256 * 8192 + 8192 == pytest.approx(LLAMA_70B_PARAMETERS, rel=1e-6)
    # 141.1 GB of weights against the 72 GB that an engine takes of 80 (0.9): short by half.
    # fp8 halves the layers' 136.9 GB: 68.5, with the tables (4.2 GB, in 16 bits) 72.7 is still too much; int4: 39.5.
    assert run(["predict", "llama-3.1-70b", "h100-sxm", "--batch", "1", "--json"]) == 1
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["weight_byte"] == pytest.approx(2.0 * LLAMA_70B_PARAMETERS, rel=1e-6)
    assert memory["largest_term"] == "weights" and memory["max_batch"] == 0
    offered = {change["text"]: change["device_count"] for change in memory["changes"]}
    assert offered["weights in int4 (--weights int4)"] == 1 and "weights in fp8 (--weights fp8)" not in offered
    # Two devices hold 70.6 GB each: 1.4 GB are left for one short request, so TP 2 is offered for batch 1.
    assert offered["tensor parallelism 2 (--tp 2)"] == 2
    assert run(["predict", "llama-3.1-70b", "h100-sxm", "--batch", "1"]) == 1
    screen = capsys.readouterr().out
    assert "DOES NOT FIT" in screen and "--weights int4" in screen and "--tp 2" in screen


def test_the_plan_for_one_device_says_so_too(capsys):
    asked = [
        "--rate",
        "1",
        "--ttft",
        "5",
        "--tpot",
        "0.2",
        "--devices",
        "h100-sxm",
        "--max-devices",
        "1",
        "--weights",
        "bf16",
    ]
    assert run(["plan", "llama-3.1-70b", *asked, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert not record["answer"]["feasible"] and record["plans"] == []
    told = {relaxation["change"]: relaxation for relaxation in record["infeasible"]["relaxations"]}
    assert {"precision", "max_devices"} <= told.keys()
    assert told["max_devices"]["plan"]["n_devices"] >= 2  # 141 GB do not fit 72


def test_an_fp8_cache_doubles_the_batch():
    # One request of 2,304 tokens holds 32 layers x 2 x 1,024 x 2,304 = 151 M values: 302 MB in bf16, 151 MB in fp8.
    # Weights, logits and live activations aside, 72 GB hold (72 - 16.1 - 0.9) / 0.302 = 182 of them, and twice that.
    values = 32 * 2 * 1024 * 2304
    attention = roofline.load_model("llama-3.1-8b").model.layers[0].attention
    assert 32 * layer_kv_byte(attention, 2304.0, Precision(kv=Dtype.FP8), 1) == values
    wide, narrow = (roofline.predict("llama-3.1-8b", "h100-sxm", kv=kv).capacity for kv in ("bf16", "fp8"))
    left = 0.9 * 80e9 - float(wide.footprint.weight_byte) - float(wide.footprint.activation_byte)
    assert wide.max_batch == pytest.approx(left / (2 * values), rel=0.01)
    assert narrow.max_batch == pytest.approx(2 * wide.max_batch, rel=0.02)
    assert float(narrow.footprint.kv_byte) * 2 == float(wide.footprint.kv_byte)


@pytest.mark.parametrize(("batch", "length"), [(32, 2048), (64, 4096), (8, 32768)])
def test_h200_beats_h100_at_decode_by_about_the_bandwidth_ratio(batch, length):
    # Same compute units, 4.8 against 3.35 TB/s: where every kernel streams, the bare rooflines differ by 1.433. What
    # does not stream (launches, the combine pass of split keys) keeps the prediction a little below that.
    ratio = 4800.0 / 3350.0
    old, new = (roofline.predict("llama-3.1-8b", name, batch=batch, input=length) for name in ("h100-sxm", "h200-sxm"))
    assert old.decode.bound == new.decode.bound == "memory"
    assert old.decode.roofline_s / new.decode.roofline_s == pytest.approx(ratio, rel=1e-9)
    assert 0.92 * ratio < old.tpot_s / new.tpot_s <= ratio
    # prefill is bound by compute, which is the same: it gains next to nothing
    assert old.ttft_s / new.ttft_s < 1.0 + 0.2 * (ratio - 1.0)


def test_int4_weights_help_small_batches_and_not_large_ones():
    # A linear layer in bf16 streams 2 bytes a parameter and computes 2 FLOP a parameter and row. On an H100 (989.4
    # TFLOP/s, 3.35 TB/s) 16-bit weights are hidden behind the arithmetic from 989.4 / 3.35 = 295 rows on; weights of
    # 0.516 bytes from 0.516 / 2 x 295 = 76 rows on. W4A16 computes in bf16: below 76 rows the layer takes 0.258 of the
    # time, beyond 295 rows the same time, and between the two the gain shrinks to nothing.
    ridge = 989.4e12 / 3350e9
    narrow_ridge = ridge * STORED_BYTE[Dtype.INT4] / STORED_BYTE[Dtype.BF16]
    assert (round(ridge), round(narrow_ridge)) == (295, 76)

    def kernels(batch, weights):
        found = roofline.predict("llama-3.1-8b", "h100-sxm", batch=batch, input=512, output=32, weights=weights)
        (layer,) = (kernel for kernel in found.decode.kernels if kernel.name == "gate_up_proj")
        return found.tpot_s, layer.roofline_s

    # The bare roofline of the layer, whose activations add 3 % to the bytes of the weights at 64 rows.
    bare = {batch: kernels(batch, "int4")[1] / kernels(batch, "bf16")[1] for batch in (1, 64, 512)}
    assert bare[1] == pytest.approx(0.258, abs=0.002) and bare[64] < 0.31 and bare[512] == pytest.approx(1.0)
    # The whole decode step, with fitted kernels, attention and what stays in 16 bits.
    whole = {batch: kernels(batch, "int4")[0] / kernels(batch, "bf16")[0] for batch in (1, 16, 64, 128, 256, 512)}
    assert whole[1] < 0.65 and whole[16] < 0.7
    assert list(whole.values())[:4] == sorted(list(whole.values())[:4])  # the gain shrinks with the batch
    assert whole[256] > 0.97 and whole[512] > 0.97  # and is gone


def test_moe_decode_touches_the_expected_number_of_experts():
    # A token goes to k of E experts: it misses a given one with 1 - k/E, all B tokens with (1 - k/E)^B, so that
    # E (1 - (1 - k/E)^B) are expected to be read. Qwen3-30B-A3B: E = 128, k = 8; B = 32 touches 111.8.
    experts, chosen, batch = 128, 8, 32
    expected = experts * (1.0 - (1.0 - chosen / experts) ** batch)
    assert expected == pytest.approx(111.8, abs=0.05)
    assert float(touched_experts(batch, chosen, experts, experts)) == pytest.approx(expected)
    draws = np.random.default_rng(0).random((2000, batch, experts)).argpartition(chosen, axis=-1)[..., :chosen]
    drawn = np.mean([np.unique(draw).size for draw in draws])
    assert drawn == pytest.approx(expected, rel=0.002)
    found = roofline.predict("qwen3-30b-a3b", "h100-sxm", batch=batch, weights="bf16")
    read = sum(kernel.weight_byte for kernel in found.decode.kernels if kernel.name == "experts")
    assert read == pytest.approx(expected * 3 * 768 * 2048 * 2, rel=1e-6)  # gate, up, down of 768 x 2048 in bf16
    # Batch 1 reads 8 experts a layer, a large batch all of them: bytes per token fall 16-fold, no more.
    assert touched_experts(1.0, chosen, experts, experts) == pytest.approx(8.0)
    assert touched_experts(1024.0, chosen, experts, experts) == pytest.approx(128.0)
