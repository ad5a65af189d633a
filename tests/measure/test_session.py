"""Campaigns: which shapes records have, what is cold, what interruption keeps; and host profiles from known rates."""

import itertools
import os
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from roofline.errors import RooflineError
from roofline.io.datasets.own import load, write
from roofline.io.datasets.own import read as read_own
from roofline.io.datasets.source import Source
from roofline.io.profile_lint import lint_profile
from roofline.io.profiles import load_device, load_profile
from roofline.io.records import DIMENSIONS, FAMILY_OF_STEP, Family
from roofline.measure import draw, environment, rounds, session
from roofline.measure.campaign import (
    Case,
    Settings,
    check_steps,
    executed_steps,
    measure_case,
    measure_layer,
    measure_model,
    record_shape,
    repeated,
)
from roofline.measure.cases import doubled, random_cases
from roofline.measure.host_profile import Machine, Measured, profile_text
from roofline.measure.microbench import Bench, Rate, Sizes, rates
from roofline.measure.numpy_executor import NumpyLibrary
from roofline.measure.rounds import Stop, Visit, joined
from roofline.measure.steps import Form, StepShape
from roofline.measure.timer import Budget, Samples, SweptClock, WallClock
from roofline.model import LatentAttention
from roofline.structs import Dtype
from roofline.transformer import LatentForm
from roofline.workload import AttentionKind, Precision

from ..builders import LATENT, MIXTURE, SLIDING, model

BRIEF = Budget(warm_up_s=0.0, least_sample=2, most_sample=2, least_s=0.0, most_s=5.0, sample_s=0.0)
FP32 = Precision(Dtype.FP32, Dtype.FP32, Dtype.FP32, Dtype.FP32)
WARM = Settings(BRIEF, WallClock(), WallClock(), WallClock(), cold=False, cache_byte=1e6, precision=FP32)
UNFUSED = Form(AttentionKind.UNFUSED)


CHUNK = StepShape(2, 12, 40)


def case(layer=SLIDING, shape=CHUNK, form=UNFUSED, **changes) -> Case:
    return Case(model(layer, **changes), layer, form, shape)


def test_every_step_of_every_kind_of_layer_has_a_family():
    library = NumpyLibrary()
    for layer in (SLIDING, MIXTURE, LATENT):
        for kind in AttentionKind:
            form = Form(kind, LatentForm.EXPANDED)
            for step in executed_steps(case(layer, form=form), library):
                if isinstance(layer.attention, LatentAttention) and step.name == "attention":
                    continue  # fused latent attention is no kernel of these libraries
                family, dims = record_shape(step, case(layer, form=form))
                assert set(dims) == set(DIMENSIONS[family]), step.name


def test_dimensions_by_hand():
    """2 sequences of 12 tokens behind 40; window 32 keeps 31 + 12 = 43 keys; 8 heads share 4 KV heads of 16."""
    found = {step.name: record_shape(step, case()) for step in executed_steps(case(), NumpyLibrary())}
    assert found["q_proj"] == (Family.GEMM, {"m": 24.0, "n": 128.0, "k": 128.0, "copies": 1.0})
    assert found["attention_scores_sliding"] == (Family.GEMM, {"m": 24.0, "n": 43.0, "k": 16.0, "copies": 8.0})
    assert found["attention_values_sliding"] == (Family.GEMM, {"m": 24.0, "n": 16.0, "k": 43.0, "copies": 8.0})
    rows = {"row": 2.0 * 8 * 12, "read_byte": 43.0 * 4, "write_byte": 43.0 * 4}
    assert found["softmax_sliding"] == (Family.SOFTMAX, rows)
    assert found["mlp_residual"] == (Family.RESIDUAL, {"row": 24.0, "read_byte": 1024.0, "write_byte": 512.0})
    fused = case(form=Form(AttentionKind.FUSED), shape=StepShape(3, 1, 40))
    step = next(step for step in executed_steps(fused, NumpyLibrary()) if step.name == "attention_sliding")
    family, dims = record_shape(step, fused)
    assert family is Family.DECODE_ATTENTION
    assert dims == {
        "sequences": 3.0, "new_token": 1.0, "context": 40.0,
        "heads": 8.0, "kv_heads": 4.0, "head_dim": 16.0, "window": 32.0,
    }  # fmt: skip


