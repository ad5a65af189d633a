"""From a model, a device and a scenario to time, bottleneck, memory, energy and money."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .capacity import Capacity, capacity
from .crossing import change_beyond
from .deployment import Deployment, decode_times, micro_batches, pipeline_s
from .device import Device
from .economics import Site, TokenCost, profile_site
from .errors import RooflineError
from .footprint import PREFILL_BUDGET_TOKEN
from .model import Model, Moe
from .outcome import Case, Outcome, bound_index, outcome, rates_used
from .service import Service
from .structs import STORED_BYTE, Number
from .timing import BOUNDS, Bound, Calibration, Outside, StepTime, fit_of, keys_of
from .workload import Precision, Scenario

NOT_MODELLED = (
    "host time between steps (scheduler, tokeniser, Python)",
    "queueing behind other requests: all prompts of the batch start together",
    "clock throttling; power is a line from idle to the rated limit (no idle power stated: the limit, an upper bound)",
    "overlap of communication with computation",
    "imbalance of experts",
    "conversion of quantised weights",
    "speculative decoding, prefix caching, LoRA",
)
"""What every prediction of this module leaves out."""


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel of a phase on the busiest device; figures are for one execution, `count` per step.

    `extrapolated`: the sizes, with commas, that lie outside the range that its timing model was fitted on ("": none).
    """

    name: str
    kind: str
    count: float
    flop: float
    matrix_flop: float
    read_byte: float
    write_byte: float
    weight_byte: float
    kv_byte: float
    link_byte: float
    compute_s: float
    memory_s: float
    link_s: float
    overhead_s: float
    total_s: float
    low_s: float
    high_s: float
    roofline_s: float
    bound: Bound
    extrapolated: str

    @property
    def intensity_flop_per_byte(self) -> float | None:
        """FLOP per byte of memory traffic; None without traffic."""
        byte = self.read_byte + self.write_byte
        return self.flop / byte if byte else None


@dataclass(frozen=True, slots=True)
class Phase:
    """One step (all prompts' prefill, or one decode step) on the busiest device.

    `bound_share`: share of the time spent in kernels that each resource binds. `mfu` and `mbu`: matrix FLOP and bytes
    of the step over what peak rate and DRAM bandwidth would do in its time.
    """

    total_s: float
    roofline_s: float
    bound: Bound
    bound_share: dict[Bound, float]
    mfu: float
    mbu: float
    kernels: tuple[KernelRow, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """Where the decode bound changes: the smallest batch (or context, in tokens) with another bound, and that bound."""

    quantity: str
    value: int
    bound: Bound


@dataclass(frozen=True, slots=True)
class Prediction:
    """All that is predicted of one scenario. Times in seconds, bytes per device, money in US dollars.

    `tpot_s` is the decode step at mid-generation (its time is close to affine in context). Encoders have no decode:
    their `tpot_s`, `decode` and what follows from them are None. `input_cost` is that of prefill, `output_cost` that of
    decode steps; their money is None where no price is known. `serving`: the
    steady state under traffic, where that was asked for.
    """

    case: Case
    ttft_s: float
    ttft_band_s: tuple[float, float]
    tpot_s: float | None
    tpot_band_s: tuple[float, float] | None
    e2e_s: float
    output_token_per_s: float | None
    output_token_per_s_per_user: float | None
    output_token_per_s_per_device: float | None
    input_token_per_s: float
    capacity: Capacity
    prefill: Phase
    decode: Phase | None
    flips: tuple[Flip, ...]
    input_cost: TokenCost
    output_cost: TokenCost | None
    not_modelled: tuple[str, ...]
    assumptions: tuple[str, ...]
    serving: Service | None = None

    @property
    def model(self) -> Model:
        """The model predicted."""
        return self.case.model

    @property
    def device(self) -> Device:
        """The device predicted, one of `scenario.parallelism.device_count`."""
        return self.case.device

    @property
    def scenario(self) -> Scenario:
        """What is asked of them."""
        return self.case.scenario

    @property
    def calibration(self) -> Calibration:
        """What its times rest on."""
        return self.case.calibration

    @property
    def site(self) -> Site:
        """What its devices cost."""
        return self.case.site


def _band(step: StepTime, scenario: Scenario, which: int) -> tuple[float, float]:
    """The low and high end of TTFT (`which` 0) or TPOT (1), as pipeline_s makes them from the stages."""
    count, _ = micro_batches(scenario)
    low, high = (float(pipeline_s(stage_s, count)[which]) for stage_s in step.stage_band_s)
    return low, high


def _kernel_rows(step: StepTime, stage: int) -> tuple[KernelRow, ...]:
    rows: list[tuple[int, KernelRow]] = []
    for group, time, sure in zip(step.groups, step.times, step.confidences, strict=True):
        size, band = len(group.names), sure.band
        kind = type(group.work).__name__

        def column(value: Number, size: int = size) -> list[float]:
            return np.broadcast_to(np.asarray(value, dtype=np.float64), (size,)).tolist()  # type: ignore[no-any-return]

        cost, bounds = group.cost, np.broadcast_to(time.bound_index, (size,))
        columns = zip(
            group.order,
            group.names,
            group.count[stage].tolist(),
            column(cost.flop),
            column(cost.matrix_flop),
            column(cost.read_byte),
            column(cost.write_byte),
            column(cost.weight_read_byte),
            column(cost.kv_read_byte + cost.kv_write_byte),
            column(cost.link_byte),
            column(time.compute_s),
            column(time.memory_s),
            column(time.link_s),
            column(time.overhead_s),
            column(time.total_s),
            column(np.maximum(time.total_s * band.low, np.minimum(time.roofline_s, time.total_s))),
            column(time.total_s * band.high),
            column(time.roofline_s),
            (BOUNDS[i] for i in bounds),
            _named(sure.outside, size),
            strict=True,
        )
        rows += [
            (order, KernelRow(name, _KIND[kind], count, *figures))
            for order, name, count, *figures in columns
            if count > 0
        ]
    return tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))


