"""What is asked of a plan: traffic, service level, what may be bought, and what counts as better."""

from dataclasses import dataclass
from enum import StrEnum

from ..device import Device
from ..economics import Site
from ..errors import RooflineError
from ..model import Model
from ..serving.engine import Engine
from ..serving.lengths import Lengths
from ..timing import Calibration
from ..workload import Precision


class Rank(StrEnum):
    """What makes a better plan: fewer dollars per token, fewer devices, fewer joules per token, or fewer seconds from
    sending a request of mean length to its last token; the shortest TTFT or TPOT at the percentile; the most headroom
    below both; the highest rate.
    """

    USD = "usd"
    DEVICES = "devices"
    ENERGY = "energy"
    LATENCY = "latency"
    TTFT = "ttft"
    TPOT = "tpot"
    HEADROOM = "headroom"
    RATE = "rate"


class Pools(StrEnum):
    """Prefill and decode on the same replicas, or on pools of their own with the KV cache sent between them."""

    AGGREGATED = "aggregated"
    DISAGGREGATED = "disaggregated"


class Reason(StrEnum):
    """Why a candidate is out. The first three: it cannot exist. FLOOR: the bare roofline alone breaks the service
    level. Those from RATE on are found by evaluating the candidate.
    """

    SHAPE = "shape"
    LINK = "link"
    FORMAT = "format"
    MEMORY = "memory"
    TTFT_FLOOR = "ttft_floor"
    TPOT_FLOOR = "tpot_floor"
    RATE_FLOOR = "rate_floor"
    RATE = "rate"
    TTFT = "ttft"
    TPOT = "tpot"
    BOTH = "ttft_and_tpot"


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """The longest TTFT and TPOT in seconds that `percentile` of 100 requests may see."""

    ttft_s: float
    tpot_s: float
    percentile: float


@dataclass(frozen=True, slots=True)
class Offer:
    """A device that may be bought: its numbers, how its times are predicted, the formats to try, and what it costs (no
    tariff: unknown; such plans cannot be ranked by money).
    """

    device: Device
    calibration: Calibration
    precisions: tuple[Precision, ...]
    site: Site


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A whole question. `rates`: requests per second, usually one; `arrival_cv2` as in serving.traffic.OpenLoop.

    `least_devices`, `max_devices`: devices of a plan, all pools and replicas together. `fill`: only as many replicas as
    `max_devices` allows. `max_sequences` and `max_batch_tokens`: engine limits to try. `top`: plans to keep. `sure`:
    the service level is held against the slow end of each candidate's band, not against its prediction.
    """

    model: Model
    rates: tuple[float, ...]
    arrival_cv2: float
    lengths: Lengths
    level: ServiceLevel
    offers: tuple[Offer, ...]
    engine: Engine
    max_devices: int
    max_sequences: tuple[int, ...]
    max_batch_tokens: tuple[int, ...]
    pools: tuple[Pools, ...]
    rank: Rank
    top: int
    least_devices: int = 1
    fill: bool = False
    sure: bool = False


LARGEST = 2.0**40
"""Largest rate, and longest time in seconds, that means something."""

MOST_SEQUENCES, MOST_BATCH_TOKENS = 2**16, 2**22
"""Largest engine limits that are searched: step times are taken once for every batch up to them."""


def check_request(request: PlanRequest) -> None:
    """Refuses numbers that mean nothing. Errors: RooflineError with field, value and what is accepted."""
    level = request.level
    for field, value in (
        *(("rate", rate) for rate in request.rates),
        ("ttft", level.ttft_s),
        ("tpot", level.tpot_s),
    ):
        if not 0.0 < value <= LARGEST:
            raise RooflineError(f"{field}: {value!r} is not accepted. Accepted: numbers above 0 up to {LARGEST:g}.")
    if not 0.0 < level.percentile < 100.0:
        raise RooflineError(f"percentile: {level.percentile!r} is not accepted. Accepted: above 0, below 100.")
    for field, values, most in (
        ("max-devices", (request.max_devices,), 2**30),
        ("max-sequences", request.max_sequences, MOST_SEQUENCES),
        ("max-batch-tokens", request.max_batch_tokens, MOST_BATCH_TOKENS),
        ("top", (request.top,), 2**30),
    ):
        for value in values or (0,):
            if not 1 <= value <= most:
                raise RooflineError(f"{field}: {value:,} is not accepted. Accepted: whole numbers from 1 to {most:,}.")
    fewest, largest = min(request.max_sequences), max(request.max_batch_tokens)
    if largest < fewest:
        raise RooflineError(
            f"max-batch-tokens: {largest:,} is below max-sequences, {fewest:,}: every running sequence takes a token "
            f"of a step's budget. Give at least {fewest:,}, or fewer sequences."
        )
    if request.rank is Rank.USD:
        for offer in request.offers:
            if offer.site.tariff is None:
                raise RooflineError(
                    f"price: no price of {offer.device.name} is known. Give --prices FILE with one, or rank by "
                    "devices, energy or latency (--rank devices)."
                )
