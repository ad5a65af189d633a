"""Typed access to the fields of a JSON object: whatever is not understood is an error that names the field."""

from collections.abc import Iterable
from typing import Any

from ..errors import RooflineError, clip, unknown

LARGEST = 10**9
"""No dimension of a model comes near; beyond it a number is a mistake (and a list that long would fill the memory)."""

LARGEST_CONTEXT = 10**12
MOST_LAYERS = 10_000
_MISSING = object()


class Fields:
    """One object of a config. Every field read is remembered; `done` refuses the fields that nobody asked for."""

    def __init__(self, table: dict[str, Any], source: str, prefix: str = "") -> None:
        self._table, self._source, self._prefix = table, source, prefix
        self._known: set[str] = set()

    def _get(self, name: str, default: object) -> Any:
        self._known.add(name)
        value = self._table.get(name, _MISSING)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise RooflineError(
                f"{self._source}: field {self._prefix}{name} is missing. Add it: the shape depends on it."
            )
        return default

    def label(self, name: str) -> str:
        """The file and the full name of a field, for messages."""
        return f"{self._source}: {self._prefix}{name}"

    def inherit(self, outer: "Fields", name: str) -> None:
        """Take a field from the enclosing object unless this one states it."""
        self._table.setdefault(name, outer.raw(name))

    def error(self, name: str, accepted: str, fix: str = "") -> RooflineError:
        """The error for a field whose value is not what is accepted."""
        value = clip(self._table.get(name))
        return RooflineError(
            f"{self._source}: {self._prefix}{name} is {value}. Accepted: {accepted}.{' ' + fix if fix else ''}"
        )

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._table.get(name) is not None

    def count(self, name: str, default: float | object = _MISSING, least: int = 1, most: int = LARGEST) -> float:
        """A whole number from `least` to `most`; `default` (where given) for a missing or null field."""
        if isinstance(default, float) and not self.has(name):
            self._known.add(name)
            return default
        value = self._get(name, _MISSING)
        if type(value) is not int or not least <= value <= most:
            raise self.error(name, f"a whole number from {least:,} to {most:,}, without quotes")
        return float(value)

    def optional(self, name: str) -> float | None:
        """A whole number, or None for a missing or null field."""
        self._known.add(name)
        return self.count(name) if self.has(name) else None

    def nullable(self, name: str) -> float | None:
        """A whole number, or None for null; the field must be there."""
        self._get(name, _MISSING)
        return self.optional(name)

    def flag(self, name: str, default: bool | object = _MISSING) -> bool:
        """A JSON true or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise self.error(name, "true or false")
        return value

    def word(self, name: str, accepted: Iterable[str], default: str | object = _MISSING) -> str:
        """One of the `accepted` words."""
        value, names = self._get(name, default), tuple(accepted)
        if not isinstance(value, str) or value not in names:
            raise unknown(f"{self._source}: {self._prefix}{name}", value, names)
        return value

    def words(self, name: str, accepted: Iterable[str], length: int) -> list[str] | None:
        """A list of exactly `length` of the `accepted` words, or None for a missing or null field."""
        value, names = self._get(name, None), tuple(accepted)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            raise self.error(name, f"a list of {length} entries, one for each layer")
        for entry in value:
            if entry not in names:
                raise unknown(f"{self._source}: an entry of {self._prefix}{name}", entry, names)
        return value

    def integers(self, name: str, below: int) -> list[int] | None:
        """A list of whole numbers from 0 to `below` - 1, or None for a missing or null field."""
        value = self._get(name, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(entry) is int and 0 <= entry < below for entry in value):
            raise self.error(name, f"a list of whole numbers from 0 to {below - 1}")
        return value

    def fixed(self, name: str, only: object, meaning: str) -> None:
        """A field of which only one value (or none at all) is modelled."""
        value = self._get(name, only)
        if value is not None and (type(value) is not type(only) or value != only):
            raise self.error(name, repr(only), f"Anything else ({meaning}) is not modelled.")

    def table(self, name: str) -> "Fields":
        """A nested object."""
        value = self._get(name, _MISSING)
        if not isinstance(value, dict):
            raise self.error(name, "a JSON object")
        return Fields(value, self._source, f"{self._prefix}{name}.")

    def names(self) -> tuple[str, ...]:
        """The names of all fields present."""
        return tuple(self._table)

    def raw(self, name: str) -> Any:
        """A field as it is, None when missing; the caller checks it."""
        return self._get(name, None)

    def ignore(self, names: Iterable[str]) -> None:
        """Accept fields that change neither FLOP nor bytes."""
        self._known.update(names)

    def done(self) -> None:
        """Refuse every field that was neither read nor ignored."""
        for name in self._table:
            if name not in self._known:
                raise unknown(
                    f"{self._source}: field {self._prefix}{name}", name, self._known,
                    "Remove it if it changes neither work nor bytes; otherwise this model is not supported.",
                )  # fmt: skip
