"""Which rows one fit explains: of one kernel and library, divided into those it sees and those that judge it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..errors import RooflineError
from ..io.records import DIMENSIONS, Family, Records, collapse
from ..structs import Array
from ..timing.calibration import Key, Parameters
from ..timing.direct_all_reduce import DirectParameters, own_limit_byte
from .candidates import candidates
from .models import key_of, parameters_time

FIT_ROWS = 3000
"""Most rows that a fit uses; more change no parameter by more than its uncertainty."""

PHYSICS_TOLERANCE = 0.02
"""How far below the physical limit a time may be before it is a defect: timers and clocks have this much play."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of several groups of records that one fit explains together."""

    groups: tuple[Records, ...]

    @property
    def measured_s(self) -> Array:
        """Measured seconds of all rows, group after group."""
        return np.concatenate([group.measured_s for group in self.groups])

    def take(self, rows: NDArray[np.intp]) -> "Rows":
        """The rows at these positions."""
        ends = np.cumsum([0, *(group.size for group in self.groups)])
        parts = [
            group.take(rows[(rows >= start) & (rows < end)] - start)
            for group, start, end in zip(self.groups, ends[:-1], ends[1:], strict=True)
        ]
        return Rows(tuple(part for part in parts if part.size))

    def times(self, device: Device, parameters: Parameters) -> tuple[Array, Array]:
        """Predicted seconds and the physical limit of every row."""
        found = [parameters_time(group, device, parameters) for group in self.groups]
        return np.concatenate([t.total_s for t in found]), np.concatenate([t.roofline_s for t in found])


def by_key(records: Iterable[Records]) -> dict[Key, tuple[Records, ...]]:
    """Records of single kernels by calibration key, in the order of the keys; whole layers, models and served
    ones have none.
    """
    keys: dict[Key, list[Records]] = {}
    for group in records:
        if group.family not in (Family.LAYER, Family.MODEL, Family.SERVING):
            keys.setdefault(key_of(group), []).append(group)
    return {key: tuple(groups) for key, groups in sorted(keys.items())}


def of_one_library(groups: Sequence[Records], backend: str | None) -> tuple[Records, ...]:
    """Of one key's `groups` those that one calibration can speak for: of `backend` where it has the key, else of the
    one with the most rows; of its latest release. Eager loops (a host's launch floor) are left out where there are
    graphs.
    """
    graphs = [group for group in groups if not np.any(group.loop.launch_floor_s)] or list(groups)
    names = {group.backend for group in graphs}
    rows = {name: sum(group.size for group in graphs if group.backend == name) for name in names}
    name = backend if backend in names else max(sorted(rows), key=rows.__getitem__)
    release = max((group.version for group in graphs if group.backend == name), key=_release)
    return tuple(group for group in graphs if group.backend == name and group.version == release)


def grouped(records: Iterable[Records], backend: str | None) -> dict[Key, tuple[Records, ...]]:
    """Records by calibration key, of one backend and release each (of_one_library), a row per distinct shape."""
    return {
        key: tuple(part for group in of_one_library(groups, backend) for part in by_routing(collapse(group)[0]))
        for key, groups in by_key(records).items()
    }


def _release(version: str) -> tuple[tuple[int, str], ...]:
    """Releases in their order: 0.9 before 0.14."""
    return tuple((int("0" + "".join(filter(str.isdigit, part))), part) for part in version.split("."))


def by_routing(group: Records) -> tuple[Records, ...]:
    """One group per way of routing: a model takes one at a time."""
    if group.family is not Family.MOE:
        return (group,)
    exponents = group.dims["routing_exponent"]
    return tuple(group.take(exponents == value) for value in sorted(set(exponents.tolist())))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Positions among the rows of several groups: `fitted`; `spare`, which only the band is made of; `unseen`, which
    judge; and `excluded`, faster than physics. Together they are all rows.
    """

    fitted: NDArray[np.intp]
    spare: NDArray[np.intp]
    unseen: NDArray[np.intp]
    excluded: NDArray[np.intp]


def check_fit_fraction(fit_fraction: float) -> None:
    """Errors: RooflineError for a share outside (0, 1)."""
    if not 0.0 < fit_fraction < 1.0:
        raise RooflineError(f"fit-fraction: {fit_fraction} is not accepted. Accepted: between 0 and 1, e.g. 0.5.")


def split(groups: Sequence[Records], device: Device, *, fit_fraction: float, seed: int) -> Split:
    """How a calibration with this fraction and seed divides the rows of `groups`.

    Errors: RooflineError where all rows are faster than physics.
    """
    rows = Rows(tuple(groups))
    limit_s = rows.times(device, candidates(groups[0], device)[0].prior)[1]
    possible = rows.measured_s >= limit_s * (1.0 - PHYSICS_TOLERANCE)
    if not possible.any():
        raise RooflineError(f"records: all {limit_s.size} rows of {groups[0].name} are faster than physics allows.")
    order = np.random.default_rng(seed).permutation(np.flatnonzero(possible))
    rank = _appearance(shapes_of(groups)[order])  # a shape is fitted or judged, in whichever steps it was measured
    order, rank = order[np.argsort(rank, kind="stable")], np.sort(rank)
    seen, unseen = np.split(order, [np.searchsorted(rank, max(round(fit_fraction * (rank[-1] + 1)), 1))])
    return Split(seen[:FIT_ROWS], seen[FIT_ROWS:], unseen, np.flatnonzero(~possible))


def shapes_of(groups: Sequence[Records]) -> NDArray[np.intp]:
    """For every row of `groups`, all of one family, the index of its shape."""
    names = DIMENSIONS[groups[0].family]
    table = np.stack([np.concatenate([group.dims[name] for group in groups]) for name in names], axis=1)
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)


def _appearance(index: NDArray[np.intp]) -> NDArray[np.intp]:
    """`index` renumbered from 0 by where each value comes first."""
    _, first, inverse = np.unique(index, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def digest_of(groups: Iterable[Records]) -> str:
    """Twelve hexadecimal digits that tell the files of `groups` from others."""
    return sha256("".join(sorted({group.digest for group in groups})).encode()).hexdigest()[:12]


def directly_served(group: Records, parameters: DirectParameters) -> NDArray[np.bool_]:
    """Which rows an engine's own kernels serve; larger payloads go to NCCL and fit nothing of them."""
    small: NDArray[np.bool_] = group.dims["payload_byte"] < own_limit_byte(parameters, group.dims["group_size"])
    return small