def test_cold_operands_take_turns_until_they_exceed_the_cache():
    """The weight [128, 128] in fp32 has 64 KiB: 31 copies exceed twice 1 MB; inputs stay the same array."""
    step = next(step for step in executed_steps(case(), NumpyLibrary()) if step.name == "q_proj")
    call, copies, recorded = repeated(step, NumpyLibrary(), replace(WARM, cold=True))
    assert (copies, recorded) == (31, None)
    for index in range(62):
        np.testing.assert_allclose(call(index), call(0), rtol=1e-5)  # every copy computes the same
    norm = next(step for step in executed_steps(case(), NumpyLibrary()) if step.name == "attention_norm")
    _, copies, recorded = repeated(norm, NumpyLibrary(), replace(WARM, cold=True))
    assert (copies, recorded) == (512, 512.0)  # 512 bytes each: the record says that they fit
    assert repeated(step, NumpyLibrary(), WARM)[1:] == (1, 1.0)
    # 192 KiB are read between two executions: 8 of 64 + 192 KiB are twice 1 MB (7.6), and of 0.5 + 192 KiB 11 (10.1)
    swept = replace(WARM, cold=True, clock=SweptClock((lambda: None,), 3.0 * 2.0**16))
    assert [repeated(each, NumpyLibrary(), swept)[1:] for each in (step, norm)] == [(8, None), (11, None)]


def test_a_shape_is_measured_once_and_steps_can_be_chosen():
    seen = set()
    chosen = replace(WARM, steps=check_steps(["softmax", "o_proj"]))
    found = list(measure_case(case(), NumpyLibrary(), chosen, seen))
    assert [record.step for record in found] == ["softmax_sliding", "o_proj"]
    assert list(measure_case(case(), NumpyLibrary(), chosen, seen)) == []


def test_an_unknown_step_is_refused():
    with pytest.raises(RooflineError, match=r"step: 'sofmax' is not known. Did you mean 'softmax'\?"):
        check_steps(["sofmax"])


def test_records_survive_writing_and_reading(tmp_path):
    measured = tuple(measure_case(case(MIXTURE), NumpyLibrary(), WARM, set()))
    measured += (measure_layer(case(MIXTURE), NumpyLibrary(), WARM),)
    measured += (measure_model(model(MIXTURE), UNFUSED, StepShape(1, 1, 8), NumpyLibrary(), WARM),)
    state = environment.environment("host", 1, {})
    path = tmp_path / "records.json"
    write(path, session.RecordFile(session.SCHEMA, state, measured))
    assert load(path).records == measured
    groups, refused = read_own(Source(path, path.name, "0"))
    assert not refused
    assert sum(group.size for group in groups) == len(measured)
    assert {group.family for group in groups} >= {Family.GEMM, Family.MOE, Family.LAYER, Family.MODEL}


def test_drawn_cases_are_the_same_everywhere_and_cover_every_kind():
    cases = list(random_cases(24, 1024, 256, (UNFUSED,)))
    assert [c.model for c in cases] == [c.model for c in random_cases(24, 1024, 256, (UNFUSED,))]
    assert {c.shape.new_token == 1 for c in cases} == {True, False}
    assert {type(c.layer.mlp).__name__ for c in cases} == {"Mlp", "Moe"}
    assert len({c.layer.attention.heads / c.layer.attention.kv_heads for c in cases}) >= 3


def test_another_seed_draws_other_cases():
    first, second = (list(random_cases(6, 1024, 256, (UNFUSED,), seed)) for seed in (1, 2))
    assert [c.model for c in first] != [c.model for c in second]


