"""Measured records of any number of devices beside their predictions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..calibrate.rows import check_fit_fraction
from ..calibrate.served import is_served
from ..device import Device
from ..errors import RooflineError
from ..io.profiles import Target
from ..io.records import Records
from ..timing import Calibration
from .pair import Paired, pair
from .select import LeftOut, Selection, Unseen, joined, select
from .served import pair_served

Predictor = tuple[Device, Calibration]

FITTED_PRESETS = "served rows: the presets of engines were fitted to such (benchmarks/serving.py leaves sets out)"


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """`pairs` of records and predictions, and the `selection` they come from, with what was left out of it."""

    pairs: tuple[Paired, ...]
    selection: Selection


def validate(
    records: Iterable[Records],
    predictors: Mapping[str, Predictor],
    *,
    targets: Mapping[str, Target] | None = None,
    backend: str | None = None,
    unseen: Unseen | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Validation:
    """Pair every record with the prediction of the predictor that its device's name leads to.

    Records of other devices, of other libraries than the calibration's (or than `backend`), and families that neither
    a fit nor the datasheet covers are left out with the reason. Rows faster than physics stay, marked as excluded.
    Served models are predicted from `targets` with the presets of their engines.
    Errors: RooflineError for a backend that no record is of, or an `unseen` that is not how the calibration was made.
    """
    if unseen is not None:
        check_fit_fraction(unseen.fit_fraction)
    of_device: dict[str, list[Records]] = {}
    for group in records:
        of_device.setdefault(group.device, []).append(group)
    parts, pairs = [], []
    for name, groups in sorted(of_device.items()):
        if name not in predictors:
            parts.append(Selection(left_out=tuple(LeftOut(group, f"measured on {name}") for group in groups)))
            continue
        served, groups = [g for g in groups if is_served(g)], [g for g in groups if not is_served(g)]
        if served and backend is not None:
            served = [group for group in served if group.backend == backend]
        if unseen is not None:
            parts.append(Selection(left_out=tuple(LeftOut(group, FITTED_PRESETS) for group in served)))
        elif served and targets and name in targets:
            progress(f"serving on {name}")
            for each in pair_served(served, targets[name]):
                if isinstance(each, LeftOut):
                    parts.append(Selection(left_out=(each,)))
                else:
                    pairs.append(each)
        if not groups:
            continue
        device, calibration = predictors[name]
        progress(f"choosing rows of {name}")
        chosen = select(groups, device, calibration, backend, unseen)
        parts.append(chosen)
        for group in chosen.compared:
            progress(f"predicting {group.name}")
            try:
                pairs.append(pair(group, device, calibration))
            except RooflineError as error:
                parts.append(Selection(left_out=(LeftOut(group, f"no prediction: {error}"),)))
    return Validation(tuple(pairs), joined(parts))
