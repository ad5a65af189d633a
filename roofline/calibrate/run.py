"""From measured records to a device's calibration: pick the kernel, fit its parameters, judge them on other rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..errors import RooflineError
from ..io.records import Family, Records, collapse
from ..timing import Band
from ..timing.calibration import Evidence, Fitted, Key, Parameters
from ..timing.cpu import CpuGemmParameters
from ..timing.direct_all_reduce import DirectParameters
from ..timing.nccl import RingParameters
from ..timing.parameter import inner_parameters, kernel_facts_of
from .candidates import Candidate, candidates
from .fit import Fit
from .judge import distinct_shapes, fit_rows, interval, out_of_fold, outside_ranges, ranges_of, ratio_of
from .rows import Rows, Split, check_fit_fraction, digest_of, directly_served, grouped, of_one_library, split

SCREEN_ROWS = 240
"""Rows with which the kernels are compared; as many others judge them."""

LEAST_UNSEEN = 3
"""Fewest rows that errors are reported on."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A key that could not be calibrated, and why."""

    key: Key
    reason: str


def calibrate_key(
    groups: Sequence[Records],
    device: Device,
    *,
    fit_fraction: float,
    seed: int,
    date: str,
    prior: Parameters | None = None,
    linear: CpuGemmParameters | None = None,
    handed_on: Sequence[Records] = (),
    kernels: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """The fit of one family and format, judged on the rows that it did not see.

    Rows faster than physics are counted and never fitted. `prior`: start from these parameters and their kernels (a
    relative's) instead of trying every kernel known. `linear`: see candidates. `handed_on`: rows that the kernel leaves
    to one that `prior` knows already; nothing is fitted to them, but a part of them as large as the fit's counts in the
    band. `kernels`: facts by name that the kernels to try must have.
    Errors: RooflineError with too few rows, one distinct shape only, or rows that are all excluded.
    """
    everything = Rows(tuple(groups))
    options = _declared(candidates(groups[0], device, linear), kernels or {})
    parts = split(groups, device, fit_fraction=fit_fraction, seed=seed)
    if prior is not None:
        options = (Candidate(prior, _free_of(prior, options)),)
    elif len(options) > 1:
        seen = np.concatenate([parts.fitted, parts.spare])
        options = (_screened(everything, device, options, seen, progress),)
    best = options[0]
    progress(f"fitting {len(best.free)} parameters to {parts.fitted.size} rows")
    fitted = everything.take(np.sort(parts.fitted))
    found = fit_rows(fitted, device, best, weak=prior is not None)
    if parts.spare.size >= SCREEN_ROWS:
        telling = everything.take(np.sort(parts.spare))
        ratio = ratio_of(telling, device, found.parameters)
    else:
        telling = fitted
        ratio = out_of_fold(fitted, device, best, found.parameters)
    shapes = distinct_shapes(telling)
    if handed_on:
        counted = split(handed_on, device, fit_fraction=fit_fraction, seed=seed).fitted
        further = Rows(tuple(handed_on)).take(np.sort(counted))
        ratio = np.concatenate([ratio, ratio_of(further, device, found.parameters)])
        shapes += distinct_shapes(further)
    low, high = interval(ratio, shapes)
    known = everything.take(np.sort(np.concatenate([parts.fitted, parts.spare, parts.unseen])))
    progress("fitting without the largest and without the smallest sizes")
    return Fitted(
        parameters=found.parameters,
        band=Band(low, high, _source(groups)),
        evidence=_evidence(
            everything,
            device,
            found,
            parts,
            (low, high),
            date=date,
            fit_fraction=fit_fraction,
            seed=seed,
            ranges=ranges_of(Rows((*known.groups, *handed_on))),
            beyond=outside_ranges(fitted, device, best, found.parameters, seed, below=False),
            below=outside_ranges(fitted, device, best, found.parameters, seed, below=True),
        ),
    )


def _declared(options: Sequence[Candidate], kernels: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """The options that have these kernel facts, members of enumerations given by their names; those of a kernel inside
    (a table) are not looked at.

    Errors: RooflineError where none has.
    """
    wanted = {name: value for name, value in kernels.items() if not isinstance(value, Mapping)}
    found = []
    for option in options:
        own = {name: getattr(value, "name", value) for name, value in kernel_facts_of(option.prior).items()}
        if {**own, **wanted} == own:
            found.append(option)
    if not found:
        facts = ", ".join(f"{name} = {value}" for name, value in kernels.items())
        raise RooflineError(f"kernels: no kernel of this family has {facts}. Correct the profile's [kernels].")
    return tuple(found)


def _free_of(prior: Parameters, options: Sequence[Candidate]) -> tuple[str, ...]:
    """What a fit may change of `prior`: as with the option that has its kernel, else with any of its kind.

    Errors: RooflineError where no model of the family has such parameters.
    """
    alike = [option for option in options if type(option.prior) is type(prior)]
    same = [option for option in alike if _kernel(option.prior) == _kernel(prior)]
    if not alike:
        raise RooflineError(f"like: {type(prior).__name__} are no parameters of this family.")
    return (same or alike)[0].free


def _kernel(parameters: Parameters) -> Mapping[str, Any]:
    """The kernel facts, but not another kernel's parameters among them."""
    inner = inner_parameters(parameters)
    return {name: value for name, value in kernel_facts_of(parameters).items() if name not in inner}


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
    judge = everything.take(np.sort(others if others.size >= SCREEN_ROWS // 2 else seen[:SCREEN_ROWS]))
    scores: list[float] = []
    refused: RooflineError | None = None
    for option in options:
        progress(f"trying {type(option.prior).__name__} ({len(scores) + 1} of {len(options)})")
        try:
            found = fit_rows(few, device, option)
        except (RooflineError, ValueError, FloatingPointError) as error:
            scores.append(np.inf)  # this kernel cannot explain rows of this family
            refused = error if isinstance(error, RooflineError) else refused
            continue
        scores.append(float(np.mean(np.abs(np.log(ratio_of(judge, device, found.parameters))))))
    if not np.isfinite(min(scores)):
        raise refused or RooflineError(
            f"records: {few.measured_s.size} rows of {everything.groups[0].name} determine no model. Measure more."
        )
    return options[int(np.argmin(scores))]


def _source(groups: Sequence[Records]) -> str:
    first = groups[0]
    return " ".join(part for part in (first.backend, first.version, "on", first.device) if part)


def _evidence(
    everything: Rows,
    device: Device,
    found: Fit[Parameters],
    parts: Split,
    band: tuple[float, float],
    **known: Any,
) -> Evidence:
    """The Evidence of a fit; `known`: its fields that need no judging."""
    judged = everything.take(np.sort(parts.unseen if parts.unseen.size >= LEAST_UNSEEN else parts.fitted))
    predicted_s, roofline_s = judged.times(device, found.parameters)
    ratio = judged.measured_s / predicted_s
    error = np.abs(1.0 / ratio - 1.0)
    first = everything.groups[0]
    return Evidence(
        data=first.source,
        backend=first.backend,
        version=first.version,
        digest=digest_of(everything.groups),
        fitted_rows=parts.fitted.size,
        unseen_rows=parts.unseen.size,
        excluded_rows=parts.excluded.size,
        median_ape=float(np.median(error)),
        mape=float(np.mean(error)),
        p90_ape=float(np.quantile(error, 0.9)),
        bias=float(np.median(1.0 / ratio - 1.0)),
        coverage=float(np.mean((ratio >= band[0]) & (ratio <= band[1]))),
        roofline_median_ape=float(np.median(np.abs(roofline_s / judged.measured_s - 1.0))),
        undetermined=found.undetermined,
        **known,
    )


def calibrate(
    records: Iterable[Records],
    device: Device,
    *,
    backend: str | None = None,
    fit_fraction: float = 0.5,
    seed: int = 0,
    date: str,
    like: Mapping[Key, Fitted] | None = None,
    kernels: Mapping[str, Mapping[Key, Mapping[str, Any]]] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[dict[Key, Fitted], tuple[Skipped, ...]]:
    """Every family and format of `records` fitted for `device`, and those that could not be, with the reason.

    `like`: fits of a relative, scaled to this device: their kernels are kept and their values are the prior, so that a
    few dozen rows are enough. `kernels`: facts of the kernels that each library is declared to run; others are tried.
    Deterministic: the same records and seed give the same fits.
    Errors: RooflineError for a fit fraction outside (0, 1).
    """
    check_fit_fraction(fit_fraction)
    everything = tuple(records)
    fits: dict[Key, Fitted] = {}
    skipped: list[Skipped] = []
    for key, groups in sorted(grouped(everything, backend).items(), key=lambda item: item[0][0] != Family.GEMM):
        prior = like[key].parameters if like and key in like else None
        facts = {library: declared.get(key) for library, declared in (kernels or {}).items()}
        handed_on: tuple[Records, ...] = ()
        if groups[0].family is Family.ALL_REDUCE and prior is None:
            prior, groups, handed_on = _direct_all_reduce(everything, groups, device, facts)
        try:
            fits[key] = calibrate_key(
                groups,
                device,
                fit_fraction=fit_fraction,
                seed=seed,
                date=date,
                prior=prior,
                linear=_linear(fits, key) if groups[0].family is Family.MOE else None,
                handed_on=handed_on,
                kernels=facts.get(groups[0].backend),
                progress=lambda text, key=key: progress(f"{' '.join(key)}: {text}"),  # type: ignore[misc]
            )
        except RooflineError as error:
            skipped.append(Skipped(key, str(error)))
    return fits, tuple(skipped)


def _linear(fits: Mapping[Key, Fitted], key: Key) -> CpuGemmParameters | None:
    """The fit to a processor's linear layers in the format of `key`, where there is one."""
    found = fits.get((Family.GEMM, key[1]))
    return found.parameters if found and isinstance(found.parameters, CpuGemmParameters) else None


def _direct_all_reduce(
    everything: Sequence[Records],
    measured: Sequence[Records],
    device: Device,
    facts: Mapping[str, Mapping[str, Any] | None],
) -> tuple[Parameters | None, tuple[Records, ...], tuple[Records, ...]]:
    """Where an engine's own all-reduce was measured besides NCCL's: start from one that hands large payloads to NCCL as
    measured; then the rows that its own kernels serve, and those that they hand on. Otherwise the groups as they are.

    `facts`: what each library's kernel is declared to be.
    """
    others = [g for g in everything if g.family is Family.ALL_REDUCE and g.backend != measured[0].backend]
    if not others or device.intra_node is None:
        return None, tuple(measured), ()
    nccl = Rows(tuple(collapse(group)[0] for group in of_one_library(others, None)))
    rings = [
        option
        for option in _declared(candidates(nccl.groups[0], device), facts.get(nccl.groups[0].backend) or {})
        if isinstance(option.prior, RingParameters)
    ]
    ring = fit_rows(nccl, device, _aptest(nccl, device, rings)).parameters
    assert isinstance(ring, RingParameters)
    options = [
        replace(option, prior=replace(option.prior, beyond=ring))
        for option in _declared(candidates(measured[0], device), facts.get(measured[0].backend) or {})
        if isinstance(option.prior, DirectParameters)
    ]
    own = _aptest(Rows(tuple(measured)), device, options).prior
    assert isinstance(own, DirectParameters)
    served = [(group, directly_served(group, own)) for group in measured]
    small, large = (
        [group.take(rows if own_kernel else ~rows) for group, rows in served] for own_kernel in (True, False)
    )
    return own, tuple(group for group in small if group.size), tuple(group for group in large if group.size)


def _aptest(rows: Rows, device: Device, options: Sequence[Candidate]) -> Candidate:
    """The option that a fit to `rows` explains best; the only one without a fit."""
    if len(options) == 1:
        return options[0]
    return min(options, key=lambda option: _mean_error(rows, device, fit_rows(rows, device, option)))


def _mean_error(rows: Rows, device: Device, found: Fit[Parameters]) -> float:
    return float(np.mean(np.abs(np.log(rows.times(device, found.parameters)[0] / rows.measured_s))))
