"""Errors that a user can act on: each names the field, the value, what is accepted and the nearest match."""

from collections.abc import Iterable


class RooflineError(Exception):
    """A mistake in the input. The message is complete: the command line prints it without a traceback."""


class InfeasibleError(RooflineError):
    """The input is well formed, but no such deployment can exist (the command line exits with 1)."""


def nearest(value: str, accepted: Iterable[str]) -> str | None:
    """The accepted name closest to `value`, or None when nothing resembles it."""
    from difflib import get_close_matches  # only on the way to an error: not worth its start-up time

    names = {name.lower(): name for name in accepted}
    found = get_close_matches(value.lower(), names, n=1, cutoff=0.5)
    return names[found[0]] if found else None


def clip(value: object, limit: int = 60) -> str:
    """`value` as quoted text short enough for one line of an error message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def unknown(field: str, value: object, accepted: Iterable[str], fix: str = "") -> RooflineError:
    """The error for a name that is not in a closed list: shows the list (shortened) and the nearest match."""
    names = sorted(accepted)
    shown = ", ".join(names) if len(names) <= 12 else ", ".join(names[:10]) + f", … ({len(names)} in all)"
    match = nearest(str(value)[:200], names)
    hint = f" Did you mean {match!r}?" if match else ""
    return RooflineError(f"{field}: {clip(value)} is not known.{hint} Accepted: {shown}.{' ' + fix if fix else ''}")
