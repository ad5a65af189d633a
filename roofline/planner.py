"""The Python face of planning: names, paths and plain numbers in, one Answer out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .api import parse_dtype, precision_of, whole
from .device import Device, Gpu, Systolic
from .economics import Site
from .errors import RooflineError, unknown
from .io.calibration import backends_of, load_calibration
from .io.engines import DEFAULT_ENGINE, load_engine
from .io.loaded import LoadedModel
from .io.models import load_model
from .io.prices import load_site
from .io.profiles import Target, load_target, profile_names
from .io.traces import read_trace
from .planning.answer import Answer, Say, answer
from .planning.record import plan_record
from .planning.request import Offer, PlanRequest, Pools, Rank, ServiceLevel
from .planning.search import Progress
from .serving.lengths import Empirical, Fixed, Lengths
from .structs import Dtype
from .trace import Trace

NARROW = (None, Dtype.FP8, Dtype.INT4)
NARROW_KV = (None, Dtype.FP8)
"""Formats that are tried where nothing else is feasible. None: the published one."""

MAX_SEQUENCES = (32, 64, 128, 256, 512)
MAX_BATCH_TOKENS = (2048, 8192, 16384)
"""Engine limits that are tried unless others are given; the engine's own are added."""

INPUT, OUTPUT = 2048, 256
"""Tokens of a request unless given."""

PUBLIC_RANKS = (Rank.USD, Rank.DEVICES, Rank.ENERGY, Rank.LATENCY)


@dataclass(frozen=True, slots=True)
class Pricing:
    """How devices are paid for, as io.prices.load_site takes it."""

    prices: str | None
    kind: str | None
    pue: str | float | None

    def site(self, device: Device) -> Site:
        """What `device` costs. Errors: as load_site."""
        return load_site(device, self.prices, self.kind, self.pue)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """An Answer, and its record (the JSON of `roofline plan --json`)."""

    answer: Answer
    record: dict[str, Any]