def _named(outside: Outside, size: int) -> list[str]:
    """For each kernel of a group, the names of its sizes that are outside."""
    columns = {name: np.broadcast_to(out, (size,)).tolist() for name, out in sorted(outside.items())}
    return [", ".join(name for name, out in columns.items() if out[i]) for i in range(size)]


_KIND = {
    "Gemm": "gemm",
    "ExpertGemm": "expert_gemm",
    "ExpertLayer": "experts",
    "FusedAttention": "attention",
    "WholeLatentAttention": "attention",
    "MixedAttention": "attention",
    "UnfusedAttention": "attention_step",
    "Pointwise": "pointwise",
    "Collective": "collective",
}


def _phase(step: StepTime, device: Device, precision: Precision) -> Phase:
    stage_s = step.stage_s
    stage = int(np.argmax(stage_s))
    total_s = float(stage_s[stage])
    bound_s = step.stage_bound_s[stage]
    mfu, mbu = rates_used(step, device, precision)
    return Phase(
        total_s=total_s,
        roofline_s=float(step.stage_roofline_s[stage]),
        bound=BOUNDS[int(np.argmax(bound_s))],
        bound_share={bound: float(share) / total_s for bound, share in zip(BOUNDS, bound_s, strict=True)},
        mfu=float(mfu),
        mbu=float(mbu),
        kernels=_kernel_rows(step, stage),
    )


def decode_bound(where: Deployment, scenario: Scenario) -> NDArray[np.intp]:
    """Index into BOUNDS of what binds the busiest stage's decode step; elementwise over the scenario's numbers."""
    return bound_index(decode_times(where, scenario)[0])


def _flips(where: Deployment, model: Model, scenario: Scenario) -> tuple[Flip, ...]:
    limit = max(int(model.max_context), 2)
    found = (
        (
            "batch",
            change_beyond(lambda b: decode_bound(where, replace(scenario, batch=b)), scenario.parallelism.dp, 65536),
        ),
        ("input", change_beyond(lambda t: decode_bound(where, replace(scenario, input_token=t)), 1, limit)),
    )
    return tuple(Flip(name, change[0], BOUNDS[change[1]]) for name, change in found if change)


def predict(model: Model, device: Device, calibration: Calibration, scenario: Scenario) -> Prediction:
    """The Prediction of one scenario at the price that the profile states; see predict_case."""
    return predict_case(Case(model, device, calibration, scenario, profile_site(device)))


