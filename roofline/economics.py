"""Money, energy and carbon of devices at work: pure arithmetic on prices and power, elementwise.

Allocation rule: a token pays for the device-seconds in which it is made. Input tokens share the seconds of prefill,
output tokens those of decode; `allocated_share` divides a bill that covers both, idle time included.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .device import Device
from .structs import Number

HOUR_S = 3600.0

MILLION_TOKEN = 1e6
"""Tokens that a price is quoted for."""


class PriceKind(StrEnum):
    """How a device is paid for."""

    ON_DEMAND = "on-demand"
    RESERVED = "reserved"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Rental:
    """A device rented by the hour; energy, cooling and the host are in the price."""

    usd_per_hour: Number


@dataclass(frozen=True, slots=True)
class Ownership:
    """A device of one's own: capital written off in a straight line over its life, hosting, and energy by the joule.

    `capital_usd` and `hosting_usd_per_hour` are per device with its share of the server. Ignores: interest, repairs.
    """

    capital_usd: Number
    residual_usd: Number
    life_s: Number
    hosting_usd_per_hour: Number
    usd_per_joule: Number


Tariff = Rental | Ownership


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a tariff is from, as text: who asks it, its kind, the printed figure, its source and date ("": unknown)."""

    seller: str
    kind: str
    printed: str
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Site:
    """What a device costs where it stands. `tariff` None: unknown. `carbon_kg_per_joule` None: not asked for.

    `pue`: power of the whole site over power of its devices (1: the device alone). `grid`, `grid_source`: what the
    intensity is of and where it is from.
    """

    tariff: Tariff | None
    citation: Citation | None
    pue: Number = 1.0
    carbon_kg_per_joule: Number | None = None
    grid: str = ""
    grid_source: str = ""


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What tokens of one phase cost, elementwise. `power_w`: of one device; energy and carbon are those of the site.

    Money is None without a tariff, carbon None without an intensity.
    """

    power_w: Number
    joule_per_token: Number
    usd_per_device_hour: Number | None
    usd_per_mtok: Number | None
    carbon_kg_per_mtok: Number | None


def device_power_w(device: Device, utilisation: Number) -> Number:
    """Watts that one device draws: from idle to the rated limit in proportion to `utilisation` (0 to 1).

    The line between the two is an assumption. A profile without idle power gives the rated limit: an upper bound.
    """
    if device.idle_power_w is None:
        return device.power_w + 0.0 * utilisation
    return device.idle_power_w + (device.power_w - device.idle_power_w) * utilisation


def utilisation_of(mfu: Number, mbu: Number) -> Number:
    """The share of its dynamic power that a device draws: arithmetic and memory traffic each in proportion, at most 1.

    Assumed: the full rate of either takes the board to its limit. Against the mean power of vLLM on 7-8B models (A100
    233 W at batch 1, 382 W at 64; H100 414 and 595 W; argonne-lcf/LLM-Inference-Bench, Fig. 16a) see the tests.
    """
    return np.minimum(mfu + mbu, 1.0)


def usd_per_device_hour(tariff: Tariff, power_w: Number, pue: Number) -> Number:
    """US dollars that one device costs per hour while it draws `power_w`."""
    match tariff:
        case Rental(usd_per_hour):
            return usd_per_hour + 0.0 * power_w
        case Ownership(capital_usd, residual_usd, life_s, hosting_usd_per_hour, usd_per_joule):
            written_off = (capital_usd - residual_usd) / life_s * HOUR_S
            return written_off + hosting_usd_per_hour + power_w * pue * usd_per_joule * HOUR_S


def token_cost(device: Device, site: Site, device_count: Number, utilisation: Number, token_per_s: Number) -> TokenCost:
    """The TokenCost of `device_count` devices that together make `token_per_s` tokens at `utilisation` each."""
    power_w = device_power_w(device, utilisation)
    joule = device_count * power_w * site.pue / token_per_s
    hourly = None if site.tariff is None else usd_per_device_hour(site.tariff, power_w, site.pue)
    intensity = site.carbon_kg_per_joule
    return TokenCost(
        power_w=power_w,
        joule_per_token=joule,
        usd_per_device_hour=hourly,
        usd_per_mtok=None if hourly is None else usd_per_mtok(device_count * hourly, token_per_s),
        carbon_kg_per_mtok=None if intensity is None else joule * intensity * MILLION_TOKEN,
    )


def usd_per_mtok(usd_per_hour: Number, token_per_s: Number) -> Number:
    """US dollars per million tokens where `usd_per_hour` buys `token_per_s`."""
    return usd_per_hour / HOUR_S / token_per_s * MILLION_TOKEN


def allocated_share(prefill_s: Number, decode_s: Number) -> tuple[Number, Number]:
    """The shares of a deployment's bill that input and output tokens pay: as the device-seconds of their phases.

    `prefill_s`, `decode_s`: device-seconds that one request takes in each. The shares add up to 1, so idle time and
    host time are paid in the same proportion.
    """
    whole = prefill_s + decode_s
    return prefill_s / whole, decode_s / whole


def profile_site(device: Device) -> Site:
    """The Site that a profile states: its on-demand price, energy at the device."""
    price = device.price_usd_per_hour
    if price is None:
        return Site(None, None)
    cited = Citation(f"profile {device.name}", PriceKind.ON_DEMAND, f"{price:g} USD/h", "see the profile", "")
    return Site(Rental(price), cited)
