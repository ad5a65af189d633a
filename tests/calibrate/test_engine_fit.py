from dataclasses import replace

import numpy as np
import pytest

from roofline.calibrate.engine import (
    TPOT_PRIORS,
    TTFT_PRIORS,
    errors_of,
    fit_and_judge,
    fit_engine,
    fitted_paths,
    halves,
    parameter_of,
    spread_rows,
    with_parameters,
)
from roofline.calibrate.served import Part, ServedSet
from roofline.io.engine_text import engine_text
from roofline.io.engines import load_engine, load_engine_file
from roofline.serving.engine import HostCost

from ..builders import device
from ..serving.made import ENGINE, served

TRUE = replace(
    ENGINE, host=HostCost(step_s=1e-3, sequence_s=4e-5, request_s=0.03, prompt_token_s=1e-5, layer_s=1e-6,
                          prefill_step_s=1e-3, prefill_layer_s=1e-5),
    prefill_wait=2.0,
)  # fmt: skip
PRIOR = replace(TRUE, host=replace(TRUE.host, step_s=3e-4, sequence_s=1.5e-5, request_s=0.01), prefill_wait=1.4)


def made_set(rows=24, noise=0.0):
    """Rows that TRUE serves, over concurrency and lengths; `noise`: spread of the measured times."""
    generator = np.random.default_rng(3)
    shape = {
        "concurrency": np.tile([1.0, 4.0, 16.0, 48.0], rows // 4),
        "input_token": np.repeat([64.0, 256.0, 700.0], rows // 3),
        "output_token": np.tile([32.0, 32.0, 128.0, 128.0, 256.0, 256.0], rows // 6),
        "tensor_parallel": np.ones(rows),
        "shortest_share": np.ones(rows),
        "request_per_client": np.full(rows, np.inf),
    }
    nothing = np.ones(rows)
    made = ServedSet(
        name="made",
        engine=TRUE,
        device=device(),
        parts=(Part(served(TRUE), np.arange(rows)),),
        tpot_s=nothing,
        ttft_s=nothing,
        floor_tpot_s=0.0 * nothing,
        floor_ttft_s=0.0 * nothing,
        **shape,
    )
    tpot, ttft = made.predicted(TRUE, np.arange(rows))
    factor = np.exp(noise * generator.standard_normal((2, rows)))
    return replace(made, tpot_s=tpot * factor[0], ttft_s=ttft * factor[1])


def test_known_host_times_are_found_where_the_prior_leaves_them_free():
    made = made_set()
    fitted = fit_engine(PRIOR, [(made, np.arange(made.size))])
    tpot, ttft = made.predicted(fitted, np.arange(made.size))
    assert errors_of(tpot, made.tpot_s).mape < 0.01
    assert errors_of(ttft, made.ttft_s).mape < 0.03
    assert fitted.host.sequence_s == pytest.approx(4e-5, rel=0.2)
    assert fitted.prefill_wait == pytest.approx(2.0, rel=0.15)


def test_eight_noisy_rows_bring_the_others_closer():
    made = made_set(noise=0.03)
    fit, judge = halves(made, 8 / made.size, 0)
    assert fit.size == 8 and not set(fit) & set(judge)
    fitted = fit_engine(PRIOR, [(made, fit)])
    before = errors_of(made.predicted(PRIOR, judge)[0], made.tpot_s[judge]).mape
    after = errors_of(made.predicted(fitted, judge)[0], made.tpot_s[judge]).mape
    assert before > 0.2
    assert after < 0.06


def test_an_outlier_does_not_bend_the_fit():
    made = made_set()
    wrong = made.tpot_s.copy()
    wrong[5] *= 3.0
    fitted = fit_engine(PRIOR, [(replace(made, tpot_s=wrong), np.arange(made.size))])
    tpot, _ = made.predicted(fitted, np.arange(made.size))
    assert errors_of(tpot, made.tpot_s).median_ape < 0.03


def test_a_fit_reports_what_it_did_not_see_and_its_band_holds_most_of_it():
    made = made_set(noise=0.03)
    fit = fit_and_judge(PRIOR, [made], 0.5, 0, lambda text: None)
    assert fit.fitted_rows == (12,)
    assert fit.errors[0][1].n == 12
    assert fit.engine.tpot_band.low < 1.0 < fit.engine.tpot_band.high
    assert fit.engine.evidence.fitted_rows == 12 and fit.engine.evidence.tpot_mape < 0.06
    assert set(fit.parameters) == {*TPOT_PRIORS, *TTFT_PRIORS}


def test_rows_are_divided_by_the_seed_alone():
    made = made_set()
    assert halves(made, 0.5, 1)[0].tolist() == halves(made, 0.5, 1)[0].tolist()
    assert halves(made, 0.5, 1)[0].tolist() != halves(made, 0.5, 2)[0].tolist()
    assert spread_rows(made, 5).tolist() == [0, 6, 12, 17, 23]


def test_parameters_are_set_and_read_by_name():
    changed = with_parameters(ENGINE, {"scale.decode_gemm": 0.9, "host.step_s": 2e-3, "limits.reserve_byte": 1e9})
    assert (changed.scale.decode_gemm, changed.host.step_s, changed.limits.reserve_byte) == (0.9, 2e-3, 1e9)
    assert parameter_of(changed, "scale.decode_gemm") == 0.9
    assert parameter_of(changed, "prefill_wait") == ENGINE.prefill_wait


def test_a_written_engine_reads_back_as_it_was(tmp_path):
    engine = with_parameters(
        load_engine("trtllm"), {"host.step_s": 4.44e-4, "prefill_wait": 2.22, "limits.reserve_byte": 5.55e9}
    )
    engine = replace(engine, evidence=replace(engine.evidence, data="x", release="1", date="2026-01-01"))
    path = tmp_path / "mine.toml"
    path.write_text(engine_text(load_engine_file("trtllm"), engine, "mine", fitted_paths(), "eight rows of mine"))
    back = load_engine(path)
    assert back.name == "mine" and back.own_kernels == engine.own_kernels and back.ahead == engine.ahead
    for name in (*TPOT_PRIORS, *TTFT_PRIORS):
        assert parameter_of(back, name) == pytest.approx(parameter_of(engine, name), rel=5e-3)
    kinds = {path: fact.kind for path, fact in load_engine_file(path).facts()}
    assert kinds["host.step"] == "derived" and kinds["limits.max_sequence"] == "assumed"
