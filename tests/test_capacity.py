"""What would make a deployment fit."""

import re
from dataclasses import replace

import pytest

import roofline
from roofline.capacity import capacity
from roofline.device import Link
from roofline.errors import InfeasibleError
from tests.builders import MIXTURE, device, model, scenario

NODE = Link(100e9, 4.0, 1e-6)


def changes(dram_byte, **links):
    """Texts of what makes the small mixture fit into `dram_byte`."""
    on = device(dram=replace(device().dram, capacity_byte=dram_byte), **links)
    return {change.text: change for change in capacity(model(*(MIXTURE,) * 8), on, scenario()).changes}


def test_changes_need_no_more_devices_than_links_reach():
    """6.9 MB in all: devices of 1.8 MB hold it eight at a time, where links reach so many."""
    assert max(change.device_count for change in changes(1.8e6).values()) >= 8
    inside = changes(2e6, intra_node=NODE, inter_node=None)
    assert inside and max(change.device_count for change in inside.values()) <= 4
    assert changes(2e6, intra_node=None, inter_node=None) == {}


def test_two_changes_are_named_where_one_is_not_enough():
    """Four devices of 2 MB do not hold it in bf16; with narrower weights they do."""
    both = changes(2e6, intra_node=NODE, inter_node=None)
    assert "weights in fp8 (--weights fp8) and tensor parallelism 4 (--tp 4)" in both
    assert "weights in int4 (--weights int4)" in changes(4e6, intra_node=NODE, inter_node=None)


@pytest.mark.parametrize("name", ["l4", "h100-nvl", "v100-sxm2-32gb", "epyc-7763"])
def test_split_beyond_the_links_of_a_profile_is_refused(name):
    """No link stands in for one that the profile does not state."""
    with pytest.raises(InfeasibleError, match="link"):
        roofline.predict("llama-2-7b", name, tp=32, input=64, output=8)


@pytest.mark.parametrize("name", ["l4", "h100-nvl", "fpga-v80", "a100-sxm-40gb"])
def test_every_change_can_be_typed_and_then_it_fits(name):
    settings = {"batch": 16, "input": 1024, "output": 64}
    found = roofline.predict("mixtral-8x7b", name, **settings).capacity.changes
    assert found
    for change in found:
        flags = re.findall(r"--(\w+) (\w+)", change.text)
        typed = {key: int(value) if value.isdigit() else value for key, value in flags}
        assert roofline.predict("mixtral-8x7b", name, **settings | typed).capacity.fits, change.text