def predict_case(case: Case) -> Prediction:
    """The Prediction of one case (scalar numbers).

    Errors: RooflineError for numbers out of range; InfeasibleError where the model cannot be split so or the device
    lacks what it needs. A model that does not fit is predicted all the same, with `capacity.fits` False.
    """
    model, device, scenario = case.model, case.device, case.scenario
    check_scenario(model, scenario)
    where = case.deployment
    found = outcome(case, where)
    tpot_s = None if found.tpot_s is None else float(found.tpot_s)
    rate = None if found.output_token_per_s is None else float(found.output_token_per_s)
    return Prediction(
        case=case,
        ttft_s=float(found.ttft_s),
        ttft_band_s=_band(found.prefill, scenario, 0),
        tpot_s=tpot_s,
        tpot_band_s=None if found.decode is None else _band(found.decode, scenario, 1),
        e2e_s=float(found.e2e_s),
        output_token_per_s=rate,
        output_token_per_s_per_user=None if tpot_s is None else 1.0 / tpot_s,
        output_token_per_s_per_device=None if rate is None else rate / scenario.parallelism.device_count,
        input_token_per_s=float(found.input_token_per_s),
        capacity=capacity(model, device, scenario),
        prefill=_phase(found.prefill, device, scenario.precision),
        decode=None if found.decode is None else _phase(found.decode, device, scenario.precision),
        flips=_flips(where, model, scenario) if model.causal else (),
        input_cost=found.input_cost,
        output_cost=found.output_cost,
        not_modelled=NOT_MODELLED,
        assumptions=(*_assumptions(model, device, scenario), *_borrowed(found, case.calibration)),
    )


def check_scenario(model: Model, scenario: Scenario) -> None:
    """Refuses numbers that mean nothing. Errors: RooflineError with field, value, and what is accepted."""
    spread = scenario.parallelism
    for field, value in (
        ("batch", scenario.batch),
        ("input", scenario.input_token),
        ("output", scenario.output_token),
        ("tp", spread.tp),
        ("pp", spread.pp),
        ("ep", spread.ep),
        ("dp", spread.dp),
    ):
        if not (np.isfinite(value) and value >= 1 and float(value).is_integer() and value <= 2**40):
            raise RooflineError(f"{field}: {value!r} is not accepted. Accepted: whole numbers from 1 on.")
    length = scenario.input_token + scenario.output_token * model.causal
    if length > model.max_context:
        raise RooflineError(
            f"input + output: {length:.0f} tokens exceed the {model.max_context:.0f} that {model.name} was made for. "
            f"Accepted: up to {model.max_context:.0f}; shorten --input or --output."
        )


def _assumptions(model: Model, device: Device, scenario: Scenario) -> tuple[str, ...]:
    precision = scenario.precision
    notes = [
        *device.assumptions,
        "prefill is timed as one step over all prompts; activation memory is that of "
        f"{PREFILL_BUDGET_TOKEN:,.0f} prompt tokens at once, since engines split longer prefills (unfused: of all)",
    ]
    formats = {"weights": precision.weights}
    if any(isinstance(layer.mlp, Moe) for layer in model.layers):
        formats["experts"] = precision.experts
    for name, stored in formats.items():
        if STORED_BYTE[stored] < STORED_BYTE[precision.activations]:
            notes.append(
                f"{name} stored in {stored} with {precision.activations} activations: bytes saved, no FLOP gained"
            )
    for stored in dict.fromkeys((precision.weights, precision.experts, precision.activations, precision.kv)):
        if stored in device.upcast:
            notes.append(f"{device.name} has no {stored} arithmetic: it computes in {device.upcast[stored]}")
    return tuple(notes)


def _borrowed(found: Outcome, calibration: Calibration) -> tuple[str, ...]:
    """Which kernels are timed by the fit of another number format than theirs."""
    steps = [found.prefill] if found.decode is None else [found.prefill, found.decode]
    keys = {key: None for step in steps for group in step.groups for key in keys_of(group.work)}
    fits = {key: fit for key in keys if (fit := fit_of(key, calibration)) and fit.borrowed_from}
    return tuple(
        f"{family} in {label} was not measured: timed by the fit of {fit.borrowed_from} at this format's bytes and "
        f"peak, {fit.band.low:.2g} to {fit.band.high:.2g} times that ({fit.band.source})"
        for (family, label), fit in fits.items()
    )
