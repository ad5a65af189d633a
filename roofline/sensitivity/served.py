"""The same figures of a deployment in steady state: an engine under some traffic."""

from dataclasses import dataclass, replace

import numpy as np

from ..deployment import decode_times
from ..economics import device_power_w, usd_per_device_hour, usd_per_mtok
from ..outcome import Case, bound_index
from ..planning.curve import line_times
from ..serving.bill import phase_shares
from ..serving.engine import Engine
from ..serving.lengths import Fixed, Lengths
from ..serving.steady import SteadyState, steady_state
from ..serving.step import ServedModel, served_model
from ..serving.traffic import ClosedLoop, OpenLoop, Traffic
from ..structs import Number
from .figures import MAX_BATCH, REQUEST_DEVICE_S, REQUEST_USD, Figure, Measured, static_figures

SERVED = (
    Figure("ttft_s", "TTFT", True),
    Figure("ttft_p95_s", "TTFT p95", True),
    Figure("tpot_s", "TPOT", True),
    Figure("output_token_per_s", "tokens/s", False),
    Figure("saturation_request_per_s", "max req/s", False),
    Figure("usd_per_mtok_input", "$/Mtok in", True),
    Figure("usd_per_mtok_output", "$/Mtok out", True),
    Figure("joule_per_output_token", "J/token", True),
)
"""Figures of the steady state; the sequences that run at once at most come beside them as `max_batch`."""


@dataclass(frozen=True, slots=True, eq=False)
class ServedCase(Case):
    """A case under an engine and traffic. Lengths are the scenario's, all alike; its batch is the mean number of
    sequences that generate at once (see `served`), so that what is said of a step is said of a typical one.
    """

    engine: Engine
    traffic: Traffic


def served(case: Case, engine: Engine, traffic: Traffic) -> ServedCase:
    """`case` under an engine and traffic, its batch the mean running one. Errors: InfeasibleError as served_model."""
    found = ServedCase(case.model, case.device, case.calibration, case.scenario, case.site, engine, traffic)
    _, state = _steady(found)
    batch = np.maximum(np.round(np.nan_to_num(state.batch, posinf=1.0)), float(case.scenario.parallelism.dp))
    return replace(found, scenario=replace(case.scenario, batch=float(batch)))


def measured(case: Case) -> Measured:
    """The figures of a case: of its static batch, or of its steady state where it is served. Errors: as outcome."""
    match case:
        case ServedCase():
            return _served_figures(case)
        case _:
            return static_figures(case)


def _lengths(case: ServedCase) -> Lengths:
    return Lengths(Fixed(case.scenario.input_token), Fixed(case.scenario.output_token))


def _steady(case: ServedCase) -> tuple[ServedModel, SteadyState]:
    """The served model and its steady state (scalar numbers), step times read from tables made for its workload."""
    model = served_model(case.model, case.device, case.calibration, case.scenario, case.engine)
    prompt, output, limits = float(case.scenario.input_token), float(case.scenario.output_token), case.engine.limits
    running = _next_power(float(limits.max_sequence))
    rows = _next_power(max(float(limits.max_batch_token), prompt)) + 2.0 * running
    tabled = replace(model, times=line_times(model.times, rows, running, prompt, prompt + output / 2.0))
    return model, steady_state(tabled, case.traffic, _lengths(case))


def _next_power(limit: float) -> float:
    """A power of two well beyond `limit`: so that small changes of a limit leave the grids of the tables alone."""
    return float(2.0 ** np.ceil(np.log2(1.25 * limit)))


def _served_figures(case: ServedCase) -> Measured:
    """Money: the devices are paid by the hour, idle or not; input and output tokens share the bill as economics says.
    A request costs what it does at the traffic's own rate in a closed loop, and at saturation in an open one, where the
    rate is given and only the room left differs. Power: a line from idle to the limit with the rate over saturation.
    """
    model, state = _steady(case)
    scenario, site = case.scenario, case.site
    devices = scenario.parallelism.device_count
    power_w = device_power_w(case.device, np.minimum(state.utilisation, 1.0))
    read, written = phase_shares(model, state, _lengths(case))
    hourly = None if site.tariff is None else devices * usd_per_device_hour(site.tariff, power_w, site.pue)
    match case.traffic:
        case ClosedLoop():
            rate = state.request_per_s
        case OpenLoop():
            rate = state.saturation_request_per_s
    served_rate = np.maximum(state.request_per_s, 1e-30)
    decode, _ = decode_times(case.deployment, replace(scenario, batch=np.maximum(state.batch, 1.0)))
    figures: dict[str, Number | None] = {
        "ttft_s": state.ttft_s.mean,
        "ttft_p95_s": state.ttft_s.p95,
        "tpot_s": state.tpot_s.mean,
        "output_token_per_s": state.output_token_per_s,
        "saturation_request_per_s": state.saturation_request_per_s,
        "usd_per_mtok_input": None
        if hourly is None
        else usd_per_mtok(hourly * read, served_rate * scenario.input_token),
        "usd_per_mtok_output": None
        if hourly is None
        else usd_per_mtok(hourly * written, served_rate * scenario.output_token),
        "joule_per_output_token": devices * power_w * site.pue / (served_rate * scenario.output_token),
        MAX_BATCH.key: state.slots,
        REQUEST_USD.key: None if hourly is None else hourly / 3600.0 / np.maximum(rate, 1e-30),
        REQUEST_DEVICE_S.key: devices / np.maximum(rate, 1e-30),
    }
    return Measured(figures, bound_index(decode), hourly, np.asarray(state.slots >= 1.0))
