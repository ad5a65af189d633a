"""What a page walks through in a record, and the error where a part of it is missing or of another kind."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import RooflineError
from ..errors import clip as clip_value
from . import format as text

Record = Mapping[str, Any]

OBJECT, LIST, ROWS = "an object", "a list", "a list of objects"
"""The kinds of a part. What is none of them is shown, whatever it is, and needs no check."""


def check_parts(record: Record, parts: Mapping[str, str], command: str) -> None:
    """Refuses a `record` of which a part, by its dotted path, is not of its kind.

    A step of a path with "?" may lead to nothing or None, and ends it; "*" stands for every value of an object or list
    that is not None. `command` makes such records. Errors: RooflineError naming the part, what it is, and what is
    accepted.
    """
    for path, kind in parts.items():
        for name, part in _at(record, path.split("."), ""):
            if not _is(part, kind):
                raise RooflineError(
                    f"record: {clip_value(name)} is {clip_value(part)}, which cannot be shown as a page. "
                    f"Accepted: {kind}. Make the record again with `roofline {command} .. --json`."
                )


def _at(part: Any, path: Sequence[str], name: str) -> Iterator[tuple[str, Any]]:
    """Every part that `path` leads to, with its name; what lies under something of the wrong kind is None."""
    if not path:
        yield name, part
        return
    if path[0] == "*":
        values = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list) else ()
        inner = [(str(key), held) for key, held in values if held is not None]
    else:
        key = path[0].removesuffix("?")
        held = part.get(key) if isinstance(part, Mapping) else None
        inner = [] if held is None and path[0].endswith("?") else [(key, held)]
    for key, held in inner:
        yield from _at(held, path[1:], f"{name}.{key}" if name else key)


def _is(part: Any, kind: str) -> bool:
    if kind == OBJECT:
        return isinstance(part, Mapping)
    return isinstance(part, list) and (kind == LIST or all(isinstance(row, Mapping) for row in part))


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become their names, lone surrogates become "?"."""
    match value:
        case Mapping():
            return {plain(str(key)): plain(held) for key, held in value.items()}
        case str():
            return value.encode("utf-8", "replace").decode()
        case Sequence():
            return [plain(held) for held in value]
        case float() if not math.isfinite(value):
            return text.plain(value)
    return value


def listed(entry: Record | None, name: str) -> list[Any]:
    """A part of `entry` where it is a list, else nothing."""
    held = (entry or {}).get(name)
    return held if isinstance(held, list) else []


def columns(entry: Record | None) -> list[dict[str, Any]]:
    """Rows of a part that is kept as columns of equal length; the shortest column ends them."""
    held = {key: values for key, values in (entry or {}).items() if isinstance(values, list)}
    return [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=False)]
