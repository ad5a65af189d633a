"""The service of one deployment: what was asked, checked; its steady state, band and curve as plain numbers."""

from dataclasses import dataclass, replace

import numpy as np

from ..deployment import Deployment, deployment
from ..device import Device
from ..errors import InfeasibleError, RooflineError
from ..footprint import weight_byte
from ..model import Model
from ..service import Percentiles, Service, ServiceCurve
from ..structs import Array
from ..timing import Calibration
from ..workload import Scenario, prefill
from .cycle import NO_SPECULATION, Speculation
from .disaggregated import disaggregated_state, pools_of
from .engine import Engine
from .lengths import Fixed, Length, Lengths, LogNormal
from .spread import Spread
from .state import SLOT_LIMITS, SteadyState
from .steady import steady_state
from .step import ServedModel, served_model
from .traffic import ClosedLoop, OpenLoop, Traffic

CURVE_POINTS = 24
"""Loads at which the curve of a service is drawn."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Traffic and how it is served: exactly one of `concurrency` and `request_per_s`.

    `arrival_cv`, `input_cv`, `output_cv`: coefficients of variation of the times between arrivals and of the lengths.
    `pools`: replicas that prefill and that decode (None: every replica does both). `draft_token`, `acceptance`:
    speculative decoding, by the model `draft` (None: drafts cost nothing).
    """

    engine: Engine
    concurrency: float | None = None
    request_per_s: float | None = None
    arrival_cv: float = 1.0
    input_cv: float = 0.0
    output_cv: float = 0.0
    prefix_hit: float = 0.0
    pools: tuple[int, int] | None = None
    draft_token: float = 0.0
    acceptance: float = 0.0
    draft: Model | None = None


def service_of(model: Model, device: Device, calibration: Calibration, scenario: Scenario, asked: Asked) -> Service:
    """The Service of `scenario` (its precision, parallelism, attention and lengths) under what is `asked`.

    Errors: RooflineError for an encoder; InfeasibleError where memory does not hold one request, where shapes do not
    divide, or where the pools have no link.
    """
    if not model.causal:
        raise RooflineError(f"concurrency, rate: {model.name} generates no tokens; serving is of decoders.")
    served = _beside_draft(served_model(model, device, calibration, scenario, asked.engine), scenario, asked)
    speculation = _speculation(device, calibration, scenario, asked)
    lengths = Lengths(
        _length(float(scenario.input_token), asked.input_cv), _length(float(scenario.output_token), asked.output_cv)
    )

    def state(traffic: Traffic) -> SteadyState:
        options = {"prefix_hit": asked.prefix_hit, "speculation": speculation}
        if asked.pools is None:
            return steady_state(served, traffic, lengths, **options)  # type: ignore[arg-type]
        prefill, decode = asked.pools
        pools = pools_of(device, float(prefill), float(decode), scenario.parallelism.device_count)
        return disaggregated_state(served, pools, traffic, lengths, **options)  # type: ignore[arg-type]

    found = state(traffic_of(asked))
    if not float(found.slots) > 0.0:
        raise _too_small(model, served, scenario)
    service = _service(found, asked, _curve(state, found, asked))
    return _with_kernel_bands(service, deployment(model, device, calibration, scenario), scenario)


def _length(mean: float, cv: float) -> Length:
    """Lengths of this mean: all the same, or lognormal."""
    return LogNormal(mean, cv) if cv > 0.0 else Fixed(mean)


def traffic_of(asked: Asked) -> Traffic:
    """The loop that is asked for. Requests do not run out."""
    if asked.request_per_s is not None:
        return OpenLoop(asked.request_per_s, asked.arrival_cv**2)
    assert asked.concurrency is not None  # one of both is there
    return ClosedLoop(asked.concurrency)


def _speculation(device: Device, calibration: Calibration, scenario: Scenario, asked: Asked) -> Speculation:
    if not asked.draft_token:
        return NO_SPECULATION
    draft = None
    if asked.draft is not None:
        draft = served_model(asked.draft, device, calibration, scenario, asked.engine)
    return Speculation(asked.draft_token, asked.acceptance, draft)


def _beside_draft(served: ServedModel, scenario: Scenario, asked: Asked) -> ServedModel:
    """`served` with the weights of the drafting model out of its KV memory. Ignores: that model's own cache."""
    if asked.draft is None:
        return served
    left = served.memory.byte - weight_byte(asked.draft, scenario.precision, scenario.parallelism)
    return replace(served, memory=replace(served.memory, byte=left))


def _too_small(model: Model, served: ServedModel, scenario: Scenario) -> InfeasibleError:
    token = float(scenario.input_token + scenario.output_token)
    byte = float(served.memory.byte.min())
    left = (
        f"{byte / 1e9:,.1f} GB are left for it" if byte > 0.0 else f"{-byte / 1e9:,.1f} GB are missing for the weights"
    )
    return InfeasibleError(
        f"memory: the KV cache of one request of {token:,.0f} tokens does not fit beside the weights of {model.name}: "
        f"{left} on the fullest device. Use more devices (DEVICE:N), --weights fp8, "
        "--kv fp8 or shorter requests."
    )


