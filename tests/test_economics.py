"""Money, energy and carbon: worked out by hand, against measured power, and laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import roofline
from roofline.economics import (
    Ownership,
    Rental,
    Site,
    allocated_share,
    device_power_w,
    token_cost,
    usd_per_device_hour,
    utilisation_of,
)
from tests.builders import device

OWN = Ownership(
    capital_usd=35040.0,
    residual_usd=0.0,
    life_s=4.0 * 8760.0 * 3600.0,
    hosting_usd_per_hour=0.5,
    usd_per_joule=0.1 / 3.6e6,
)


def test_owning_costs_depreciation_hosting_and_energy():
    # 35,040 USD over 4 x 8,760 h is 1 USD/h; 0.5 USD/h of hosting; 0.5 kW x PUE 1.2 x 0.1 USD/kWh is 0.06 USD/h.
    assert usd_per_device_hour(OWN, power_w=500.0, pue=1.2) == pytest.approx(1.56)
    # Half of the capital is left after those years: half of the depreciation.
    assert usd_per_device_hour(replace(OWN, residual_usd=17520.0), 500.0, 1.2) == pytest.approx(1.06)
    assert usd_per_device_hour(Rental(2.0), power_w=500.0, pue=1.2) == 2.0  # energy is in the rent


def test_power_is_a_line_from_idle_to_the_limit_and_the_limit_where_idle_is_unknown():
    assert device_power_w(device(idle_power_w=100.0), 0.25) == 150.0  # 100 + (300 - 100) / 4
    assert device_power_w(device(idle_power_w=None), 0.25) == 300.0
    assert utilisation_of(0.1, 0.7) == pytest.approx(0.8)
    assert utilisation_of(0.6, 0.7) == 1.0


def test_a_token_pays_for_the_seconds_in_which_it_is_made():
    # Two devices at 300 W and 3.6 USD/h make 1,000 tokens/s: 0.6 J and 2e-6 USD a token; 0.2 kg/kWh, PUE 1.5.
    site = Site(Rental(3.6), None, pue=1.5, carbon_kg_per_joule=0.2 / 3.6e6)
    cost = token_cost(device(), site, 2, utilisation=1.0, token_per_s=1000.0)
    assert cost.usd_per_mtok == pytest.approx(2.0)
    assert cost.joule_per_token == pytest.approx(0.9)  # 2 x 300 W x 1.5 / 1,000
    assert cost.carbon_kg_per_mtok == pytest.approx(0.9e6 * 0.2 / 3.6e6)
    unknown = token_cost(device(), Site(None, None), 2, 1.0, 1000.0)
    assert unknown.usd_per_mtok is None and unknown.carbon_kg_per_mtok is None and unknown.joule_per_token == 0.6


@given(st.floats(0.0, 1e3), st.floats(1e-3, 1e3))
def test_the_shares_of_a_bill_add_up(prefill_s, decode_s):
    read, written = allocated_share(prefill_s, decode_s)
    assert read + written == pytest.approx(1.0) and 0.0 <= read <= 1.0
    assert read * decode_s == pytest.approx(written * prefill_s)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(1.0, 3.0))
def test_more_work_and_a_worse_site_never_cost_less(low, high, pue):
    low, high = sorted((low, high))
    on = device(idle_power_w=100.0)
    idle, busy = (token_cost(on, Site(OWN, None, pue), 1, u, 100.0) for u in (low, high))
    assert idle.joule_per_token <= busy.joule_per_token and idle.usd_per_mtok <= busy.usd_per_mtok
    assert idle.power_w <= busy.power_w <= on.power_w
    assert token_cost(on, Site(OWN, None), 1, low, 100.0).usd_per_mtok <= idle.usd_per_mtok


@pytest.mark.parametrize(
    ("name", "model", "idle_w", "batch", "measured_w"),
    [
        # Mean power of vLLM, argonne-lcf/LLM-Inference-Bench, Plots/Fig_16_a/power_results.csv. Idle power of both is
        # that of the H200 (80.3 W, api.serialalice.pt, June 2026) in proportion to the limit: assumed.
        ("h100-sxm", "llama-3.1-8b", 80.3, 1, 414.0),
        ("h100-sxm", "llama-3.1-8b", 80.3, 64, 595.0),
        ("a100-sxm-80gb", "llama-2-7b", 80.3 * 400.0 / 700.0, 1, 233.0),
        ("a100-sxm-80gb", "llama-2-7b", 80.3 * 400.0 / 700.0, 64, 382.0),
    ],
)
def test_power_of_decode_is_within_a_fifth_of_what_was_measured(name, model, idle_w, batch, measured_w):
    found = roofline.predict(model, name, batch=batch, input=1024, output=1024).decode
    on = replace(roofline.load_device(name), idle_power_w=idle_w)
    power_w = device_power_w(on, utilisation_of(found.mfu, found.mbu))
    assert power_w == pytest.approx(measured_w, rel=0.2)


def test_a_prediction_reports_cost_of_both_phases_from_the_same_site():
    found = roofline.predict("llama-3.1-8b", "h100-sxm:2", prices="aws-2026-07", pue=1.2, grid=400)
    hourly = 2 * 55.04 / 8
    assert found.output_cost.usd_per_mtok == pytest.approx(hourly / 3600 * found.tpot_s / 32 * 1e6)
    assert found.input_cost.usd_per_mtok == pytest.approx(hourly / 3600 * found.ttft_s / (32 * 2048) * 1e6)
    assert found.input_cost.carbon_kg_per_mtok == pytest.approx(found.input_cost.joule_per_token * 1e6 * 0.4 / 3.6e6)
    assert found.output_cost.joule_per_token == pytest.approx(2 * 700 * 1.2 * found.tpot_s / 32)
    assert roofline.predict("llama-3.1-8b", "mi210").output_cost.usd_per_mtok is None  # its profile states no price
