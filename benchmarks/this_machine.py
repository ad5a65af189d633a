"""Whole small models and one sweep on this machine, predicted from the calibration of single steps.

Run `roofline validate --this-machine --quick -o DIR` first, then
`python benchmarks/this_machine.py DIR -o reports/this-machine.json` and, for its page,
`python benchmarks/gallery.py --render`.
Prints predicted beside measured seconds, and for a product whose rows double where it turns from memory-bound to
compute-bound: at its balance, the rows at which the floor (the time of the fewest rows) and the slope (the time of a
row among the most) meet. Measured and predicted times are judged alike; the predicted label must turn within a doubling
of them. Everything is measured in two rounds, so that load which comes and
goes is seen, and told as the difference of both. Threads as in the records of DIR.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from roofline import __version__
from roofline.device import Device
from roofline.io.calibration import load_calibration
from roofline.io.datasets.own import FAST_QUANTILE, load
from roofline.io.files import write_text
from roofline.io.models import load_model
from roofline.io.profiles import load_target
from roofline.kernels.gemm import Gemm
from roofline.measure.campaign import Settings, measure_model
from roofline.measure.environment import bind, cores, last_level_byte
from roofline.measure.session import FORMS, target
from roofline.measure.steps import Form, StepShape
from roofline.measure.timer import Budget, time_call
from roofline.model import Model
from roofline.structs import Dtype
from roofline.timing import BOUNDS, Calibration, WorkingSet, time_step
from roofline.timing.calibrated import calibrated_time
from roofline.transformer import plan
from roofline.workload import Parallelism, Precision, Sequences

FP32 = Precision(Dtype.FP32, Dtype.FP32, Dtype.FP32, Dtype.FP32)
SHAPES = (StepShape(1, 128, 0), StepShape(1, 1, 128), StepShape(4, 1, 256))
MODELS = (("gpt2-small", None), ("llama-3.1-8b", 1))
WIDTH = 2048
ROWS = (2, 4, 8, 16, 32, 64, 128, 256)
"""One row is another kernel (a matrix-vector product), two are the fewest of this one."""
ROUNDS = 2
BUDGET = Budget(least_sample=5, most_sample=30, least_s=0.3, most_s=1.2)
SCHEMA = "roofline.this_machine/1"


@dataclass(frozen=True, slots=True)
class Whole:
    """One step of a whole model."""

    model: str
    library: str
    attention: str
    step: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float
    error: float
    repeat_error: float


@dataclass(frozen=True, slots=True)
class Point:
    """One product of the sweep."""

    library: str
    rows: int
    measured_s: float
    predicted_s: float
    predicted_bound: str


def predicted(
    model: Model, form: Form, shape: StepShape, device: Device, calibration: Calibration
) -> tuple[float, float, float]:
    """Seconds of one step, and its band."""
    batch = (
        Sequences(
            float(shape.sequences),
            float(shape.new_token),
            float(shape.context),
            float(shape.sequences),
            decoding=shape.new_token == 1,
        ),
    )
    groups = plan(model, Parallelism(), FP32, form.attention, form.latent).step(batch)
    step = time_step(groups, device, calibration, WorkingSet(np.inf))
    low, high = step.stage_band_s
    return float(step.stage_s[0]), float(low[0]), float(high[0])


def whole_models(library: str, device: Device, calibration: Calibration, threads: int) -> Iterator[Whole]:
    """Prefill and decode of every model in every form of attention that the library runs."""
    chosen = target(library, "cpu")
    chosen.library.use_threads(threads)
    settings = Settings(BUDGET, chosen.clock, chosen.eager_clock, chosen.clock, True, last_level_byte(), FP32)
    cases = [
        (name, replace(model, layers=model.layers[:layers]), form, shape)
        for name, layers in MODELS
        for model in (load_model(name).model,)
        for form in FORMS[library]
        for shape in SHAPES
    ]
    rounds = [
        [
            np.quantile(measure_model(model, form, shape, chosen.library, settings).samples_s, FAST_QUANTILE)
            for _, model, form, shape in cases
        ]
        for _ in range(ROUNDS)
    ]
    for (name, model, form, shape), times in zip(cases, np.array(rounds).T, strict=True):
        told = f"{shape.sequences} x {shape.new_token} behind {shape.context}"
        seconds = float(times.min())
        found = predicted(model, form, shape, device, calibration)
        error, repeat = found[0] / seconds - 1.0, float(times.max() / times.min() - 1.0)
        layers = f"{name}, {len(model.layers)} of its layers"
        yield Whole(layers, library, str(form.attention), told, seconds, *found, error, repeat)


def sweep(library: str, device: Device, calibration: Calibration, threads: int) -> list[Point]:
    """A cold linear layer of WIDTH x WIDTH under doubling rows."""
    chosen = target(library, "cpu")
    chosen.library.use_threads(threads)
    draw = np.random.default_rng(0)
    copies = int(np.ceil(2.0 * last_level_byte() / (4.0 * WIDTH * WIDTH)))
    weights = [chosen.library.weight(draw.standard_normal((WIDTH, WIDTH), dtype=np.float32)) for _ in range(copies)]
    inputs = [chosen.library.tensor(draw.standard_normal((rows, WIDTH), dtype=np.float32)) for rows in ROWS]

    def fast_s(x: Any) -> float:
        return time_call(lambda turn: chosen.library.linear(x, weights[turn % copies]), BUDGET, chosen.clock).fast_s

    measured = np.min([[fast_s(x) for x in inputs] for _ in range(ROUNDS)], axis=0)
    size = np.array([float(WIDTH)])
    found: list[Point] = []
    for rows, seconds in zip(ROWS, measured.tolist(), strict=True):
        work = Gemm(float(rows), size, size, np.ones(1), np.zeros(1), Dtype.FP32, Dtype.FP32, Dtype.FP32)
        time = calibrated_time(work, device, [calibration.models["gemm", "fp32"]])
        bound = str(BOUNDS[int(time.bound_index[0])])
        found.append(Point(library, rows, seconds, float(time.total_s[0]), bound))
    return found


def flip(points: list[Point]) -> dict[str, Any]:
    """The balance as measured and as predicted: rows at which the floor (the time of the fewest rows) meets the slope
    (the time of a row among the most). And the fewest rows from which on the predicted label is compute, None where it
    is not.
    """
    told: dict[str, Any] = {"library": points[0].library}
    for kind in ("measured", "predicted"):
        times = [getattr(point, f"{kind}_s") for point in points]
        told[f"{kind}_balance"] = times[0] * points[-1].rows / times[-1]
    compute = list(takewhile(lambda point: point.predicted_bound == "compute", reversed(points)))
    return {**told, "label_rows": compute[-1].rows if compute else None}


def main() -> None:
    """Measure, predict and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    models: list[Whole] = []
    points: list[Point] = []
    flips: list[dict[str, Any]] = []
    environment: dict[str, Any] = {}
    seed: int | None = None
    for library in ("numpy", "torch"):
        records, profile = given.folder / f"{library}.json", given.folder / f"host-{library}.toml"
        if not records.exists():
            continue
        file = load(records)
        threads, environment, seed = file.environment.thread_count, asdict(file.environment), file.seed
        bind(cores(), threads)
        goal = load_target(str(profile))
        calibration = load_calibration(goal)
        own = sweep(library, goal.device, calibration, threads)
        points += own
        flips.append(flip(own))
        for point in own:
            print(
                f"{library:6} {point.rows:4} rows  measured {point.measured_s * 1e3:8.3f} ms  predicted "
                f"{point.predicted_s * 1e3:8.3f} ms {point.predicted_bound:8}",
                flush=True,
            )
        print(f"{library:6} flips: {flips[-1]}", flush=True)
        for whole in whole_models(library, goal.device, calibration, threads):
            models.append(whole)
            inside = "in band" if whole.low_s <= whole.measured_s <= whole.high_s else "outside its band"
            print(
                f"{library:6} {whole.model:28} {whole.attention:8} {whole.step:18} measured "
                f"{whole.measured_s * 1e3:8.2f} ms  predicted {whole.predicted_s * 1e3:8.2f} ms "
                f"{whole.error:+.1%}, again {whole.repeat_error:.1%}, {inside}",
                flush=True,
            )
    record = {
        "schema": SCHEMA,
        "environment": environment,
        "seed": seed,
        "models": [asdict(each) for each in models],
        "flips": flips,
        "sweep": [asdict(each) for each in points],
        "provenance": {"package_version": __version__, "command": shlex.join(["python", *sys.argv])},
    }
    if given.output:
        write_text(given.output, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
