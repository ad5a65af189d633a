"""Measuring steps, layers and models, one record each: with operands cold or warm, on either library."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from ..errors import unknown
from ..io.datasets.own import Measurement
from ..io.records import FAMILY_OF_STEP, Family
from ..model import Attention, Layer, Model, Moe
from ..workload import Precision
from .library import Elementwise, Library
from .steps import Form, LayerRun, ModelRun, StepShape, prepare
from .tape import Counter, Executed, Runner
from .timer import Budget, Clock, Samples, time_call
from .weights import Source, layer_weights, make_cache

DRAM_FACTOR = 2.0
"""Operands count as cold when their copies, and what else is read before their turn comes again, are together this many
times the last-level cache.
"""

MOST_COPIES = 512
"""Copies of operands that take turns at most: small operands then stay in a nearer cache, and the record says so."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One layer of a model under one batch."""

    model: Model
    layer: Layer
    form: Form
    shape: StepShape


@dataclass(frozen=True, slots=True)
class Settings:
    """How steps are measured: budget per record, clock (one for steps that wait for the host, and one for layers and
    whole models), whether weights and cache come from DRAM (`cold`) or from a cache, the bytes of the last-level cache,
    and which steps (None: all).
    """

    budget: Budget
    clock: Clock
    eager_clock: Clock
    whole_clock: Clock
    cold: bool
    cache_byte: float
    precision: Precision
    steps: frozenset[str] | None = None


WAITS_FOR_HOST = frozenset({"route_topk"})
"""Steps that bring numbers to the host: they cannot be captured into a graph."""


def check_steps(names: Sequence[str]) -> frozenset[str]:
    """The steps called `names`. Errors: RooflineError for an unknown one."""
    for name in names:
        if name not in FAMILY_OF_STEP:
            raise unknown("step", name, FAMILY_OF_STEP)
    return frozenset(names)


def executed_steps(case: Case, library: Library) -> list[Executed]:
    """Every step of the case's layer, and of what surrounds the layers, run once, counted and ready to be repeated."""
    model = replace(case.model, layers=(case.layer,))
    run = ModelRun(library, model, case.form, case.shape.sequences, case.shape.context + case.shape.new_token)
    run.context = case.shape.context  # cached tokens are zeros: their values do not matter
    spread = library.tensor(np.sqrt(np.full(1, model.hidden)))  # else attention drowns what tells tokens apart, and a
    tables = [library.elementwise(Elementwise.MULTIPLY, table, spread) for table in run.outer["embedding"]]
    run.outer = {**run.outer, "embedding": tuple(tables)}  # router sends all of them to the same experts
    tokens = _tokens(library, model, case.shape)
    tape = Counter(library, keep=True)
    logits = run.step(tape, tokens)
    if model.causal:
        run.sample(tape, logits)
    return tape.executed


def measure_case(case: Case, library: Library, settings: Settings, seen: set[Any]) -> Iterator[Measurement]:
    """A record for every step of `case` whose shape is not yet in `seen`."""
    for executed in executed_steps(case, library):
        name = executed.name.removesuffix("_sliding")
        if settings.steps is not None and name not in settings.steps:
            continue
        if name == "experts" and not getattr(case.layer.mlp, "gated", True):
            continue  # the dimensions of a record of both products are those of gated experts
        family, dims = record_shape(executed, case)
        key = (name, family, *dims.values())
        if key in seen or (name == "head_concat" and _is_view(executed, library)):
            continue
        seen.add(key)
        call, copies, recorded = repeated(executed, library, settings)
        clock = settings.eager_clock if name in WAITS_FOR_HOST else settings.clock
        samples = time_call(call, settings.budget, clock, turn=clock.turn(copies))
        yield record_of(executed.name, family, dims, library, settings, recorded, samples)


def _is_view(executed: Executed, library: Library) -> bool:
    """Whether a step gives back what it was given: heads of one token lie side by side already."""
    result = executed.operation(library, *executed.operands.all)
    return library.address(result) == library.address(executed.operands.reads[0])


def record_shape(executed: Executed, case: Case) -> tuple[Family, dict[str, float]]:
    """The family of a step and its dimensions, from the arrays that it touched.

    Errors: RooflineError for an unknown step.
    """
    name = executed.name.removesuffix("_sliding")
    if name not in FAMILY_OF_STEP:
        raise unknown("step", name, FAMILY_OF_STEP)
    family, shape, attention = FAMILY_OF_STEP[name], case.shape, case.layer.attention
    match family:
        case Family.GEMM:
            (product,) = executed.products
            return family, {key: float(getattr(product, key)) for key in ("m", "n", "k", "copies")}
        case Family.PREFILL_ATTENTION:
            assert isinstance(attention, Attention)
            dims = {
                "sequences": float(shape.sequences),
                "new_token": float(shape.new_token),
                "context": float(shape.context),
                "heads": attention.heads,
                "kv_heads": attention.kv_heads,
                "head_dim": attention.head_dim,
                "window": attention.window,
            }
            return (Family.DECODE_ATTENTION if shape.new_token == 1 else family), dims
        case Family.MOE:
            moe = case.layer.mlp
            assert isinstance(moe, Moe)
            dims = {
                "token": float(shape.token),
                "hidden": case.model.hidden,
                "width": moe.width,
                "experts": moe.experts,
                "per_token": moe.per_token,
                "tensor_parallel": 1.0,
                "expert_parallel": 1.0,
                "routing_exponent": 0.0,
            }
            return family, dims
        case _:
            row, cost = float(executed.row), executed.cost
            return family, {
                "row": row,
                "read_byte": float(cost.read_byte) / row,
                "write_byte": max(float(cost.write_byte) / row, 1.0),
            }


