"""What devices cost at a site: dated price files, and the carbon intensity of the grid."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..device import Device
from ..economics import Citation, Ownership, PriceKind, Rental, Site, Tariff, profile_site
from ..errors import RooflineError, clip, unknown

if TYPE_CHECKING:
    from .price_schema import Figure, OwnTable, PriceFile

DATA = Path(__file__).parent.parent / "data"

G_PER_KWH = 1e-3 / 3.6e6
"""One gram per kilowatt-hour in kg/J."""

LARGEST_G_PER_KWH = 5000.0
"""Beyond any grid: burning lignite gives about 1,200."""


class UnpricedError(RooflineError):
    """A price file does not price a device."""


def price_names() -> tuple[str, ...]:
    """The names of the shipped price files, sorted."""
    return tuple(sorted(path.stem for path in (DATA / "prices").glob("*.toml")))


def load_site(
    device: Device,
    prices: str | None = None,
    price_kind: str | None = None,
    pue: str | float | None = None,
    grid: str | float | None = None,
) -> Site:
    """What `device` costs under a price file (name or path); None: what its profile states, which may be nothing.

    `price_kind`: on-demand, reserved or own; None: the only one that the file has for the device, else on-demand.
    `pue`: power of the site over that of its devices; None: the file's, else 1. `grid`: g/kWh, or a name in data/grids.
    Errors: RooflineError where the file has no such price of the device, or a value is not accepted.
    """
    kind = None if price_kind is None else _kind(price_kind)
    file_pue = 1.0
    if prices is None:
        if kind not in (None, PriceKind.ON_DEMAND):
            raise RooflineError(
                f"price_kind: the profile of {device.name} states an on-demand price at most. Give --prices FILE whose "
                f"[{kind}] table has it, or one of: {', '.join(price_names())}."
            )
        site = profile_site(device)
        tariff, citation = site.tariff, site.citation
    else:
        file = load_prices(prices)
        tariff, citation = _tariff(file, device.name, kind)
        file_pue = file.site.pue.value if file.site else 1.0
    given_pue = file_pue if pue is None else _number("pue", pue, 1.0, 10.0, "the power of the site over its devices'")
    return Site(tariff, citation, given_pue, *_intensity(grid))


@cache
def load_prices(name_or_path: str) -> "PriceFile":
    """A shipped price file by its name, or a .toml file by its path.

    Errors: RooflineError for an unknown name or content that the schema refuses.
    """
    from .price_schema import PriceFile  # pydantic takes 75 ms: only when a price file is read
    from .toml_schema import validated

    if not name_or_path.lower().endswith(".toml"):
        if name_or_path not in price_names():
            raise unknown("prices", name_or_path, price_names(), "Or give a .toml file.")
        path = DATA / "prices" / f"{name_or_path}.toml"
    else:
        path = Path(name_or_path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RooflineError(f"prices: cannot read {clip(name_or_path)}: {error.strerror}.") from None
    return validated(PriceFile, text, f"prices {path.name}", "a price file")


def _kind(text: str) -> PriceKind:
    try:
        return PriceKind(text.lower())
    except ValueError:
        raise unknown("price_kind", text, [str(kind) for kind in PriceKind]) from None


def _tariff(file: "PriceFile", device: str, wanted: PriceKind | None) -> tuple[Tariff, Citation]:
    """The tariff of `device` in `file`. Errors: UnpricedError with what the file has instead."""
    held: dict[PriceKind, Collection[str]] = {
        PriceKind.ON_DEMAND: file.on_demand,
        PriceKind.RESERVED: file.reserved,
        PriceKind.OWN: file.own,
    }
    stated = [kind for kind, table in held.items() if device in table]
    kind = wanted or (stated[0] if len(stated) == 1 else PriceKind.ON_DEMAND)
    match kind:
        case PriceKind.OWN if device in file.own:
            own = file.own[device]
            return _ownership(own), _cited(file, own.capital, kind)
        case PriceKind.ON_DEMAND if device in file.on_demand:
            figure = file.on_demand[device]
            return Rental(figure.value), _cited(file, figure, kind)
        case PriceKind.RESERVED if device in file.reserved:
            figure = file.reserved[device]
            return Rental(figure.value), _cited(file, figure, kind)
    others = f" It has {' and '.join(stated)} for it: --price-kind {stated[0]}." if stated else ""
    names = ", ".join(sorted(set(file.on_demand) | set(file.reserved) | set(file.own)))
    raise UnpricedError(
        f"prices: {file.name} has no {kind} price of {device}.{others} It prices: {names or 'nothing'}."
    )


def _ownership(own: "OwnTable") -> Ownership:
    return Ownership(
        capital_usd=own.capital.value,
        residual_usd=own.residual.value,
        life_s=own.life.value,
        hosting_usd_per_hour=own.hosting.value,
        usd_per_joule=own.power.value,
    )


def _cited(file: "PriceFile", figure: "Figure", kind: PriceKind) -> Citation:
    note = f" ({figure.note})" if figure.note else ""
    return Citation(
        file.seller, str(kind), figure.printed + note, file.sources[figure.source], str(figure.date or file.date)
    )


def _number(field: str, value: str | float, low: float, high: float, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if low <= number <= high:
        return number
    raise RooflineError(f"{field}: {clip(value)} is not accepted. Accepted: {what}, from {low:g} to {high:g}.")


def _intensity(grid: str | float | None) -> tuple[float | None, str, str]:
    """Carbon in kg/J, what it is of, and its source: a number in g/kWh, or a grid by name."""
    if grid is None:
        return None, "", ""
    if isinstance(grid, int | float) or not any(letter.isalpha() for letter in grid):
        number = _number("grid", grid, 0.0, LARGEST_G_PER_KWH, "g CO2/kWh (or the name of a grid)")
        return number * G_PER_KWH, f"{number:g} g/kWh", "given by the user"
    from .price_schema import GridFile
    from .toml_schema import validated

    file = validated(GridFile, (DATA / "grids.toml").read_bytes(), "grids.toml", "a table of grids")
    if grid not in file.intensity:
        raise unknown("grid", grid, file.intensity, "Or give a number in g CO2/kWh.")
    figure = file.intensity[grid]
    return figure.value, f"{grid}, {figure.printed}", file.sources[figure.source]
