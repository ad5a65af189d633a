"""What can be built: counted by hand."""

from dataclasses import replace

import pytest

from roofline.device import Link
from roofline.planning.request import Pools, Reason
from roofline.planning.space import Structure, grid, grid_size, splits, structures
from roofline.structs import Dtype
from roofline.workload import Parallelism, Precision

from ..builders import MIXTURE, model
from .made import offer, request


def sizes(found):
    return [(s.split.tp, s.split.pp, s.split.ep, s.split.dp) for s in found]


def test_dense_splits_over_four_devices():
    # tp·pp <= 4 in powers of two: (1,1) (2,1) (4,1) | (1,2) (2,2) | (1,4)
    found = {(split.tp, split.pp) for split in splits(model(), 4)}
    assert found == {(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)}
    assert all(split.ep == split.dp == 1 for split in splits(model(), 4))


def test_no_more_stages_than_layers_nor_more_devices_than_allowed():
    assert max(split.pp for split in splits(model(), 64)) == 4
    assert max(split.device_count for split in splits(model(), 64)) == 64


def test_experts_are_spread_inside_a_replica_or_over_ranks_of_attention():
    found = list(splits(model(MIXTURE), 4))
    assert Parallelism(2, 1, 2, 1) in found  # over the tensor-parallel ranks
    assert Parallelism(1, 1, 4, 4) in found  # attention four times, experts once
    assert Parallelism(2, 1, 4, 2) in found
    assert all(split.dp == 1 or split.ep == split.tp * split.dp for split in found)


def test_candidates_are_replicas_times_limits_times_rates():
    asked = request(max_devices=9, rates=(1.0, 2.0, 3.0))
    structure = Structure(asked.offers[0], Precision(), Parallelism(2, 1, 1, 1), Pools.AGGREGATED)
    made = grid(structure, asked)
    assert made.size == grid_size(structure, asked) == 4 * 2 * 2 * 3  # replicas 1 to 4 of two devices
    assert len({tuple(row) for row in zip(*(getattr(made, name) for name in made.__slots__), strict=True)}) == made.size


def test_least_devices_and_fill_keep_only_those_replicas():
    structure = Structure(request().offers[0], Precision(), Parallelism(2, 1, 1, 1), Pools.AGGREGATED)
    assert set(grid(structure, request(max_devices=9, least_devices=5)).replicas) == {3.0, 4.0}
    assert set(grid(structure, request(max_devices=9, fill=True)).replicas) == {4.0}


def test_what_cannot_be_built_says_why():
    # 8 heads, 4 KV heads, domain of 4: TP 8 has no link; TP 16 does not divide the heads either
    asked = request(max_devices=16, offers=(offer(intra_node=Link(100e9, 4.0, 1e-6), inter_node=None),))
    built, refused = structures(asked)
    assert (8, 1, 1, 1) not in sizes(built)
    reasons = {(r.structure.split.tp, r.structure.split.pp): r.reason for r in refused}
    assert reasons[8, 1] is Reason.LINK
    assert reasons[16, 1] is Reason.SHAPE
    assert reasons[4, 2] is Reason.LINK  # eight devices, four reached


def test_tensor_parallelism_stays_inside_a_node():
    nodes = offer(intra_node=Link(100e9, 2.0, 1e-6), inter_node=Link(25e9, 1024.0, 5e-6))
    built, refused = structures(request(max_devices=8, offers=(nodes,)))
    assert max(structure.split.tp for structure in built) == 2
    assert (2, 4, 1, 1) in sizes(built)  # pipeline stages cross nodes
    assert {r.reason for r in refused if r.structure.split.tp == 4} == {Reason.LINK}


def test_a_device_without_links_has_replicas_of_one():
    built, _ = structures(request(max_devices=8, offers=(offer(intra_node=None, inter_node=None),)))
    assert sizes(built) == [(1, 1, 1, 1)]


def test_formats_that_a_device_cannot_compute_are_refused():
    only = replace(offer(), precisions=(Precision(), Precision(weights=Dtype.FP8, experts=Dtype.FP8)))
    plain = replace(only, device=replace(only.device, upcast={}))
    built, refused = structures(request(max_devices=1, offers=(plain,)))
    assert [structure.precision.weights for structure in built] == [Dtype.BF16]
    assert [r.reason for r in refused] == [Reason.FORMAT]
    assert "cannot compute in fp8" in refused[0].text


@pytest.mark.parametrize("pools", list(Pools))
@pytest.mark.parametrize("changes", [{}, {"least_devices": 3}, {"fill": True}, {"max_devices": 1}])
def test_size_is_counted_without_making(pools, changes):
    for split in (Parallelism(1, 1, 1, 1), Parallelism(2, 1, 1, 1), Parallelism(4, 2, 1, 1)):
        structure = Structure(request().offers[0], Precision(), split, pools)
        asked = request(**{"max_devices": 5} | changes)
        assert grid_size(structure, asked) == grid(structure, asked).size


def test_two_pools_by_hand():
    # of four replicas at most: 1+1, 1+2, 2+1, 1+3, 2+2, 3+1; the largest limits alone
    structure = Structure(request().offers[0], Precision(), Parallelism(1, 1, 1, 1), Pools.DISAGGREGATED)
    made = grid(structure, request(max_devices=4))
    assert sorted(zip(made.prefill_replicas, made.replicas, strict=True)) == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (3, 1),
    ]
    assert set(made.max_sequence) == {64.0} and set(made.max_batch_token) == {512.0}