def _copies(byte: float, settings: Settings, clock: Clock) -> tuple[int, float | None]:
    """How many copies of `byte` bytes take turns, and what the record says of it: None where they come from DRAM."""
    if not (settings.cold and byte):
        return 1, 1.0
    wanted = ceil(DRAM_FACTOR * settings.cache_byte / (byte + clock.between_byte))
    copies = min(wanted, MOST_COPIES)
    return copies, None if copies == wanted else float(copies)


def repeated(
    executed: Executed, library: Library, settings: Settings
) -> tuple[Callable[[int], Any], int, float | None]:
    """A call that repeats a step, how many copies of its weights and cache take turns, and what the record says of it.

    Activations stay the same arrays: in a model, the step before has just written them.
    """
    operands, operation = executed.operands, executed.operation
    large = (*operands.weights, *operands.cache, *operands.slots)
    copies, recorded = _copies(sum(tensor.nbytes for tensor in large), settings, settings.clock)

    def copy(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(library.copy(tensor) for tensor in tensors)

    turns = [operands.all] + [
        replace(operands, weights=copy(operands.weights), cache=copy(operands.cache), slots=copy(operands.slots)).all
        for _ in range(copies - 1)
    ]

    def call(index: int) -> Any:
        return operation(library, *turns[index % copies])

    return call, copies, recorded


def record_of(
    step: str,
    family: Family,
    dims: Mapping[str, float],
    library: Library,
    settings: Settings,
    copies: float | None,
    samples: Samples,
) -> Measurement:
    """The record of `samples`; `copies`: of operands that took turns, None where they came from DRAM."""
    low, high = samples.interval_s
    return Measurement(
        family=family.value,
        step=step,
        backend=library.name,
        activation=settings.precision.activations,
        weight=settings.precision.weights,
        cache=settings.precision.kv,
        dims=dict(dims),
        operand_copies=copies,
        launch_floor_s=0.0,
        samples_s=tuple(samples.seconds.tolist()),
        median_s=samples.median_s,
        low_s=low,
        high_s=high,
        disturbed_s=tuple(samples.disturbed.tolist()),
    )


def measure_layer(case: Case, library: Library, settings: Settings) -> Measurement:
    """The time of the case's whole layer. As many layers with weights of their own take turns as exceed the caches."""
    source = Source(library, np.random.default_rng(0))
    positions = prepare(library, case.model, (case.layer,), case.shape)
    end = case.shape.context + case.shape.new_token

    def layer() -> LayerRun:
        weights = layer_weights(source, case.model, case.layer, case.form.attention)
        cache = make_cache(library, case.layer.attention, case.shape.sequences, end)
        return LayerRun(case.model, case.layer, case.form, weights, cache, positions, case.shape)

    first = layer()
    byte = sum(tensor.nbytes for tensors in first.weights.values() for tensor in tensors)
    copies, recorded = _copies(byte, settings, settings.whole_clock)
    layers = [first, *(layer() for _ in range(copies - 1))]
    x, tape = library.tensor(source.values(case.shape.token, int(case.model.hidden))), Runner(library)

    def call(index: int) -> Any:
        return layers[index % copies].execute(tape, x)

    samples = time_call(call, settings.budget, settings.whole_clock, turn=settings.whole_clock.turn(copies))
    return record_of(case.model.name, Family.LAYER, _step_dims(case.shape), library, settings, recorded, samples)


def measure_model(model: Model, form: Form, shape: StepShape, library: Library, settings: Settings) -> Measurement:
    """The time of one step of a whole model: embedding, all layers, head and sampling. Its layers take turns in the
    caches: they come from DRAM where together they exceed them.
    """
    run = ModelRun(library, model, form, shape.sequences, shape.context + shape.new_token)
    byte = sum(tensor.nbytes for _, weights, _ in run.layers for tensors in weights.values() for tensor in tensors)
    tokens, tape = _tokens(library, model, shape), Runner(library)

    def call(_: int) -> Any:
        run.context = shape.context
        logits = run.step(tape, tokens)
        return run.sample(tape, logits) if model.causal else logits

    samples = time_call(call, settings.budget, settings.whole_clock)
    cold = byte >= DRAM_FACTOR * settings.cache_byte
    return record_of(model.name, Family.MODEL, _step_dims(shape), library, settings, None if cold else 1.0, samples)


def _tokens(library: Library, model: Model, shape: StepShape) -> Any:
    draw = np.random.default_rng(0)
    return library.index(draw.integers(0, int(model.vocabulary), (shape.sequences, shape.new_token)))


def _step_dims(shape: StepShape) -> dict[str, float]:
    return {name: float(getattr(shape, name)) for name in ("sequences", "new_token", "context")}
