"""Engine parameters from measured service: few, each with a prior, first those that TPOT shows, then those of TTFT.

Fitted are logarithms, by least squares on log errors (soft L1 beyond 5 % of TPOT, 10 % of TTFT) beside their priors,
log-normal around the engine that one starts from. TPOT knows kernel scales and host times. TTFT gives what it alone
shows: front end, waits, and the reserve that decides how many requests run. Fitting both at once would let errors of
the waits bend the kernels' scales.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..serving.engine import Engine, EngineEvidence, HostCost, KernelScale
from ..structs import Array
from ..timing import Band
from .served import ServedSet


@dataclass(frozen=True, slots=True)
class Prior:
    """Where a parameter starts when nothing is known, and the standard deviation of its logarithm."""

    start: float
    sigma: float


TPOT_PRIORS: Mapping[str, Prior] = {
    "scale.prefill_gemm": Prior(1.0, 0.1),
    "scale.decode_gemm": Prior(0.95, 0.12),
    "scale.prefill_all_reduce": Prior(0.7, 0.5),
    "scale.decode_all_reduce": Prior(0.7, 0.5),
    "scale.prefill_attention": Prior(1.0, 0.15),
    "scale.decode_attention": Prior(1.0, 0.1),
    "scale.pointwise": Prior(0.6, 0.4),
    "host.step_s": Prior(3e-4, 0.7),
    "host.layer_s": Prior(1e-6, 1.0),
    "host.sequence_s": Prior(1.5e-5, 0.7),
    "host.prefill_step_s": Prior(1e-3, 1.0),
    "host.prefill_layer_s": Prior(1e-5, 0.5),
}
"""What TPOT shows. All-reduces are fused with norms, small kernels with each other: priors below 1."""

TTFT_PRIORS: Mapping[str, Prior] = {
    "prefill_wait": Prior(1.5, 0.4),
    "host.request_s": Prior(0.02, 1.0),
    "host.prompt_token_s": Prior(5e-6, 1.0),
    "limits.reserve_byte": Prior(3e9, 0.7),
}
"""What TTFT alone shows."""

TPOT_SOFT, TTFT_SOFT = 0.05, 0.10
"""Log errors beyond which a row counts linearly, not by its square."""

LONGEST_S = 1e4
"""Stands for a TTFT without bound."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one metric on `n` rows as fractions: median and mean of |predicted / measured - 1|, signed median."""

    n: int
    median_ape: float
    mape: float
    bias: float


def errors_of(predicted: Array, measured: Array) -> Errors:
    """The Errors of at least one row."""
    ratio = predicted / measured - 1.0
    off = np.abs(ratio)
    return Errors(ratio.size, float(np.median(off)), float(off.mean()), float(np.median(ratio)))


Rows = tuple[ServedSet, NDArray[np.intp]]
"""Rows of a set, by position."""


def started(engine: Engine) -> Engine:
    """`engine` with its scheduler and limits, and all fitted parameters where nothing is known."""
    return with_parameters(engine, {name: prior.start for name, prior in {**TPOT_PRIORS, **TTFT_PRIORS}.items()})


def parameter_of(engine: Engine, name: str) -> float:
    """The value of a fitted parameter."""
    table, _, field = name.rpartition(".")
    holder = getattr(engine, table) if table else engine
    return float(getattr(holder, field))


def with_parameters(engine: Engine, values: Mapping[str, float]) -> Engine:
    """`engine` with other values of fitted parameters, by their names in TPOT_PRIORS and TTFT_PRIORS."""

    def under(table: str) -> dict[str, float]:
        return {name.removeprefix(f"{table}."): value for name, value in values.items() if name.startswith(f"{table}.")}

    scale: KernelScale = replace(engine.scale, **under("scale"))
    host: HostCost = replace(engine.host, **under("host"))
    return replace(
        engine,
        scale=scale,
        host=host,
        limits=replace(engine.limits, **under("limits")),
        prefill_wait=values.get("prefill_wait", engine.prefill_wait),
    )


def fit_engine(engine: Engine, rows: Sequence[Rows]) -> Engine:
    """`engine` with the parameters that `rows` ask for, its own values as priors.

    TPOT first, then what is in TTFT alone, and TPOT again: clients in the front end, which only TTFT shows, are not
    among the sequences that run. Rows of another engine are predicted with the parameters that are tried and that
    engine's own scheduler.
    """
    by_tpot = _fit(engine, rows, TPOT_PRIORS, _tpot_residual)
    by_ttft = _fit(by_tpot, rows, TTFT_PRIORS, _ttft_residual)
    front = with_parameters(engine, {name: parameter_of(by_ttft, name) for name in TTFT_PRIORS})
    return _fit(front, rows, TPOT_PRIORS, _tpot_residual)


Residual = Callable[[Engine, ServedSet, NDArray[np.intp]], Array]


def _tpot_residual(engine: Engine, of: ServedSet, rows: NDArray[np.intp]) -> Array:
    return _soft(np.log(of.predicted(engine, rows)[0] / of.tpot_s[rows]) / TPOT_SOFT)


def _ttft_residual(engine: Engine, of: ServedSet, rows: NDArray[np.intp]) -> Array:
    predicted = np.minimum(of.predicted(engine, rows)[1], LONGEST_S)
    return _soft(np.log(predicted / of.ttft_s[rows]) / TTFT_SOFT)


