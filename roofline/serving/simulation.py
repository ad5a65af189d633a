"""Replays requests through an engine's scheduler, iteration by iteration, and keeps what happened to each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np
from numpy.typing import NDArray

from ..errors import InfeasibleError, RooflineError
from ..structs import Array
from ..trace import mean_gap_s
from .replica import Log, Replica, Rules, StepTimes

PROGRESS_EVERY = 4096
"""Steps or runs of steps between two reports of progress."""

LARGEST_STEPS = 50_000_000
"""Steps or runs after which a simulation is given up: hours."""


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Lengths of requests in tokens, when each arrives, and how long its way to the scheduler takes (tokeniser)."""

    arrival_s: Array
    input_token: Array
    output_token: Array
    front_end_s: Array


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Every step of a simulation, one entry each.

    `context`: mean cached tokens of its decodes. `block`: KV blocks held at the end of its run of steps.
    """

    replica: Array
    start_s: Array
    duration_s: Array
    prompt_token: Array
    prompts: Array
    decodes: Array
    context: Array
    block: Array


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What happened to each request (seconds since the first arrival), to each step, and between tokens.

    `gap_s`, `gap_count`: times between consecutive tokens of a request, and how many there were of each.
    """

    arrival_s: Array
    input_token: Array
    output_token: Array
    scheduled_s: Array
    first_token_s: Array
    last_token_s: Array
    preempted: Array
    replica: NDArray[np.intp]
    steps: Steps
    gap_s: Array
    gap_count: Array
    replicas: int
    rules: Rules

    @property
    def ttft_s(self) -> Array:
        """Arrival to first token."""
        return self.first_token_s - self.arrival_s

    @property
    def queue_s(self) -> Array:
        """Arrival to being scheduled, the way to the scheduler included."""
        return self.scheduled_s - self.arrival_s

    @property
    def tpot_s(self) -> Array:
        """Mean time between tokens after the first; NaN for requests of one token."""
        return mean_gap_s(self.first_token_s, self.last_token_s, self.output_token)

    @property
    def makespan_s(self) -> float:
        """First arrival to last token."""
        return float(self.last_token_s.max() - self.arrival_s.min())


class _Open:
    """Requests that come when they come."""

    def __init__(self, requests: list[int], there_s: Array):
        order = np.argsort(there_s[requests], kind="stable").tolist()
        self.requests: list[int] = [requests[i] for i in order]
        self.times: list[float] = [*there_s[self.requests].tolist(), inf]
        self.position = 0

    def next_s(self) -> float:
        return self.times[self.position]

    def take(self) -> int:
        self.position += 1
        return self.requests[self.position - 1]

    def finished(self, now_s: float) -> None:
        pass


class _Closed:
    """A number of clients, each sending its next request when its last is answered; `arrival_s` is filled in."""

    def __init__(self, requests: list[int], clients: int, arrival_s: Array, front_end_s: Array):
        self.requests, self.position = requests, 0
        self.arrival_s, self.front_end_s = arrival_s, front_end_s
        self.coming: list[tuple[float, int]] = []
        for _ in range(clients):
            self.finished(0.0)

    def next_s(self) -> float:
        return self.coming[0][0] if self.coming else inf

    def take(self) -> int:
        return heappop(self.coming)[1]

    def finished(self, now_s: float) -> None:
        if self.position < len(self.requests):
            request = self.requests[self.position]
            self.position += 1
            self.arrival_s[request] = now_s
            heappush(self.coming, (now_s + float(self.front_end_s[request]), request))


