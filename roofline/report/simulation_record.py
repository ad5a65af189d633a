"""A simulation as a plain record, `schema` roofline.simulation/1, with SI units in its keys: for JSON and pages."""

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from .. import __version__
from ..outcome import Case
from ..serving.engine import ChunkedPrefill, Engine, PrefillFirst
from ..serving.figures import Figures, figures_of, timeline_of
from ..serving.lengths import Empirical, Fixed, Length, LogNormal
from ..serving.replay import Drawn, Replay, Traced, Workload, lengths_of, traffic_of
from ..serving.simulation import Simulation
from ..serving.spread import Spread
from ..serving.steady import TRUSTED_UTILISATION, steady_state
from ..serving.step import ServedModel
from ..serving.traffic import ClosedLoop, OpenLoop, Traffic
from ..structs import Array
from .record import PRECISION_FIELDS

SCHEMA = "roofline.simulation/1"

SHOWN_REQUESTS = 2000
"""Requests that a record lists at most, evenly chosen in order of arrival; --csv has them all."""

SHARES = np.concatenate([np.arange(0.0, 0.99, 0.01), [0.99, 0.995, 0.999, 1.0]])
"""Shares of requests (or gaps) at which distributions are given."""

NOT_MODELLED = (
    "prefix caching between requests; speculative decoding",
    "unequal contexts within a step: attention sees their mean",
    "routing by load: replicas take requests in turn",
    "sampling of different lengths in a closed loop by the client; think time",
    "power and clock throttling",
    "imbalance of experts",
)
"""What every simulation leaves out."""


def simulation_record(
    found: Replay,
    served: ServedModel,
    case: Case,
    command: str = "",
) -> dict[str, Any]:
    """The record of `found`, made by `served`, which is the model, device and split of `case`: JSON-ready.

    `command`: the command line that made it, kept so that a page can say how to reproduce itself.
    """
    device, scenario, calibration = case.device, case.scenario, case.calibration
    run, engine, spread = found.simulation, served.engine, scenario.parallelism
    middle, low, high = (
        _figures(figures_of(end), spread.device_count) for end in (found.simulation, found.low, found.high)
    )
    timeline = timeline_of(run)
    return {
        "schema": SCHEMA,
        "model": case.model.name,
        "device": device.name,
        "device_count": spread.device_count,
        "scenario": {
            "parallelism": asdict(spread),
            "precision": {name: str(getattr(scenario.precision, name)) for name in PRECISION_FIELDS},
            "attention": str(scenario.attention),
            "backend": calibration.backend or None,
        },
        "engine": _engine(engine, run),
        "workload": _workload(found.workload, run),
        **middle,
        "band": {
            "coverage": calibration.coverage,
            "summary": f"all steps at {engine.tpot_band.low:.3g} and at {engine.tpot_band.high:.3g} times their "
            f"prediction (never below the bare roofline): {engine.tpot_band.source}",
            "low": low,
            "high": high,
        },
        "closed_form": _closed_form(found.workload, served),
        "distributions": _distributions(run),
        "timeline": {entry.name: rounded(getattr(timeline, entry.name)) for entry in fields(timeline)},
        "requests": requests_table(run, SHOWN_REQUESTS),
        "not_modelled": list(NOT_MODELLED),
        "assumptions": [*device.assumptions, *engine.assumptions],
        "provenance": {
            "package_version": __version__,
            "profile_digest": device.digest,
            "device_title": device.title,
            "kernels": calibration.summary,
            "command": command,
        },
    }


