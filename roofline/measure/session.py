"""One run of measurements: sets the machine up, keeps what was measured when interrupted, and tells its progress."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TypeVar

import numpy as np

from ..errors import RooflineError, unknown
from ..io.datasets.own import SCHEMA, Measurement, RecordFile
from ..model import Model
from ..structs import Dtype
from ..workload import AttentionKind, Precision
from .campaign import DRAM_FACTOR, Case, Settings, measure_case, measure_layer, measure_model
from .draw import ROUNDS, drawn_visits
from .environment import bind, caches, cores, environment, last_level_byte
from .host_profile import Machine, Measured
from .library import Library, Reduction
from .machine import sizes, this_cpu, this_gpu
from .microbench import Bench, Rate, rates
from .numpy_executor import NumpyLibrary
from .rounds import Progress, Visit, joined, silent
from .shots import (
    ACCELERATOR,
    FAMILIES,
    PROCESSOR,
    draw_shots,
    measure_shots,
)
from .steps import Form, StepShape
from .timer import QUICK, Budget, Clock, EventClock, SweptClock, WallClock, time_call, visit
from .torch_executor import TorchLibrary, require_torch

LIBRARIES = ("numpy", "torch")
DEVICES = ("cpu", "cuda")
FORMATS = (Dtype.FP32, Dtype.BF16, Dtype.FP16)
SWEPT_SHARE = 0.5
"""Share of the last cache that is read between two executions. Small kernels then take as long as they do in GPT-2."""

SWEEP_WIDTH = 1024
"""Row length of the matrix that sweeps the caches."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Request:
    """What `measure steps` was asked for. `threads` None: all CPUs. `samples` None: as the budget says.

    `weights`: int8, or None for the format of activations. `steps`: only these, empty for all. `seed`: of the drawn
    shapes.
    """

    library: str = "numpy"
    device: str = "cpu"
    profile: str = "host"
    quick: bool = False
    cold: bool = True
    threads: int | None = None
    samples: int | None = None
    activations: str = "fp32"
    weights: str | None = None
    steps: frozenset[str] = frozenset()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A library on a device, ready to measure."""

    library: Library
    clock: Clock
    eager_clock: Clock
    accelerator: str | None


def target(library: str, device: str, activations: Dtype = Dtype.FP32, weights: Dtype | None = None) -> Target:
    """The Target of the two names.

    Errors: RooflineError for an unknown name, a missing library or GPU, or a format that the library does not run.
    """
    if library not in LIBRARIES:
        raise unknown("library", library, LIBRARIES)
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if library == "numpy":
        if device != "cpu" or activations is not Dtype.FP32 or weights is not None:
            raise RooflineError("library: numpy runs fp32 on the cpu only. For the rest: --library torch.")
        return Target(NumpyLibrary(), WallClock(), WallClock(), None)
    executor = TorchLibrary(activations, weights, device)
    if device == "cpu":
        return Target(executor, WallClock(), WallClock(), None)
    cuda = executor.torch.cuda
    return Target(executor, EventClock(cuda), EventClock(cuda, captured=False), cuda.get_device_name())


def kept(found: Iterable[Found]) -> tuple[tuple[Found, ...], bool]:
    """What an iterator gave, and whether Ctrl-C ended it."""
    taken: list[Found] = []
    try:
        for item in found:
            taken.append(item)
    except KeyboardInterrupt:
        return tuple(taken), True
    return tuple(taken), False


def dtype_named(field: str, text: str, accepted: Sequence[Dtype]) -> Dtype:
    """The format called `text`. Errors: RooflineError naming `field`."""
    if text not in {dtype.value for dtype in accepted}:
        raise unknown(field, text, [dtype.value for dtype in accepted])
    return Dtype(text)


def measure_steps(request: Request, model: Model | None = None, tell: Progress = silent) -> RecordFile:
    """Records of the steps of drawn layers, or of `model` with its layers and its whole steps, until Ctrl-C.

    Errors: RooflineError for a request that this machine cannot serve.
    """
    forms = FORMS.get(request.library, ())

    def visits(library: Library, settings: Settings) -> Iterable[Visit]:
        if model is None:
            return drawn_visits(library, settings, forms, request.quick, request.seed, tell)
        measured = _of_model(model, library, settings, forms, request.quick, tell)
        return (Visit(number, record) for number, record in enumerate(measured))

    return _run(request, visits, ROUNDS if model is None else 1, None if model else request.seed)


def measure_few(request: Request, count: int, tell: Progress = silent) -> RecordFile:
    """Records of `count` single kernels drawn by the request's seed (see shots), until Ctrl-C: what it takes to
    calibrate a device like another. Errors: RooflineError for a request that this machine cannot serve.
    """
    if count < len(FAMILIES):
        raise RooflineError(f"shots: {count} is not accepted. Accepted: {len(FAMILIES)} or more kernels to measure.")
    shots = draw_shots(count, ACCELERATOR if request.device == "cuda" else PROCESSOR, request.seed)

    def visits(library: Library, settings: Settings) -> Iterator[Visit]:
        for number, shot in enumerate(shots):
            tell(number, count, f"{shot.family}")
            yield from (Visit(number, record) for record in measure_shots((shot,), library, settings))
        tell(count, count, "")

    return _run(request, visits, 1, request.seed)


def _run(
    request: Request, visits: Callable[[Library, Settings], Iterable[Visit]], times: int, seed: int | None
) -> RecordFile:
    activations = dtype_named("dtype", request.activations, FORMATS)
    weights = dtype_named("weights", request.weights, (Dtype.INT8,)) if request.weights else None
    chosen = target(request.library, request.device, activations, weights)
    threads = len(cores()) if request.threads is None else request.threads
    bind(cores(), threads)
    chosen.library.use_threads(threads)
    matrices = weights or activations
    settings = _settings(request, chosen, Precision(matrices, matrices, activations, activations), times)
    state = environment(request.profile, threads, {chosen.library.name: chosen.library.version}, chosen.accelerator)
    found, interrupted = kept(visits(chosen.library, settings))
    return RecordFile(SCHEMA, state, joined(found), interrupted, seed)


def _settings(request: Request, chosen: Target, precision: Precision, times: int) -> Settings:
    """Steps of a cold loop on a CPU are executed one by one, each behind a sweep of the caches."""
    budget, clock = _budget(request), chosen.clock
    if request.cold and isinstance(clock, WallClock):
        budget, clock = visit(budget, times), swept_clock(chosen.library)
    return Settings(
        budget=budget,
        clock=clock,
        eager_clock=clock if isinstance(clock, SweptClock) else chosen.eager_clock,
        whole_clock=chosen.clock,
        cold=request.cold,
        cache_byte=_cache_byte(chosen),
        precision=precision,
        steps=request.steps or None,
    )


def swept_clock(library: Library) -> SweptClock:
    """A clock that reads a matrix between executions, by whichever is faster of a product with one row and sums of its
    rows. It is a part of the last cache, as large as weights of a layer, so that a kernel finds its code and what is
    nearer gone, but not what the kernel before it wrote; and at least twice what the nearer caches hold. As many take
    turns as are DRAM_FACTOR last caches.
    """
    near = max((level.byte for level in caches()[:-1]), default=2.0**20)
    byte = max(SWEPT_SHARE * last_level_byte(), 2.0 * near * len(cores()))
    rows = ceil(byte / library.stream_byte / SWEEP_WIDTH)
    row = library.tensor(np.ones((1, SWEEP_WIDTH), np.float32))
    matrices = [
        library.tensor(np.ones((rows, SWEEP_WIDTH), np.float32))
        for _ in range(ceil(DRAM_FACTOR * last_level_byte() / byte))
    ]
    clocks = [
        SweptClock(tuple(partial(read, matrix) for matrix in matrices), byte)
        for read in (partial(library.linear, row), partial(library.reduce, Reduction.SUM))
    ]

    def fast_s(clock: SweptClock) -> float:
        return time_call(lambda turn: clock.sweeps[turn % len(matrices)](), QUICK, WallClock()).fast_s

    return min(clocks, key=fast_s)


FORMS = {
    "numpy": (Form(AttentionKind.UNFUSED),),
    "torch": (Form(AttentionKind.UNFUSED), Form(AttentionKind.FUSED)),
}
"""How each library runs attention: NumPy has no fused kernel."""


def _budget(request: Request) -> Budget:
    base = QUICK if request.quick else Budget()
    if request.samples is None:
        return base
    if request.samples < 1:
        raise RooflineError(f"samples: {request.samples} is not accepted. Accepted: 1 or more samples per record.")
    return Budget(base.warm_up_s, request.samples, request.samples, 0.0, 60.0, 0.0, base.sample_s)


def _cache_byte(chosen: Target) -> float:
    if isinstance(chosen.library, TorchLibrary) and chosen.library.device == "cuda":
        return max(this_gpu(chosen.library.torch).level_byte.values())
    return last_level_byte()


def _of_model(
    model: Model, library: Library, settings: Settings, forms: Sequence[Form], quick: bool, tell: Progress
) -> Iterator[Measurement]:
    """Steps, a layer and the whole of `model`: prefill of several lengths, decode at several batches and contexts."""
    shapes = [StepShape(1, 64, 0), StepShape(1, 1, 64), StepShape(4, 1, 256)]
    if not quick:
        shapes += [StepShape(1, 256, 0), StepShape(2, 512, 0), StepShape(1, 1, 512), StepShape(16, 1, 512)]
    longest = int(model.max_context)
    shapes = [
        shape for shape in shapes if shape.new_token + shape.context <= longest and (model.causal or not shape.context)
    ]
    seen: set[object] = set()
    pairs = [(form, shape) for form in forms for shape in shapes]
    for done, (form, shape) in enumerate(pairs):
        tell(done, len(pairs), f"{model.name}, {shape.sequences} x {shape.new_token} tokens behind {shape.context}")
        for layer in dict.fromkeys(model.layers):
            case = Case(model, layer, form, shape)
            yield from measure_case(case, library, settings, seen)
            if settings.steps is None:
                yield measure_layer(case, library, settings)
        if settings.steps is None:
            yield measure_model(model, form, shape, library, settings)
    tell(len(pairs), len(pairs), "")


def measure_host(device: str, quick: bool, tell: Progress = silent) -> tuple[Machine, Measured, bool]:
    """Microbenchmarks of this CPU (with NumPy, and torch where it is installed; one thread and all), or of its GPU; and
    whether Ctrl-C ended them. Errors: RooflineError where torch or the GPU is missing.
    """
    available = cores()
    if device == "cuda":
        targets, machine = [target("torch", "cuda")], this_gpu(require_torch())
        counts = [len(available)]
    else:
        targets, machine = [target(name, device) for name in LIBRARIES if name == "numpy" or _has_torch()], this_cpu()
        counts = sorted({1, len(available)})
    benches = [
        Bench(chosen.library, chosen.clock, QUICK if quick else Budget(most_s=2.0), threads)
        for threads in counts
        for chosen in targets
    ]
    work = sizes(machine, quick)

    def run() -> Iterator[Rate]:
        total = len(benches) * work.count
        for number, bench in enumerate(benches):
            bind(available, bench.threads)
            bench.library.use_threads(bench.threads)
            for done, rate in enumerate(rates(bench, work), start=number * work.count + 1):
                tell(done, total, f"{rate.benchmark} {rate.size:g}, {bench.library.name}, threads: {bench.threads}")
                yield rate

    found, interrupted = kept(run())
    fastest = max((rate.best_per_s for rate in found if rate.benchmark == "gemm"), default=0.0)
    narrow, stopped = kept(_narrow(device, benches[-1], work.gemm[-1], fastest))
    return machine, Measured(found, dict(narrow), dict(work.level_byte)), interrupted or stopped


def _narrow(device: str, bench: Bench, order: int, fp32_flop_per_s: float) -> Iterator[tuple[Dtype, Rate]]:
    """GEMM rates in formats that are faster than fp32: bf16 where a CPU has it, both 16-bit formats on a GPU."""
    if not isinstance(bench.library, TorchLibrary):
        return
    found = {}
    for dtype in {"cpu": (Dtype.BF16,), "cuda": (Dtype.BF16, Dtype.FP16)}[device]:
        library = TorchLibrary(dtype, None, device)
        rate = Bench(library, bench.clock, bench.budget, bench.threads).gemm(order)
        if rate.best_per_s > fp32_flop_per_s:
            found[dtype] = rate
    best = max(found.values(), key=lambda rate: rate.best_per_s, default=None)
    yield from ((dtype, best) for dtype in found if best is not None)  # hardware has one rate for both


def _has_torch() -> bool:
    try:
        require_torch()
    except RooflineError:
        return False
    return True
