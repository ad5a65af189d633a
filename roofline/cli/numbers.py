"""Numbers of options that are not lists, checked and named in their errors."""

from math import isfinite

from ..errors import RooflineError, clip

LARGEST = 2.0**40


def positive(field: str, value: object, *, least: float = 0.0, whole: bool = False) -> float:
    """`value` as a finite number above 0 (from `least` on, where that is above 0), whole where asked.

    Errors: RooflineError naming the field, the value and what is accepted.
    """
    try:
        number = float(str(value).replace("_", "").replace(",", ""))
    except ValueError:
        number = float("nan")
    if not (isfinite(number) and 0.0 < number <= LARGEST and number >= least and not (whole and number % 1.0)):
        accepted = f"{'whole numbers' if whole else 'numbers'} {f'from {least:g} on' if least else 'above 0'}"
        raise RooflineError(f"{field}: {clip(str(value))} is not accepted. Accepted: {accepted}.")
    return number
