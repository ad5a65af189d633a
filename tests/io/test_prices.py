"""Price files: what ships, what they refuse, and that a price nobody stated is an error or unknown."""

import re

import pytest

from roofline.cli.app import run
from roofline.economics import Ownership, Rental, usd_per_device_hour
from roofline.errors import RooflineError
from roofline.io.prices import load_prices, load_site, price_names
from roofline.io.profiles import load_device, load_profile, profile_names

H100 = load_device("h100-sxm")

MINE = """
schema = "roofline.prices/1"
name = "mine"
title = "Mine"
seller = "me"
date = 2026-11-01
[on_demand]
h100-sxm = { printed = "3 USD/h", kind = "assumed", source = "me" }
[reserved]
h100-sxm = { printed = "2 USD/h", kind = "assumed", source = "me" }
[sources]
me = "a letter"
"""


@pytest.mark.parametrize("name", price_names())
def test_shipped_price_files_name_themselves_and_price_known_devices(name):
    file = load_prices(name)
    assert file.name == name and (str(file.date.year) in name or file.own)
    assert set(file.on_demand) | set(file.reserved) | set(file.own) <= set(profile_names())


def test_a_profile_and_the_file_that_it_was_taken_from_agree():
    # The profiles' on-demand prices are those of one of the shipped files, rounded to a tenth of a cent.
    files = [load_prices(name) for name in price_names()]
    for name in profile_names():
        price = load_profile(name).price
        if price is not None and name != "trainium2":
            offered = [file.on_demand[name].value for file in files if name in file.on_demand]
            assert any(abs(value - price.on_demand.value) < 1e-3 for value in offered), name


def test_providers_are_kept_apart():
    prices = {name: load_site(H100, name).tariff for name in ("aws-2026-07", "azure-2026-06", "coreweave-2024-02")}
    assert prices == {
        "aws-2026-07": Rental(55.04 / 8),
        "azure-2026-06": Rental(98.32 / 8),
        "coreweave-2024-02": Rental(4.25),
    }
    assert load_site(H100).tariff == Rental(H100.price_usd_per_hour)


def test_owning_a_dgx_by_hand():
    # 270,000 / 8 over 4 x 8,760 h: 0.9632; 10.2 kW x 200 USD / 730 h / 8: 0.3493; 0.5 kW x 1.3 x 0.09: 0.0585 USD/h.
    site = load_site(H100, "own-dgx-h100")
    assert isinstance(site.tariff, Ownership) and site.pue == 1.3
    assert usd_per_device_hour(site.tariff, 500.0, site.pue) == pytest.approx(0.9632 + 0.3493 + 0.0585, abs=1e-4)
    assert load_site(H100, "own-dgx-h100", pue="1.1").pue == 1.1


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    assert load_site(H100, str(path)).tariff == Rental(3.0)
    site = load_site(H100, str(path), "reserved")
    assert site.tariff == Rental(2.0)
    assert (site.citation.seller, site.citation.kind, site.citation.date) == ("me", "reserved", "2026-11-01")


def test_grids_are_numbers_or_names():
    assert load_site(H100, grid="360").carbon_kg_per_joule == pytest.approx(1e-7)
    named = load_site(H100, grid="us-virginia")
    assert named.carbon_kg_per_joule == pytest.approx(0.3678 / 3.6e6) and "eGRID" in named.grid_source


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prices": "aws-2026-7"}, "Did you mean 'aws-2026-07'"),
        ({"prices": "gcp-tpu-2024-12"}, "no on-demand price of h100-sxm.*tpu-v5e"),
        ({"prices": "aws-2026-07", "price_kind": "reserved"}, "--price-kind on-demand"),
        ({"price_kind": "own"}, "Give --prices"),
        ({"price_kind": "spot"}, "Accepted: on-demand, own, reserved"),
        ({"prices": "missing.toml"}, "cannot read"),
        ({"pue": "0.9"}, "from 1 to 10"),
        ({"pue": "nan"}, "from 1 to 10"),
        ({"grid": "us-virgina"}, "Did you mean 'us-virginia'"),
        ({"grid": "-5"}, "from 0 to 5000"),
    ],
)
def test_what_is_not_known_is_an_error_that_says_what_is(arguments, said):
    with pytest.raises(RooflineError, match=said):
        load_site(H100, **arguments)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"3 USD/h"', '"3 GB/s"', "accepted: USD/h"),
        ('"3 USD/h"', '"1 USD/h - 3 USD/h"', "negative"),
        ('source = "me"', 'source = "him"', "not in .sources."),
        ("[reserved]", "[spot]", "unknown key"),
        ("date = 2026-11-01", "", "date: missing"),
        ("[on_demand]", "[on_demand", "not valid TOML"),
    ],
)
def test_a_broken_file_is_refused_with_its_field(tmp_path, old, new, said):
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace(old, new))
    with pytest.raises(RooflineError, match=said):
        load_site(H100, str(path))


def test_the_screen_names_the_seller_and_the_grid(capsys):
    assert run(["predict", "llama-3.1-8b", "h100-sxm", "--prices", "azure-2026-06", "--grid", "france"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"price on-demand, Azure eastus, 2026-06-18: 98.32 USD/h / 8", out)
    assert re.search(r"carbon .* g in, .* g out per million tokens \(PUE 1; france, 105 g/kWh\)", out)
