"""Timing one operation again and again. Contention only ever adds time: the fast side of the samples is the evidence.

Where the system reports that a thread of this process waited for a CPU during a sample, that sample is set apart and
taken again: the evidence is the scheduler's, not the sample's size.

A sample is one turn of `inner` executions; all samples are kept. The clock decides what a turn is: wall time on a CPU,
events around a replayed graph on a GPU.
"""

import gc
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from ..errors import RooflineError
from ..io.datasets.own import FAST_QUANTILE
from ..structs import Array

_TASKS = "/proc/self/task"

Call = Callable[[int], Any]
"""Executes once; the argument counts executions, so that operand copies can take turns."""


DISTURBED = 0.02
"""A sample is disturbed when threads of this process waited for a CPU for more than this share of it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one record may take, and when it is good enough.

    Repeats until `least_sample` samples and `least_s` seconds are there and the fast side is known to `spread` (see
    `fast_spread`), and stops in any case after `most_s` seconds or `most_sample` samples. A sample takes at least
    `sample_s`, so that the clock's resolution does not matter. For lack of undisturbed samples a record may take
    `patience` times as long.
    """

    warm_up_s: float = 0.02
    least_sample: int = 7
    most_sample: int = 200
    least_s: float = 0.1
    most_s: float = 1.0
    spread: float = 0.03
    sample_s: float = 100e-6
    patience: float = 8.0


QUICK = Budget(warm_up_s=0.002, least_sample=6, most_sample=30, least_s=0.02, most_s=0.15, patience=2.0)
"""For a first look: 0.15 s per record at most, unless one execution takes longer."""


def visit(budget: Budget, rounds: int) -> Budget:
    """The part of `budget` for one of `rounds` visits to a shape, in samples of single executions."""
    return replace(
        budget,
        warm_up_s=budget.warm_up_s / rounds,
        least_sample=math.ceil(budget.least_sample / rounds),
        most_sample=math.ceil(budget.most_sample / rounds),
        least_s=budget.least_s / rounds,
        most_s=budget.most_s / rounds,
        sample_s=0.0,
    )


class Clock(Protocol):
    """Measures turns of executions on one kind of device."""

    @property
    def between_byte(self) -> float:
        """Bytes that are read between two executions."""

    def waited_s(self) -> float:
        """Seconds that threads of this process have waited for a CPU so far, together."""

    def finish(self) -> None:
        """Wait until all that was launched is done."""

    def turn(self, copies: int) -> int:
        """What the executions of a turn must be a multiple of, so that `copies` copies of operands all take turns."""

    def turns(self, call: Call, inner: int) -> Iterator[float]:
        """Seconds per turn of `inner` executions, one turn per item, without end."""


class WallClock:
    """Wall time of the host: for libraries that return when the work is done."""

    @property
    def between_byte(self) -> float:
        """0: nothing."""
        return 0.0

    def waited_s(self) -> float:
        """As Linux's scheduler statistics tell; 0 elsewhere. Threads that other machines delay are not seen."""
        waited_ns = 0
        with suppress(OSError):
            for task in os.listdir(_TASKS):
                with suppress(OSError), open(f"{_TASKS}/{task}/schedstat", "rb", buffering=0) as file:
                    waited_ns += int(file.read().split()[1])
        return waited_ns * 1e-9

    def finish(self) -> None:
        """Nothing: it is done."""

    def turn(self, copies: int) -> int:
        """1: the copies go on taking turns from one turn to the next."""
        return 1

    def turns(self, call: Call, inner: int) -> Iterator[float]:
        """Every turn executes the next `inner` copies."""
        done = 0
        while True:
            start = perf_counter()
            for index in range(done, done + inner):
                call(index)
            yield perf_counter() - start
            done += inner


@dataclass(frozen=True, slots=True)
class SweptClock(WallClock):
    """Wall time of single executions, with one of `sweeps` executed before each of them, untimed, in turn: as in a
    model, where other kernels have just used the caches and the core's memory of code. A loop of one small kernel alone
    is 2 to 5 times faster than the same kernel between two products. Each sweep reads other `sweep_byte`.
    """

    sweeps: tuple[Callable[[], Any], ...]
    sweep_byte: float

    @property
    def between_byte(self) -> float:
        """What a sweep reads."""
        return self.sweep_byte

    def turns(self, call: Call, inner: int) -> Iterator[float]:
        """Every turn executes the next `inner` copies. What was touched before is swept away first."""
        for sweep in self.sweeps:
            sweep()
        sweeps = cycle(self.sweeps)
        done = 0
        while True:
            elapsed = 0.0
            for index in range(done, done + inner):
                next(sweeps)()
                start = perf_counter()
                call(index)
                elapsed += perf_counter() - start
            yield elapsed
            done += inner