def simulate(
    requests: Requests,
    rules: Rules,
    times: StepTimes,
    *,
    replicas: int = 1,
    clients: int | None = None,
    progress: Callable[[int], None] = lambda answered: None,
) -> Simulation:
    """The Simulation of `requests` on `replicas` equal replicas that take them in turn.

    `clients`: a closed loop of so many in all, spread over the replicas; arrivals are then its result and those of
    `requests` are not looked at. `progress` is called with the number of answered requests now and then.
    Errors: RooflineError for rules that cannot be (a budget below the number of sequences); InfeasibleError where a
    request can never be held in the KV cache.
    """
    _check(requests, rules, clients, replicas)
    arrival_s = np.array(requests.arrival_s, dtype=np.float64)
    inputs, outputs = (token.astype(np.int64).tolist() for token in (requests.input_token, requests.output_token))
    logs: list[Log] = []
    answered = 0
    for position in range(replicas):
        own = list(range(position, arrival_s.size, replicas))
        if clients is None:
            feed: _Open | _Closed = _Open(own, arrival_s + requests.front_end_s)
        else:
            share = clients // replicas + (position < clients % replicas)
            feed = _Closed(own, max(share, 1), arrival_s, requests.front_end_s)
        replica = Replica(rules, times, feed, inputs, outputs)
        left, turns = len(own), 0
        while left > 0:
            done = replica.advance()
            left -= done
            answered += done
            turns += 1
            if turns % PROGRESS_EVERY == 0:
                progress(answered)
            if turns > LARGEST_STEPS:
                raise RooflineError(f"simulate: more than {LARGEST_STEPS:,} steps. Give fewer or shorter requests.")
        logs.append(replica.log)
    progress(answered)
    return _gathered(requests, arrival_s, logs, rules)


def _check(requests: Requests, rules: Rules, clients: int | None, replicas: int) -> None:
    if rules.budget < rules.sequences:
        raise RooflineError(
            f"max-batch-tokens: {rules.budget:,} is below max-sequences, {rules.sequences:,}: every running sequence "
            f"takes a token of a step's budget. Give at least {rules.sequences:,}, or fewer sequences."
        )
    if clients is not None and clients < replicas:
        raise RooflineError(
            f"concurrency: {clients:,} clients leave some of {replicas:,} replicas without any. Give at least "
            f"{replicas:,}."
        )
    longest = int((requests.input_token + requests.output_token - 1.0).max())
    if longest > rules.blocks * rules.block:
        raise InfeasibleError(
            f"memory: a request of {longest:,} tokens never fits: the KV cache holds {rules.blocks * rules.block:,} "
            "tokens beside the weights. Use more or larger devices (DEVICE:N), --kv fp8, narrower --weights, or "
            "shorter requests."
        )


def _gathered(requests: Requests, arrival_s: Array, logs: list[Log], rules: Rules) -> Simulation:
    size = arrival_s.size

    def by_request(name: str, otherwise: float = np.nan) -> Array:
        values = np.full(size, otherwise)
        for log in logs:
            found = getattr(log, name)
            values[list(found)] = list(found.values())
        return values

    runs = [(position, run) for position, log in enumerate(logs) for run in log.runs]
    lengths = [run.duration_s.size for _, run in runs]

    def by_step(name: str) -> Array:
        return np.repeat(np.array([getattr(run, name) for _, run in runs], dtype=np.float64), lengths)

    within = np.concatenate([np.arange(length, dtype=np.float64) for length in lengths])
    durations = np.concatenate([run.duration_s for _, run in runs])
    before = np.concatenate([np.cumsum(run.duration_s) - run.duration_s for _, run in runs])
    gaps = [gap for log in logs for gap in log.gaps]
    return Simulation(
        arrival_s=arrival_s,
        input_token=requests.input_token,
        output_token=requests.output_token,
        scheduled_s=by_request("scheduled_s"),
        first_token_s=by_request("first_s"),
        last_token_s=by_request("last_s"),
        preempted=by_request("preempted", 0.0),
        replica=np.arange(size) % len(logs),
        steps=Steps(
            replica=np.repeat(np.array([float(position) for position, _ in runs]), lengths),
            start_s=by_step("start_s") + before,
            duration_s=durations,
            prompt_token=by_step("prompt_token"),
            prompts=by_step("prompts"),
            decodes=by_step("decodes"),
            context=by_step("context") + within * (by_step("decodes") > 0.0),
            block=by_step("blocks"),
        ),
        gap_s=np.concatenate([gap for gap, _ in gaps]) if gaps else np.zeros(0),
        gap_count=np.repeat(np.array([float(n) for _, n in gaps]), [gap.size for gap, _ in gaps]),
        replicas=len(logs),
        rules=rules,
    )
