"""What users ask of a service, in plain names and numbers: checked, and turned into what serving understands."""

import re
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from .errors import RooflineError, clip
from .io.profiles import Target

if TYPE_CHECKING:
    from .model import Model
    from .serving.deployed import Asked

SETTINGS = (
    "concurrency",
    "rate",
    "cv",
    "input_cv",
    "output_cv",
    "engine",
    "max_batch_tokens",
    "max_sequences",
    "prefix_hit",
    "disaggregated",
    "draft_tokens",
    "acceptance",
    "draft",
)
"""Settings of a service, by the names of flags and of the arguments of `predict`."""

LARGEST = 2.0**40
_POOLS = re.compile(r"([0-9]{1,6})P([0-9]{1,6})D", re.IGNORECASE)


def is_asked(settings: Mapping[str, Any]) -> bool:
    """Whether a service is asked for.

    Errors: RooflineError where settings of one are given without traffic, or with two kinds of it.
    """
    given = {name for name in SETTINGS if settings.get(name) is not None}
    if {"concurrency", "rate"} <= given:
        raise RooflineError(
            "concurrency, rate: both are given; a closed loop has clients, an open one a rate. Give one of them."
        )
    if not given & {"concurrency", "rate"}:
        if given:
            flags = ", ".join(sorted(given)).replace("_", "-")
            raise RooflineError(
                f"{flags}: only of use with traffic. Add --concurrency N (clients) or --rate X (requests per second)."
            )
        return False
    if "cv" in given and "rate" not in given:
        raise RooflineError(
            "cv: arrivals vary in an open loop only. Give --rate X instead of --concurrency, or no --cv."
        )
    if ("acceptance" in given or "draft" in given) and "draft_tokens" not in given:
        raise RooflineError("acceptance, draft: only of use with --draft-tokens N, the tokens drafted per step.")
    if "draft_tokens" in given and "acceptance" not in given:
        raise RooflineError("draft-tokens: needs --acceptance X, the probability that a drafted token is accepted.")
    return True


def pools_of(text: str) -> tuple[int, int]:
    """Replicas that prefill and that decode, written 2P4D. Errors: RooflineError with what is accepted."""
    found = _POOLS.fullmatch(text.strip())
    pools = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(pools) < 1:
        raise RooflineError(
            f"disaggregated: {clip(text)} is not accepted. Accepted: replicas that prefill and that decode, as in 2P4D."
        )
    return pools


def number(
    field: str, value: object, *, low: float = 0.0, high: float = LARGEST, whole: bool = False, zero: bool = False
) -> float:
    """`value` as a number in (0, high], or from `low` on where that is above 0; whole where asked. `zero`: the caller
    takes 0 too, which the error says.

    Errors: RooflineError naming the field, the value and what is accepted.
    """
    try:
        found = float(str(value).replace("_", ""))
    except ValueError:
        found = float("nan")
    if not (isfinite(found) and 0.0 < found <= high and found >= low and not (whole and found % 1.0)):
        least = f"from {low:g}" if low or zero else "above 0"
        most = f" up to {high:g}" if high < LARGEST or found > high else " on" if low else ""
        raise RooflineError(
            f"{field}: {clip(str(value))} is not accepted. Accepted: {'whole ' if whole else ''}numbers {least}{most}."
        )
    return found


def asked_of(settings: Mapping[str, Any], target: Target) -> "Asked":
    """The Asked that `settings` say, with the engine's own limits where they say none.

    Errors: RooflineError for anything not understood.
    """
    from .io.engines import DEFAULT_ENGINE, load_engine
    from .io.models import load_model
    from .serving.deployed import Asked, with_limits

    def read(name: str, otherwise: float | None, **limits: Any) -> float | None:
        value = settings.get(name)
        return otherwise if value is None else number(name.replace("_", "-"), value, **limits)

    def share(name: str) -> float:
        value = settings.get(name)
        nothing = value is None or str(value).strip() in ("0", "0.0", "0.00")
        return 0.0 if nothing else number(name.replace("_", "-"), value, high=0.999, zero=True)

    def variation(name: str, otherwise: float) -> float:
        value = settings.get(name)
        if value is None:
            return otherwise
        nothing = str(value).strip() in ("0", "0.0")
        return 0.0 if nothing else number(name.replace("_", "-"), value, high=20.0, zero=True)

    engine = load_engine(settings.get("engine") or DEFAULT_ENGINE)
    limited = with_limits(
        engine,
        read("max_batch_tokens", None, low=1.0, whole=True),
        read("max_sequences", None, low=1.0, whole=True),
    )
    pools = settings.get("disaggregated")
    draft = settings.get("draft")
    return Asked(
        engine=limited,
        concurrency=read("concurrency", None, low=1.0, whole=True),
        request_per_s=read("rate", None),
        arrival_cv=variation("cv", 1.0),
        input_cv=variation("input_cv", 0.0),
        output_cv=variation("output_cv", 0.0),
        prefix_hit=share("prefix_hit"),
        pools=None if pools is None else pools_of(str(pools)),
        draft_token=read("draft_tokens", 0.0, low=1.0, high=64.0, whole=True) or 0.0,
        acceptance=share("acceptance"),
        draft=None if draft is None else _drafting(load_model(str(draft)).model),
    )


def _drafting(model: "Model") -> "Model":
    """`model`. Errors: RooflineError where it generates no tokens."""
    if not model.causal:
        raise RooflineError(f"draft: {model.name} is an encoder and generates no tokens. Give a model that does.")
    return model


def backend_of(asked: "Asked", target: Target, backend: str | None) -> str | None:
    """The library whose kernels run: the one asked for, else the engine's where the device is calibrated for it."""
    from .io.calibration import backends_of

    return backend or (asked.engine.backend if asked.engine.backend in backends_of(target) else None)
