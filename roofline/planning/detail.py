"""Everything about one candidate: its whole steady state, its band, what binds it, what each token costs."""

from dataclasses import dataclass

import numpy as np

from ..economics import usd_per_mtok
from ..footprint import weight_byte
from ..serving.bill import phase_shares
from ..serving.spread import Spread
from ..serving.steady import SteadyState
from ..serving.step import ServedModel
from ..structs import Array
from ..timing import BOUNDS, Bound, StepTime
from ..workload import prefill
from .evaluate import at_percentile, grid_of
from .pools import steady
from .replica import replica_of, workload
from .request import PlanRequest, Pools
from .rows import Rows
from .space import Structure

Ends = tuple[float, float]
"""A value at the fast and at the slow end of a band."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One candidate in full. `state`: of one deployment (replica), shape (1,) everywhere. `headroom`: of "ttft", "tpot"
    and "rate", 1 - value / limit. `limit`: the one with least of it.

    `ttft_ends`, `tpot_ends`: at the percentile, the whole steady state at either end of the band; infinite where the
    slow end saturates. `robust`: the service level holds at the slow end too. `bound`: of a decode step's time.
    """

    structure: Structure
    row: Rows
    state: SteadyState
    ttft_ends: Ends
    tpot_ends: Ends
    robust: bool
    roofline_ttft_s: float
    roofline_tpot_s: float
    bound: Bound
    prefill_bound: Bound
    headroom: dict[str, float]
    limit: str
    usd_per_hour: float | None
    usd_per_mtok_input: float | None
    usd_per_mtok_output: float | None
    weight_byte: float
    kv_token: float


def detailed(structure: Structure, row: Rows, request: PlanRequest) -> Plan:
    """The Plan of the candidate in `row`, of `structure`."""
    candidate = grid_of(row)
    replica = replica_of(structure, request)
    served, memory = replica.served, replica.memory(candidate)
    prompt, context, _ = workload(request)
    state = steady(structure, candidate, request, served, replica.curves, memory.byte)
    batch = max(float(state.batch[0]) / served.replicas, 1.0)
    where = replica.where
    chunk = min(prompt, float(row.max_batch_token[0]))
    step, chunk_step = where.decode_step(batch, context), where.prefill_step((prefill(1.0, chunk),))
    level = request.level
    band = request.engine.ttft_band
    ends = [steady(structure, candidate, request, served, end, memory.byte) for end in replica.ends]
    ttft, tpot = float(row.ttft_s[0]), float(row.tpot_s[0])
    fast, slow = (_at(end.ttft_s, level.percentile) for end in ends)
    ttft_ends = (min(fast, ttft * float(band.low)), max(slow, ttft * float(band.high)))
    tpot_ends = (_at(ends[0].tpot_s, level.percentile), _at(ends[1].tpot_s, level.percentile))
    headroom = {
        "ttft": 1.0 - ttft / level.ttft_s,
        "tpot": 1.0 - tpot / level.tpot_s,
        "rate": 1.0 - float(row.load[0]),
    }
    usd = None if structure.offer.site.tariff is None else float(row.usd_per_hour[0])
    share = _input_share(structure, row, request, served, state)
    rate = float(row.request_per_s[0])
    return Plan(
        structure=structure,
        row=row,
        state=state,
        ttft_ends=ttft_ends,
        tpot_ends=tpot_ends,
        robust=ttft_ends[1] <= level.ttft_s and tpot_ends[1] <= level.tpot_s,
        roofline_ttft_s=float(where.prefill_step((prefill(1.0, prompt),)).stage_roofline_s.max()),
        roofline_tpot_s=float(step.stage_roofline_s.sum()),
        bound=_bound(step),
        prefill_bound=_bound(chunk_step),
        headroom=headroom,
        limit=min(headroom, key=lambda name: headroom[name]),
        usd_per_hour=usd,
        usd_per_mtok_input=None if usd is None else float(usd_per_mtok(usd * share, rate * prompt)),
        usd_per_mtok_output=(
            None if usd is None else float(usd_per_mtok(usd * (1.0 - share), rate * float(request.lengths.output.mean)))
        ),
        weight_byte=float(weight_byte(request.model, structure.precision, structure.split).max()),
        kv_token=float(memory.token[0]),
    )


def _at(spread: Spread, percentile: float) -> float:
    return float(at_percentile(spread, percentile)[0])


def _bound(step: StepTime) -> Bound:
    busiest = int(np.argmax(step.stage_s))
    shares: Array = step.stage_bound_s[..., busiest, :]
    return BOUNDS[int(np.argmax(shares))]


def _input_share(
    structure: Structure, row: Rows, request: PlanRequest, served: ServedModel, state: SteadyState
) -> float:
    """The share of the bill that prompts pay: their device-seconds over those of prompts and outputs (economics); of
    two pools, what the prefill pool costs.
    """
    match structure.pools:
        case Pools.DISAGGREGATED:
            return float(row.prefill_replicas[0] / (row.prefill_replicas[0] + row.replicas[0]))
        case Pools.AGGREGATED:
            return float(np.ravel(phase_shares(served, state, request.lengths)[0])[0])
