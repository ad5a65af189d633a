"""Which records a calibration can be judged by: of its library, a row per shape, and not fitted where asked."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..calibrate.rows import by_key, by_routing, digest_of, directly_served, of_one_library, split
from ..device import Device
from ..errors import RooflineError
from ..io.records import Records, RepeatNoise, collapse, shape_index
from ..timing import Calibration
from ..timing.calibration import Fitted, Key
from ..timing.direct_all_reduce import DirectParameters


@dataclass(frozen=True, slots=True)
class Unseen:
    """Judge only by rows that a calibration with this `fit_fraction` and `seed` did not see."""

    fit_fraction: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Records that are not compared, and why."""

    records: Records
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Records to compare, one row per distinct shape; those left out; the repeat noise of every group that has any;
    and what a reader should know about the choice.
    """

    compared: tuple[Records, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    noise: tuple[tuple[Records, RepeatNoise], ...] = ()
    notices: tuple[str, ...] = ()


REPEATED = "a shape measured again: the median of its times is compared"
SEEN = "seen by the calibration"
UNKNOWN = "calibrated with another fraction, seed or rule of division: which rows it saw is not known"
EAGER = "an eager loop: the host's launches set its pace"


def select(
    records: Iterable[Records], device: Device, calibration: Calibration, backend: str | None, unseen: Unseen | None
) -> Selection:
    """What of `records`, all predicted for `device`, is compared.

    A fitted family is judged by the library that it was fitted to, or by `backend`; one without a fit by all of them.
    With `unseen`, rows that the calibration saw are left out, and all where it was not made with this fraction and
    seed, as far as its numbers of rows tell; where it was made from other files, it saw none.
    Errors: RooflineError for a `backend` that no record is of.
    """
    everything = tuple(records)
    names = {group.backend for group in everything}
    if backend is not None and backend not in names:
        raise RooflineError(f"backend: no record is of {backend!r}. The records have: {', '.join(sorted(names))}.")
    keyed = by_key(everything)
    known = {id(group) for groups in keyed.values() for group in groups}
    parts = [Selection(tuple(group for group in everything if id(group) not in known))]
    for key, groups in keyed.items():
        parts.append(_of_key(key, groups, device, calibration.models.get(key), backend, unseen))
    return joined(parts)


def joined(parts: Iterable[Selection]) -> Selection:
    """Several selections as one, in order."""
    listed = list(parts)
    return Selection(
        compared=tuple(group for part in listed for group in part.compared),
        left_out=tuple(entry for part in listed for entry in part.left_out),
        noise=tuple(entry for part in listed for entry in part.noise),
        notices=tuple(text for part in listed for text in part.notices),
    )


def _of_key(
    key: Key,
    groups: Sequence[Records],
    device: Device,
    fitted: Fitted | None,
    backend: str | None,
    unseen: Unseen | None,
) -> Selection:
    wanted = backend or (fitted.evidence.backend if fitted else None)
    chosen = of_one_library(groups, wanted) if wanted is not None else tuple(groups)
    kept = {id(group) for group in chosen}
    left_out = [LeftOut(group, _why(group, chosen[0])) for group in groups if id(group) not in kept]
    name = " ".join(key)
    notices = []
    if fitted and chosen[0].backend != fitted.evidence.backend:
        notices.append(f"{name}: fitted to {fitted.evidence.backend}, compared with {chosen[0].backend}.")
    distinct: list[Records] = []
    noise: list[tuple[Records, RepeatNoise]] = []
    for group in chosen:
        index = shape_index(group)
        again = np.ones(group.size, dtype=bool)
        again[np.unique(index, return_index=True)[1]] = False
        one, repeats = collapse(group)
        if again.any():
            left_out.append(LeftOut(group.take(again), REPEATED))
            noise.append((group, repeats))
        distinct += by_routing(one)
    if unseen is not None and fitted is not None and not fitted.transferred_from:
        if digest_of(distinct) != fitted.evidence.digest:
            notices.append(f"{name}: calibrated on other files; every row is unseen.")
        else:
            seen = _seen(distinct, device, fitted, unseen)
            reason = SEEN if seen is not None else UNKNOWN
            parts = seen or [np.ones(group.size, dtype=bool) for group in distinct]
            divided = tuple(zip(distinct, parts, strict=True))
            left_out += [LeftOut(group.take(rows), reason) for group, rows in divided if rows.any()]
            distinct = [group.take(~rows) for group, rows in divided if not rows.all()]
    return Selection(tuple(distinct), tuple(left_out), tuple(noise), tuple(notices))


def _why(group: Records, chosen: Records) -> str:
    """Why `group` is not compared where `chosen` is."""
    if np.any(group.loop.launch_floor_s) and not np.any(chosen.loop.launch_floor_s):
        return EAGER
    if group.backend != chosen.backend:
        return f"of {group.backend}, where {chosen.backend} is compared"
    return f"of {group.backend} {group.version}, where {chosen.version} is compared"


def _seen(groups: Sequence[Records], device: Device, fitted: Fitted, unseen: Unseen) -> list[NDArray[np.bool_]] | None:
    """For each group, which of its rows the calibration saw; None where it was not made this way."""
    if (fitted.evidence.fit_fraction, fitted.evidence.seed) != (unseen.fit_fraction, unseen.seed):
        return None
    for offered in _offers(groups, fitted):
        rows = [group.take(mask) for group, mask in zip(groups, offered, strict=True) if mask.any()]
        parts = split(rows, device, fit_fraction=unseen.fit_fraction, seed=unseen.seed)
        if (parts.fitted.size, parts.unseen.size) == (fitted.evidence.fitted_rows, fitted.evidence.unseen_rows):
            positions = np.flatnonzero(np.concatenate(offered))[np.concatenate([parts.fitted, parts.spare])]
            seen = np.isin(np.arange(sum(group.size for group in groups)), positions)
            return np.split(seen, np.cumsum([group.size for group in groups])[:-1])
    return None


def _offers(groups: Sequence[Records], fitted: Fitted) -> Iterator[list[NDArray[np.bool_]]]:
    """Masks of the rows that a calibration may have been offered: all, or those that one of its kernels serves."""
    yield [np.ones(group.size, dtype=bool) for group in groups]
    if isinstance(fitted.parameters, DirectParameters):
        yield [directly_served(group, fitted.parameters) for group in groups]
