"""Measured service beside the steady states that an engine's preset predicts for it."""

from collections.abc import Iterable, Iterator

import numpy as np

from ..calibrate.rows import PHYSICS_TOLERANCE
from ..calibrate.served import is_served, served_sets
from ..errors import RooflineError
from ..io.engines import engine_names, load_engine
from ..io.profiles import Target
from ..io.records import Records
from ..serving.state import SLOT_LIMITS
from .pair import Paired
from .select import LeftOut


def pair_served(records: Iterable[Records], target: Target) -> Iterator[Paired | LeftOut]:
    """TPOT and TTFT of every group of serving records beside the means that the preset of its engine predicts.

    `regime`: what limits the sequences that run at once. `roofline_s`: the decode step of one sequence, and the
    prefill of one prompt, at datasheet rates. Groups of engines without a preset, and of models that cannot be
    predicted, are left out with the reason.
    """
    groups: dict[tuple[str, ...], list[Records]] = {}
    for group in filter(is_served, records):
        scheme = group.precision.label.partition(" ")[2]
        groups.setdefault((group.kernel, group.backend, group.version, scheme, group.source), []).append(group)
    for group_of_metrics in groups.values():
        engine_name = group_of_metrics[0].backend
        if engine_name not in engine_names():
            yield from (LeftOut(group, f"no preset of engine {engine_name}") for group in group_of_metrics)
            continue
        try:
            yield from _pairs(group_of_metrics, target)
        except RooflineError as error:
            yield from (LeftOut(group, f"no prediction: {error}") for group in group_of_metrics)


def _pairs(groups: list[Records], target: Target) -> Iterator[Paired]:
    engine = load_engine(groups[0].backend)
    (found,) = served_sets(groups, target, (engine,))
    rows = np.arange(found.size)
    tpot_s, ttft_s, limit = found.states(engine, rows)
    predicted = {
        "TPOT": (tpot_s, found.floor_tpot_s, engine.tpot_band),
        "TTFT": (ttft_s, found.floor_ttft_s, engine.ttft_band),
    }
    for group in groups:
        predicted_s, floor_s, band = predicted[group.precision.label.partition(" ")[0]]
        yield Paired(
            records=group,
            device=target.device.name,
            fitted=True,
            band_source=band.source,
            predicted_s=np.maximum(predicted_s, floor_s),
            low_s=np.maximum(predicted_s * band.low, floor_s),
            high_s=predicted_s * band.high,
            roofline_s=floor_s,
            regime=np.array(SLOT_LIMITS)[limit],
            excluded=group.measured_s < floor_s * (1.0 - PHYSICS_TOLERANCE),
        )
