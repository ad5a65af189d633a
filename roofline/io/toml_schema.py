"""TOML text into a validated table of a pydantic schema; every problem is one line with its field path."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ..errors import RooflineError, clip, nearest

_PROBLEM_LIMIT = 20

Schema = TypeVar("Schema", bound=BaseModel)


def validated(schema: type[Schema], text: bytes, origin: str, what: str) -> Schema:
    """`text` as a `schema`. `origin` names it in errors, `what` says what it should be ("a profile").

    Errors: RooflineError for text that is not UTF-8 or not TOML, and with a line for each problem of its content.
    """
    try:
        table = tomllib.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RooflineError(f"{origin}: not UTF-8 text (byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise RooflineError(f"{origin}: {_toml_problem(str(error), text.decode('utf-8'))}") from None
    except RecursionError:
        raise RooflineError(f"{origin}: nested too deeply for {what}.") from None
    try:
        return schema.model_validate(table)
    except ValidationError as error:
        found = list(_problems(error.errors(include_url=False), schema))
        more = [f"… and {len(found) - _PROBLEM_LIMIT} more"] if len(found) > _PROBLEM_LIMIT else []
        raise RooflineError("\n".join(f"{origin}: {line}" for line in [*found[:_PROBLEM_LIMIT], *more])) from None


def _toml_problem(message: str, text: str) -> str:
    """The parser's message with the line it points at."""
    found = re.search(r"line (\d+)", message)
    lines = text.splitlines()
    number = int(found.group(1)) if found else len(lines)
    shown = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return f"not valid TOML: {message}: {clip(shown)}"


def _problems(errors: list[Any], schema: type[BaseModel]) -> Iterator[str]:
    """The validation as one line each: field path, value, what is accepted."""
    for error in errors:
        parts = [str(part) for part in error["loc"] if part != "[key]"]
        path = ".".join(part if part.isprintable() and len(part) <= 60 else clip(part) for part in parts)
        where = f"{path}: " if path else ""
        match error["type"]:
            case "extra_forbidden":
                accepted = _accepted(error["loc"][:-1], schema)
                match_ = nearest(str(error["loc"][-1])[:200], accepted)
                hint = f" Did you mean {match_!r}?" if match_ else ""
                yield f"{where}unknown key.{hint} Accepted: {', '.join(accepted)}."
            case "missing":
                yield (
                    f"{where}missing. A fact needs value, printed, kind and source (a price no value); a table needs "
                    "each of its facts."
                )
            case "value_error":
                for line in str(error["ctx"]["error"]).splitlines():
                    yield f"{where}{line}"
            case _:
                yield f"{where}{_shown(error['input'])}: {error['msg'][:1].lower()}{error['msg'][1:]}."


def _shown(value: object) -> str:
    """A value short enough for one line; tables and arrays (which may nest without end) by their kind only."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    return clip(value)


def _accepted(location: tuple[Any, ...], schema: type[BaseModel]) -> list[str]:
    """The keys of the table at a field path of the schema."""
    table: Any = schema
    for part in location:
        field = table.model_fields.get(part) if isinstance(table, type) and issubclass(table, BaseModel) else None
        annotation = field.annotation if field else table
        models = [kind for kind in _flatten(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        table = models[0] if models else get_args(annotation)
    return [field.alias or key for key, field in table.model_fields.items()]


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _flatten(part)
