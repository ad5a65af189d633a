"""Collectives: hand-derived times, laws, and the errors reached on measured rows that were not fitted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.calibrate.fit import fit
from roofline.device import Link
from roofline.errors import RooflineError
from roofline.io.datasets import read
from roofline.io.records import Records, collapse
from roofline.kernels.collective import CollectiveKind
from roofline.timing.collective import NCCL_TUNER, DirectParameters, RingParameters, collective_time
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.parameter import facts_of

NVLINK = Link(bandwidth_byte_per_s=450e9, domain_size=8.0, latency_s=1e-6)
NETWORK = Link(bandwidth_byte_per_s=50e9, domain_size=1024.0, latency_s=5e-6)
RING = RingParameters()
DIRECT = DirectParameters()
KINDS = tuple(CollectiveKind)

sizes = st.floats(1.0, 1e10)
groups = st.sampled_from([2.0, 3.0, 4.0, 8.0])


def test_one_shot_by_hand():
    """Four devices, 64 KiB: everyone reads three payloads; far above one slot, so the slot's cost is whole."""
    payload = 65536.0
    expected = DIRECT.launch_s + 2 * DIRECT.peer_s + DIRECT.slot_s + 3 * payload / (DIRECT.one_shot_link * 450e9)
    time = collective_time(CollectiveKind.ALL_REDUCE, payload, 4.0, NVLINK, None, DIRECT)
    assert time.total_s == pytest.approx(expected)


def test_two_shots_by_hand():
    """Eight devices, 1 MiB: beyond 256 KiB, so 2 · 7/8 of the payload in two shots with log2 8 = 3 barriers' cost."""
    payload = 2.0**20
    start = DIRECT.launch_s + 6 * DIRECT.peer_s + DIRECT.slot_s + 3 * DIRECT.second_s
    time = collective_time(CollectiveKind.ALL_REDUCE, payload, 8.0, NVLINK, None, DIRECT)
    assert time.total_s == pytest.approx(start + 1.75 * payload / (DIRECT.two_shot_link * 450e9))


def test_custom_kernel_hands_large_payloads_to_nccl():
    large = 8.0 * 2**20
    direct = collective_time(CollectiveKind.ALL_REDUCE, large, 4.0, NVLINK, None, DIRECT)
    ring = collective_time(CollectiveKind.ALL_REDUCE, large, 4.0, NVLINK, None, DIRECT.beyond)
    assert direct.total_s == ring.total_s
    below = collective_time(CollectiveKind.ALL_REDUCE, large - 1.0, 4.0, NVLINK, None, DIRECT)
    assert below.total_s < ring.total_s


def test_large_all_gather_by_hand():
    """1 GiB among 8: Simple; 7/8 of the bytes on the link, 1/8 copied, seven messages."""
    payload, wire = 2.0**30, 0.875 * 2.0**30 / 450e9
    expected = RING.launch_s + RING.setup_s + 7 * RING.hop_s + wire / RING.link
    expected += payload / 8 / (RING.copy * 450e9) + RING.ramp * np.sqrt(wire * 7e-6)
    time = collective_time(CollectiveKind.ALL_GATHER, payload, 8.0, NVLINK, None, RING)
    assert time.total_s == pytest.approx(expected)


def test_tuner_switches_from_ll_to_simple_where_nccl_does():
    """A pair on A100: Simple from 4.6 us / (1/87.7 - 1/240 GB/s) · 2 = 1.27 MB; measured: between 1 and 2 MiB."""
    link = Link(300e9, 8.0, 1e-6)
    low, _, simple = NCCL_TUNER
    extra = simple.base_s + simple.hop_s - low.base_s - low.hop_s
    switch = extra / ((1 / low.link_share - 1 / simple.link_share) / 300e9) * 2
    assert switch == pytest.approx(1.27e6, rel=0.01)
    times = collective_time(
        CollectiveKind.ALL_GATHER, np.array([0.98, 0.999, 1.001]) * switch, 2.0, link, None, RING
    ).total_s
    assert times[2] - times[1] > 5 * (times[1] - times[0])