def test_doubling_changes_one_size():
    """Batch and length in turn; the length of a decode step is its context."""
    drawn = [case(shape=shape) for shape in (StepShape(2, 12, 40), StepShape(2, 12, 40), StepShape(3, 1, 40))]
    found = [each.shape for each in doubled(drawn)]
    assert found == [StepShape(2, 24, 40), StepShape(4, 12, 40), StepShape(3, 1, 80)]


def test_heads_of_one_token_are_side_by_side_already():
    names = {
        new: [record.step for record in measure_case(case(shape=StepShape(2, new, 8)), NumpyLibrary(), WARM, set())]
        for new in (1, 2)
    }
    assert "head_concat_sliding" in names[2] and "head_concat_sliding" not in names[1]


def test_visits_are_joined_shape_by_shape():
    """Two rounds over two shapes. Of the second shape, a thread waited throughout the first visit."""
    one, two = (list(measure_case(case(), NumpyLibrary(), WARM, set()))[number] for number in (0, 1))
    visits = [
        Visit(0, replace(one, samples_s=(3.0, 1.0))),
        Visit(1, replace(two, samples_s=(9.0,), disturbed_s=(9.0,))),
        Visit(0, replace(one, samples_s=(2.0,))),
        Visit(1, replace(two, samples_s=(4.0, 6.0), disturbed_s=())),
    ]
    first, second = joined(visits)
    assert (first.samples_s, first.median_s) == ((3.0, 1.0, 2.0), 2.0)
    assert (second.samples_s, second.median_s, second.disturbed_s) == ((4.0, 6.0), 5.0, (9.0,))


def test_visits_of_a_slow_machine_do_not_count_where_there_are_others():
    """Beside the second visit of the first record the reference product took half as long again; the second record has
    no other."""
    (one, *_) = measure_case(case(), NumpyLibrary(), WARM, set())
    times = [(0, 1.0, 1.0), (0, 2.0, 1.5), (0, 3.0, 1.1), (1, 4.0, 1.5)]
    first, second = joined(Visit(number, replace(one, samples_s=(time,)), pace) for number, time, pace in times)
    assert (first.samples_s, second.samples_s) == ((1.0, 3.0), (4.0,))


def test_what_only_a_slow_machine_was_seen_at_is_visited_again(monkeypatch):
    """Two stops of two records, two rounds. The product takes 2 s, not 1 s, around the last record in both rounds: its
    stop is visited again, with the numbers and the shapes that it had. One that never gets faster ends with the time.
    """
    (one, *_) = measure_case(case(), NumpyLibrary(), WARM, set())
    asked: list[tuple[str, list[str]]] = []

    def stop(name: str) -> Stop:
        def measure(seen):
            asked.append((name, sorted(seen)))
            seen.add(name)
            yield from (one, one)

        return Stop(name, measure)

    monkeypatch.setattr(rounds, "MORE_ROUNDS", 1e9)
    paces = iter([1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0])
    found = [visit.number for visit in rounds.visits([stop("a"), stop("b")], 2, lambda: next(paces))]
    assert found == [0, 1, 2, 3, 0, 1, 2, 3, 2, 3]
    assert asked == [("a", []), ("b", ["a"]), ("a", []), ("b", ["a"]), ("b", ["a"])]
    monkeypatch.setattr(rounds, "MORE_ROUNDS", 1.0)
    now = iter(float(second) for second in range(1000))
    monkeypatch.setattr(rounds, "perf_counter", lambda: next(now))
    slow = itertools.chain([1.0], itertools.repeat(2.0))
    assert 8 <= len(list(rounds.visits([stop("a"), stop("b")], 2, lambda: next(slow)))) < 20


def test_drawn_shapes_are_visited_in_rounds(monkeypatch):
    """Every visit of a shape gives one sample here: as many samples as rounds, none twice in one round."""
    monkeypatch.setattr(session, "bind", lambda *_: None)
    monkeypatch.setattr(draw, "_pace", lambda *_: lambda: 1.0)
    monkeypatch.setattr(draw, "QUICK_DRAW", (6, 256, 32))
    chosen = session.Request(quick=True, samples=1, steps=frozenset({"mlp_residual"}), seed=3)
    file = session.measure_steps(chosen)
    assert file.seed == 3
    assert {len(record.samples_s) for record in file.records} == {draw.ROUNDS}
    shapes = [tuple(record.dims.values()) for record in file.records]
    assert 0 < len(shapes) - len(set(shapes)) <= len(shapes) // 3  # those measured again for the noise


