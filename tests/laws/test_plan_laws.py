"""What must hold of every plan, whatever the numbers: searched with Hypothesis on small devices."""

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from roofline.device import Link, MemoryLevel
from roofline.economics import Rental
from roofline.planning.answer import answer
from roofline.planning.relax import best_plans
from roofline.planning.replica import replica_of
from roofline.planning.request import ServiceLevel
from roofline.planning.search import search
from roofline.serving.engine import ChunkedPrefill, PrefillFirst

from ..planning.made import ENGINE, offer, request

FEW = settings(max_examples=20)

RATE = st.floats(100.0, 20_000.0)
TTFT = st.floats(3e-4, 1e-1)
TPOT = st.floats(1.5e-4, 1e-2)
FACTOR = st.floats(1.0, 4.0)
SCHEDULE = st.sampled_from([ChunkedPrefill(), PrefillFirst()])

ALONE = offer(3.6, name="alone", intra_node=None, inter_node=None)
PAIR = offer(2.0, name="pair", intra_node=Link(50e9, 2.0, 2e-6), inter_node=None, dram=MemoryLevel(16e9, 0.4e12))


CHUNKED = ChunkedPrefill()


def asked(rate, ttft, tpot, schedule=CHUNKED):
    return request(
        rates=(rate,),
        level=ServiceLevel(ttft, tpot, 95.0),
        offers=(ALONE, PAIR),
        max_devices=6,
        engine=replace(ENGINE, schedule=schedule),
    )


def bill(of):
    """Dollars per hour of the cheapest plan; infinite without one."""
    plans = best_plans(search(of))
    return float(plans.usd_per_hour[0]) if plans.size else np.inf


@FEW
@given(RATE, TTFT, TPOT, FACTOR, FACTOR, SCHEDULE)
def test_a_looser_service_level_never_costs_more(rate, ttft, tpot, looser, longer, schedule):
    tight = bill(asked(rate, ttft, tpot, schedule))
    assert bill(asked(rate, ttft * looser, tpot * longer, schedule)) <= tight


@FEW
@given(RATE, TTFT, TPOT, FACTOR, SCHEDULE)
def test_more_traffic_never_costs_less(rate, ttft, tpot, more, schedule):
    assert bill(asked(rate * more, ttft, tpot, schedule)) >= bill(asked(rate, ttft, tpot, schedule))


@FEW
@given(RATE, TTFT, TPOT, FACTOR)
def test_a_cheaper_price_never_raises_the_bill(rate, ttft, tpot, cheaper):
    dear = asked(rate, ttft, tpot)
    sale = replace(ALONE, site=replace(ALONE.site, tariff=Rental(3.6 / cheaper)))
    assert bill(replace(dear, offers=(sale, PAIR))) <= bill(dear) * (1.0 + 1e-12)


def doubled(of):
    """The offer with every rate of its device twice as high, and its fixed times half."""
    device = of.device

    def link(one):
        return None if one is None else Link(2.0 * one.bandwidth_byte_per_s, one.domain_size, one.latency_s / 2.0)

    def level(one):
        return MemoryLevel(one.capacity_byte, 2.0 * one.bandwidth_byte_per_s)

    return replace(
        of,
        device=replace(
            device,
            clock_hz=2.0 * device.clock_hz,
            matrix_flop_per_s={dtype: 2.0 * rate for dtype, rate in device.matrix_flop_per_s.items()},
            vector_flop_per_s=2.0 * device.vector_flop_per_s,
            on_chip=level(device.on_chip),
            last_level_cache=level(device.last_level_cache),
            dram=level(device.dram),
            intra_node=link(device.intra_node),
            inter_node=link(device.inter_node),
            efficiency=replace(device.efficiency, kernel_overhead_s=device.efficiency.kernel_overhead_s / 2.0),
        ),
    )


@FEW
@given(RATE, TTFT, TPOT, SCHEDULE)
def test_doubling_every_rate_never_lowers_throughput_nor_raises_the_bill(rate, ttft, tpot, schedule):
    slow = asked(rate, ttft, tpot, schedule)
    fast = replace(slow, offers=tuple(doubled(one) for one in slow.offers))
    dear = bill(slow)
    assert bill(fast) <= dear
    if np.isinf(dear):
        return  # no plan to compare, and an answer would search for what makes it feasible
    before, after = (answer(of) for of in (slow, fast))
    served = {saturation_key(plan): plan for plan in before.plans}
    for plan in after.plans:
        same = served.get(saturation_key(plan))
        if same is not None:
            assert plan.state.saturation_request_per_s[0] >= same.state.saturation_request_per_s[0] * (1.0 - 1e-9)


def saturation_key(plan):
    """What makes the saturation of two plans comparable: the same device, split and engine limits."""
    row = plan.row
    return plan.structure.offer.device.name, plan.structure.split, row.max_sequence[0], row.max_batch_token[0]


@FEW
@given(RATE, SCHEDULE)
def test_no_plan_beats_its_roofline(rate, schedule):
    loose = asked(rate, 10.0, 10.0, schedule)
    told = answer(loose)
    assume(told.plans)
    for plan in told.plans:
        floor = replica_of(plan.structure, loose).floor
        assert plan.state.ttft_s.mean[0] >= plan.roofline_ttft_s * (1.0 - 1e-9)
        assert plan.state.tpot_s.mean[0] >= plan.roofline_tpot_s * (1.0 - 1e-9)
        assert plan.state.saturation_request_per_s[0] <= 1.0 / floor.request_s
        assert plan.ttft_ends[0] <= plan.row.ttft_s[0] <= plan.ttft_ends[1]
        assert plan.tpot_ends[0] <= plan.row.tpot_s[0] <= plan.tpot_ends[1]