def test_the_switch_reduces_only_floats_and_only_in_its_group():
    ring = RingParameters(switch_group=8.0)
    payload = 2.0**29
    args = (CollectiveKind.ALL_REDUCE, payload)
    with_switch = collective_time(*args, 8.0, NVLINK, None, ring).total_s
    assert with_switch < collective_time(*args, 8.0, NVLINK, None, ring, switch_reduces=0.0).total_s
    assert collective_time(*args, 4.0, NVLINK, None, ring).total_s == (
        collective_time(*args, 4.0, NVLINK, None, RING).total_s
    )
    assert with_switch == pytest.approx(ring.switch_s + payload * 9 / 8 / (ring.switch_link * 450e9))


def test_two_nodes_by_hand():
    """Sixteen devices in nodes of eight: the ring inside, then 1/8 of the payload between two nodes, 2 · 1/2 of it."""
    payload = 2.0**28
    inside = collective_time(CollectiveKind.ALL_REDUCE, payload, 8.0, NVLINK, None, RING).total_s
    both = collective_time(CollectiveKind.ALL_REDUCE, payload, 16.0, NVLINK, NETWORK, RING).total_s
    assert both - inside == pytest.approx(payload / 8 / 50e9 + 2 * 5e-6)


def test_point_to_point_between_nodes_uses_the_network():
    payload = 2.0**30
    near = collective_time(CollectiveKind.POINT_TO_POINT, payload, 2.0, NVLINK, NETWORK, RING)
    far = collective_time(CollectiveKind.POINT_TO_POINT, payload, 16.0, NVLINK, NETWORK, RING)
    assert near.roofline_s == pytest.approx(payload / 450e9)
    assert far.roofline_s == pytest.approx(payload / 50e9)
    assert far.total_s == pytest.approx(RING.launch_s + RING.hop_s + payload / 50e9 + 5e-6)


def test_beyond_the_node_without_a_network_is_an_error():
    with pytest.raises(RooflineError, match="inter_node"):
        collective_time(CollectiveKind.ALL_REDUCE, 1e6, np.array([8.0, 16.0]), NVLINK, None, RING)


def test_the_custom_kernel_only_reduces():
    with pytest.raises(RooflineError, match="only reduces"):
        collective_time(CollectiveKind.ALL_GATHER, 1e6, 4.0, NVLINK, None, DIRECT)


@given(st.sampled_from(KINDS), sizes)
def test_alone_there_is_nothing_to_do(kind: CollectiveKind, payload: float):
    assert collective_time(kind, payload, 1.0, NVLINK, None, RING).total_s == 0.0


@given(st.sampled_from(KINDS), sizes, st.sampled_from([2.0, 4.0, 8.0, 12.0, 16.0, 64.0]))
def test_never_faster_than_the_links(kind: CollectiveKind, payload: float, group: float):
    perfect = RingParameters(
        *(facts.high if facts.unit == "1" else facts.low for facts in facts_of(RingParameters).values())
    )
    time = collective_time(kind, payload, group, NVLINK, NETWORK, perfect)
    assert time.total_s >= time.roofline_s > 0


@given(st.sampled_from(KINDS), st.lists(st.tuples(sizes, groups), min_size=1, max_size=8))
def test_vector_equals_scalar(kind: CollectiveKind, cases: list[tuple[float, float]]):
    payload, group = np.array(cases).T
    together = collective_time(kind, payload, group, NVLINK, None, RING).total_s
    for time, (one_payload, one_group) in zip(together, cases, strict=True):
        assert time == pytest.approx(
            collective_time(kind, one_payload, one_group, NVLINK, None, RING).total_s, rel=1e-12
        )


@given(st.sampled_from(KINDS), sizes, groups, st.floats(1.0, 4.0))
def test_more_bandwidth_never_hurts_a_protocol(kind: CollectiveKind, payload: float, group: float, factor: float):
    """Within one protocol; the tuner may switch (too early) where the link gets faster, as NCCL's does."""
    faster = Link(450e9 * factor, 8.0, 1e-6)
    slow = collective_time(kind, payload, group, NVLINK, None, RING)
    fast = collective_time(kind, payload, group, faster, None, RING)
    same = np.isclose(slow.overhead_s, fast.overhead_s, rtol=1e-9)
    assert not same or fast.total_s <= slow.total_s * (1 + 1e-12)


