"""The search as a whole: the same wherever it runs, counted truthfully, bounded, and what it says when nothing fits."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roofline.device import MemoryLevel
from roofline.errors import RooflineError
from roofline.planning import search as searching
from roofline.planning.answer import answer
from roofline.planning.relax import best_plans, rounded_up
from roofline.planning.request import Rank, Reason, ServiceLevel
from roofline.planning.rows import COLUMNS
from roofline.planning.search import search, tasks
from roofline.planning.space import grid_size, structures
from roofline.planning.worker import Worker
from roofline.serving.engine import PrefillFirst
from roofline.structs import Dtype
from roofline.workload import Precision

from ..builders import MIXTURE, model
from .made import ENGINE, offer, request


def same(one, other):
    """Whether two searches found the same, number by number."""
    assert one.structures == other.structures or len(one.structures) == len(other.structures)
    for first, second in zip(one.verdicts, other.verdicts, strict=True):
        assert (first.evaluated, first.pruned, first.counts) == (second.evaluated, second.pruned, second.counts)
        assert {reason: miss.ratio for reason, miss in first.misses.items()} == {
            reason: miss.ratio for reason, miss in second.misses.items()
        }
        for part in ("best", "points"):
            for name in COLUMNS:
                np.testing.assert_array_equal(getattr(getattr(first, part), name), getattr(getattr(second, part), name))


def test_every_candidate_is_counted_once():
    asked = request(max_devices=8, rates=(50.0, 2000.0))
    found = search(asked)
    assert found.evaluated + found.pruned == sum(grid_size(structure, asked) for structure in structures(asked)[0])
    assert found.pruned == sum(
        count for verdict in found.verdicts for reason, count in verdict.counts.items() if "floor" in reason
    )


def test_progress_ends_at_everything():
    seen = []
    found = search(request(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (found.evaluated + found.pruned,) * 2


def test_tasks_hold_every_structure_once_in_order(monkeypatch):
    monkeypatch.setattr(searching, "TASK", 10)
    asked = request(max_devices=8)
    members = structures(asked)[0]
    batches = list(tasks(members, asked))
    assert len(batches) > 2
    assert [structure for _, part in batches for structure in part] == list(members)
    assert [first for first, _ in batches] == np.cumsum([0, *(len(part) for _, part in batches)])[:-1].tolist()


def test_processes_find_the_same(monkeypatch):
    asked = request(max_devices=8)
    here = search(asked)
    monkeypatch.setattr(searching, "ALONE", 0)
    monkeypatch.setattr(searching, "TASK", 20)
    monkeypatch.setattr(searching.os, "cpu_count", lambda: 2)
    same(here, search(asked))


def test_a_script_without_a_guard_searches_in_processes(tmp_path):
    script = tmp_path / "plain.py"
    script.write_text(
        "from roofline.planning import search\n"
        "from tests.planning.made import request\n"
        "search.ALONE, search.TASK, search.os.cpu_count = 0, 20, lambda: 2\n"
        "print(search.search(request(max_devices=8)).evaluated)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert (done.stdout, done.stderr) == (f"{search(request(max_devices=8)).evaluated}\n", "")


def test_a_worker_that_dies_is_an_error():
    worker = Worker(request())
    worker.close()
    with pytest.raises((RuntimeError, OSError, ValueError)):
        worker.run((0, ()))


def test_a_dask_cluster_finds_the_same(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(searching, "TASK", 20)
    asked = request(max_devices=8, offers=(offer(), offer(7.2, name="other")))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        same(search(asked), search(asked, cluster=cluster.scheduler_address))


def test_no_scheduler_is_a_clear_error(monkeypatch):
    pytest.importorskip("distributed")
    from roofline.planning import cluster

    monkeypatch.setattr(cluster, "WAIT_S", "1s")
    with pytest.raises(RooflineError, match=r"cluster: no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        search(request(), cluster="tcp://127.0.0.1:9")


def test_ten_million_candidates_are_refused_with_the_number():
    huge = request(max_devices=20_000, max_sequences=tuple(range(1, 100)))
    with pytest.raises(RooflineError, match=r"candidates: [0-9,]{10,} are more than the 5,000,000 .* --cluster"):
        search(huge)


def test_replicas_are_what_the_work_needs_by_hand():
    # two devices of the same prices, one twice as fast in everything: never more of the fast ones
    fast = offer(
        name="fast",
        dram=MemoryLevel(16e9, 2e12),
        matrix_flop_per_s={dtype: 2.0 * rate for dtype, rate in offer().device.matrix_flop_per_s.items()},
        vector_flop_per_s=20e12,
    )
    asked = request(rates=(10_000.0,), max_devices=16, offers=(offer(), fast))
    best = {found.structures[int(i)].offer.device.name: n for found in (search(asked),) for i, n in _single(found)}
    assert best["fast"] <= best["test-device"]
    assert best["test-device"] >= 2  # one alone saturates below 10,000 requests/s


def _single(found):
    rows = best_plans(found)
    for i in range(rows.size):
        if found.structures[int(rows.structure[i])].size == 1:
            yield rows.structure[i], float(rows.n_devices[i])


def test_cheapest_first():
    found = search(request(offers=(offer(7.2, name="dear"), offer(3.6)), max_devices=2))
    rows = best_plans(found)
    assert np.all(np.diff(rows.usd_per_hour) >= 0.0)
    assert found.structures[int(rows.structure[0])].offer.device.name == "test-device"


@pytest.mark.parametrize(("rank", "column"), [(Rank.DEVICES, "n_devices"), (Rank.ENERGY, "joule_per_token")])
def test_other_rankings(rank, column):
    rows = best_plans(search(request(rank=rank)))
    assert rows.size > 1
    assert np.all(np.diff(getattr(rows, column)) >= -1e-12)


def test_a_price_is_needed_only_to_rank_by_money():
    with pytest.raises(RooflineError, match="price: no price of test-device is known"):
        search(request(offers=(offer(None),)))
    told = answer(request(offers=(offer(None),), rank=Rank.DEVICES))
    assert told.plans[0].usd_per_hour is None
    assert told.plans[0].usd_per_mtok_output is None


def test_every_engine_schedule_and_mixtures_of_experts():
    asked = request(model=model(MIXTURE), engine=replace(ENGINE, schedule=PrefillFirst()), max_devices=2)
    found = answer(asked)
    assert found.plans
    assert any(plan.structure.split.ep == 2 for plan in answer(replace(asked, top=100)).plans)


# what would make it feasible


def test_the_relaxed_service_level_is_feasible_and_a_little_less_is_not():
    asked = request(level=ServiceLevel(0.1, 0.00018, 95.0), max_devices=2)
    told = answer(asked)
    assert not told.plans and told.reason is Reason.TPOT
    change, plan = told.changes[0]
    assert change.change == "tpot_s"
    needed = float(change.after)
    assert plan.row.tpot_s[0] <= needed
    assert answer(replace(asked, level=ServiceLevel(0.1, needed, 95.0))).plans
    assert not answer(replace(asked, level=ServiceLevel(0.1, needed * 0.99, 95.0))).plans


def test_the_relaxed_number_of_devices_is_the_smallest():
    asked = request(rates=(10_000.0,), max_devices=2)
    told = answer(asked)
    assert told.reason is Reason.RATE
    changes = {change.change: change for change, _ in told.changes}
    needed = int(changes["max_devices"].after)
    assert answer(replace(asked, max_devices=needed)).plans
    assert not answer(replace(asked, max_devices=needed - 1)).plans
    served = float(changes["request_per_s"].after)
    assert answer(replace(asked, rates=(served,))).plans
    assert not answer(replace(asked, rates=(served * 1.02,))).plans


def test_both_levels_are_relaxed_where_neither_alone_is_enough():
    told = answer(request(level=ServiceLevel(0.0003, 0.00018, 95.0), max_devices=1))
    both = [change for change, _ in told.changes if change.change == "ttft_s and tpot_s"]
    assert both and both[0].factor > 1.0


def test_narrower_formats_are_found_where_memory_binds():
    # 0.9 of 1.1328 GB less 1 GB of reserve leaves 19.5 MB. Activations of 2048 tokens take 11.6 MB, weights 9.7 MB in
    # bf16 and 5 MB in fp8
    wide = model(hidden=1024.0, vocabulary=64.0)
    small = offer(dram=MemoryLevel(1.13278e9, 1e12), intra_node=None, inter_node=None)
    narrow = replace(small, precisions=(Precision(), Precision(weights=Dtype.FP8, experts=Dtype.FP8, kv=Dtype.FP8)))
    asked = request(model=wide, offers=(small,), max_batch_tokens=(2048,))
    told = answer(asked, replace(asked, offers=(narrow,)))
    assert not told.plans
    assert [change.change for change, _ in told.changes] == ["precision"]
    assert told.reason is Reason.MEMORY


def test_levels_below_physics_name_the_floor():
    told = answer(request(level=ServiceLevel(0.1, 1e-7, 95.0)))
    assert told.lowest is not None and told.lowest.tpot_s > 1e-7
    assert set().union(*(verdict.counts for verdict in told.found.verdicts)) == {Reason.TPOT_FLOOR}


def test_numbers_are_rounded_up_so_that_asking_again_is_feasible():
    assert rounded_up(0.12341) == 0.124
    assert rounded_up(0.123) == 0.123
    assert rounded_up(1999.1) == 2000.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rates": (0.0,)}, "rate: 0.0"),
        ({"rates": (-1.0,)}, "rate: -1.0"),
        ({"rates": (float("nan"),)}, "rate: nan"),
        ({"level": ServiceLevel(0.0, 0.01, 95.0)}, "ttft: 0.0"),
        ({"level": ServiceLevel(0.1, -0.01, 95.0)}, "tpot: -0.01"),
        ({"level": ServiceLevel(0.1, 0.01, 100.0)}, "percentile: 100.0"),
        ({"max_devices": 0}, "max-devices"),
        ({"top": 0}, "top"),
        ({"max_sequences": ()}, "max-sequences"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(change, said):
    with pytest.raises(RooflineError, match=said):
        search(request(**change))


def test_the_cheapest_sure_plan_is_named_and_is_what_a_sure_search_finds():
    # steps three times slower at the slow end: one device that serves the rate at 60 % as predicted would saturate
    wide = replace(ENGINE, tpot_band=replace(ENGINE.tpot_band, high=3.0))
    level = ServiceLevel(1.0, 0.1, 95.0)
    rate = 0.6 * _saturation(request(engine=wide, level=level))
    asked = request(engine=wide, level=level, rates=(rate,), max_devices=4)
    usual, sure = answer(asked), answer(replace(asked, sure=True))
    best = usual.plans[0]
    assert best.row.n_devices == 1.0 and not best.robust
    assert usual.sure is not None and usual.sure.robust
    assert sure.plans[0].robust and all(plan.robust for plan in sure.plans)
    assert usual.sure.row.n_devices == sure.plans[0].row.n_devices == 2.0  # 0.6 * 3 / 2 < 1 < 0.6 * 3
    held = sure.plans[0]
    assert held.ttft_ends[1] == pytest.approx(held.row.held_ttft_s[0])
    assert held.tpot_ends[1] == pytest.approx(held.row.held_tpot_s[0])


def _saturation(asked):
    (best,) = answer(replace(asked, max_devices=1)).plans
    return float(best.state.saturation_request_per_s[0])


def test_a_sure_relaxation_is_feasible_when_asked_for_again():
    wide = replace(ENGINE, tpot_band=replace(ENGINE.tpot_band, high=3.0))
    usual = answer(request(engine=wide)).plans[0]
    level = ServiceLevel(float(usual.row.ttft_s[0]) * 1.05, 0.01, 95.0)
    asked = request(engine=wide, level=level, sure=True, max_devices=1)
    told = answer(asked)
    assert not told.plans
    change = next(change for change, _ in told.changes if change.change == "ttft_s")
    again = replace(asked, level=replace(level, ttft_s=change.after))
    assert answer(again).plans[0].robust
