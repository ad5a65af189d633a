"""A node of an explanation, and where its leaves are from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..structs import Number


class SourceKind(StrEnum):
    """Where a value is from."""

    COMPUTED = "computed"
    """by the formula of its children."""
    FACT = "fact"
    """the device's profile, or a price file."""
    CALIBRATION = "calibration"
    """a fit to measured kernels."""
    MODEL = "model"
    """the model's shape."""
    USER = "user"
    """what was asked for, or its default."""
    CONSTANT = "constant"
    """the same everywhere: a convention or a unit."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its formula. Where `exact`, the formula is an expression in the names of the children that gives the
    value; otherwise it is in words, and the children are what goes into it.

    `unit`: SI, as text. `text`: the citation of a leaf. `note`: what it is, in words.
    """

    name: str
    value: float
    unit: str
    formula: str = ""
    exact: bool = False
    children: tuple["Node", ...] = ()
    kind: SourceKind = SourceKind.COMPUTED
    text: str = ""
    note: str = ""


def computed(name: str, value: Number, unit: str, formula: str, children: Iterable[Node], note: str = "") -> Node:
    """A node whose formula is an expression in its children's names."""
    return Node(name, float(value), unit, formula, True, tuple(children), note=note)


def described(name: str, value: Number, unit: str, formula: str, children: Iterable[Node], note: str = "") -> Node:
    """A node whose formula is told in words: too long for an expression, or a choice among candidates."""
    return Node(name, float(value), unit, formula, False, tuple(children), note=note)


def summed(name: str, value: Number, unit: str, parts: Iterable[Node], note: str = "") -> Node:
    """A node that is the sum of its children."""
    children = tuple(parts)
    return computed(name, value, unit, " + ".join(part.name for part in children) or "0", children, note)


@dataclass(frozen=True, slots=True)
class Citations:
    """What leaves cite: the text of every fact by its path in the profile, the model's source, the settings given.

    `given`: names of the settings that differ from their defaults.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    given: frozenset[str] = frozenset()

    def fact(self, name: str, value: Number, unit: str, path: str) -> Node:
        """A leaf that the profile states at `path`."""
        return Node(name, float(value), unit, kind=SourceKind.FACT, text=self.facts.get(path, path))

    def shape(self, name: str, value: Number, unit: str = "", note: str = "") -> Node:
        """A leaf that follows from the model's shape (and how it is split)."""
        return Node(name, float(value), unit, kind=SourceKind.MODEL, text=self.model, note=note)

    def asked(self, name: str, value: Number, unit: str, setting: str) -> Node:
        """A leaf that the user set, or left at its default."""
        said = f"--{setting}" if setting in self.given else "defaults, or what follows from the other settings"
        return Node(name, float(value), unit, kind=SourceKind.USER, text=said)


def constant(name: str, value: Number, unit: str, text: str) -> Node:
    """A leaf that is the same everywhere."""
    return Node(name, float(value), unit, kind=SourceKind.CONSTANT, text=text)
