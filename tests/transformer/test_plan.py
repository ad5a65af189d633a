"""The kernels of a step against the parameters of the model, hand counts, and the laws of sharding."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.cost import COST_FIELDS
from roofline.errors import InfeasibleError
from roofline.kernels.attention import FusedAttention, UnfusedAttention, WholeLatentAttention
from roofline.kernels.gemm import Gemm
from roofline.kernels.moe import ExpertGemm, ExpertLayer
from roofline.model import Attention, Layer, Mlp
from roofline.parameters import Role, model_tensors
from roofline.structs import STORED_BYTE
from roofline.timing import WorkingSet
from roofline.timing.datasheet import datasheet_time
from roofline.transformer import LatentForm, plan, stage_layers
from roofline.workload import AttentionKind, Parallelism, Precision, Sequences, decode, prefill
from tests.builders import DENSE, LATENT, MIXTURE, SLIDING, device, model

FUSED, UNFUSED = AttentionKind.FUSED, AttentionKind.UNFUSED
EXPANDED, ABSORBED, WHOLE = LatentForm


def step(of, batch, spread=None, attention=FUSED, latent=EXPANDED, precision=None):
    return plan(of, spread or Parallelism(), precision or Precision(), attention, latent).step(batch)


def total(groups, field, stage=None):
    """Sum of count · cost over kernels, of one stage or of all."""
    result = 0.0
    for group in groups:
        count = group.count.sum(axis=0) if stage is None else group.count[stage]
        result = result + (np.broadcast_to(getattr(group.cost, field), (len(group.names),)) * count).sum()
    return result


def rows(groups):
    return {name: (g, i) for g in groups for i, name in enumerate(g.names)}


@pytest.mark.parametrize("attention", AttentionKind)
@pytest.mark.parametrize("latent", LatentForm)
@pytest.mark.parametrize("of", [model(), model(SLIDING, DENSE), model(LATENT, LATENT), model(MIXTURE, DENSE)])
def test_gemms_read_every_linear_parameter_once(of, attention, latent):
    elements = sum(
        tensor.elements * repeats
        for tensor, repeats in model_tensors(of)
        if tensor.role in (Role.LINEAR, Role.ROUTER, Role.HEAD)
    )
    read = 0.0
    for group in step(of, (decode(1.0, 8.0),), attention=attention, latent=latent):
        if isinstance(group.work, Gemm):
            read += (group.work.n * group.work.k * group.work.copies * group.count[0]).sum()
        if isinstance(group.work, WholeLatentAttention):
            read += (group.cost.weight_read_byte * group.count[0]).sum() / STORED_BYTE[group.work.weight]
    assert read == elements


def test_all_experts_are_read_once_they_are_all_touched():
    of = model(MIXTURE, MIXTURE)
    experts = sum(t.elements * n for t, n in model_tensors(of) if t.role is Role.EXPERT)
    groups = step(of, (prefill(64.0, 64.0),))
    read = sum(
        (g.cost.weight_read_byte * g.count[0]).sum() for g in groups if isinstance(g.work, ExpertGemm | ExpertLayer)
    )
    assert read == pytest.approx(2 * experts, rel=1e-9)


def test_llama_layer_by_hand():
    # One layer, hidden 128, 8 heads and 4 KV heads of 16, MLP 256; 3 sequences of 5 tokens on 7 cached.
    groups = step(model(DENSE), (Sequences(3.0, 5.0, 7.0, 3.0),))
    found = rows(groups)
    token = 15

    def flop(name):
        group, i = found[name]
        return group.cost.matrix_flop[i]

    assert flop("qkv_proj") == 2 * token * 128 * (128 + 64 + 64)
    assert flop("o_proj") == 2 * token * 128 * 128
    assert flop("gate_up_proj") == 2 * token * 128 * 512
    assert flop("down_proj") == 2 * token * 256 * 128
    assert flop("lm_head") == 2 * 3 * 128 * 1024
    assert flop("attention") == 2 * 3 * 8 * (5 * 7 + 15) * 32
    appended, i = found["kv_append"]
    assert appended.cost.kv_write_byte[i] == token * 2 * 4 * 16 * 2


def test_absorbed_latent_attention_by_hand():
    # Per token: queries folded with W_UK, 8 heads x (16 x 32); attention over the latent of 32 + 8 values.
    groups = step(model(LATENT), (decode(2.0, 99.0),), latent=ABSORBED)
    found = rows(groups)
    group, i = found["q_absorb"]
    assert group.cost.matrix_flop[i] == 2 * 2 * 8 * 16 * 32
    group, i = found["attention"]
    assert group.cost.matrix_flop[i] == 2 * 2 * 8 * 100 * (40 + 32)
    assert group.cost.kv_read_byte[i] == 2 * 100 * 40 * 2
    group, i = found["kv_append"]
    assert group.cost.kv_write_byte[i] == 2 * 40 * 2


@pytest.mark.parametrize(("batch", "form"), [((decode(2.0, 99.0),), ABSORBED), ((prefill(2.0, 99.0),), EXPANDED)])
def test_whole_latent_attention_does_what_its_products_do(batch, form):
    apart, whole = (step(model(LATENT), batch, latent=latent) for latent in (form, WHOLE))
    assert not {"q_absorb", "v_absorb", "kv_b_proj"} & rows(whole).keys()
    for field in ("matrix_flop", "vector_flop", "weight_read_byte"):
        assert total(whole, field) == pytest.approx(total(apart, field), rel=1e-12)
    for field in ("kv_read_byte", "activation_write_byte"):  # what is handed on inside is not counted
        assert total(whole, field) <= total(apart, field)


def test_in_a_mixed_step_only_what_decodes_is_absorbed():
    found = rows(step(model(LATENT), (prefill(1.0, 64.0), decode(8.0, 1000.0)), latent=WHOLE))
    (new, i), (old, j) = found["attention[0]"], found["attention[1]"]
    assert not new.work.decoding and old.work.decoding
    # Expanded: 64 rows through W_UK and W_UV, 64·65/2 pairs of 24 and 16 values; absorbed: 8 rows, 1001 latents each.
    weight, pair = 8 * 32 * (16 + 16), 8 * (16 + 8 + 16)
    assert new.cost.matrix_flop[i] == 2 * (64 * weight + 64 * 65 / 2 * pair)
    assert old.cost.matrix_flop[j] == 2 * (8 * weight + 8 * 1001 * 8 * (32 + 8 + 32))
    assert old.cost.kv_read_byte[j] == 8 * 1001 * (32 + 8) * 2


def test_both_forms_of_latent_attention_agree_on_the_rest():
    kept = ("q_a_proj", "q_b_proj", "kv_a_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head")
    one, other = (rows(step(model(LATENT), (decode(2.0, 50.0),), latent=form)) for form in (EXPANDED, ABSORBED))
    for name in kept:
        assert one[name][0].cost.matrix_flop[one[name][1]] == other[name][0].cost.matrix_flop[other[name][1]]


@pytest.mark.parametrize("attention", AttentionKind)
@pytest.mark.parametrize("of", [model(), model(SLIDING, DENSE, SLIDING, DENSE), model(MIXTURE, DENSE, MIXTURE, DENSE)])
@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("pp", [1, 2, 4])
def test_shards_sum_to_the_whole(of, attention, tp, pp):
    batch = (prefill(2.0, 33.0, 5.0),)
    whole = total(step(of, batch, attention=attention), "matrix_flop")
    groups = step(of, batch, Parallelism(tp=tp, pp=pp), attention)
    replicated = sum(  # the router runs on every tensor-parallel rank
        (g.cost.matrix_flop * g.count.sum(axis=0))[i] * (tp - 1)
        for g in groups
        for i, name in enumerate(g.names)
        if name == "router"
    )
    assert tp * total(groups, "matrix_flop") - replicated == pytest.approx(whole, rel=1e-12)
    weights = {
        name: total(step(of, batch, Parallelism(tp=1, pp=p), attention), "weight_read_byte")
        for p, name in ((1, "a"), (pp, "b"))
    }
    assert weights["a"] == pytest.approx(weights["b"], rel=1e-12)


def test_replicated_kv_heads_beyond_tp():
    # 4 KV heads on 8 ranks: each keeps one, so the cache in all is twice that of one device.
    batch = (decode(1.0, 100.0),)
    assert 8 * total(step(model(), batch, Parallelism(tp=8)), "kv_read_byte") == 2 * total(
        step(model(), batch), "kv_read_byte"
    )


@given(
    chunks=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    kind=st.sampled_from([(DENSE, EXPANDED), (SLIDING, EXPANDED), (MIXTURE, EXPANDED), (LATENT, ABSORBED)]),
)
def test_chunked_prefill_conserves_flop(chunks, kind):
    layer, latent = kind
    of, done = model(layer, causal=True), 0
    parts = 0.0
    for chunk in chunks:
        sampled = float(done + chunk == sum(chunks))
        parts += total(step(of, (Sequences(1.0, float(chunk), float(done), sampled),), latent=latent), "matrix_flop")
        done += chunk
    whole = total(step(of, (prefill(1.0, float(done)),), latent=latent), "matrix_flop")
    assert parts == pytest.approx(whole, rel=1e-12)


@given(a=st.integers(1, 9), b=st.integers(1, 9), context=st.integers(0, 99), new=st.integers(1, 40))
def test_mixed_batch_costs_are_the_sum_of_what_varies(a, b, context, new):
    # Activations and FLOP add over the parts of a batch; weights are read once.
    of = model()
    parts = (prefill(float(a), float(new)), decode(float(b), float(context)))
    mixed = step(of, parts)
    for field in ("matrix_flop", "vector_flop", "activation_read_byte", "kv_read_byte", "kv_write_byte"):
        alone = [total(step(of, (part,)), field) for part in parts]
        assert total(mixed, field) == pytest.approx(sum(alone), rel=1e-12)
    assert total(mixed, "weight_read_byte") == total(step(of, parts[:1]), "weight_read_byte")


@given(
    batch=st.lists(st.integers(1, 512), min_size=1, max_size=4),
    context=st.lists(st.integers(0, 4000), min_size=1, max_size=4),
    layer=st.sampled_from([DENSE, SLIDING, MIXTURE, LATENT]),
    attention=st.sampled_from(list(AttentionKind)),
)
def test_vector_equals_scalar(batch, context, layer, attention):
    of, grid = model(layer), (np.array(batch, float)[:, None], np.array(context, float)[None, :])
    vector = step(of, (decode(*grid),), attention=attention)
    for i, b in enumerate(batch):
        for j, c in enumerate(context):
            scalar = step(of, (decode(float(b), float(c)),), attention=attention)
            for v, s in zip(vector, scalar, strict=True):
                size = (len(batch), len(context), len(s.names))
                for field in COST_FIELDS:
                    whole = np.broadcast_to(getattr(v.cost, field), size)
                    np.testing.assert_allclose(whole[i, j], getattr(s.cost, field), rtol=1e-12)


def test_linear_work_is_computed_once_along_the_context_axis():
    groups = step(model(), (decode(np.ones((5, 1)), np.ones((1, 7))),))
    for group in groups:
        varies = isinstance(group.work, FusedAttention | UnfusedAttention)
        assert np.shape(group.cost.flop)[:-1] == ((5, 7) if varies else (5, 1))


def test_stages_of_a_replica_larger_than_a_node_meet_over_the_network():
    """Eight devices a node: tp 4 x pp 2 stays inside (100 GB/s), tp 8 x pp 2 does not (25 GB/s)."""

    def send_s(tp):
        spread = Parallelism(tp=tp, pp=2)
        groups = plan(model(), spread, Precision(), AttentionKind.FUSED, LatentForm.EXPANDED).step(
            (prefill(4.0, 64.0),)
        )
        (group,) = [group for group in groups if group.names == ("stage_send",)]
        return float(datasheet_time(group, device(), WorkingSet(0.0)).roofline_s[0])

    payload = 4 * 64 * 128 * 2
    assert send_s(4) == pytest.approx(payload / 100e9)
    assert send_s(8) == pytest.approx(payload / 25e9)


def test_stages_hold_every_layer_once_in_order():
    of = model(*(replace(DENSE, mlp=Mlp(float(64 * (i + 1)), True)) for i in range(7)))
    stages = stage_layers(of, 3)
    assert [len(stage) for stage in stages] == [3, 2, 2]
    assert tuple(layer for stage in stages for layer in stage) == of.layers


@pytest.mark.parametrize(
    ("of", "spread", "names"),
    [
        (model(), Parallelism(tp=3), ("tp: 3", "8 attention heads")),
        (model(), Parallelism(pp=9), ("pp: 9", "4 layers")),
        (model(), Parallelism(ep=2, tp=2), ("ep", "no experts")),
        (model(MIXTURE), Parallelism(ep=4, tp=2), ("ep: 4", "dp (1)")),
        (model(MIXTURE), Parallelism(ep=16, tp=16), ("tp: 16", "8 attention heads")),
    ],
)
def test_splits_that_do_not_divide_are_refused_by_name(of, spread, names):
    with pytest.raises(InfeasibleError) as caught:
        plan(of, spread, Precision(), FUSED, EXPANDED)
    for name in names:
        assert name in str(caught.value)


def test_expert_parallel_over_replicas_conserves_expert_flop():
    of, batch = model(MIXTURE), (decode(8.0, 16.0),)
    alone = step(of, batch)
    spread = step(of, batch, Parallelism(ep=4, dp=4))
    flop = [
        sum((g.cost.matrix_flop * g.count[0]).sum() for g in groups if isinstance(g.work, ExpertGemm | ExpertLayer))
        for groups in (alone, spread)
    ]
    assert flop[0] == pytest.approx(flop[1])  # a quarter of the experts, tokens of four replicas
    names = rows(spread)
    assert "dispatch" in names and "combine" in names
    group, i = names["dispatch"]
    assert group.cost.link_byte[i] == 8 * 2 * 128 * 2 * 3 / 4


def test_fused_experts_cost_what_their_steps_do():
    # One operation reads and writes what up product, activation, down product and sum do one by one.
    of, batch = model(MIXTURE), (decode(8.0, 16.0),)
    fused, plain = step(of, batch), rows(step(of, batch, attention=UNFUSED))
    layer, i = rows(fused)["experts"]
    parts = [plain[name] for name in ("experts_gate_up", "experts_activation", "experts_down", "experts_sum")]
    for field in ("matrix_flop", "vector_flop", "weight_read_byte", "activation_read_byte", "activation_write_byte"):
        summed = sum(np.broadcast_to(getattr(g.cost, field), (len(g.names),))[j] for g, j in parts)
        assert np.broadcast_to(getattr(layer.cost, field), (1,))[i] == pytest.approx(summed)


def test_encoder_has_no_cache_and_no_head():
    names = rows(step(model(causal=False, pooler=True), (prefill(2.0, 8.0),)))
    assert "kv_append" not in names and "lm_head" not in names and "pooler" in names


def test_attention_layers_with_windows_are_rows_of_their_own():
    names = rows(step(model(SLIDING, DENSE, SLIDING), (decode(1.0, 100.0),)))
    sliding, i = names["attention_sliding"]
    full, j = names["attention"]
    assert sliding.count[0][i] == 2 and full.count[0][j] == 1
    assert sliding.cost.kv_read_byte[i] == 32 * 2 * 4 * 16 * 2
    assert full.cost.kv_read_byte[j] == 101 * 2 * 4 * 16 * 2


def test_multi_head_attention_is_grouped_with_as_many_kv_heads():
    layer = Layer(Attention(8.0, 8.0, 16.0), DENSE.mlp)
    group, i = rows(step(model(layer), (decode(1.0, 9.0),)))["qkv_proj"]
    assert group.work.n[i] == 3 * 128