def test_eager_launches_have_a_floor():
    loop = BenchmarkLoop(launch_floor_s=44e-6)
    assert collective_time(CollectiveKind.ALL_REDUCE, 256.0, 2.0, NVLINK, None, DIRECT, loop=loop).total_s == 44e-6


# --- Against measurements: fitted on a random half of the shapes, errors on the other half, mean of six splits.
# One split of 126 shapes moves the median by 1 to 2 points, so a single seed would flatter or blame by luck. ---

LINKS = {"a100-sxm-80gb": Link(300e9, 8.0, 1e-6), "h100-sxm": NVLINK}


@pytest.fixture(scope="module")
def measured(data_folder: Path) -> tuple[Records, ...]:
    folder = data_folder / "aiconfigurator" / "systems" / "data"
    return tuple(group for name in ("a100_sxm", "h100_sxm") for group in read(folder / name / "comm")[0])


def mean_error(size: int, error_of: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Median and mean absolute error on the unseen half, each the mean of six random splits."""
    found = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(size)
        error = np.abs(error_of(order[: size // 2])[order[size // 2 :]])
        found.append((np.median(error), np.mean(error)))
    median, mean = np.mean(found, axis=0)
    return float(median), float(mean)


@pytest.mark.parametrize("device", list(LINKS))
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not CollectiveKind.POINT_TO_POINT])
def test_nccl_on_unseen_shapes(measured: tuple[Records, ...], device: str, kind: CollectiveKind):
    """Reached, all-reduce, all-gather, reduce-scatter, all-to-all (median / mean %):

    A100 4.3/6.2, 4.5/6.2, 5.3/6.8, 3.0/5.6; H100 3.9/5.6, 3.0/4.9, 4.2/5.6, 4.5/7.1.
    """
    chosen = [collapse(g)[0] for g in measured if (g.backend, g.device, g.family) == ("nccl", device, kind)]
    payload, group = (np.concatenate([g.dims[name] for g in chosen]) for name in ("payload_byte", "group_size"))
    floats = np.concatenate([np.full(g.size, float(g.precision.label != "int8")) for g in chosen])
    times = np.concatenate([g.measured_s for g in chosen])
    prior = RingParameters(switch_group=8.0 if device == "h100-sxm" else np.inf)
    names = tuple(facts_of(RingParameters))
    free = names if prior.switch_group == 8.0 and kind is CollectiveKind.ALL_REDUCE else names[:-2]
    if kind is CollectiveKind.ALL_TO_ALL:
        free = tuple(name for name in free if not name.startswith("medium"))

    def predict(parameters: RingParameters, rows: object) -> np.ndarray:
        reduces = floats[rows]  # type: ignore[index]
        arguments = (payload[rows], group[rows], LINKS[device], None, parameters)  # type: ignore[index]
        return collective_time(kind, *arguments, switch_reduces=reduces).total_s

    def error(seen: np.ndarray) -> np.ndarray:
        found = fit(lambda parameters: predict(parameters, seen), times[seen], prior, free=free).parameters
        return predict(found, slice(None)) / times - 1.0

    median, mean = mean_error(times.size, error)
    assert median < 0.055 and mean < 0.073


@pytest.mark.parametrize("device", list(LINKS))
def test_custom_all_reduce_on_unseen_shapes(measured: tuple[Records, ...], device: str):
    """Reached below 8 MiB: A100 2.2 / 4.2 % (one of 45 rows is a glitch of 60 %), H100 2.5 / 3.4 %."""
    (every,) = [g for g in measured if g.device == device and g.kernel == "vLLM_custom_graph"]
    chosen = every.take(every.dims["payload_byte"] < 8 * 2**20)
    payload, group, times = chosen.dims["payload_byte"], chosen.dims["group_size"], chosen.measured_s

    def predict(parameters: DirectParameters, rows: object) -> np.ndarray:
        arguments = (payload[rows], group[rows], LINKS[device], None, parameters)  # type: ignore[index]
        return collective_time(CollectiveKind.ALL_REDUCE, *arguments).total_s

    def error(seen: np.ndarray) -> np.ndarray:
        found = fit(lambda parameters: predict(parameters, seen), times[seen], DIRECT).parameters
        return predict(found, slice(None)) / times - 1.0

    median, mean = mean_error(times.size, error)
    assert median < 0.027 and mean < 0.044