def plan(
    model: str | Path | LoadedModel,
    *,
    ttft: float,
    tpot: float,
    rate: float | None = None,
    input: int | None = None,
    output: int | None = None,
    trace: str | Path | None = None,
    arrival_cv2: float | None = None,
    percentile: float = 95.0,
    devices: Sequence[str] | None = None,
    max_devices: int = 64,
    engine: str = DEFAULT_ENGINE,
    weights: Sequence[str] | None = None,
    kv: Sequence[str] | None = None,
    max_sequences: Sequence[int] | None = None,
    max_batch_tokens: Sequence[int] | None = None,
    pools: Sequence[str] = tuple(Pools),
    rank: str = "usd",
    top: int = 10,
    sure: bool = False,
    prices: str | None = None,
    price_kind: str | None = None,
    pue: str | float | None = None,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = lambda done, total: None,
    say: Say = lambda text: None,
) -> Planned:
    """The plans that serve `rate` requests per second of `input` prompt and `output` generated tokens, so that
    `percentile` of 100 see at most `ttft` seconds to the first token and `tpot` per token after it.

    `trace`: a file of requests instead (lengths as observed; its rate and burstiness unless given). `devices`: profiles
    or TOML paths; without, every priced accelerator that ships. `weights`, `kv`: formats to try; without, the published
    one and fp8 where the device computes in it. `max_sequences`, `max_batch_tokens`: engine limits to try. `pools`:
    aggregated and disaggregated, either or both. `rank`: usd, devices, energy or latency. `sure`: only plans that meet
    the service levels at the slow end of their error band too. `prices`, `price_kind`,
    `pue`: as io.prices.load_site. `cluster`: a Dask scheduler.
    Errors: RooflineError for anything not understood. No plan is no error: the answer says what would make one.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(str(model))
    if not loaded.model.causal:
        raise RooflineError(f"model: {loaded.model.name} generates no tokens; plans are for models that do.")
    requests = None if trace is None else read_trace(Path(trace))
    lengths = _lengths(requests, input, output)
    running = load_engine(engine)
    limits = running.limits
    ranked = _rank(rank)
    pricing = Pricing(prices, price_kind, pue)
    targets = [load_target(name) for name in dict.fromkeys(devices)] if devices else list(_priced(pricing))
    formats = _formats("weights", weights), _formats("kv", kv)
    request = PlanRequest(
        model=loaded.model,
        rates=(_rate(rate, requests),),
        arrival_cv2=_burstiness(arrival_cv2, requests),
        lengths=lengths,
        level=ServiceLevel(float(ttft), float(tpot), float(percentile)),
        offers=tuple(_offer(loaded, target, pricing, running.backend, *formats) for target in targets),
        engine=running,
        max_devices=max_devices,
        max_sequences=_sorted(max_sequences or (*MAX_SEQUENCES, int(limits.max_sequence))),
        max_batch_tokens=_sorted(max_batch_tokens or (*MAX_BATCH_TOKENS, int(limits.max_batch_token))),
        pools=_pools(pools),
        rank=ranked,
        top=top,
        sure=sure,
    )
    _check_lengths(loaded, lengths)
    wider = replace(
        request, offers=tuple(_offer(loaded, target, pricing, running.backend, NARROW, NARROW_KV) for target in targets)
    )
    found = answer(
        request, wider if wider.offers != request.offers else None, cluster=cluster, progress=progress, say=say
    )
    shown = {
        "model": str(model) if isinstance(model, str | Path) else loaded.model.name,
        "weights": None if weights is None else list(weights),
        "kv": None if kv is None else list(kv),
        "trace": None if requests is None else requests.source,
        "prices": prices or "as the profiles state",
    }
    return Planned(found, plan_record(found, shown, command))


def _rank(text: str) -> Rank:
    names = {str(rank): rank for rank in PUBLIC_RANKS}
    if str(text).lower() not in names:
        raise unknown("rank", text, names)
    return names[str(text).lower()]


def _pools(names: Sequence[str]) -> tuple[Pools, ...]:
    known = {str(pools): pools for pools in Pools}
    for name in names:
        if str(name).lower() not in known:
            raise unknown("pools", name, known)
    return tuple(dict.fromkeys(known[str(name).lower()] for name in names))


def _rate(rate: float | None, trace: Trace | None) -> float:
    """The rate asked for, else that of the trace. Errors: RooflineError where neither says one."""
    if rate is not None:
        return float(rate)
    if trace is None:
        raise RooflineError("rate: missing. Give --rate REQUESTS_PER_S, or --trace FILE.")
    if not 0.0 < trace.request_per_s < np.inf:
        raise RooflineError(f"rate: {trace.source} has no rate (its requests all arrive at once). Give --rate.")
    return trace.request_per_s


def _burstiness(asked: float | None, trace: Trace | None) -> float:
    """Squared coefficient of variation of the gaps between arrivals: as asked, as in the trace, or 1 (Poisson)."""
    if asked is not None:
        if not 0.0 <= asked < np.inf:
            raise RooflineError(f"arrival-cv2: {asked!r} is not accepted. Accepted: numbers from 0 (1: Poisson).")
        return float(asked)
    gaps = np.zeros(0) if trace is None else np.diff(trace.arrival_s)
    return float(gaps.var() / gaps.mean() ** 2) if gaps.size > 1 and gaps.mean() > 0.0 else 1.0


def _lengths(trace: Trace | None, input: int | None, output: int | None) -> Lengths:
    """Prompt and output lengths. Errors: RooflineError for what is no length, or both a trace and lengths."""
    if trace is not None:
        for field, value in (("input", input), ("output", output)):
            if value is not None:
                raise RooflineError(f"{field}: the lengths are those of the trace. Leave --{field} out, or --trace.")
        return Lengths(Empirical(trace.input_token), Empirical(trace.output_token))
    return Lengths(
        Fixed(float(whole("input", INPUT if input is None else input))),
        Fixed(float(whole("output", OUTPUT if output is None else output))),
    )


def _check_lengths(loaded: LoadedModel, lengths: Lengths) -> None:
    """Refuses requests longer than the model was made for, on average."""
    token, most = float(lengths.prompt.mean) + float(lengths.output.mean), loaded.model.max_context
    if token > most:
        raise RooflineError(
            f"input + output: {token:.0f} tokens exceed the {most:.0f} that {loaded.model.name} was made for. "
            f"Accepted: up to {most:.0f}; shorten --input or --output."
        )


def _sorted(limits: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(set(limits)))


def _formats(field: str, names: Sequence[str] | None) -> tuple[Dtype | None, ...] | None:
    """The formats named; None where nothing is said."""
    return None if names is None else tuple(parse_dtype(field, name) for name in names)


def _offer(
    loaded: LoadedModel,
    target: Target,
    pricing: Pricing,
    backend: str,
    weights: Sequence[Dtype | None] | None,
    kv: Sequence[Dtype | None] | None,
) -> Offer:
    """A device with the formats to try: those named, else the published one and fp8 where it computes in it."""
    device = target.device
    usual = (None, Dtype.FP8) if Dtype.FP8 in device.matrix_flop_per_s else (None,)
    tried = [precision_of(loaded, device, stored, None, cache) for stored in weights or usual for cache in kv or usual]
    calibrated = backend if backend in backends_of(target) else None
    return Offer(device, load_calibration(target, calibrated), tuple(dict.fromkeys(tried)), pricing.site(device))


def _priced(pricing: Pricing) -> Iterator[Target]:
    """The shipped accelerators that have a price."""
    for name in profile_names():
        target = load_target(name)
        if isinstance(target.device.structure, Gpu | Systolic):
            try:
                priced = pricing.site(target.device).tariff is not None
            except RooflineError:
                continue
            if priced:
                yield target
