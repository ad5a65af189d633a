"""The shapes that are measured where nobody names one: layers, small layers, wide weights and single kernels, all drawn
by one seed, visited in rounds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..io.datasets.own import Measurement
from ..io.records import Family
from ..workload import AttentionKind
from . import rounds
from .campaign import Settings, measure_case
from .cases import doubled, random_cases
from .library import Library
from .rounds import Progress, Stop, Visit
from .shots import PROCESSOR, PRODUCT_STEP, Shot, Wide, draw_shots, draw_wide, measure_shots, measure_wide
from .steps import Form
from .timer import WallClock

SINGLE_STEPS = frozenset(
    {
        "attention",
        "attention_scores",
        "scale_mask",
        "softmax",
        "attention_values",
        "head_concat",
        "rope",
        "kv_append",
        "activation",
        "experts_activation",
        "experts_sum",
        "route_topk",
        "experts",
        "experts_gate_up",
        "experts_up",
        "experts_down",
    }
)
"""Steps that a layer has only one of: their families need more layers than products and norms do."""

AGAIN = 5
"""Every fifth case is measured twice, in all rounds: the machine's noise."""

ROUNDS = 2
"""Drawn shapes are visited this often, all of them before the next round (see rounds)."""

PACE_ORDER, PACE_TIMES = 256, 3
"""The reference product that tells a slow machine: the fastest of so many of this order, all threads together."""

DRAW, QUICK_DRAW = (48, 2048, 1024), (11, 1024, 256)
"""How many layers are drawn, and their largest hidden size and prompt."""

MORE = 2
"""How many times as many layers are drawn for the steps that a layer has only one of."""

RARE_STEPS = frozenset({"embedding", "sampling", "route_topk", "experts_sum", "experts", "attention"})
"""Steps that few layers have, or that a model has only one of: they are measured in SMALL further layers of experts."""

SMALL, QUICK_SMALL = (48, 1024), (14, 512)
"""How many such layers are drawn, and their largest hidden size."""

FUSED_DECODES, QUICK_FUSED_DECODES = 48, 14
"""How many further fused decode attentions are drawn: a third of the layers has one."""

WIDE, QUICK_WIDE = 24, 4
"""How many weights of wide layers are drawn."""

LEAST_VOCABULARY = 64.0
"""Of layers of which only inner steps are measured."""


def drawn_visits(
    library: Library, settings: Settings, forms: Sequence[Form], quick: bool, seed: int, tell: Progress
) -> Iterator[Visit]:
    """Steps of drawn layers and of some of them doubled, each shape once a round; of twice as many more layers
    those that a layer has only one of; of small layers and single kernels, those that are rare; every fifth layer
    again; and products of wide layers, one weight in memory at a time.
    """
    count, hidden, token = QUICK_DRAW if quick else DRAW
    cases = list(random_cases(count, hidden, token, forms, seed))
    cases += list(doubled(cases[::2]))
    more = [
        replace(case, form=form, model=replace(case.model, vocabulary=LEAST_VOCABULARY))
        for case in random_cases(MORE * count, hidden, token, forms, (seed, 1), mixtures=2)
        for form in forms
    ]
    small, small_hidden = QUICK_SMALL if quick else SMALL
    rare = [
        replace(case, form=form)
        for case in random_cases(small, small_hidden, token, forms, (seed, 3), mixtures=1)
        for form in forms
    ]
    single, seldom = (_only(settings, steps) for steps in (SINGLE_STEPS, RARE_STEPS))
    fused = any(form.attention is AttentionKind.FUSED for form in forms) and "attention" in (seldom.steps or ())
    decodes = QUICK_FUSED_DECODES if quick else FUSED_DECODES
    shots = draw_shots(decodes, PROCESSOR, seed, (Family.DECODE_ATTENTION,)) if fused else ()
    again = cases[::AGAIN]
    wanted_wide = settings.steps is None or PRODUCT_STEP in settings.steps
    wide = draw_wide(QUICK_WIDE if quick else WIDE, seed) if wanted_wide else ()
    stops = [
        Stop(
            f"{case.model.name}, {case.shape.token} tokens", partial(measure_case, case, library, wanted), group=number
        )
        for number, wanted, group in ((0, settings, cases), (0, single, more), (0, seldom, rare), (1, settings, again))
        for case in group
    ]
    stops += [Stop(f"a weight of {each.n} x {each.k}", partial(_wide, each, library, settings), 2) for each in wide]
    stops += [Stop(f"{each.family}", partial(_shot, each, library, settings), 2) for each in shots]
    yield from rounds.visits(stops, ROUNDS, _pace(library, settings), tell)


def _only(settings: Settings, steps: frozenset[str]) -> Settings:
    """`settings` with those of their steps that are among `steps`."""
    return replace(settings, steps=steps if settings.steps is None else settings.steps & steps)


def _shot(shot: Shot, library: Library, settings: Settings, seen: set[Any]) -> Iterator[Measurement]:
    """measure_shots of one: drawn kernels are all different."""
    return measure_shots((shot,), library, settings)


def _wide(wide: Wide, library: Library, settings: Settings, seen: set[Any]) -> Iterator[Measurement]:
    """measure_wide: drawn weights are all different."""
    return measure_wide(wide, library, settings)


def _pace(library: Library, settings: Settings) -> Callable[[], float]:
    """Seconds of a product of two matrices that stay in the caches, the fastest of some; 0 where no CPU computes."""
    if not isinstance(settings.clock, WallClock):
        return lambda: 0.0
    square = library.tensor(np.ones((PACE_ORDER, PACE_ORDER), np.float32))

    def pace() -> float:
        turns = WallClock().turns(lambda _: library.linear(square, square), 1)
        return min(next(turns) for _ in range(PACE_TIMES))

    return pace
