"""The few numbers of a machine: rates of matrix products, of exp, of each level of memory, and the cost of a call.

Each function gives rates of one operation as Samples per size; what a profile takes from them is `host_profile`'s.
Everything runs on a Library, so that the same code measures NumPy, torch on the CPU, and a GPU.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..structs import FLOP_PER_FMA
from .library import Elementwise, Library, Tensor
from .timer import Budget, Clock, Samples, time_call


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """Times of one benchmark: `work` FLOP or bytes per execution, `size` in the benchmark's own measure."""

    benchmark: str
    size: float
    library: str
    threads: int
    work: float
    samples: Samples

    @property
    def fast_per_s(self) -> float:
        """Work per second on an undisturbed machine: from the fast side of the samples."""
        return self.work / self.samples.fast_s

    @property
    def best_per_s(self) -> float:
        """Work per second of the fastest sample: what the machine has been seen to do."""
        return self.work / float(np.min(self.samples.seconds))


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how to measure."""

    library: Library
    clock: Clock
    budget: Budget
    threads: int

    def _rate(self, benchmark: str, size: float, work: float, samples: Samples) -> Rate:
        return Rate(benchmark, size, self.library.name, self.threads, work, samples)

    def _filled(self, *shape: int) -> Tensor:
        """Random values, repeated where there are many (a GPU multiplies constants at a higher clock than others)."""
        block = np.random.default_rng(0).random(min(math.prod(shape), 1 << 16), dtype=np.float32)
        return self.library.tensor(np.resize(block, shape))

    def gemm(self, size: int) -> Rate:
        """Square products of `size`: FLOP per second."""
        a, b = self._filled(size, size), self._filled(size, size)
        samples = time_call(lambda _: self.library.linear(a, b), self.budget, self.clock)
        return self._rate("gemm", float(size), FLOP_PER_FMA * float(size) ** 3, samples)

    def exp(self, size: int) -> Rate:
        """The exp of `size` values that stay in the nearest caches: values per second."""
        x, out = self._filled(size), self._filled(size)
        samples = time_call(lambda _: self.library.elementwise(Elementwise.EXP, x, out=out), self.budget, self.clock)
        return self._rate("exp", float(size), float(size), samples)

    def softmax(self, size: int) -> Rate:
        """Softmax of rows that stay in the nearest caches, 5 FLOP per value (as costs count): FLOP per second."""
        x = self._filled(max(size // 256, 1), 256)
        samples = time_call(lambda _: self.library.softmax(x), self.budget, self.clock)
        return self._rate("softmax", float(size), 5.0 * size, samples)

    def copy(self, byte: float) -> Rate:
        """A copy b = a, both arrays together of `byte` bytes: bytes read and written per second."""
        count = max(int(byte / 2 / self.library.stream_byte), 1)
        a, b = self._filled(count), self._filled(count)
        samples = time_call(lambda _: self.library.assign(b, a), self.budget, self.clock)
        return self._rate("copy", byte, 2.0 * a.nbytes, samples)

    def triad(self, byte: float) -> Rate:
        """A sum c = a + b, three arrays together of `byte` bytes: bytes per second (after McCalpin's STREAM)."""
        count = max(int(byte / 3 / self.library.stream_byte), 1)
        a, b, c = (self._filled(count) for _ in range(3))
        samples = time_call(lambda _: self.library.elementwise(Elementwise.ADD, a, b, out=c), self.budget, self.clock)
        return self._rate("triad", byte, 3.0 * a.nbytes, samples)

    def read(self, byte: float) -> Rate:
        """A matrix of `byte` bytes times a vector, which reads it once: bytes per second."""
        width = 1024
        rows = max(int(byte / width / self.library.stream_byte), 1)
        matrix, vector = self._filled(rows, width), self._filled(1, width)
        samples = time_call(lambda _: self.library.linear(vector, matrix), self.budget, self.clock)
        return self._rate("read", byte, float(matrix.nbytes), samples)

    def call(self) -> Rate:
        """The smallest linear layer: calls per second."""
        a, b = self._filled(1, 1), self._filled(1, 1)
        samples = time_call(lambda _: self.library.linear(a, b), self.budget, self.clock)
        return self._rate("call", 1.0, 1.0, samples)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is measured: orders of square products, values per exp, and the bytes of one working set per memory level
    (nearest first, DRAM last).
    """

    gemm: tuple[int, ...]
    vector: int
    level_byte: dict[str, float]

    @property
    def count(self) -> int:
        """Number of benchmarks."""
        return 3 + len(self.gemm) + len(BANDWIDTH) * len(self.level_byte)


BANDWIDTH = ("copy", "triad", "read")


def rates(bench: Bench, sizes: Sizes) -> Iterator[Rate]:
    """Every benchmark at every size, one by one."""
    yield bench.call()
    for order in sizes.gemm:
        yield bench.gemm(order)
    yield bench.exp(sizes.vector)
    yield bench.softmax(sizes.vector)
    for byte in sizes.level_byte.values():
        for name in BANDWIDTH:
            yield getattr(bench, name)(byte)