def _soft(error: Array) -> Array:
    """Residuals whose squares are soft-L1 losses: 2 (sqrt(1 + e²) - 1)."""
    return np.asarray(np.sign(error) * np.sqrt(2.0 * (np.sqrt(1.0 + error**2) - 1.0)))


def _fit(engine: Engine, rows: Sequence[Rows], priors: Mapping[str, Prior], residual: Residual) -> Engine:
    from scipy.optimize import least_squares

    names = list(priors)
    centre = np.log([parameter_of(engine, name) or priors[name].start for name in names])
    sigma = np.array([priors[name].sigma for name in names])

    def at(logarithms: Array, base: Engine = engine) -> Engine:
        return with_parameters(base, dict(zip(names, np.exp(logarithms).tolist(), strict=True)))

    def residuals(logarithms: Array) -> Array:
        parts = [residual(at(logarithms, _under(engine, of)), of, chosen) for of, chosen in rows]
        return np.concatenate([*parts, (logarithms - centre) / sigma])

    found = least_squares(residuals, centre, diff_step=1e-2, max_nfev=12, xtol=1e-3, ftol=1e-3)
    return at(found.x)


def _under(engine: Engine, of: ServedSet) -> Engine:
    """`engine` where the rows ran under its scheduler, else its parameters under the scheduler that they ran under."""
    if type(engine.schedule) is type(of.engine.schedule) and engine.backend == of.engine.backend:
        return engine
    values = {name: parameter_of(engine, name) for name in (*TPOT_PRIORS, *TTFT_PRIORS)}
    return with_parameters(of.engine, values)


def halves(of: ServedSet, fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit and rows to judge, drawn by `seed`; both sorted."""
    order = np.random.default_rng(seed).permutation(of.size)
    count = int(np.clip(round(fraction * of.size), 1, of.size))
    return np.sort(order[:count]), np.sort(order[count:])


def spread_rows(of: ServedSet, most: int) -> NDArray[np.intp]:
    """Up to `most` rows of a set, evenly spread over its order, so that large sets do not outvote small ones."""
    return np.unique(np.linspace(0, of.size - 1, min(of.size, most)).round().astype(np.intp))


@dataclass(frozen=True, slots=True)
class EngineFit:
    """A fitted engine with its band and evidence, its parameters and those before, and errors on rows not fitted.

    `errors`: set, TPOT, TTFT; `fitted_rows`: of each set.
    """

    engine: Engine
    parameters: Mapping[str, float]
    before: Mapping[str, float]
    errors: tuple[tuple[str, Errors, Errors], ...]
    fitted_rows: tuple[int, ...]


def fitted_paths() -> tuple[str, ...]:
    """The field paths in an engine's file of all fitted parameters."""
    paths = []
    for name in (*TPOT_PRIORS, *TTFT_PRIORS):
        table, _, field = name.rpartition(".")
        paths.append(f"{table or 'scheduling'}.{field.removesuffix('_s').removesuffix('_byte')}")
    return tuple(paths)


def fit_and_judge(
    engine: Engine, sets: Sequence[ServedSet], fraction: float, seed: int, progress: Callable[[str], None]
) -> EngineFit:
    """The EngineFit of `fraction` of the rows of each set, judged on the others; `engine` is the prior.

    The band holds four of five of the rows not fitted.
    """
    divided = [halves(of, fraction, seed) for of in sets]
    progress(f"fitting {engine.name} to {sum(fit.size for fit, _ in divided)} rows")
    fitted = fit_engine(engine, [(of, fit) for of, (fit, _) in zip(sets, divided, strict=True)])
    errors, ratios = [], []
    for of, (_, judge) in zip(sets, divided, strict=True):
        rows = judge if judge.size else np.arange(of.size)
        tpot_s, ttft_s = of.predicted(fitted, rows)
        ttft_s = np.minimum(ttft_s, LONGEST_S)
        errors.append((of.name, errors_of(tpot_s, of.tpot_s[rows]), errors_of(ttft_s, of.ttft_s[rows])))
        ratios.append((of.tpot_s[rows] / tpot_s, of.ttft_s[rows] / ttft_s))
    tpot_ratio, ttft_ratio = (np.concatenate(column) for column in zip(*ratios, strict=True))
    names = (*TPOT_PRIORS, *TTFT_PRIORS)
    source = f"{tpot_ratio.size} served rows not fitted"
    off = tuple(np.abs(1.0 / ratio - 1.0) for ratio in (tpot_ratio, ttft_ratio))
    judged = replace(
        fitted,
        tpot_band=_band(tpot_ratio, source),
        ttft_band=_band(ttft_ratio, source),
        evidence=EngineEvidence(
            release=engine.release,
            fitted_rows=sum(fit.size for fit, _ in divided),
            unseen_rows=tpot_ratio.size,
            tpot_median_ape=float(np.median(off[0])),
            tpot_mape=float(off[0].mean()),
            ttft_median_ape=float(np.median(off[1])),
            ttft_mape=float(off[1].mean()),
        ),
    )
    return EngineFit(
        engine=judged,
        parameters={name: parameter_of(fitted, name) for name in names},
        before={name: parameter_of(engine, name) for name in names},
        errors=tuple(errors),
        fitted_rows=tuple(fit.size for fit, _ in divided),
    )


def _band(ratio: Array, source: str) -> Band:
    low, high = np.quantile(ratio, [0.1, 0.9])
    return Band(float(low), float(high), source)
