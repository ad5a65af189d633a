"""Rounds over drawn shapes: each is visited in all of them, and again where the machine was slow during every visit.

Load that comes and goes then slows a part of every shape's samples, not all samples of some shapes. What the scheduler
does not tell (virtual CPUs that share one core for some seconds) a reference product between the visits does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from ..io.datasets.own import Measurement
from .timer import Samples

SLOW = 1.2
"""How many times as long as ever in a run the reference product takes on a machine that counts as slow."""

MORE_ROUNDS = 0.12
"""Further rounds, of shapes that no visit saw undisturbed, take at most this share of the time of all rounds."""


class Progress(Protocol):
    """Told what is done out of `total`."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """`what` comes next."""


def silent(done: int, total: int, what: str) -> None:
    """A Progress that tells nobody."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit's samples of the record `number`, equal in every round; `pace_s`: of the reference product beside."""

    number: int
    measurement: Measurement
    pace_s: float = 0.0

    @property
    def waited(self) -> bool:
        """Whether a thread waited for a CPU during every sample."""
        return self.measurement.samples_s == self.measurement.disturbed_s


@dataclass(slots=True)
class Stop:
    """Something to measure in every round: `measure` gives its records but for shapes that are `seen` before it.

    `group`: stops of one group share what is seen. `before`, `first`, `best_s`: the shapes seen and the numbers given
    before it, and for each of its records the reference product's time beside its fastest undisturbed visit.
    """

    what: str
    measure: Callable[[set[Any]], Iterable[Measurement]]
    group: int = 0
    first: int = 0
    before: frozenset[Any] = frozenset()
    best_s: dict[int, float] = field(default_factory=dict)


def visits(stops: Sequence[Stop], rounds: int, pace: Callable[[], float], tell: Progress = silent) -> Iterator[Visit]:
    """All visits of `rounds` rounds, and further ones as MORE_ROUNDS says. `pace`: seconds of a reference product."""
    started, done, total, number = perf_counter(), 0, rounds * len(stops), 0
    shared: dict[int, set[Any]] = {}
    fastest_s = before_s = pace()

    def visited(stop: Stop, seen: set[Any]) -> Iterator[Visit]:
        nonlocal fastest_s, before_s
        for place, measurement in enumerate(stop.measure(seen), start=stop.first):
            after_s = pace()
            visit = Visit(place, measurement, max(before_s, after_s))
            fastest_s, before_s = min(fastest_s, after_s), after_s
            stop.best_s[place] = min(stop.best_s.get(place, np.inf), np.inf if visit.waited else visit.pace_s)
            yield visit

    for stop in stops:
        tell(done, total, stop.what)
        seen = shared.setdefault(stop.group, set())
        stop.first, stop.before = number, frozenset(seen)
        yield from visited(stop, seen)
        number, done = number + len(stop.best_s), done + 1
    for stop in tuple(stops) * (rounds - 1):
        tell(done, total, stop.what)
        yield from visited(stop, set(stop.before))
        done += 1
    limit_s = (1.0 + MORE_ROUNDS) * (perf_counter() - started)
    while slow := [stop for stop in stops if any(best > SLOW * fastest_s for best in stop.best_s.values())]:
        total += len(slow)
        for stop in slow:
            if perf_counter() - started > limit_s:
                tell(total, total, "")
                return
            tell(done, total, f"{stop.what}, again")
            yield from visited(stop, set(stop.before))
            done += 1
    tell(total, total, "")


def joined(visits: Iterable[Visit]) -> tuple[Measurement, ...]:
    """One record for each number, with the samples of its undisturbed visits: those without a wait where there are any,
    and of these those that the machine was not SLOW in, where there are any.
    """
    found: dict[int, list[Visit]] = {}
    for visit in visits:
        found.setdefault(visit.number, []).append(visit)
    fastest_s = min((visit.pace_s for each in found.values() for visit in each), default=0.0)
    return tuple(_joined(each, SLOW * fastest_s) for each in found.values())


def _joined(visits: Sequence[Visit], slow_s: float) -> Measurement:
    quiet = [visit for visit in visits if not visit.waited] or list(visits)
    quiet = [visit for visit in quiet if visit.pace_s <= slow_s] or quiet
    samples = Samples(
        np.concatenate([visit.measurement.samples_s for visit in quiet]),
        np.concatenate([visit.measurement.disturbed_s for visit in visits]),
    )
    low, high = samples.interval_s
    return replace(
        visits[0].measurement,
        samples_s=tuple(samples.seconds.tolist()),
        median_s=samples.median_s,
        low_s=low,
        high_s=high,
        disturbed_s=tuple(samples.disturbed.tolist()),
    )
