"""Parameters of timing models: each is physical, bounded, named, and says what an ideal machine would have."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar, cast

P = TypeVar("P")


class Scaling(StrEnum):
    """How a parameter carries over to another device of the same structure."""

    PORTABLE = "portable"
    """Dimensionless, or a property of the software: carried over unchanged."""
    WITH_FLOP_PER_CLOCK = "with_flop_per_clock"
    """A per-unit rate, proportional to the arithmetic rate of one compute unit per clock."""
    WITH_CLOCK = "with_clock"
    """A latency given in cycles: the same in seconds, so proportional to the clock."""
    AGAINST_LINK = "against_link"
    """A time of a protocol between devices: against the bandwidth of a device's links, within transfer.LINK_SPAN."""


@dataclass(frozen=True, slots=True)
class ParameterFacts:
    """What is known of one parameter before any measurement. `low` and `high` bound the fit, which is in logarithms."""

    prior: float
    low: float
    high: float
    ideal: float
    unit: str
    meaning: str
    scaling: Scaling


def parameter(
    prior: float,
    *,
    low: float,
    high: float,
    ideal: float,
    unit: str,
    meaning: str,
    scaling: Scaling = Scaling.PORTABLE,
) -> Any:
    """A dataclass field that carries its ParameterFacts; the prior is its default."""
    facts = ParameterFacts(prior, low, high, ideal, unit, meaning, scaling)
    return field(default=prior, metadata={"facts": facts})


def facts_of(parameters: type) -> Mapping[str, ParameterFacts]:
    """The facts of every fitted parameter of a parameter dataclass, by name, in order.

    Parameters of a dataclass inside it are named "field.name".
    """
    found: dict[str, ParameterFacts] = {}
    for entry in fields(parameters):
        if "facts" in entry.metadata:
            found[entry.name] = cast(ParameterFacts, entry.metadata["facts"])
        elif "parameters" in entry.metadata:
            found |= {f"{entry.name}.{name}": facts for name, facts in facts_of(entry.metadata["parameters"]).items()}
    return found


def all_but(parameters: type, *names: str) -> tuple[str, ...]:
    """The names of the fitted parameters of a parameter dataclass, in order, without these."""
    return tuple(name for name in facts_of(parameters) if name not in names)


def kernel_facts_of(parameters: Any) -> Mapping[str, Any]:
    """The fields of a parameter dataclass that no fit changes: its kernel and what else is known of it, by name."""
    plain = (entry for entry in fields(parameters) if not {"facts", "parameters"} & entry.metadata.keys())
    return {entry.name: getattr(parameters, entry.name) for entry in plain}


def inner_parameters(parameters: Any) -> Mapping[str, Any]:
    """The parameters of another kernel among the kernel facts, by name: of the one that takes what this one leaves."""
    return {name: value for name, value in kernel_facts_of(parameters).items() if is_dataclass(value)}


def nested(parameters: type) -> Any:
    """A dataclass field that holds parameters of their own, fitted together with the others."""
    return field(default_factory=parameters, metadata={"parameters": parameters})


def value_of(parameters: Any, name: str) -> float:
    """The value of the parameter that facts_of calls `name`."""
    for part in name.split("."):
        parameters = getattr(parameters, part)
    return float(parameters)


def with_values(parameters: P, values: Mapping[str, float]) -> P:
    """`parameters` with other values, by the names of facts_of."""
    inner: dict[str, dict[str, float]] = {}
    own: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    own |= {head: with_values(getattr(parameters, head), changed) for head, changed in inner.items()}
    return replace(parameters, **own)  # type: ignore[type-var]