def test_interruption_keeps_what_was_measured(monkeypatch):
    def stopped(drawn, *_):
        for number, record in enumerate(measure_case(drawn, NumpyLibrary(), WARM, set())):
            if number == 3:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(draw, "measure_case", stopped)
    monkeypatch.setattr(session, "bind", lambda *_: None)
    file = session.measure_steps(session.Request(quick=True))
    assert file.interrupted
    assert [record.step for record in file.records] == ["embedding", "attention_norm", "q_proj"]


def test_the_environment_tells_what_a_record_needs():
    state = environment.environment("host", 1, {"torch": "0"})
    assert state.cpu_model and state.blas and state.library_version.keys() >= {"python", "numpy", "torch"}
    assert state.affinity == tuple(sorted(os.sched_getaffinity(0)))
    assert state.memory_byte > 1e8
    assert state.machine_id == environment.environment("other", 1, {}).machine_id
    assert state.machine_id != environment.environment("host", 1, {}, accelerator="GPU").machine_id


@pytest.mark.parametrize("count", [0, 10_000])
def test_threads_beyond_the_cpus_are_refused(count):
    with pytest.raises(RooflineError, match=f"threads: {count} is not accepted"):
        environment.bind(environment.cores(), count)


def test_threads_of_the_blas_are_set():
    before = [get() for _, get in environment._blas_controls()]
    try:
        environment.use_blas_threads(1)
        assert [get() for _, get in environment._blas_controls()] == [1] * len(before)
    finally:
        for (set_threads, _), count in zip(environment._blas_controls(), before, strict=True):
            set_threads(count)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (session.Request(library="jax"), "library: 'jax' is not known"),
        (session.Request(device="tpu"), "device: 'tpu' is not known"),
        (session.Request(activations="bf16"), "numpy runs fp32 on the cpu only"),
        (session.Request(activations="fp8"), "dtype: 'fp8' is not known"),
        (session.Request(samples=0), "samples: 0 is not accepted"),
    ],
)
def test_requests_that_cannot_be_served_are_refused(request_, message, monkeypatch):
    monkeypatch.setattr(session, "bind", lambda *_: None)
    with pytest.raises(RooflineError, match=message):
        session.measure_steps(request_)


def rate(benchmark, size, work, *seconds, library="numpy") -> Rate:
    return Rate(benchmark, size, library, 2, work, Samples(np.array(seconds)))


MACHINE = Machine(
    title='A "test" machine', vendor="Test", structure="cpu", form_factor="socket", unit="cores", unit_count=2,
    clock_hz=2.5e9, level_byte={"L1d": 65536.0, "L2": 2.0**21, "L3": 2.0**25}, memory_byte=32e9, available_byte=24e9,
    power_w=None, description="test, 2 cores", day=date(2026, 1, 31),
)  # fmt: skip
MEASURED = Measured(
    rates=(
        rate("call", 1.0, 1.0, *[2e-6] * 5),
        rate("gemm", 256.0, 1e9, *[0.02] * 5),
        rate("gemm", 1024.0, 2e9, 0.0125, 0.01, 0.0125, 0.0125, 0.0125, 0.0125),
        rate("softmax", 65536.0, 4e7, *[1e-3] * 5),
        rate("copy", 1e6, 1e8, *[1e-3] * 5),
        rate("copy", 2e7, 6e7, *[1e-3] * 5),
        rate("copy", 2e8, 2e7, *[1e-3] * 5),
        rate("triad", 2e8, 4e7, *[1e-3] * 5),
    ),
    narrow={Dtype.BF16: rate("gemm", 1024.0, 4e9, *[0.01] * 5)},
    levels={"L2": 1e6, "L3": 2e7, "DRAM": 2e8},
)