@dataclass(frozen=True, slots=True)
class EventClock:
    """Events on a device's stream around one turn, captured as a graph (so that the host's launches do not count) or
    launched one by one.

    `device`: a module that has Event, CUDAGraph, graph and synchronize as torch.cuda does.
    """

    device: Any
    captured: bool = True

    @property
    def between_byte(self) -> float:
        """0: nothing."""
        return 0.0

    def waited_s(self) -> float:
        """0: the device does not wait for the host's CPUs."""
        return 0.0

    def finish(self) -> None:
        """Wait for the device."""
        self.device.synchronize()

    def turn(self, copies: int) -> int:
        """All copies: a graph executes the same ones again."""
        return copies

    def turns(self, call: Call, inner: int) -> Iterator[float]:
        """Every turn executes the same `inner` copies."""
        run = self._captured(call, inner) if self.captured else lambda: _each(call, inner)
        start, end = (self.device.Event(enable_timing=True) for _ in range(2))
        while True:
            start.record()
            run()
            end.record()
            self.device.synchronize()
            yield start.elapsed_time(end) * 1e-3

    def _captured(self, call: Call, inner: int) -> Callable[[], Any]:
        graph = self.device.CUDAGraph()
        with self.device.graph(graph):
            _each(call, inner)
        replay: Callable[[], Any] = graph.replay
        return replay


def _each(call: Call, inner: int) -> None:
    for index in range(inner):
        call(index)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Seconds per execution, one value per turn, in the order in which they were measured.

    `disturbed`: those during which a thread waited for a CPU. They count nowhere; where there are no others, `seconds`
    has them too.
    """

    seconds: Array
    disturbed: Array = field(default_factory=lambda: np.empty(0))

    @property
    def median_s(self) -> float:
        """The median."""
        return float(np.median(self.seconds))

    @property
    def fast_s(self) -> float:
        """The fast side: the 20th percentile."""
        return float(np.quantile(self.seconds, FAST_QUANTILE))

    @property
    def fast_spread(self) -> float:
        """How well the fast side is known: its distance from the fastest sample, as a fraction."""
        return float(self.fast_s / np.min(self.seconds) - 1.0)

    @property
    def interval_s(self) -> tuple[float, float]:
        """95 % confidence interval of the median, from order statistics (binomial, normal approximation; David and
        Nagaraja, Order Statistics, section 7.1): the whole range for five samples or fewer.
        """
        ordered = np.sort(self.seconds)
        half = 1.96 * math.sqrt(ordered.size) / 2.0
        low = max(math.floor(ordered.size / 2.0 - half), 0)
        return float(ordered[low]), float(ordered[ordered.size - 1 - low])


def time_call(call: Call, budget: Budget, clock: Clock, *, turn: int = 1) -> Samples:
    """The Samples of `call`; `turn`: executions of a turn are a multiple of this where copies must all take turns.

    Errors: RooflineError where the operation takes no measurable time.
    """
    with _no_garbage_collection():
        inner = _inner(call, budget, clock, turn)
        quiet: list[float] = []
        disturbed: list[float] = []
        started, waited_s = perf_counter(), clock.waited_s()
        for elapsed in clock.turns(call, inner):
            if elapsed <= 0.0:
                raise RooflineError("time: an operation took no measurable time. Give larger shapes.")
            before_s, waited_s = waited_s, clock.waited_s()
            kind = disturbed if waited_s - before_s > DISTURBED * elapsed else quiet
            kind.append(elapsed / inner)
            if _enough(quiet, disturbed, perf_counter() - started, budget):
                break
    return Samples(np.array(quiet or disturbed), np.array(disturbed))


def _enough(quiet: list[float], disturbed: list[float], spent_s: float, budget: Budget) -> bool:
    """Whether to stop. On a busy machine the time is longer by `patience`, as long as undisturbed samples are few."""
    if len(quiet) < budget.least_sample and disturbed:
        return spent_s >= budget.patience * budget.most_s
    if len(quiet) >= budget.most_sample or spent_s >= budget.most_s:
        return True
    known = len(quiet) >= budget.least_sample and spent_s >= budget.least_s
    return known and Samples(np.array(quiet)).fast_spread <= budget.spread


def _inner(call: Call, budget: Budget, clock: Clock, turn: int) -> int:
    """Executions of one turn: as many as take `sample_s`, found while warming up."""
    started, done = perf_counter(), 0
    while done < turn or perf_counter() - started < budget.warm_up_s:
        call(done)
        clock.finish()
        done += 1
        if perf_counter() - started > budget.most_s:
            break
    each_s = max((perf_counter() - started) / done, 1e-9)
    return max(math.ceil(budget.sample_s / each_s / turn), 1) * turn


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
