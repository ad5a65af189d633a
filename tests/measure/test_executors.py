"""Executors against a float64 reference, against each other, and their counts against the predictor's costs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.cost import COST_FIELDS
from roofline.errors import RooflineError
from roofline.measure.library import visible
from roofline.measure.numpy_executor import NumpyLibrary
from roofline.measure.steps import Form, LayerRun, ModelRun, StepShape, prepare
from roofline.measure.tape import Runner
from roofline.model import Attention, Layer, Mlp, Moe, Norm, Position
from roofline.structs import NO_WINDOW, Dtype
from roofline.transformer import LatentForm
from roofline.workload import AttentionKind, Precision

from ..builders import DENSE, LATENT, MIXTURE, SLIDING, model
from .runs import executed, planned, tokens

FP32 = Precision(Dtype.FP32, Dtype.FP32, Dtype.FP32, Dtype.FP32)
UNFUSED, FUSED = Form(AttentionKind.UNFUSED), Form(AttentionKind.FUSED)
ABSORBED = Form(AttentionKind.UNFUSED, LatentForm.ABSORBED)

GPT = model(
    Layer(Attention(8.0, 8.0, 16.0, qkv_bias=True, output_bias=True), Mlp(256.0, gated=False, bias=True)),
    norm=Norm.LAYER, position=Position.LEARNED, position_rows=4096.0, tied_embeddings=True,
)  # fmt: skip
# With all experts chosen, or one token, the number of touched experts is certain: the plan's expectation is exact.
EVERY_EXPERT = replace(MIXTURE, mlp=replace(MIXTURE.mlp, per_token=8.0))
ONE_NORM = replace(DENSE, norm_count=1.0)
MODELS = {
    "mha": model(replace(DENSE, attention=Attention(8.0, 8.0, 16.0))),
    "gqa": model(DENSE),
    "mqa": model(replace(DENSE, attention=Attention(8.0, 1.0, 16.0))),
    "sliding": model(SLIDING),
    "qk-norm": model(replace(DENSE, attention=Attention(8.0, 4.0, 16.0, qk_norm=32.0))),
    "gpt": GPT,
    "one norm": model(ONE_NORM),
    "four norms": model(replace(DENSE, norm_count=4.0)),
    "moe": model(EVERY_EXPERT),
    "moe, bias, gate": model(replace(MIXTURE, mlp=Moe(4.0, 4.0, 64.0, False, True, 1.0, 32.0, True, True))),
    "projected embedding": model(DENSE, embedding_dim=64.0),
    "encoder": model(
        DENSE, causal=False, position=Position.LEARNED, position_rows=512.0, token_type_rows=2.0, pooler=True,
        embedding_norm=True, norm=Norm.LAYER, final_norm=False,
    ),
    "latent": model(LATENT),
    "latent, direct queries": model(replace(LATENT, attention=replace(LATENT.attention, query_rank=None))),
}  # fmt: skip
PREFILL, DECODE, CHUNK = StepShape(2, 12, 0), StepShape(3, 1, 40), StepShape(2, 7, 40)


def shapes_of(name: str) -> tuple[StepShape, ...]:
    return (PREFILL,) if name == "encoder" else (PREFILL, DECODE, CHUNK)


CASES = [pytest.param(name, shape, id=f"{name}-{shape}") for name in MODELS for shape in shapes_of(name)]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_counts_equal_the_plan(name, shape):
    steps, _ = executed(NumpyLibrary(), MODELS[name], UNFUSED, shape)
    expected = planned(MODELS[name], UNFUSED, shape, FP32)
    assert [step.name for step in steps] == [row for row, _ in expected]
    for step, (row, cost) in zip(steps, expected, strict=True):
        assert {key: getattr(step.cost, key) for key in COST_FIELDS} == cost, row


@pytest.mark.parametrize("name", ["gqa", "sliding", "gpt", "latent"])
@pytest.mark.parametrize("shape", [PREFILL, DECODE, CHUNK], ids=str)
def test_counts_of_fused_attention_equal_the_plan(name, shape):
    steps, _ = executed(NumpyLibrary(), MODELS[name], FUSED, shape)
    found = [(step.name, {key: getattr(step.cost, key) for key in COST_FIELDS}) for step in steps]
    assert found == planned(MODELS[name], FUSED, shape, FP32)


@pytest.mark.parametrize("shape", [PREFILL, DECODE], ids=str)
def test_flop_and_cache_reads_of_absorbed_latent_attention_equal_the_plan(shape):
    steps, _ = executed(NumpyLibrary(), MODELS["latent"], ABSORBED, shape)
    fields = ("matrix_flop", "weight_read_byte", "kv_read_byte")
    found = [(step.name, *(getattr(step.cost, name) for name in fields)) for step in steps]
    expected = planned(MODELS["latent"], ABSORBED, shape, FP32)
    assert found == [(row, *(cost[name] for name in fields)) for row, cost in expected]


@pytest.mark.parametrize("shape", [PREFILL, DECODE, CHUNK], ids=str)
def test_fused_absorbed_latent_attention_reads_its_latents_once(shape):
    form = Form(AttentionKind.FUSED, LatentForm.ABSORBED)
    steps, _ = executed(NumpyLibrary(), MODELS["latent"], form, shape)
    found = [(step.name, {key: getattr(step.cost, key) for key in COST_FIELDS}) for step in steps]
    assert found == planned(MODELS["latent"], form, shape, FP32)


def test_a_token_touches_its_own_experts_only():
    steps, _ = executed(NumpyLibrary(), model(MIXTURE), UNFUSED, StepShape(1, 1, 5))
    expected = dict(planned(model(MIXTURE), UNFUSED, StepShape(1, 1, 5), FP32))
    weight_byte = {step.name: step.cost.weight_read_byte for step in steps}
    assert weight_byte["experts_gate_up"] == 2 * (2 * 64 * 128 * 4)  # two experts of [2 · 64, 128] in fp32
    assert weight_byte["experts_gate_up"] == pytest.approx(expected["experts_gate_up"]["weight_read_byte"], rel=1e-12)


@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.parametrize("form", [UNFUSED, FUSED], ids=["unfused", "fused"])
def test_fp32_agrees_with_float64(name, shape, form):
    _, found = executed(NumpyLibrary(), MODELS[name], form, shape)
    _, reference = executed(NumpyLibrary(np.float64), MODELS[name], UNFUSED, shape)
    assert reference.std() > 0.1
    np.testing.assert_allclose(found, reference, rtol=0.0, atol=2e-5)


def test_both_forms_of_latent_attention_compute_the_same():
    expanded = executed(NumpyLibrary(np.float64), MODELS["latent"], UNFUSED, CHUNK)[1]
    absorbed = executed(NumpyLibrary(np.float64), MODELS["latent"], ABSORBED, CHUNK)[1]
    np.testing.assert_allclose(absorbed, expanded, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["mha", "gqa", "mqa", "sliding", "gpt", "moe", "latent"])
def test_a_growing_cache_computes_what_one_prefill_does(name):
    """Decode token by token behind a prompt gives the logits of one prefill over all tokens."""
    library, shape = NumpyLibrary(np.float64), MODELS[name]
    given = tokens(library, shape, 2, 40)
    whole = ModelRun(library, shape, UNFUSED, 2, 40).step(Runner(library), given)
    run = ModelRun(library, shape, UNFUSED, 2, 40)
    run.step(Runner(library), given[:, :35])
    for column in range(35, 40):
        logits = run.step(Runner(library), given[:, column : column + 1])
    assert run.context == 40
    np.testing.assert_allclose(logits, whole, rtol=0.0, atol=1e-12)


def test_attention_by_hand():
    """One head, two tokens: the first sees itself; the second weighs both by exp(q·k / sqrt(d))."""
    from roofline.measure import operations
    from roofline.measure.library import make_mask

    library = NumpyLibrary(np.float64)
    q = np.array([[[[1.0, 0.0], [0.0, 2.0]]]])
    k = np.array([[[[1.0, 1.0], [3.0, 0.5]]]])
    v = np.array([[[[1.0, 0.0], [0.0, 1.0]]]])
    mask = make_mask(library, 2, 0, NO_WINDOW, causal=True)
    scores = operations.scale_mask(library, operations.attention_scores(library, q, k), 0.5, mask)
    out = operations.head_concat(library, operations.attention_values(library, operations.softmax(library, scores), v))
    a, b = np.exp(0.5 * 2.0), np.exp(0.5 * 1.0)
    np.testing.assert_allclose(out, [[1.0, 0.0], [a / (a + b), b / (a + b)]], rtol=1e-14)


def test_a_layer_against_one_written_for_one_token_and_one_head_at_a_time():
    """Two layers of code: this one loops over tokens and heads, rotates complex numbers and sums in Python."""
    library, kind = NumpyLibrary(np.float64), MODELS["sliding"]
    run = ModelRun(library, kind, UNFUSED, 1, 40)
    layer, weights, cache = run.layers[0]
    shape = StepShape(1, 40, 0)
    positions = prepare(library, kind, (layer,), shape)
    x = np.random.default_rng(3).standard_normal((40, 128))
    found = LayerRun(kind, layer, UNFUSED, weights, cache, positions, shape).execute(Runner(library), x)

    def rms(row, weight):
        return row / np.sqrt(np.mean(row**2) + 1e-6) * weight

    def turned(vector, position):
        angle = position * 10000.0 ** -(np.arange(8) / 8)
        turned = (vector[:8] + 1j * vector[8:]) * np.exp(1j * angle)
        return np.concatenate([turned.real, turned.imag])

    normed = [rms(row, weights["attention_norm"][0]) for row in x]
    q, k, v = ([weights[name][0] @ row for row in normed] for name in ("q_proj", "k_proj", "v_proj"))
    expected = []
    for t in range(40):
        heads = []
        for head in range(8):
            mine, group = slice(16 * head, 16 * head + 16), slice(16 * (head // 2), 16 * (head // 2) + 16)
            seen = range(max(t - 31, 0), t + 1)  # a window of 32 tokens, itself included
            score = [np.exp(turned(q[t][mine], t) @ turned(k[s][group], s) / 4.0) for s in seen]
            heads.append(sum(w * v[s][group] for w, s in zip(score, seen, strict=True)) / sum(score))
        y = x[t] + weights["o_proj"][0] @ np.concatenate(heads)
        up = weights["gate_up_proj"][0] @ rms(y, weights["mlp_norm"][0])
        gate = up[:256] / (1.0 + np.exp(-up[:256]))
        expected.append(y + weights["down_proj"][0] @ (gate * up[256:]))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12)


@given(new=st.integers(1, 12), context=st.integers(0, 20), window=st.integers(1, 30), causal=st.booleans())
def test_visible_keys_are_those_of_the_whole_mask(new, context, window, causal):
    query, key = np.arange(context, context + new)[:, None], np.arange(context + new)[None, :]
    whole = (query - key < window) & ((key <= query) | (not causal))
    kept = visible(new, context, float(window), causal)
    np.testing.assert_array_equal(kept, whole[:, whole.shape[1] - kept.shape[1] :])
    assert not whole[:, : whole.shape[1] - kept.shape[1]].any()


@pytest.mark.parametrize(("sequences", "new", "context"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_zero_length_shapes_are_refused(sequences, new, context):
    with pytest.raises(RooflineError, match="nothing to execute"):
        StepShape(sequences, new, context)


def test_a_full_cache_is_refused():
    library = NumpyLibrary()
    run = ModelRun(library, MODELS["gqa"], UNFUSED, 1, 4)
    run.step(Runner(library), tokens(library, MODELS["gqa"], 1, 4))
    with pytest.raises(RooflineError, match="holds 4 tokens"):
        run.step(Runner(library), tokens(library, MODELS["gqa"], 1, 1))


def test_generation_makes_the_cache_grow():
    library = NumpyLibrary()
    run = ModelRun(library, MODELS["gqa"], UNFUSED, 2, 16)
    found = run.generate(Runner(library), tokens(library, MODELS["gqa"], 2, 8), 5)
    assert [token.shape for token in found] == [(2, 1)] * 5
    assert run.context == 12
