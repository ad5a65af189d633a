"""Kernels in a format that was not measured: the physics of a format that was, at what the datasheet says of both.

A library's kernels of one family share their structure over formats: launches, waves of tiles, share of the bandwidth.
What changes is known: bytes of the operands, and the peak that a compute unit works at. What is not known, another
kernel in its place, is in the band: what such borrowing missed where a second format was measured too.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..device import Cpu, Dataflow, Gpu, Systolic
from ..structs import STORED_BYTE, Dtype, arithmetic_dtype
from .calibration import (
    DATASHEET_FAMILY,
    Band,
    Borrowing,
    Calibration,
    Fitted,
    Formats,
    Key,
    Parameters,
    format_label,
    formats_of,
)
from .gemm import GemmParameters, QuantiseParameters
from .parameter import facts_of, value_of, with_values
from .quantised_gemm import QuantisedGemmParameters
from .transfer import widened

_OF_BOTH_OPERANDS = frozenset({"gemm", "moe"})
"""Families whose two operands meet in one product, made in the wider format; attention computes in its queries'."""

_BY_FORMAT = _OF_BOTH_OPERANDS | {
    "prefill_attention",
    "decode_attention",
    "mixed_attention",
    "latent_prefill",
    "latent_decode",
}
"""Families whose time depends on formats by a formula that takes them."""

_PEAK_POWER = {"byte/FLOP": -1.0, "FLOP/byte": 1.0, "FLOP": 1.0}
"""How a parameter's number changes with the peak that its FLOP are counted at: what it stands for is a rate of the
memory system, or a time, that the format does not change."""


def fit_of(key: Key, calibration: Calibration) -> Fitted | None:
    """The fit that kernels of `key` are timed by: their own, else one borrowed from another format; None without."""
    if key in calibration.looked_up:
        return calibration.looked_up[key]
    own = calibration.models.get(key)
    if own is not None or calibration.formats is None or key[0] not in _BY_FORMAT:
        return own
    return _borrowed(key, calibration, calibration.formats)


def with_fits(keys: Iterable[Key], calibration: Calibration) -> Calibration:
    """`calibration` with what fit_of finds for `keys` at hand."""
    return replace(calibration, looked_up={key: fit_of(key, calibration) for key in keys})


def _borrowed(key: Key, calibration: Calibration, formats: Formats) -> Fitted | None:
    """The fit of a measured format scaled to that of `key`; None where no format was measured or can be computed in.

    Of formats whose operands are alike (kernels that convert on the way are each a case of their own) the one of the
    library that is predicted, and the one with the nearest peak.
    """
    device, (family, label) = formats.device, key
    match device.structure:
        case Cpu() | Dataflow():
            return None  # another format runs another library
        case Gpu() | Systolic():
            pass
    operand, stored = formats_of(label)
    asked = arithmetic_dtype(operand, stored) if family in _OF_BOTH_OPERANDS else operand
    lenders = [dtype for dtype in Dtype if dtype in device.matrix_flop_per_s]
    lenders = [dtype for dtype in lenders if (family, format_label(dtype, dtype)) in calibration.models]
    if not lenders or asked not in {*device.matrix_flop_per_s, *device.upcast}:
        return None
    computed = device.arithmetic(asked)
    peak = device.matrix_flop_per_s

    def distance(lender: Dtype) -> tuple[bool, float]:
        fitted = calibration.models[family, format_label(lender, lender)]
        return fitted.evidence.backend != calibration.backend, abs(float(np.log(peak[computed] / peak[lender])))

    lender = min(lenders, key=distance)
    name = format_label(lender, lender)
    fitted = calibration.models[family, name]
    parameters = at_peak(fitted.parameters, peak[computed] / peak[lender])
    if STORED_BYTE[operand] < STORED_BYTE[lender]:
        parameters = _with_quantise(parameters)
    kind = Borrowing.STORED if computed is lender else Borrowing.COMPUTED
    cost = formats.bands.get((family, kind), calibration.bands[DATASHEET_FAMILY[family]])
    return replace(widened(fitted, _both(fitted, cost)), parameters=parameters, borrowed_from=name)


def at_peak(parameters: Parameters, ratio: float) -> Parameters:
    """`parameters` of products whose peak is `ratio` times as high: bytes per clock and times stay what they are.

    They are not held to the bounds of a fit, which would change them.
    """
    values = {
        name: value_of(parameters, name) * ratio ** _PEAK_POWER.get(facts.unit, 0.0)
        for name, facts in facts_of(type(parameters)).items()
    }
    return with_values(parameters, values)


def _with_quantise(parameters: Parameters) -> Parameters:
    """A product whose activations arrive in 16 bits, with the kernel that narrows them first."""
    match parameters:
        case GemmParameters():
            return QuantisedGemmParameters(parameters, QuantiseParameters())
        case _:
            return parameters


def _both(fitted: Fitted, cost: Band) -> Band:
    """The band of a borrowed fit: what borrowing cost, on a fit of the device's own; carried over from another device,
    both errors, as independent ones add up (in logarithms, by their squares).
    """
    source = f"{fitted.band.source}; another format: {cost.source}"
    if not fitted.transferred_from:
        return Band(min(fitted.band.low, cost.low), max(fitted.band.high, cost.high), source)
    low, high = (
        np.exp(sign * np.hypot(np.log(one), np.log(other)))
        for sign, one, other in (
            (-1.0, min(fitted.band.low, 1.0), min(cost.low, 1.0)),
            (1.0, max(fitted.band.high, 1.0), max(cost.high, 1.0)),
        )
    )
    return Band(float(low), float(high), source)