def test_a_profile_from_known_rates(tmp_path):
    """The fastest sample gives the rate, 2e9 / 0.01; the fast side, four in six at 0.0125, gives 0.8 of it."""
    path = tmp_path / "host.toml"
    path.write_text(profile_text("host", MACHINE, MEASURED))
    device = load_device(path)
    assert device.matrix_flop_per_s == {Dtype.FP32: 2e11, Dtype.BF16: 4e11}
    assert device.vector_flop_per_s == 2e11
    assert device.efficiency.matrix == pytest.approx(0.8)
    assert device.efficiency.vector == pytest.approx(4e10 / 2e11)
    assert device.efficiency.kernel_overhead_s == 2e-6
    assert (device.on_chip.capacity_byte, device.on_chip.bandwidth_byte_per_s) == (2.0**21, 1e11)
    assert (device.last_level_cache.capacity_byte, device.last_level_cache.bandwidth_byte_per_s) == (2.0**25, 6e10)
    assert device.dram.bandwidth_byte_per_s == 4e10  # the triad is faster than the copy
    assert device.reserve_fraction == 0.25
    assert device.upcast[Dtype.FP16] is Dtype.FP32
    assert [finding for finding in lint_profile(path) if finding.severity == "error"] == []
    facts = dict(load_profile(path).facts())
    assert facts["matrix.fp32"].kind == "measured"
    assert facts["matrix.fp32"].date == date(2026, 1, 31)
    source = load_profile(path).sources[facts["matrix.fp32"].source]
    assert "gemm" in source and "2026-01-31" in source and "test, 2 cores" in source
    assert facts["power.tdp"].kind == "assumed"


def test_a_profile_without_a_benchmark_is_refused():
    broken = replace(MEASURED, rates=MEASURED.rates[:2])
    with pytest.raises(RooflineError, match="was not measured"):
        profile_text("host", MACHINE, broken)


def test_a_profile_needs_a_name():
    with pytest.raises(RooflineError, match="cannot name a profile"):
        profile_text("My Host", MACHINE, MEASURED)


def test_benchmarks_count_their_own_work():
    bench = Bench(NumpyLibrary(), WallClock(), BRIEF, 1)
    work = Sizes((8,), 512, {"DRAM": 24000.0})
    found = {each.benchmark: each.work for each in rates(bench, work)}
    assert len(list(rates(bench, work))) == work.count
    assert found == {
        "call": 1.0,
        "gemm": 2.0 * 8**3,
        "exp": 512.0,
        "softmax": 5.0 * 512,
        "copy": 24000.0,  # 3000 values read and written
        "triad": 24000.0,  # 2000 values, two read and one written
        "read": 5 * 1024 * 4.0,  # rows of 1024 values that fit
    }


def test_all_steps_of_the_families_are_in_the_predictors_words():
    """Each name that can be measured is one that some plan uses."""
    from roofline.transformer import plan
    from roofline.workload import Parallelism

    from .test_executors import MODELS

    planned = set()
    for each in MODELS.values():
        for kind in AttentionKind:
            for form in LatentForm:
                for template in plan(each, Parallelism(), FP32, kind, form).templates:
                    planned |= {name.removesuffix("_sliding") for name in template.names}
    assert set(FAMILY_OF_STEP) <= planned


def test_sweeps_take_turns_until_they_exceed_the_last_cache(monkeypatch):
    """Half of 4 MiB, which is twice the 1 MiB before it of the one core, four times in turn: 8 MiB."""
    monkeypatch.setattr(session, "last_level_byte", lambda: 2.0**22)
    monkeypatch.setattr(session, "caches", lambda: ())
    monkeypatch.setattr(session, "cores", lambda: (0,))
    clock = session.swept_clock(NumpyLibrary())
    matrices = [sweep.args[-1] for sweep in clock.sweeps]
    assert {matrix.nbytes for matrix in matrices} == {2**21} == {int(clock.between_byte)}
    assert len({NumpyLibrary().address(matrix) for matrix in matrices}) == len(matrices) == 4
    assert all(np.size(sweep()) for sweep in clock.sweeps)
