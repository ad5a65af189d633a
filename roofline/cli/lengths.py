"""Lengths of prompts and outputs as they are written on the command line."""

from pathlib import Path

from ..errors import RooflineError, clip
from ..service_settings import number
from ..serving.lengths import Empirical, Fixed, Length, LogNormal

FORMS = "a number of tokens (2048), lognormal:MEAN:CV (lognormal:2048:0.6), or a trace file for the lengths in it"


def parse_length(field: str, text: str) -> Length:
    """The Length that `text` names; `field` is input or output: which of a trace's lengths are meant.

    Errors: RooflineError naming the field, what was given and what is accepted.
    """
    kind, _, rest = text.partition(":")
    if kind.lower() == "lognormal":
        mean, colon, cv = rest.partition(":")
        if not colon:
            raise RooflineError(f"{field}: {clip(text)} is not accepted. Accepted: {FORMS}.")
        return LogNormal(number(field, mean, low=1.0), number(field, cv))
    if text.replace("_", "").isdigit():
        return Fixed(number(field, text, low=1.0, whole=True))
    if Path(text).is_file():
        from ..io.traces import read_trace

        trace = read_trace(Path(text))
        return Empirical({"input": trace.input_token, "output": trace.output_token}[field])
    raise RooflineError(f"{field}: {clip(text)} is not accepted. Accepted: {FORMS}.")
