"""The index of validated profiles: up to date, exact, and never in the way of a profile that was edited."""

import json

import pytest

from roofline.errors import RooflineError
from roofline.io import device_index
from roofline.io.device_index import INDEX, build_index, indexed_entry
from roofline.io.profiles import load_device, load_profile, load_target, profile_names, profile_path, target_of


def test_index_is_up_to_date():
    assert INDEX.read_text("utf-8") == build_index(), "run: python -m roofline.io.device_index"


@pytest.mark.parametrize("name", profile_names())
def test_indexed_device_is_the_validated_one(name):
    target = load_target(name)
    assert indexed_entry(target.device.digest) is not None
    assert target == target_of(load_profile(name), target.device.digest)


def test_edited_profile_is_validated(tmp_path):
    copy = tmp_path / "h100-sxm.toml"
    copy.write_text(
        profile_path("h100-sxm").read_text("utf-8").replace('printed = "3350 GB/s"', 'printed = "335 GB/s"')
    )
    with pytest.raises(RooflineError, match="335 GB/s"):
        load_device(copy)


def test_without_an_index_profiles_still_load(monkeypatch, tmp_path):
    expected = load_device("h100-sxm")
    monkeypatch.setattr(device_index, "INDEX", tmp_path / "none.json")
    device_index._index.cache_clear()
    try:
        assert load_device("h100-sxm") == expected
    finally:
        device_index._index.cache_clear()


def test_index_holds_no_other_numbers():
    assert len(json.loads(INDEX.read_text("utf-8"))) == len(profile_names())
