"""The TOML schemas `roofline.prices/1` and `roofline.grids/1`: figures as printed, each with kind, source and date."""

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ..errors import RooflineError
from .profile_schema import Kind, Line, Name, Table
from .units import describe, dimension_of, parse_printed

PRICES_SCHEMA = "roofline.prices/1"
GRIDS_SCHEMA = "roofline.grids/1"


class Figure(Table):
    """One number as its source prints it; `note` says what exactly is quoted. `date`: when, if not as its file."""

    printed: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Kind
    source: Line
    note: Line | None = None
    date: datetime.date | None = None

    @property
    def value(self) -> float:
        """The number in SI units (money per time in USD/h)."""
        return parse_printed(self.printed).value


def _in(unit: str, low: float, high: float) -> AfterValidator:
    """Accepts a Figure of the dimension of `unit` whose value in SI lies in [low, high]."""

    def check(figure: Figure) -> Figure:
        try:
            read = parse_printed(figure.printed)
        except RooflineError as error:
            raise ValueError(f"printed {error}") from None
        if read.dimension != (dimension_of(unit) if unit else ()):
            needed = unit or "a pure number"
            raise ValueError(f"printed {figure.printed!r} is {describe(read.dimension)}; accepted: {needed}")
        if not low <= read.value <= high:
            raise ValueError(f"printed {figure.printed!r} is out of range; accepted: {low:g} to {high:g} in SI units")
        return figure

    return AfterValidator(check)


Hourly = Annotated[Figure, _in("USD/h", 0.0, 1e4)]
Capital = Annotated[Figure, _in("USD", 0.0, 1e8)]
Life = Annotated[Figure, _in("s", 30.0 * 86400.0, 30.0 * 365.0 * 86400.0)]
EnergyPrice = Annotated[Figure, _in("USD/J", 0.0, 10.0 / 3.6e6)]
Pue = Annotated[Figure, _in("", 1.0, 10.0)]
Intensity = Annotated[Figure, _in("kg/J", 0.0, 5.0 / 3.6e6)]


class OwnTable(Table):
    """What owning one device costs. `residual`: what it is worth after `life`; `power`: energy at the meter."""

    capital: Capital
    residual: Capital
    life: Life
    hosting: Hourly
    power: EnergyPrice

    @model_validator(mode="after")
    def _loses_value(self) -> "OwnTable":
        if self.residual.value > self.capital.value:
            raise ValueError("residual: more than capital; accepted: up to the capital")
        return self


class SiteTable(Table):
    """The place. `pue`: power of the site over power of its devices."""

    pue: Pue


class PriceFile(Table):
    """What one seller (or owner) asks for devices at one date, by profile name."""

    schema_: Annotated[Literal["roofline.prices/1"], Field(alias="schema")]
    name: Name
    title: Line
    seller: Line
    date: datetime.date
    on_demand: dict[Name, Hourly] = Field(default_factory=dict)
    reserved: dict[Name, Hourly] = Field(default_factory=dict)
    own: dict[Name, OwnTable] = Field(default_factory=dict)
    site: SiteTable | None = None
    sources: dict[Name, Line]

    @model_validator(mode="after")
    def _cited(self) -> "PriceFile":
        check_sources(self, self.sources)
        return self


class GridFile(Table):
    """Carbon intensities of electricity, by name."""

    schema_: Annotated[Literal["roofline.grids/1"], Field(alias="schema")]
    intensity: dict[Name, Intensity]
    sources: dict[Name, Line]

    @model_validator(mode="after")
    def _cited(self) -> "GridFile":
        check_sources(self, self.sources)
        return self


def check_sources(node: object, sources: Mapping[str, str]) -> None:
    """Every figure below `node` must cite an entry of `sources`. Errors: ValueError naming the one that does not."""
    if isinstance(node, Figure):
        if node.source not in sources:
            raise ValueError(
                f"source {node.source!r} is not in [sources]; accepted: {', '.join(sources) or 'none yet'}"
            )
        return
    children: Any = node.values() if isinstance(node, dict) else ()
    if isinstance(node, Table):
        children = (getattr(node, key) for key in type(node).model_fields)
    for child in children:
        check_sources(child, sources)