def _curve(state: object, found: SteadyState, asked: Asked) -> ServiceCurve:
    """Means over the load: up to four times the slots, or up to 97 % of the rate at which it saturates."""
    assert callable(state)
    share = np.geomspace(0.02, 1.0, CURVE_POINTS)
    traffic: Traffic
    if asked.request_per_s is not None:
        load = 0.97 * float(found.saturation_request_per_s) * share
        traffic, quantity = OpenLoop(load, asked.arrival_cv**2), "request_per_s"
    else:
        most = max(4.0 * float(found.slots), float(asked.concurrency or 1.0))
        load = np.array(sorted(set(np.round(np.geomspace(1.0, most, CURVE_POINTS)).tolist())))
        traffic, quantity = ClosedLoop(load), "concurrency"
    drawn = state(traffic)

    def column(values: Array) -> tuple[float, ...]:
        return tuple(float(f"{value:.4g}") for value in np.broadcast_to(values, load.shape))

    return ServiceCurve(
        quantity,
        column(load),
        column(drawn.ttft_s.mean),
        column(drawn.tpot_s.mean),
        column(drawn.output_token_per_s),
        column(drawn.utilisation),
    )


def _percentiles(spread: Spread) -> Percentiles:
    return Percentiles(*(float(value) for value in (spread.mean, spread.p50, spread.p95, spread.p99)))


def _with_kernel_bands(service: Service, where: Deployment, scenario: Scenario) -> Service:
    """`service` with bands at least as wide as those of the kernels of its steps on this device: served rows, from
    which an engine's band is, were measured on others.
    """
    token = float(scenario.input_token)
    steps = {
        "tpot_band": where.decode_step(max(service.batch / scenario.parallelism.dp, 1.0), token),
        "ttft_band": where.prefill_step((prefill(1.0, token),)),
    }
    bands, wider = {}, False
    for name, step in steps.items():
        kernels = [float((end / step.stage_s).mean()) for end in step.stage_band_s]
        low, high = getattr(service, name)
        bands[name] = (min(low, kernels[0]), max(high, kernels[1]))
        wider = wider or bands[name] != (low, high)
    source = f"{service.band_source}; widened to the bands of this device's kernels" if wider else service.band_source
    return replace(service, **bands, band_source=source)  # type: ignore[arg-type]


def _service(found: SteadyState, asked: Asked, curve: ServiceCurve) -> Service:
    engine, limits = asked.engine, asked.engine.limits
    saturation = float(found.saturation_request_per_s)
    return Service(
        engine=engine.name,
        release=engine.release,
        settings={
            "concurrency": asked.concurrency,
            "request_per_s": asked.request_per_s,
            "arrival_cv": asked.arrival_cv if asked.request_per_s is not None else None,
            "input_cv": asked.input_cv,
            "output_cv": asked.output_cv,
            "prefix_hit": asked.prefix_hit,
            "disaggregated": None if asked.pools is None else "{}P{}D".format(*asked.pools),
            "draft_token": asked.draft_token,
            "acceptance": asked.acceptance,
            "draft": asked.draft.name if asked.draft else None,
            "max_batch_token": float(limits.max_batch_token),
            "max_sequence": float(limits.max_sequence),
            "memory_fraction": float(limits.memory_fraction),
            "reserve_byte": float(limits.reserve_byte),
        },
        ttft_s=_percentiles(found.ttft_s),
        tpot_s=_percentiles(found.tpot_s),
        itl_s=_percentiles(found.itl_s),
        queue_s=_percentiles(found.queue_s),
        prefill_s=float(found.prefill_s),
        interference_s=float(found.interference_s),
        transfer_s=float(found.transfer_s),
        request_per_s=float(found.request_per_s),
        output_token_per_s=float(found.output_token_per_s),
        input_token_per_s=float(found.input_token_per_s),
        batch=float(found.batch),
        running=float(found.running),
        slots=float(found.slots),
        slot_limit=SLOT_LIMITS[int(found.slot_limit)],
        utilisation=float(found.utilisation if asked.request_per_s is None else asked.request_per_s / saturation),
        saturation_request_per_s=saturation,
        saturated=bool(asked.request_per_s is not None and asked.request_per_s >= saturation),
        step_s=float(found.step_s),
        host_share=float(found.host_share),
        ttft_band=(float(engine.ttft_band.low), float(engine.ttft_band.high)),
        tpot_band=(float(engine.tpot_band.low), float(engine.tpot_band.high)),
        band_source=engine.tpot_band.source,
        curve=curve,
        assumptions=engine.assumptions,
    )


def with_limits(engine: Engine, max_batch_token: float | None, max_sequence: float | None) -> Engine:
    """`engine` with other limits where they are given.

    Errors: RooflineError where a step of chunked prefill could not hold a token of every running sequence.
    """
    limits = replace(
        engine.limits,
        max_batch_token=engine.limits.max_batch_token if max_batch_token is None else max_batch_token,
        max_sequence=engine.limits.max_sequence if max_sequence is None else max_sequence,
    )
    if limits.max_batch_token < limits.max_sequence:
        raise RooflineError(
            f"max-batch-tokens: {limits.max_batch_token:,.0f} is below max-sequences, {limits.max_sequence:,.0f}: "
            f"every running sequence takes a token of a step's budget. Give at least {limits.max_sequence:,.0f}, or "
            "fewer sequences."
        )
    return replace(engine, limits=limits)
