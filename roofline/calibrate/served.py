"""Measured service of one model on one engine beside its steady states: what engine parameters are fitted to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..deployment import deployment
from ..device import Device
from ..errors import RooflineError
from ..io.calibration import backends_of, load_calibration
from ..io.models import load_model
from ..io.profiles import Target
from ..io.records import Family, Records
from ..serving.engine import Engine
from ..serving.lengths import Fixed, Length, Lengths, LogNormal
from ..serving.memory import kv_memory
from ..serving.steady import steady_state
from ..serving.step import ServedModel, served_model
from ..serving.traffic import ClosedLoop
from ..structs import Array, Dtype
from ..timing import Calibration
from ..workload import AttentionKind, Parallelism, Precision, Scenario, prefill

TABLE_TOKEN, TABLE_SEQUENCE, TABLE_CONTEXT = 16385.0, 512.0, 32768.0
"""Reach of the tables of step times that rows are predicted from."""

METRICS = ("TPOT", "TTFT")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows of one parallelism: their served model, and their positions among the rows of the set."""

    served: ServedModel
    rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class ServedSet:
    """Rows of one model, format and engine: what was asked, mean TPOT and TTFT measured, and how to predict them.

    `engine`: whose scheduler they ran under. `floor_tpot_s`, `floor_ttft_s`: the bare roofline of a decode step and
    of a prompt.
    """

    name: str
    engine: Engine
    device: Device
    parts: tuple[Part, ...]
    concurrency: Array
    input_token: Array
    output_token: Array
    tensor_parallel: Array
    shortest_share: Array
    request_per_client: Array
    tpot_s: Array
    ttft_s: Array
    floor_tpot_s: Array
    floor_ttft_s: Array

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.tpot_s.size

    def predicted(self, engine: Engine, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Mean TPOT and TTFT in seconds under `engine`, of the rows at `rows`."""
        tpot_s, ttft_s, _ = self.states(engine, rows)
        return tpot_s, ttft_s

    def states(self, engine: Engine, rows: NDArray[np.intp]) -> tuple[Array, Array, NDArray[np.intp]]:
        """As `predicted`, and what limits the sequences that run (index into serving.state.SLOT_LIMITS)."""
        tpot_s, ttft_s = np.full(self.size, np.nan), np.full(self.size, np.nan)
        limit = np.zeros(self.size, dtype=np.intp)
        for part in self.parts:
            chosen = np.intersect1d(part.rows, rows)
            if not chosen.size:
                continue
            memory = part.served.memory
            kept = kv_memory(memory.model, self.device, memory.scenario, engine.limits)
            found = steady_state(
                replace(part.served, engine=engine, memory=kept),
                ClosedLoop(self.concurrency[chosen], self.request_per_client[chosen]),
                Lengths(
                    self._length(self.input_token[chosen], chosen), self._length(self.output_token[chosen], chosen)
                ),
            )
            tpot_s[chosen], ttft_s[chosen] = found.tpot_s.mean, found.ttft_s.mean
            limit[chosen] = found.slot_limit
        return tpot_s[rows], ttft_s[rows], limit[rows]

    def _length(self, nominal: Array, rows: NDArray[np.intp]) -> Length:
        """Lengths drawn evenly between the shortest share and all of the nominal."""
        share = self.shortest_share[rows]
        mean = nominal * (1.0 + share) / 2.0
        if np.all(share == 1.0):
            return Fixed(mean)
        return LogNormal(mean, (1.0 - share) / np.sqrt(12.0) * 2.0 / (1.0 + share))


def is_served(records: Records) -> bool:
    """Whether `records` are of served models."""
    return records.family is Family.SERVING


def served_sets(records: Iterable[Records], target: Target, engines: Sequence[Engine]) -> tuple[ServedSet, ...]:
    """The ServedSets of the serving `records` of `target`'s device whose engine is one of `engines`.

    Groups of several releases of one engine, model and format are one set. Errors: RooflineError where TPOT and TTFT
    do not come in pairs.
    """
    named = {engine.name: engine for engine in engines}
    groups: dict[tuple[str, str, str], dict[str, list[Records]]] = {}
    for found in records:
        if is_served(found) and found.device == target.device.name and found.backend in named:
            metric, _, scheme = found.precision.label.partition(" ")
            groups.setdefault((found.kernel, found.backend, scheme), {}).setdefault(metric, []).append(found)
    return tuple(
        _served_set(scheme, by_metric, target, named[backend])
        for (_, backend, scheme), by_metric in sorted(groups.items())
    )


def _served_set(name: str, by_metric: dict[str, list[Records]], target: Target, engine: Engine) -> ServedSet:
    tpot, ttft = (by_metric.get(metric, []) for metric in METRICS)
    if [found.line.tolist() for found in tpot] != [found.line.tolist() for found in ttft]:
        raise RooflineError(f"serving: {name}: TPOT and TTFT are not of the same rows.")

    def column(of: str) -> Array:
        return np.concatenate([found.dims[of] for found in tpot])

    columns = {name: column(name) for name in ("concurrency", "input_token", "output_token", "tensor_parallel")}
    splits = np.stack([columns["tensor_parallel"], column("expert_parallel")], axis=1)
    parts = []
    floor_tpot, floor_ttft = np.zeros(splits.shape[0]), np.zeros(splits.shape[0])
    for split in np.unique(splits, axis=0):
        rows = np.flatnonzero((splits == split).all(axis=1))
        served, scenario, calibration = _served(tpot[0], target, engine, int(split[0]), int(split[1]))
        parts.append(Part(served.tabulated(TABLE_TOKEN, TABLE_SEQUENCE, TABLE_CONTEXT), rows))
        where = deployment(served.memory.model, target.device, calibration, scenario)
        shortest = column("shortest_share")[rows]
        step = where.decode_step(np.ones(rows.size), shortest * columns["input_token"][rows])
        first = where.prefill_step((prefill(1.0, shortest * columns["input_token"][rows]),))
        floor_tpot[rows], floor_ttft[rows] = step.stage_roofline_s[..., 0], first.stage_roofline_s[..., 0]
    return ServedSet(
        name=name,
        engine=engine,
        device=target.device,
        parts=tuple(parts),
        shortest_share=column("shortest_share"),
        request_per_client=column("request_per_client"),
        tpot_s=np.concatenate([found.measured_s for found in tpot]),
        ttft_s=np.concatenate([found.measured_s for found in ttft]),
        floor_tpot_s=floor_tpot,
        floor_ttft_s=floor_ttft,
        **columns,
    )


def _served(
    records: Records, target: Target, engine: Engine, tp: int, ep: int
) -> tuple[ServedModel, Scenario, Calibration]:
    formats = records.precision
    experts = formats.weight
    weights = Dtype.BF16 if formats.activation is Dtype.BF16 else formats.weight
    precision = Precision(weights, experts, formats.activation, formats.cache)
    scenario = Scenario(1.0, 1.0, 1.0, precision, Parallelism(tp=tp, ep=max(ep, 1)), AttentionKind.FUSED)
    backend = engine.backend if engine.backend in backends_of(target) else None
    calibration = load_calibration(target, backend)
    if "fp8_block" in formats.label:
        blocks = {(family, "fp8"): fit for (family, label), fit in calibration.models.items() if label == "fp8_block"}
        calibration = replace(calibration, models={**calibration.models, **blocks})
    model = load_model(records.kernel).model
    return served_model(model, target.device, calibration, scenario, engine), scenario, calibration