def rounded(values: Array, digits: int = 4) -> list[float | None]:
    """A column of a record: four significant digits, None for what is not a number."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {entry.name: float(getattr(spread, entry.name)) for entry in fields(spread)}


def _figures(figures: Figures, devices: int) -> dict[str, Any]:
    found = {
        entry.name: _spread(value) if isinstance(value, Spread) else value
        for entry in fields(figures)
        for value in [getattr(figures, entry.name)]
    }
    return found | {"output_token_per_s_per_device": figures.output_token_per_s / devices}


def _engine(engine: Engine, run: Simulation) -> dict[str, Any]:
    schedule = {ChunkedPrefill: "chunked prefill beside decodes", PrefillFirst: "prompts first"}[type(engine.schedule)]
    return {
        "name": engine.name,
        "title": engine.title,
        "release": engine.release,
        "schedule": schedule,
        "ahead": engine.ahead,
        "max_batch_token": run.rules.budget,
        "max_sequence": run.rules.sequences,
        "kv_token_per_replica": run.rules.blocks * run.rules.block,
        "reserved_output": engine.reserved_output,
        "replicas": run.replicas,
        "host": asdict(engine.host),
    }


def _traffic(traffic: Traffic | None) -> dict[str, Any]:
    match traffic:
        case None:
            return {"kind": "trace", "request_per_s": None, "arrival_cv": None, "concurrency": None}
        case OpenLoop(request_per_s=rate, arrival_cv2=cv2):
            cv = float(np.sqrt(cv2))
            return {"kind": "open", "request_per_s": float(rate), "arrival_cv": cv, "concurrency": None}
        case ClosedLoop(concurrency=clients):
            return {"kind": "closed", "request_per_s": None, "arrival_cv": None, "concurrency": int(clients)}


def _length(length: Length) -> str:
    match length:
        case Fixed(token=token):
            return f"{float(token):,.0f} tokens"
        case LogNormal(mean=mean, cv=cv):
            return f"lognormal, mean {float(mean):,.0f} tokens, cv {float(cv):.3g}"
        case Empirical():
            return "as in a trace"


def _workload(workload: Workload, run: Simulation) -> dict[str, Any]:
    match workload:
        case Drawn(lengths=lengths):
            source, words = None, (_length(lengths.prompt), _length(lengths.output))
        case Traced(trace=trace):
            source, words = trace.source, ("as in the trace", "as in the trace")
    tokens = {"input": run.input_token, "output": run.output_token}
    return {
        **_traffic(workload.traffic),
        "trace": source,
        "requests": int(run.arrival_s.size),
        "seed": workload.seed,
    } | {
        f"{name}_token": {
            "distribution": text,
            "mean": float(token.mean()),
            "p50": float(np.quantile(token, 0.5)),
            "p95": float(np.quantile(token, 0.95)),
            "max": float(token.max()),
        }
        for (name, token), text in zip(tokens.items(), words, strict=True)
    }


def _closed_form(workload: Workload, served: ServedModel) -> dict[str, Any]:
    """The steady state of the same traffic and lengths in closed form; infinite times are None."""
    steady = steady_state(served, traffic_of(workload), lengths_of(workload))
    return {
        "ttft_s": _finite(_spread(steady.ttft_s)),
        "tpot_s": _finite(_spread(steady.tpot_s)),
        "itl_s": _finite(_spread(steady.itl_s)),
        "queue_s": _finite(_spread(steady.queue_s)),
        "request_per_s": float(steady.request_per_s),
        "output_token_per_s": float(steady.output_token_per_s),
        "saturation_request_per_s": float(steady.saturation_request_per_s),
        "utilisation": float(steady.utilisation),
        "trusted_utilisation": TRUSTED_UTILISATION,
    }


def _finite(spread: dict[str, float] | None) -> dict[str, float | None] | None:
    return None if spread is None else {key: value if np.isfinite(value) else None for key, value in spread.items()}


def _distributions(run: Simulation) -> dict[str, list[float | None]]:
    """Columns: the share of requests (of gaps for itl_s), and the time that this share does not exceed."""
    times = {"ttft_s": run.ttft_s, "tpot_s": run.tpot_s, "queue_s": run.queue_s}
    times["e2e_s"] = run.last_token_s - run.arrival_s
    columns = {name: _quantiles(values, np.ones(values.shape)) for name, values in times.items()}
    return {"share": SHARES.tolist(), **columns, "itl_s": _quantiles(run.gap_s, run.gap_count)}


def _quantiles(values: Array, count: Array) -> list[float | None]:
    known = np.isfinite(values)
    order = np.argsort(values[known])
    reached = np.cumsum(count[known][order])
    if reached.size == 0:
        return [None] * SHARES.size
    at = np.searchsorted(reached, SHARES * reached[-1] * (1.0 - 1e-12))
    return rounded(values[known][order][np.minimum(at, reached.size - 1)])


REQUEST_FIELDS = ("input_token", "output_token", "arrival_s", "scheduled_s", "first_token_s", "last_token_s")
"""Columns of a request as they are in a Simulation; ttft_s, tpot_s, preempted and replica follow."""


def requests_table(run: Simulation, most: int | None = None) -> dict[str, list[float | None]]:
    """Columns with one entry per request in order of arrival, at most `most` of them, evenly chosen."""
    size = run.arrival_s.size
    count = size if most is None else min(most, size)
    chosen = np.argsort(run.arrival_s, kind="stable")[np.linspace(0, size - 1, count).round().astype(np.intp)]
    columns = {name: getattr(run, name) for name in REQUEST_FIELDS}
    columns |= {"ttft_s": run.ttft_s, "tpot_s": run.tpot_s, "preempted": run.preempted, "replica": run.replica}
    digits = 4 if most is not None else 9
    return {"request": chosen.tolist()} | {name: rounded(values[chosen], digits) for name, values in columns.items()}


STEP_FIELDS = ("replica", "start_s", "duration_s", "prompt_token", "prompts", "decodes", "context", "block")
"""Columns of the log of steps."""


def steps_table(run: Simulation) -> dict[str, list[float | None]]:
    """Columns with one entry per step of every replica."""
    return {name: rounded(getattr(run.steps, name), 9) for name in STEP_FIELDS}
