"""Tables of step times against the models they were made of, and what the difference does to a simulation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from roofline.api import case_of
from roofline.io.engines import load_engine
from roofline.serving.lengths import Lengths, LogNormal
from roofline.serving.replay import Drawn, bare, requests_of, rules_of, table_of
from roofline.serving.simulation import simulate
from roofline.serving.step import ServedModel, served_model
from roofline.serving.step_table import Bounded, StepTable, step_table
from roofline.serving.traffic import ClosedLoop


def served_by(device: str, model: str, engine: str = "vllm", **settings: Any) -> ServedModel:
    case = case_of(model, device, **settings)
    return served_model(case.model, case.device, case.calibration, case.scenario, load_engine(engine))


def points(count: int, budget: int, sequences: int) -> tuple[Any, ...]:
    """Random steps: prompt tokens, their context, prompts, decodes, their context."""
    random = np.random.default_rng(0)
    decodes = random.integers(0, sequences, count)
    prompts = np.minimum(random.geometric(0.5, count), 8)
    tokens = np.exp(random.uniform(0, np.log(budget), count)).astype(int)
    tokens = np.maximum(np.minimum(tokens, budget - decodes), prompts)
    context = random.integers(0, 6000, count) * (random.random(count) < 0.5)
    return tokens, context, prompts, decodes, np.exp(random.uniform(np.log(64), np.log(8000), count))


def looked_up(table: Any, where: tuple[Any, ...]) -> Any:
    rows = zip(*where, strict=True)
    return np.array([table.step_s(int(p), float(c), int(n), int(b), float(d)) for p, c, n, b, d in rows])


@pytest.mark.parametrize(
    ("device", "model", "mean", "extreme"),
    [
        ("h100-sxm", "llama-3.1-8b", 0.003, 0.03),
        ("h100-sxm:8", "qwen3-30b-a3b", 0.003, 0.03),
        ("h100-sxm", "gemma-2-9b", 0.003, 0.03),  # windows
        ("rtx-pro-6000", "llama-3.1-8b", 0.007, 0.04),  # one launch for prompts and decodes
    ],
)
def test_a_table_is_close_to_its_model(device: str, model: str, mean: float, extreme: float) -> None:
    served = served_by(device, model)
    table = step_table(served, sequences=128, budget=4096, context=8192)
    tokens, context, prompts, decodes, behind = where = points(400, 4096, 128)
    exact = served.mixed_step_s(tokens / prompts, context, prompts, decodes, behind).total_s
    error = looked_up(table, where) / exact - 1.0
    assert np.abs(error).mean() < mean
    assert abs(error.mean()) < mean / 2
    assert np.quantile(np.abs(error), 0.98) < extreme
    running = np.maximum(decodes, 1)
    decode_s = np.array([table.decode_run_s(int(b), float(d), 1)[0] for b, d in zip(running, behind, strict=True)])
    decode_error = np.abs(decode_s / served.decode_step_s(running, behind).total_s - 1.0)
    assert decode_error.mean() < 0.001
    assert np.quantile(decode_error, 0.99) < 0.006


@dataclass(frozen=True)
class Exact:
    """Every step asked of the model itself."""

    served: ServedModel

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Any:
        return self.served.decode_step_s(float(sequences), mean_context + np.arange(steps)).total_s

    def step_s(self, tokens: int, context: float, prompts: int, decodes: int, behind: float) -> float:
        return float(self.served.mixed_step_s(tokens / prompts, context, prompts, decodes, behind).total_s)


@pytest.mark.parametrize("device", ["h100-sxm", "rtx-pro-6000"])
def test_a_simulation_from_tables_is_within_half_a_percent(device: str) -> None:
    served = served_by(device, "llama-3.1-8b")
    workload = Drawn(ClosedLoop(12.0), Lengths(LogNormal(800.0, 0.8), LogNormal(40.0, 0.8)), 120)
    requests = requests_of(workload, served.engine.host)
    rules = rules_of(served, requests)
    quick, exact = (
        simulate(requests, rules, times, clients=12) for times in (table_of(served, requests, rules), Exact(served))
    )
    assert np.nanmean(quick.tpot_s) == pytest.approx(np.nanmean(exact.tpot_s), rel=0.005)
    assert quick.ttft_s.mean() == pytest.approx(exact.ttft_s.mean(), rel=0.005)
    assert quick.makespan_s == pytest.approx(exact.makespan_s, rel=0.005)


def test_no_step_is_faster_than_its_bare_roofline() -> None:
    served = served_by("h100-sxm", "llama-3.1-8b")
    limits = {"sequences": 64, "budget": 2048, "context": 8192}
    table, floor = step_table(served, **limits), step_table(bare(served), **limits)
    where = points(300, 2048, 64)
    low_s = looked_up(Bounded(table, 0.1, floor), where)  # a band far below the limit is cut off there
    assert np.all(looked_up(table, where) >= looked_up(floor, where) * (1 - 1e-9))
    assert np.all(low_s == np.maximum(0.1 * looked_up(table, where), looked_up(floor, where)))
    runs = (table.decode_run_s(64, 500.0, 50), floor.decode_run_s(64, 500.0, 50))
    assert np.all(runs[0] > runs[1])
    # 8.03e9 parameters in bf16 less the embedding table, and 64 x 500 cached tokens of 131,072 bytes, at 3.35 TB/s
    bare_s = ((8.03e9 - 128256 * 4096) * 2 + 64 * 500 * 131072) / 3.35e12
    assert bare_s <= runs[1][0] <= 1.2 * bare_s  # above it by pointwise kernels, one after another


def test_a_table_reaches_beyond_its_grid_in_a_straight_line() -> None:
    served = served_by("h100-sxm", "llama-3.1-8b")
    table: StepTable = step_table(served, sequences=4, budget=64, context=1024)
    near, far = table.step_s(8, 0.0, 1, 2, 1024.0), table.step_s(8, 0.0, 1, 2, 1200.0)
    assert far > near
