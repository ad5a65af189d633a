"""Requests as they came: when each arrived, how many tokens it brought and got, and when a server answered."""

from dataclasses import dataclass

import numpy as np

from .structs import Array


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of arrival, one entry each: seconds since the first arrival, prompt and generated tokens."""

    arrival_s: Array
    input_token: Array
    output_token: Array
    source: str

    @property
    def size(self) -> int:
        """Requests."""
        return int(self.arrival_s.size)

    @property
    def request_per_s(self) -> float:
        """Mean rate of arrival; infinite where all arrive at once (a closed batch), zero for a single request."""
        gaps = self.size - 1
        span = float(self.arrival_s[-1] - self.arrival_s[0]) if gaps else float("inf")
        return gaps / span if span > 0.0 else float("inf")

    def first(self, count: int) -> "Trace":
        """The first `count` requests (all where there are fewer)."""
        return Trace(self.arrival_s[:count], self.input_token[:count], self.output_token[:count], self.source)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a log says about the run it is of; None where it does not say."""

    model: str | None
    engine: str | None
    version: str | None
    tp: int | None
    dp: int | None
    max_sequence: float | None
    max_batch_token: float | None
    weight_format: str | None
    kv_format: str | None


@dataclass(frozen=True, slots=True, eq=False)
class RequestLog:
    """What a server did with a trace: when each request was first scheduled, and its first and last token came.

    Seconds on the clock of `trace` (0 is the first arrival), one entry per request in order of arrival. `queued_s`:
    when the engine took the request in, which is between two of its steps.
    """

    trace: Trace
    queued_s: Array
    scheduled_s: Array
    first_token_s: Array
    last_token_s: Array
    settings: LogSettings

    @property
    def ttft_s(self) -> Array:
        """Arrival to first token."""
        return self.first_token_s - self.trace.arrival_s

    @property
    def tpot_s(self) -> Array:
        """Mean time between tokens after the first; NaN for requests of one token."""
        return mean_gap_s(self.first_token_s, self.last_token_s, self.trace.output_token)

    @property
    def makespan_s(self) -> float:
        """First arrival to last token."""
        return float(self.last_token_s.max() - self.trace.arrival_s.min())


def mean_gap_s(first_token_s: Array, last_token_s: Array, output_token: Array) -> Array:
    """TPOT of requests in seconds: mean time between their tokens; NaN where there is only one."""
    gaps = np.where(output_token > 1.0, output_token - 1.0, np.nan)
    return np.asarray((last_token_s - first_token_s) / gaps)
