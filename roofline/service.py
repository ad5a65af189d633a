"""What a deployment serves in steady state, as plain numbers: part of a prediction."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Mean and percentiles of a time in seconds over requests (over tokens: ITL). Infinite beyond saturation."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class ServiceCurve:
    """Mean times and throughput over `load` (concurrency, or requests per second), one entry each."""

    quantity: str
    load: tuple[float, ...]
    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    output_token_per_s: tuple[float, ...]
    utilisation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """The steady state of one deployment, all replicas together; seconds, requests and tokens per second.

    Times as serving.state.SteadyState has them: TTFT = queue + prefill (front end and the prompt's own steps) +
    interference + transfer. `slot_limit`: what limits the sequences that run at once. `ttft_band`, `tpot_band`:
    multiples of the prediction between which four of five measurements lay, from `band_source`.
    """

    engine: str
    release: str
    settings: Mapping[str, float | str | None]
    ttft_s: Percentiles
    tpot_s: Percentiles
    itl_s: Percentiles
    queue_s: Percentiles
    prefill_s: float
    interference_s: float
    transfer_s: float
    request_per_s: float
    output_token_per_s: float
    input_token_per_s: float
    batch: float
    running: float
    slots: float
    slot_limit: str
    utilisation: float
    saturation_request_per_s: float
    saturated: bool
    step_s: float
    host_share: float
    ttft_band: tuple[float, float]
    tpot_band: tuple[float, float]
    band_source: str
    curve: ServiceCurve
    assumptions: tuple[str, ...]
