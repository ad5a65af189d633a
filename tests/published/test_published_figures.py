"""Whole models against figures that others published (see benchmarks/published.py, which prints all of them)."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks import published as figures


@cache
def known(folder: str) -> list[figures.Predicted]:
    """Every A100 figure, predicted."""
    return figures.gpu(Path(folder))


@pytest.fixture
def folder() -> str:
    if "ROOFLINE_DATA" not in os.environ:
        pytest.skip("ROOFLINE_DATA names no folder: published figures are not at hand")
    return os.environ["ROOFLINE_DATA"]


def phase_error(folder: str, *names: str) -> tuple[int, float]:
    """Comparisons of these phases, fp16, and their median absolute error."""
    fp16 = [one for one in figures.sound(known(folder)) if one.figure.precision == "fp16"]
    found = [one for one in figures.phases(fp16) if one.phase in names]
    return len(found), figures.errors([one.predicted for one in found], [one.published for one in found])[0]


def test_all_figures_are_read(folder: str) -> None:
    rows = list(figures.figures(Path(folder) / "published" / "fastertransformer_a100.csv"))
    assert len(rows) == 455
    assert {row.note.split(";")[0] for row in rows} == {"mode=static"}


def test_a_series_that_no_a100_can_run_is_flagged_and_nothing_else(folder: str) -> None:
    # 128 x 384 tokens through 6.44e9 parameters are 633 TFLOP, more than two seconds at 312 TFLOP/s; printed: 1.478 s.
    flagged = figures.faster_than_physics(known(folder))
    assert {one.figure.name for one in flagged} == {"BERT-6B-encoder"}
    series = [one for one in known(folder) if one.figure.name == "BERT-6B-encoder"]
    assert len(flagged) > len(series) / 2
    worst = next(one for one in series if one.figure.value == pytest.approx(1.47778))
    assert worst.roofline_s > 2.0 * 32 * 12 * 4096**2 * 128 * 384 / 312e12 > worst.figure.value


def test_decode_steps(folder: str) -> None:
    count, median = phase_error(folder, "decode", "decode difference")
    assert count > 200
    assert median < 0.10


def test_prefill(folder: str) -> None:
    count, median = phase_error(folder, "prefill", "prefill difference")
    assert count > 40
    assert median < 0.12


def test_whole_requests(folder: str) -> None:
    # Was 7.0 % (bound: 8 %) with A100's all-reduce fitted to another table's network too, which made those of 8 to 32
    # devices up to 2.5 times too slow and hid what these engines take besides; reached without: 8.2 / 9.8 %.
    some = [one for one in figures.sound(known(folder)) if one.figure.metric == "e2e_latency"]
    median, mean, _ = figures.errors([one.total_s for one in some], [one.figure.value for one in some])
    assert len(some) == 320
    assert median < 0.09
    assert mean < 0.10


def test_boards_whose_authors_measured_them(folder: str) -> None:
    rows = figures.figures(Path(folder) / "published" / "fpga.csv")
    primary = [row for row in rows if figures.trust(row) == figures.PRIMARY and figures.is_decode(row)]
    assert len(primary) == 2
    error = [figures.board_prediction(row) / row.value - 1.0 for row in primary]
    assert np.abs(error).max() < 0.20


def test_a_shape_in_a_model_name_is_read() -> None:
    # 44 layers of 12 · 6144² and a vocabulary of 51,200: 20.2e9 parameters.
    model = figures.model_of("GPT-20B[L44,d6144,H48x128,V51200,MHA,ffn4d]")
    layer = model.layers[0]
    assert len(model.layers) == 44
    assert layer.attention.heads * layer.attention.head_dim == model.hidden == 6144.0
    assert layer.mlp.width == 4.0 * model.hidden
    assert model.causal
    assert not figures.model_of("BERT-base-encoder[L12,d768,H12x64,ffn4d,no-vocab]").causal


def test_differences_isolate_a_phase() -> None:
    def one(given: float, made: float, prefill_s: float, decode_s: float, value: float) -> figures.Predicted:
        figure = figures.Figure(
            "", "", "GPT-1[L1,d8,H1x8,V8]", "fp16", "FT", 1.0, given, made, 1, 1, "e2e_latency", value, ""
        )
        return figures.Predicted(figure, prefill_s, decode_s, 0.0, 0.0)

    # Same output, four times the prompt: 3 s of prefill; ten times the output: 9 s of decode.
    short, longer, more = one(1, 2, 1.0, 1.0, 2.0), one(4, 2, 4.0, 1.0, 6.0), one(1, 20, 1.0, 10.0, 10.0)
    found = {(c.phase, c.predicted, c.published) for c in figures.phases([short, longer, more])}
    assert ("prefill difference", 3.0, 4.0) in found
    assert ("decode difference", 9.0, 8.0) in found
