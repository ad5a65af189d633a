"""The shipped profiles, already validated: their numbers by the digest of their bytes. A start needs no pydantic.

A profile whose digest is here has passed the schema; any other file (a user's own, or a shipped one that was edited) is
validated when it is read. Made by `python -m roofline.io.device_index`; a test fails where the index is out of date.
"""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from ..device import Cpu, Dataflow, Device, Efficiency, Gpu, Link, MemoryLevel, Structure, Systolic
from ..structs import Dtype

INDEX = Path(__file__).parent.parent / "data" / "devices.json"

_STRUCTURES: dict[str, type[Structure]] = {kind.__name__: kind for kind in (Gpu, Systolic, Dataflow, Cpu)}


@cache
def _index() -> dict[str, Any]:
    try:
        return dict(json.loads(INDEX.read_text("utf-8")))
    except FileNotFoundError:
        return {}


def indexed_entry(digest: str) -> dict[str, Any] | None:
    """What the index has of the profile with this digest, the fields of a Target; None where it has nothing."""
    entry: dict[str, Any] | None = _index().get(digest)
    return entry


def device_table(device: Device) -> dict[str, Any]:
    """`device` as plain JSON values; `device_from` turns it back."""
    return asdict(device) | {"structure": {"kind": type(device.structure).__name__, **asdict(device.structure)}}


def device_from(table: dict[str, Any]) -> Device:
    """The Device that device_table was made from."""
    structure = dict(table["structure"])
    kind = _STRUCTURES[structure.pop("kind")]
    return Device(
        **table
        | {
            "structure": kind(**structure),
            "matrix_flop_per_s": {Dtype(name): rate for name, rate in table["matrix_flop_per_s"].items()},
            "upcast": {Dtype(narrow): Dtype(wide) for narrow, wide in table["upcast"].items()},
            "on_chip": table["on_chip"] and MemoryLevel(**table["on_chip"]),
            "last_level_cache": table["last_level_cache"] and MemoryLevel(**table["last_level_cache"]),
            "dram": MemoryLevel(**table["dram"]),
            "intra_node": table["intra_node"] and Link(**table["intra_node"]),
            "inter_node": table["inter_node"] and Link(**table["inter_node"]),
            "efficiency": Efficiency(**table["efficiency"]),
            "assumptions": tuple(table["assumptions"]),
        }
    )


def build_index() -> str:
    """The text of the index: every shipped profile, read and validated."""
    from .profiles import load_profile, profile_digest, profile_names, profile_path, target_of

    table = {}
    for name in profile_names():
        digest = profile_digest(profile_path(name).read_bytes())
        target = target_of(load_profile(name), digest)
        table[digest] = {
            "device": device_table(target.device),
            "calibration": target.calibration,
            "like": target.like,
            "kernels": target.kernels,
        }
    return json.dumps(table, indent=1, sort_keys=True) + "\n"  # inf is a value of kernel facts


if __name__ == "__main__":
    from .files import write_text

    write_text(INDEX, build_index())
