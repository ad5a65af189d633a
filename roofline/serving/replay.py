"""A deployment under a workload, simulated: requests drawn or from a trace, the rules of its engine, its step times."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import ceil

import numpy as np

from ..errors import InfeasibleError, RooflineError
from ..footprint import BLOCK_TOKEN
from ..structs import Array
from ..trace import Trace
from .engine import ChunkedPrefill, HostCost, KernelScale, PrefillFirst
from .lengths import Empirical, Lengths
from .replica import Rules, StepTimes
from .simulation import Requests, Simulation, simulate
from .step import ServedModel
from .step_table import Bounded, step_table
from .traffic import ClosedLoop, OpenLoop, Traffic

LARGEST_COUNT = 5_000_000
"""Most requests that are drawn."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """`count` requests with lengths drawn from distributions, under `traffic`; `seed` decides every draw."""

    traffic: Traffic
    lengths: Lengths
    count: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Traced:
    """The requests of a trace, when they came; or, with `traffic`, their lengths in order, repeated to `count`."""

    trace: Trace
    traffic: Traffic | None = None
    count: int | None = None
    seed: int = 0


Workload = Drawn | Traced


def arrivals_s(traffic: OpenLoop, count: int, generator: np.random.Generator) -> Array:
    """When `count` requests arrive, the first at 0: gaps of a gamma distribution (Poisson arrivals where cv² is 1)."""
    cv2 = max(float(traffic.arrival_cv2), 1e-16)  # towards 0: a clock
    gaps = generator.gamma(1.0 / cv2, cv2 / float(traffic.request_per_s), count)
    return np.asarray(np.cumsum(gaps) - gaps[0])


def requests_of(workload: Workload, host: HostCost) -> Requests:
    """The Requests of `workload`; `host` gives their way to the scheduler.

    Errors: RooflineError beyond LARGEST_COUNT, or for more requests than a trace has arrivals.
    """
    order, prompts, outputs = (np.random.default_rng([workload.seed, stream]) for stream in range(3))
    match workload:
        case Drawn(lengths=lengths, count=count):
            _bounded(count)
            input_token, output_token = lengths.prompt.sample(prompts, count), lengths.output.sample(outputs, count)
            arrival_s = np.zeros(count)
        case Traced(trace=trace):
            count = workload.count or trace.size
            _bounded(count)
            index = np.arange(count) % trace.size
            input_token, output_token = trace.input_token[index], trace.output_token[index]
            arrival_s = trace.arrival_s[:count]
            if workload.traffic is None and count > trace.size:
                raise RooflineError(
                    f"requests: {trace.source} holds {trace.size:,}, not {count:,}. Give --rate as well."
                )
    if isinstance(workload.traffic, OpenLoop):
        arrival_s = arrivals_s(workload.traffic, count, order)
    return Requests(arrival_s, input_token, output_token, host.request_s + host.prompt_token_s * input_token)


def traffic_of(workload: Workload) -> Traffic:
    """The Traffic of `workload`; that of a trace is an open loop of its rate and variability of arrivals."""
    match workload:
        case Drawn(traffic=traffic):
            return traffic
        case Traced(traffic=None, trace=trace, count=count):
            gaps = np.diff(trace.first(count or trace.size).arrival_s)
            mean = float(gaps.mean()) if gaps.size else 0.0
            return OpenLoop(1.0 / mean if mean else np.inf, float(gaps.var()) / mean**2 if mean else 1.0)
        case Traced(traffic=traffic):
            assert traffic is not None
            return traffic


def lengths_of(workload: Workload) -> Lengths:
    """The Lengths of `workload`; those of a trace as observed."""
    match workload:
        case Drawn(lengths=lengths):
            return lengths
        case Traced(trace=trace, count=count):
            used = trace.first(count or trace.size)
            return Lengths(Empirical(used.input_token), Empirical(used.output_token))


def _bounded(count: int) -> None:
    if not 1 <= count <= LARGEST_COUNT:
        raise RooflineError(f"requests: {count:,} is not accepted. Accepted: 1 to {LARGEST_COUNT:,}.")


def rules_of(served: ServedModel, requests: Requests) -> Rules:
    """The Rules of one replica of `served` (scalar limits).

    KV blocks are counted as if every layer kept every token; where windows keep fewer, there are as many more blocks as
    make requests of the mean length fit as often as they do. Errors: InfeasibleError where not even one block fits.
    """
    engine, limits = served.engine, served.engine.limits
    mean = float((requests.input_token + requests.output_token).mean())
    blocks = float(served.memory.sequence(mean)) * ceil(mean / BLOCK_TOKEN)
    if blocks < 1.0:
        raise InfeasibleError(
            "memory: weights, activations and the engine's reserve leave nothing for the KV cache. Use more or larger "
            "devices (DEVICE:N), or narrower --weights."
        )
    match engine.schedule:
        case ChunkedPrefill():
            mixed = True
        case PrefillFirst():
            mixed = False
    return Rules(
        budget=int(limits.max_batch_token),
        sequences=int(limits.max_sequence),
        blocks=int(blocks),
        block=int(BLOCK_TOKEN),
        mixed=mixed,
        ahead=engine.ahead,
        reserved=engine.reserved_output,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A Simulation, and the same requests with every step at the low and at the high end of the engine's band."""

    workload: Workload
    simulation: Simulation
    low: Simulation
    high: Simulation


def replay(
    served: ServedModel, workload: Workload, *, progress: Callable[[float], None] = lambda share: None
) -> Replay:
    """The Replay of `workload` on `served` and its replicas. `progress` is told the share that is done.

    Errors: as `simulate`, `requests_of` and `rules_of`.
    """
    requests = requests_of(workload, served.engine.host)
    rules = rules_of(served, requests)
    table = table_of(served, requests, rules)
    floor = table_of(bare(served), requests, rules)
    band = served.engine.tpot_band
    every: tuple[StepTimes, ...] = (
        table,
        Bounded(table, float(band.low), floor),
        Bounded(table, float(band.high), floor),
    )
    clients = None
    if isinstance(workload.traffic, ClosedLoop):  # more clients than requests would have nothing to send
        clients = min(int(workload.traffic.concurrency), requests.arrival_s.size)
    runs = []
    for position, times in enumerate(every):

        def told(answered: int, done: int = position) -> None:
            progress((done + answered / requests.arrival_s.size) / len(every))

        replicas = int(served.replicas)
        runs.append(simulate(requests, rules, times, replicas=replicas, clients=clients, progress=told))
    return Replay(workload, *runs)


def table_of(served: ServedModel, requests: Requests, rules: Rules) -> StepTimes:
    """Step times of `served` for these requests."""
    longest = int((requests.input_token + requests.output_token).max())
    return step_table(served, sequences=rules.sequences, budget=rules.budget, context=max(longest, 128))


def bare(served: ServedModel) -> ServedModel:
    """The same at the bare roofline of its kernels, without host time: no step is faster."""
    nothing = KernelScale(**{entry.name: 0.0 for entry in fields(KernelScale)})
    return replace(served, engine=replace(served.engine, host=HostCost(), scale=nothing))
