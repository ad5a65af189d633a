"""One replica of an engine, step by step: who runs, who waits, which KV blocks are held, and when tokens come.

A simulation of discrete events follows numbers one by one: this module and its state branch on magnitudes and change in
place, unlike the rest of the project. Steps that only decode a fixed set of sequences are taken many at a time.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, inf
from typing import Protocol

import numpy as np

from ..structs import Array

LONGEST_RUN = 1024
"""Decode steps taken at a time at most."""


class StepTimes(Protocol):
    """How long steps take; see StepTable."""

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Array:
        """Seconds of `steps` decode steps on end."""

    def step_s(
        self, prompt_token: int, prompt_context: float, prompts: int, decodes: int, decode_context: float
    ) -> float:
        """Seconds of one step with prompts in it."""


class Feed(Protocol):
    """Requests on their way to a replica, in the order in which they reach its scheduler."""

    def next_s(self) -> float:
        """When the next one is there; infinite where none is known to come."""

    def take(self) -> int:
        """The next one."""

    def finished(self, now_s: float) -> None:
        """A request has been answered."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the scheduler of one replica goes by.

    `mixed`: steps hold decodes and prompts together (else prompts go first, alone). `ahead`: a step is scheduled while
    the one before runs, so arrivals and freed seats take part one step later. `block`: tokens per KV block. `reserved`:
    share of the output whose blocks are set aside at admission; a prompt's always are.
    """

    budget: int
    sequences: int
    blocks: int
    block: int
    mixed: bool
    ahead: bool
    reserved: float


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in a replica: `target` tokens to prefill before its next token, `done` of them.

    `remaining`: tokens to generate. `held`: blocks set aside at admission. It decodes since the step counter was
    `since` (-1: not yet) and has filled those blocks at `full`. `last_s`: when its first token came, or the last before
    it was sent back; `new`: no other has come since.
    """

    request: int
    target: int
    remaining: int
    done: int = 0
    held: int = 0
    since: int = -1
    full: int = 0
    growing: bool = False
    last_s: float = inf
    new: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Steps on end of one make-up: when the first started, seconds of each, prompt tokens, prompts, decodes, mean
    cached tokens of the decodes at the start, and KV blocks held at the end.
    """

    start_s: float
    duration_s: Array
    prompt_token: int
    prompts: int
    decodes: int
    context: float
    blocks: int


@dataclass(slots=True)
class Log:
    """What happened, by request, by run of steps, and every time between tokens with how many sequences had it."""

    scheduled_s: dict[int, float] = field(default_factory=dict)
    first_s: dict[int, float] = field(default_factory=dict)
    last_s: dict[int, float] = field(default_factory=dict)
    preempted: dict[int, int] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    gaps: list[tuple[Array, int]] = field(default_factory=list)


class Replica:
    """One replica's state. `advance` takes one step, or a run of decode steps, and returns the requests it answered."""

    def __init__(self, rules: Rules, times: StepTimes, feed: Feed, input_token: list[int], output_token: list[int]):
        self.rules, self.times, self.feed, self.log = rules, times, feed, Log()
        self.input_token, self.output_token = input_token, output_token
        self.now_s, self.previous_s = 0.0, inf  # previous: start of the step before, where the next follows at once
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}  # in order of admission
        self.filling: list[Sequence] = []
        self.counter, self.decodes, self.context = 0, 0, 0  # decode steps so far; decoding now; their cached tokens
        self.ends: list[tuple[int, int]] = []
        self.grows: list[tuple[int, int]] = []
        self.phase = [0] * rules.block  # sequences that take a block when the counter has this remainder
        self.used = 0
        self.leaving = 0  # seats of sequences that left in the last step, which the next was scheduled without
        self.decoded_s = 0.0
        self.joined: list[Sequence] = []  # since then

    def advance(self) -> int:
        """One step, or a run of decode steps; where nothing can run, time moves to the next arrival."""
        self._see_arrivals(min(self.now_s, self.previous_s) if self.rules.ahead else self.now_s)
        if not self.running and not self.waiting:
            self.now_s, self.previous_s, self.leaving = max(self.now_s, self.feed.next_s()), inf, 0
            self._see_arrivals(self.now_s)
        sent_back = self.rules.mixed and self._make_room()
        chunks = self._chunks(self.rules.budget - self.decodes * self.rules.mixed, admit=not sent_back)
        if chunks:
            return self._step(chunks, self.decodes * self.rules.mixed)
        if not self.rules.mixed:
            sent_back = self._make_room()
        if self.decodes:
            return self._decode_run(pause=sent_back)
        self.previous_s, self.leaving = inf, 0
        return 0

    def _see_arrivals(self, until_s: float) -> None:
        while self.feed.next_s() <= until_s:
            request = self.feed.take()
            self.waiting.append(Sequence(request, self.input_token[request], self.output_token[request]))

    def _chunks(self, left: int, admit: bool) -> list[tuple[Sequence, int]]:
        """Chunks of prompts for the next step within `left` tokens; admits requests first come, first served."""
        rules, chunks = self.rules, []
        growth = self.phase[self.counter % rules.block] * rules.mixed
        for sequence in self.filling:
            if left > 0:
                chunks.append((sequence, min(left, sequence.target - sequence.done)))
                left -= chunks[-1][1]
        while admit and left > 0 and self.waiting and len(self.running) + self.leaving < rules.sequences:
            sequence = self.waiting[0]
            ahead = min(rules.reserved * sequence.remaining, sequence.remaining - 1)  # the last token is never cached
            held = ceil((sequence.target + ahead) / rules.block)
            if self.used + growth + held > rules.blocks:
                break
            self.waiting.popleft()
            sequence.held = held
            self.used += held
            self.running[sequence.request] = sequence
            self.filling.append(sequence)
            self.log.scheduled_s.setdefault(sequence.request, self.now_s)
            chunks.append((sequence, min(left, sequence.target)))
            left -= chunks[-1][1]
        return chunks

    def _step(self, chunks: list[tuple[Sequence, int]], decodes: int) -> int:
        tokens, prompts, start_s = sum(size for _, size in chunks), len(chunks), self.now_s
        pairs = sum(size * (sequence.done + (size + 1) / 2) for sequence, size in chunks)
        context = max(pairs / tokens - (tokens / prompts + 1) / 2, 0.0)  # of equal prompts with as many pairs
        decode_context = self.context / decodes if decodes else 0.0
        duration_s = np.array([self.times.step_s(tokens, context, prompts, decodes, decode_context)])
        self.previous_s, self.now_s = start_s, start_s + float(duration_s[0])
        if decodes:
            self._count_tokens(np.array([self.now_s]))
        answered = 0
        for sequence, size in chunks:
            sequence.done += size
            if sequence.done == sequence.target:
                answered += self._first_token(sequence)
        answered += self._finish()
        self.leaving = answered * self.rules.ahead
        self.log.runs.append(Run(start_s, duration_s, tokens, prompts, decodes, decode_context, self.used))
        return answered

    def _decode_run(self, pause: bool) -> int:
        """Decode steps until a sequence ends, a request can be admitted, or blocks run out."""
        rules, start_s, decodes = self.rules, self.now_s, self.decodes
        self._grow()
        steps = min(self.ends[0][0] - self.counter, LONGEST_RUN)
        if self.grows:
            steps = min(steps, self.grows[0][0] - self.counter)
        if self.waiting and (self.leaving or pause):
            steps = 1
        steps = self._steps_with_room(steps)
        context = self.context / decodes
        duration_s = self.times.decode_run_s(decodes, context, steps)
        end_s = start_s + np.cumsum(duration_s)
        if not self.waiting and len(self.running) < rules.sequences:
            seen_s = end_s - duration_s if rules.ahead else end_s
            steps = min(int(np.searchsorted(seen_s, self.feed.next_s())) + 1, steps)
            duration_s, end_s = duration_s[:steps], end_s[:steps]
        self.previous_s = float(end_s[-1] - duration_s[-1])
        self.now_s = float(end_s[-1])
        self._count_tokens(end_s)
        answered = self._finish()
        self.leaving = answered * rules.ahead
        self.log.runs.append(Run(start_s, duration_s, 0, 0, decodes, context, self.used))
        return answered

    def _count_tokens(self, end_s: Array) -> None:
        """Every decoding sequence gets a token at each of `end_s`: contexts, blocks and times between tokens."""
        first_s = float(end_s[0])
        for sequence in self.joined:
            sequence.new = False
            self.log.gaps.append((np.array([first_s - sequence.last_s]), 1))
        if self.decodes > len(self.joined):
            self.log.gaps.append((np.array([first_s - self.decoded_s]), self.decodes - len(self.joined)))
        if end_s.size > 1:
            self.log.gaps.append((np.diff(end_s), self.decodes))
        self._grow()
        block, steps = self.rules.block, int(end_s.size)
        self.used += sum(self.phase[(self.counter + i) % block] for i in range(steps % block))
        self.used += steps // block * sum(self.phase)
        self.counter += steps
        self.context += steps * self.decodes
        self.decoded_s, self.joined = float(end_s[-1]), []

    def _first_token(self, sequence: Sequence) -> int:
        """The prompt is done: its next token is there, and the sequence decodes or is answered (1)."""
        self.filling.remove(sequence)
        self.log.first_s.setdefault(sequence.request, self.now_s)
        if sequence.last_s < inf:
            self.log.gaps.append((np.array([self.now_s - sequence.last_s]), 1))
        sequence.remaining -= 1
        if sequence.remaining == 0:
            self.used -= sequence.held
            self._answer(sequence)
            return 1
        sequence.since = self.counter
        sequence.full = self.counter + sequence.held * self.rules.block - sequence.target
        heappush(self.ends, (self.counter + sequence.remaining, sequence.request))
        heappush(self.grows, (sequence.full, sequence.request))
        self.decodes += 1
        self.context += sequence.target
        sequence.last_s, sequence.new = self.now_s, True
        self.joined.append(sequence)
        self._grow()
        return 0

    def _grow(self) -> None:
        """Sequences whose blocks are full within a block's length of steps take new ones as they go."""
        while self.grows and self.grows[0][0] < self.counter + self.rules.block:
            full, request = heappop(self.grows)
            sequence = self.running.get(request)
            if sequence is not None and sequence.since >= 0 and sequence.full == full and not sequence.growing:
                sequence.growing = True
                self.phase[full % self.rules.block] += 1

    def _leave(self, sequence: Sequence) -> None:
        """A decoding sequence's blocks are free."""
        block = self.rules.block
        self.used -= sequence.held + ceil(max(self.counter - sequence.full, 0) / block)
        self.phase[sequence.full % block] -= sequence.growing
        self.decodes -= 1
        self.context -= sequence.target + self.counter - sequence.since

    def _finish(self) -> int:
        answered = 0
        while self.ends and self.ends[0][0] <= self.counter:
            end, request = heappop(self.ends)
            sequence = self.running.get(request)
            if sequence is not None and sequence.since >= 0 and sequence.since + sequence.remaining == end:
                self._leave(sequence)
                self._answer(sequence)
                answered += 1
        return answered

    def _answer(self, sequence: Sequence) -> None:
        del self.running[sequence.request]
        self.log.last_s[sequence.request] = self.now_s
        self.feed.finished(self.now_s)

    def _steps_with_room(self, steps: int) -> int:
        """As many of `steps` decode steps as there are blocks for; at least one."""
        block, free = self.rules.block, self.rules.blocks - self.used
        if (steps // block + 1) * sum(self.phase) <= free:
            return steps
        taken = 0
        for step in range(steps):
            free -= self.phase[(self.counter + step) % block]
            if free < 0:
                break
            taken += 1
        return max(taken, 1)

    def _make_room(self) -> bool:
        """Sends the latest admitted back to the queue until the next step's new blocks fit; whether any was sent.

        They are computed again from the start, with what they had generated (vLLM's recomputation).
        """
        self._grow()
        sent_back = False
        while self.used + self.phase[self.counter % self.rules.block] > self.rules.blocks:
            request, sequence = self.running.popitem()
            again = Sequence(request, sequence.target, sequence.remaining, last_s=sequence.last_s)
            if sequence.since >= 0:
                self._leave(sequence)
                generated = self.counter - sequence.since
                again.target, again.remaining = sequence.target + generated + 1, sequence.remaining - generated
                if sequence.new:
                    self.joined.remove(sequence)
                else:
                    again.last_s = self.decoded_s
            else:
                self.filling.remove(sequence)
                self.used -= sequence.held
            self.waiting.appendleft(again)
            self.log.preempted[request] = self.log.preempted.get(request, 0) + 1
            sent_back = True
        return sent_back
