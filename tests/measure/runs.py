"""Running a small model on a library, and what the predictor's plan says of the same step."""

import numpy as np

from roofline.cost import COST_FIELDS
from roofline.measure.library import Library
from roofline.measure.steps import Form, ModelRun, StepShape
from roofline.measure.tape import Counter, Executed, Runner
from roofline.model import Model
from roofline.transformer import plan
from roofline.workload import Parallelism, Precision, Sequences


def tokens(library: Library, model: Model, sequences: int, count: int, seed: int = 1):
    return library.index(np.random.default_rng(seed).integers(0, int(model.vocabulary), (sequences, count)))


def executed(library: Library, model: Model, form: Form, shape: StepShape) -> tuple[list[Executed], np.ndarray]:
    """Every step of one step of the model behind a real context, and its logits."""
    run = ModelRun(library, model, form, shape.sequences, shape.context + shape.new_token)
    if shape.context:
        run.step(Runner(library), tokens(library, model, shape.sequences, shape.context, seed=2))
    tape = Counter(library)
    logits = run.step(tape, tokens(library, model, shape.sequences, shape.new_token))
    if model.causal:
        run.sample(tape, logits)
    return tape.executed, library.array(logits)


def planned(model: Model, form: Form, shape: StepShape, precision: Precision) -> list[tuple[str, dict[str, float]]]:
    """(name, cost) of every kernel of the predictor's step, in order; each must run once."""
    count, new, context = float(shape.sequences), float(shape.new_token), float(shape.context)
    batch = (Sequences(count, new, context, count, decoding=shape.new_token == 1),)
    rows = {}
    for group in plan(model, Parallelism(), precision, form.attention, form.latent).step(batch):
        assert np.all(group.count == 1.0)
        for i, (name, order) in enumerate(zip(group.names, group.order, strict=True)):
            width = (1, len(group.names))
            values = {key: np.broadcast_to(getattr(group.cost, key), width)[0, i] for key in COST_FIELDS}
            rows[order] = (name, {key: float(value) for key, value in values.items()})
    return [rows[order] for order in sorted(rows)]
