"""From measured records to a device's calibration: pick the kernel, fit its parameters, judge them on other rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..errors import RooflineError
from ..io.records import DIMENSIONS, Family, Records, collapse
from ..structs import Array
from ..timing import Band
from ..timing.calibration import Evidence, Fitted, Key, Parameters
from ..timing.collective import DirectParameters, RingParameters
from .fit import Fit, fit
from .models import Candidate, candidates, key_of, parameters_time

FIT_ROWS = 3000
"""Most rows that a fit uses; more change no parameter by more than its uncertainty."""

SCREEN_ROWS = 240
"""Rows with which the kernels are compared; as many others judge them."""

PHYSICS_TOLERANCE = 0.02
"""How far below the physical limit a time may be before it is a defect: timers and clocks have this much play."""

FOLDS = 5
"""Parts of which each is predicted by a fit to the others."""

LEAST_UNSEEN = 3
"""Fewest rows that errors are reported on."""


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


@dataclass(frozen=True, slots=True)
class Skipped:
    """A key that could not be calibrated, and why."""

    key: Key
    reason: str


def grouped(records: Iterable[Records], backend: str | None) -> dict[Key, tuple[Records, ...]]:
    """Records by calibration key, of one backend and release each: `backend` where it has the key, else the one with
    the most rows; its latest release. Eager loops (a host's launch floor) are left out where there are graphs.
    """
    keys: dict[Key, list[Records]] = {}
    for group in records:
        if group.family not in (Family.LAYER, Family.MODEL):
            keys.setdefault(key_of(group), []).append(group)
    chosen: dict[Key, tuple[Records, ...]] = {}
    for key, groups in sorted(keys.items()):
        graphs = [group for group in groups if not np.any(group.loop.launch_floor_s)] or groups
        names = {group.backend for group in graphs}
        rows = {name: sum(group.size for group in graphs if group.backend == name) for name in names}
        name = backend if backend in names else max(sorted(rows), key=rows.__getitem__)
        release = max((group.version for group in graphs if group.backend == name), key=_release)
        chosen[key] = tuple(
            part
            for group in graphs
            if group.backend == name and group.version == release
            for part in _by_routing(collapse(group)[0])
        )
    return chosen


def _release(version: str) -> tuple[tuple[int, str], ...]:
    """Releases in their order: 0.9 before 0.14."""
    return tuple((int("0" + "".join(filter(str.isdigit, part))), part) for part in version.split("."))


def _by_routing(group: Records) -> tuple[Records, ...]:
    """One group per way of routing: a model takes one at a time."""
    if group.family is not Family.MOE:
        return (group,)
    exponents = group.dims["routing_exponent"]
    return tuple(group.take(exponents == value) for value in sorted(set(exponents.tolist())))


def calibrate_key(
    groups: Sequence[Records],
    device: Device,
    *,
    fit_fraction: float,
    seed: int,
    date: str,
    prior: Parameters | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """The fit of one family and format, judged on the rows that it did not see.

    Rows faster than physics are counted and never fitted. `prior`: start from these parameters and their kernels (a
    relative's) instead of trying every kernel known.
    Errors: RooflineError with too few rows, one distinct shape only, or rows that are all excluded.
    """
    everything = Rows(tuple(groups))
    options = candidates(groups[0])
    _, limit = everything.times(device, options[0].prior)
    usable = np.flatnonzero(everything.measured_s >= limit * (1.0 - PHYSICS_TOLERANCE))
    excluded = limit.size - usable.size
    if usable.size == 0:
        raise RooflineError(f"records: all {limit.size} rows of {groups[0].name} are faster than physics allows.")
    order = np.random.default_rng(seed).permutation(usable)
    seen, unseen = np.split(order, [max(round(fit_fraction * order.size), 1)])
    if prior is not None:
        options = tuple(Candidate(prior, option.free) for option in options if type(option.prior) is type(prior))[:1]
    elif len(options) > 1:
        options = (_screened(everything, device, options, seen, progress),)
    best = options[0]
    fitted_rows, spare = np.split(seen, [FIT_ROWS])
    progress(f"fitting {len(best.free)} parameters to {fitted_rows.size} rows")
    found = _fit(everything.take(np.sort(fitted_rows)), device, best, weak=prior is not None)
    if spare.size >= SCREEN_ROWS:
        ratio = _ratio(everything, device, found.parameters, spare)
    else:
        ratio = _out_of_fold(everything, device, Candidate(found.parameters, best.free), fitted_rows)
    low, high = np.quantile(ratio, [0.1, 0.9])
    return Fitted(
        parameters=found.parameters,
        band=Band(float(low), float(high), _source(groups)),
        evidence=_evidence(everything, device, found, (fitted_rows, unseen), (low, high), excluded, date),
    )


def _fit(rows: Rows, device: Device, candidate: Candidate, *, weak: bool = False) -> Fit[Parameters]:
    def predict(parameters: Parameters) -> Array:
        return rows.times(device, parameters)[0]

    weight = 0.05 if weak else 0.02
    return fit(predict, rows.measured_s, candidate.prior, free=candidate.free, prior_weight=weight)


def _out_of_fold(everything: Rows, device: Device, candidate: Candidate, rows: NDArray[np.intp]) -> Array:
    """Measured over predicted of `rows`, each predicted by a fit that did not see it (five folds): what the band of few
    rows is made of, since a fit always looks better on its own rows.
    """
    ratios = []
    for fold in np.array_split(rows, FOLDS):
        others = np.setdiff1d(rows, fold)
        try:
            found = _fit(everything.take(others), device, candidate, weak=True).parameters
        except RooflineError:
            found = candidate.prior  # fewer rows than parameters: nothing better than the whole fit
        ratios.append(_ratio(everything, device, found, fold))
    return np.concatenate(ratios)


def _screened(
    everything: Rows,
    device: Device,
    options: Sequence[Candidate],
    seen: NDArray[np.intp],
    progress: Callable[[str], None],
) -> Candidate:
    """The candidate that predicts some of the rows best after a fit to some others."""
    few = everything.take(np.sort(seen[:SCREEN_ROWS]))
    others = seen[SCREEN_ROWS : 2 * SCREEN_ROWS]
    judge = others if others.size >= SCREEN_ROWS // 2 else seen[:SCREEN_ROWS]
    scores: list[float] = []
    for option in options:
        progress(f"trying {type(option.prior).__name__} ({len(scores) + 1} of {len(options)})")
        try:
            found = _fit(few, device, option)
        except (RooflineError, ValueError, FloatingPointError):
            scores.append(np.inf)  # this kernel cannot explain rows of this family
            continue
        scores.append(float(np.mean(np.abs(np.log(_ratio(everything, device, found.parameters, judge))))))
    if not np.isfinite(min(scores)):
        raise RooflineError(
            f"records: {few.measured_s.size} rows of {everything.groups[0].name} determine no model. Measure more."
        )
    return options[int(np.argmin(scores))]


def _ratio(everything: Rows, device: Device, parameters: Parameters, rows: NDArray[np.intp]) -> Array:
    """Measured over predicted of some rows."""
    part = everything.take(np.sort(rows))
    return part.measured_s / part.times(device, parameters)[0]


def _source(groups: Sequence[Records]) -> str:
    first = groups[0]
    return " ".join(part for part in (first.backend, first.version, "on", first.device) if part)


def _evidence(
    everything: Rows,
    device: Device,
    found: Fit[Parameters],
    rows: tuple[NDArray[np.intp], NDArray[np.intp]],
    band: tuple[float, float],
    excluded: int,
    date: str,
) -> Evidence:
    fitted, unseen = rows
    judged = everything.take(np.sort(unseen if unseen.size >= LEAST_UNSEEN else fitted))
    predicted_s, roofline_s = judged.times(device, found.parameters)
    ratio = judged.measured_s / predicted_s
    error = np.abs(1.0 / ratio - 1.0)
    first = everything.groups[0]
    digest = sha256("".join(sorted({group.digest for group in everything.groups})).encode()).hexdigest()
    return Evidence(
        data=first.source,
        backend=first.backend,
        version=first.version,
        digest=digest[:12],
        date=date,
        fitted_rows=fitted.size,
        unseen_rows=unseen.size,
        excluded_rows=excluded,
        median_ape=float(np.median(error)),
        mape=float(np.mean(error)),
        p90_ape=float(np.quantile(error, 0.9)),
        bias=float(np.median(1.0 / ratio - 1.0)),
        coverage=float(np.mean((ratio >= band[0]) & (ratio <= band[1]))),
        roofline_median_ape=float(np.median(np.abs(roofline_s / judged.measured_s - 1.0))),
        undetermined=found.undetermined,
        ranges=_ranges(everything.take(np.sort(fitted)).groups),
    )


def _ranges(groups: Sequence[Records]) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of every dimension among the rows."""
    return {
        name: (
            float(min(group.dims[name].min() for group in groups)),
            float(max(group.dims[name].max() for group in groups)),
        )
        for name in DIMENSIONS[groups[0].family]
    }


def calibrate(
    records: Iterable[Records],
    device: Device,
    *,
    backend: str | None = None,
    fit_fraction: float = 0.5,
    seed: int = 0,
    date: str,
    like: Mapping[Key, Fitted] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[dict[Key, Fitted], tuple[Skipped, ...]]:
    """Every family and format of `records` fitted for `device`, and those that could not be, with the reason.

    `like`: fits of a relative, scaled to this device: their kernels are kept and their values are the prior, so that a
    few dozen rows are enough. Deterministic: the same records and seed give the same fits.
    Errors: RooflineError for a fit fraction outside (0, 1).
    """
    if not 0.0 < fit_fraction < 1.0:
        raise RooflineError(f"fit-fraction: {fit_fraction} is not accepted. Accepted: between 0 and 1, e.g. 0.5.")
    everything = tuple(records)
    fits: dict[Key, Fitted] = {}
    skipped: list[Skipped] = []
    for key, groups in grouped(everything, backend).items():
        prior = like[key].parameters if like and key in like else None
        if groups[0].family is Family.ALL_REDUCE and prior is None:
            prior, groups = _direct_all_reduce(everything, groups, device)
        try:
            fits[key] = calibrate_key(
                groups,
                device,
                fit_fraction=fit_fraction,
                seed=seed,
                date=date,
                prior=prior,
                progress=lambda text, key=key: progress(f"{' '.join(key)}: {text}"),  # type: ignore[misc]
            )
        except RooflineError as error:
            skipped.append(Skipped(key, str(error)))
    return fits, tuple(skipped)


def _direct_all_reduce(
    everything: Sequence[Records], chosen: Sequence[Records], device: Device
) -> tuple[Parameters | None, tuple[Records, ...]]:
    """Where an engine's own all-reduce was measured besides NCCL's: start from one that hands large payloads to NCCL as
    measured, and keep the rows that its own kernels serve. Otherwise the groups as they are.
    """
    others = [group for group in everything if group.family is Family.ALL_REDUCE and group.backend != chosen[0].backend]
    if not others or device.intra_node is None:
        return None, tuple(chosen)
    ring_rows = Rows(tuple(collapse(group)[0] for group in others if not np.any(group.loop.launch_floor_s)))
    rings = [option for option in candidates(others[0]) if isinstance(option.prior, RingParameters)]
    ring = min(
        (_fit(ring_rows, device, option) for option in rings), key=lambda found: _mean_error(ring_rows, device, found)
    )
    assert isinstance(ring.parameters, RingParameters)
    own = DirectParameters(beyond=ring.parameters)
    small = tuple(group.take(group.dims["payload_byte"] < own.limit_byte) for group in chosen)
    return own, tuple(group for group in small if group.size)


def _mean_error(rows: Rows, device: Device, found: Fit[Parameters]) -> float:
    return float(np.mean(np.abs(np.log(rows.times(device, found.parameters)[0] / rows.measured_s))))
