"""Parts of a difference add up to it, and name the reason that was built in."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import roofline
from roofline.api import case_of
from roofline.device import Gpu
from roofline.difference.drivers import changed_inputs, drivers
from roofline.difference.parts import CAUSES, kernel_changes, logarithmic_mean, of_product
from roofline.difference.record import difference_record
from roofline.economics import Rental, Site
from roofline.errors import RooflineError
from roofline.io.calibration import uncalibrated
from roofline.outcome import Case
from roofline.prediction import predict_case
from roofline.report.record import prediction_record
from roofline.sensitivity.figures import static_figures
from roofline.workload import Parallelism
from tests.builders import device, model, scenario

positive = st.floats(1e-9, 1e9)


def kernel(
    name="k", bound="memory", count=10.0, total_s=2e-3, overhead_s=1e-3, roofline_s=5e-4, byte=5e8, flop=1e9, **more
):
    return {
        "name": name,
        "kind": "gemm",
        "bound": bound,
        "count": count,
        "total_s": total_s,
        "overhead_s": overhead_s,
        "roofline_s": roofline_s,
        "read_byte": byte,
        "write_byte": 0.0,
        "flop": flop,
        "link_byte": 0.0,
        **more,
    }


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=4))
def test_parts_of_a_product_sum_to_its_difference(pairs):
    before, after = ({str(i): pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    whole = [1.0, 1.0]
    for pair in pairs:
        whole = [whole[0] * pair[0], whole[1] * pair[1]]
    parts = of_product(before, after)
    assert sum(parts.values()) == pytest.approx(whole[1] - whole[0], rel=1e-9, abs=1e-9 * max(whole))
    back = of_product(after, before)
    assert all(back[name] == pytest.approx(-part, rel=1e-9, abs=1e-9 * max(whole)) for name, part in parts.items())


def test_the_logarithmic_mean_lies_between_and_has_its_limit():
    assert logarithmic_mean(1.0, 2.718281828459045) == pytest.approx(1.718281828459045)
    assert logarithmic_mean(3.0, 3.0) == 3.0


def maybe(largest):
    return st.just(0.0) | st.floats(1e-9, largest)


rows = st.builds(
    kernel,
    name=st.sampled_from(["a", "b", "c"]),
    bound=st.sampled_from(["compute", "memory", "link", "overhead"]),
    count=st.floats(0.5, 100.0),
    total_s=st.floats(1e-6, 1.0),
    overhead_s=maybe(1.0),
    roofline_s=maybe(1.0),
    byte=maybe(1e12),
    flop=maybe(1e15),
)


@given(st.lists(rows, max_size=6), st.lists(rows, max_size=6))
def test_causes_of_any_two_phases_sum_to_their_difference(before, after):
    changes = kernel_changes(before, after)
    whole = sum(row["count"] * row["total_s"] for row in after) - sum(row["count"] * row["total_s"] for row in before)
    scale = max(1.0, *(row["count"] * row["total_s"] for row in (*before, *after))) if before or after else 1.0
    assert sum(change.difference_s for change in changes) == pytest.approx(whole, abs=1e-9 * scale)
    for change in changes:
        assert set(change.causes) == set(CAUSES)
        assert sum(change.causes.values()) == pytest.approx(change.difference_s, abs=1e-9 * scale)


@pytest.mark.parametrize(
    ("cause", "after"),
    [
        ("count", {"count": 20.0}),
        # 1 ms of 2 is busy, twice the 0.5 ms of the roofline: twice the bytes at the same rate and efficiency take 2 ms
        ("work", {"byte": 1e9, "roofline_s": 1e-3, "total_s": 3e-3}),
        ("datasheet_rate", {"roofline_s": 2.5e-4, "total_s": 1.5e-3}),
        ("efficiency", {"total_s": 1.6e-3}),
        ("overhead", {"overhead_s": 5e-4, "total_s": 1.5e-3}),
        ("bound", {"bound": "compute", "total_s": 1.7e-3}),
    ],
)
def test_a_single_reason_gets_all_of_the_difference(cause, after):
    (change,) = kernel_changes([kernel()], [kernel(**after)])
    assert change.difference_s != 0.0
    for name, part in change.causes.items():
        assert part == pytest.approx(change.difference_s if name == cause else 0.0, abs=1e-12)


def test_kernels_that_one_side_lacks_appear_and_disappear():
    changes = {change.name: change for change in kernel_changes([kernel("old")], [kernel("new", count=1.0)])}
    assert changes["old"].causes["disappears"] == pytest.approx(-0.02) and changes["old"].after_s is None
    assert changes["new"].causes["appears"] == pytest.approx(0.002) and changes["new"].before_bound is None


def made(**changes):
    on = device(Gpu(), **changes.pop("on", {}))
    return Case(model(), on, uncalibrated(), scenario(**changes), Site(Rental(3.6), None))


def record_of(case):
    return json.loads(json.dumps(prediction_record(predict_case(case))))


def test_twice_the_bandwidth_is_told_as_a_datasheet_rate():
    dram = device().dram
    fast = made(on={"dram": replace(dram, bandwidth_byte_per_s=2e12), "digest": "fast"}, batch=1.0)
    found = difference_record(record_of(made(batch=1.0)), record_of(fast))
    decode = found["phases"]["decode"]
    assert decode["causes"]["datasheet_rate"] == pytest.approx(decode["difference_s"], rel=1e-6)
    assert {"roofs.dram_byte_per_s", "provenance.profile_digest"} == {entry["name"] for entry in found["inputs"]}


@pytest.mark.parametrize("spread", [Parallelism(), Parallelism(tp=2), Parallelism(pp=2)])
def test_kernels_and_the_rest_sum_to_the_figures(spread):
    found = difference_record(record_of(made()), record_of(made(batch=32.0, parallelism=spread)))
    figures = {figure["key"]: figure["difference"] for figure in found["figures"]}
    for phase, key in (("prefill", "ttft_s"), ("decode", "tpot_s")):
        part = found["phases"][phase]
        kernels = sum(kernel["difference_s"] for kernel in part["kernels"])
        assert kernels + part["other_s"] == pytest.approx(figures[key], rel=1e-12)
        assert sum(part["causes"].values()) == pytest.approx(kernels, rel=1e-9)
        assert sum(part["terms"].values()) == pytest.approx(kernels, rel=1e-9)
        if spread.pp == 1:
            assert part["other_s"] == pytest.approx(0.0, abs=1e-15)


def test_drivers_sum_to_each_figures_difference_and_turn_round():
    before, after = case_of("llama-3.1-8b", "h100-sxm"), case_of("llama-3.1-8b", "h200-sxm:2", batch=64, kv="fp8")
    there, back = drivers(before, after), drivers(after, before)
    sides = [static_figures(case).figures for case in (before, after)]
    assert set(there["ttft_s"]) == {"device", "calibration", "batch", "kv", "parallelism", "price"}
    for key, shares in there.items():
        assert sum(shares.values()) == pytest.approx(float(sides[1][key] - sides[0][key]), rel=1e-9)
        for name, share in shares.items():
            assert back[key][name] == pytest.approx(-share, rel=1e-9, abs=1e-12)


def test_the_only_changed_input_is_the_only_driver():
    before, after = case_of("llama-3.1-8b", "h100-sxm"), case_of("llama-3.1-8b", "h100-sxm", prices="azure-2026-06")
    shares = drivers(before, after)
    assert shares["usd_per_mtok_output"] == {
        "price": pytest.approx(
            (12.29 - 6.88) / 3600 / roofline.predict("llama-3.1-8b", "h100-sxm").output_token_per_s * 1e6
        )
    }
    assert shares["tpot_s"] == {"price": 0.0}
    assert drivers(before, before) == {key: {} for key in shares}


def test_a_device_of_another_structure_brings_its_calibration():
    names = [
        entry.name for entry in changed_inputs(case_of("llama-3.1-8b", "h100-sxm"), case_of("llama-3.1-8b", "tpu-v6e"))
    ]
    assert names == ["device", "price"]


PLAN = {
    "n_devices": 4,
    "usd_per_hour": 16.0,
    "output_token_per_s": 1000.0,
    "ttft_s": {"at_percentile": 0.4},
    "device": "x",
}


def plans(*found):
    return {"schema": "roofline.plan/1", "model": "m", "device": "d", "request": {"ttft_s": 0.5}, "plans": list(found)}


def test_the_bill_of_plans_is_devices_times_price():
    # 4 x 4 USD/h to 8 x 2 USD/h: the bill stays, the two parts cancel; L(16, 16) ln 2 = 11.09.
    found = difference_record(plans(PLAN), plans(PLAN | {"n_devices": 8}))
    parts = {part["cause"]: part["difference"] for part in found["plan"]["usd_per_hour"]}
    assert parts == {
        "n_devices": pytest.approx(11.0904, abs=1e-4),
        "usd_per_device_hour": pytest.approx(-11.0904, abs=1e-4),
    }
    unknown = difference_record(plans(PLAN), plans(PLAN | {"usd_per_hour": None}))
    assert unknown["plan"]["usd_per_hour"] is None


GOOD = record_of(made())


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (GOOD, plans(PLAN), "cannot be compared"),
        (GOOD, {"schema": "roofline.validation/1"}, r"B is 'roofline.validation/1'. Accepted"),
        ({}, GOOD, "A is None"),
        (plans(), plans(PLAN), "A has no feasible plan"),
        (plans(PLAN), plans(PLAN | {"n_devices": "four"}), r"plans\[0\].n_devices"),
        (GOOD, GOOD | {"phases": []}, "B: phases is missing"),
        (GOOD, GOOD | {"phases": {"prefill": {"kernels": [{"name": "x"}]}}}, "bound of compute"),
        (
            GOOD,
            GOOD | {"phases": {"prefill": {"kernels": [kernel() | {"total_s": float("nan")}]}}},
            "prefill.k.total_s",
        ),
        (GOOD, GOOD | {"ttft_s": -1.0}, "ttft_s"),
        (GOOD, GOOD | {"model": None}, "model"),
    ],
)
def test_what_cannot_be_compared_is_named(before, after, said):
    with pytest.raises(RooflineError, match=said):
        difference_record(before, after)
