"""A validation as a plain record (schema roofline.validation/1): stable, versioned, SI units; and its rows as CSV."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .. import __version__
from ..calibrate.models import key_of
from ..io.files import csv_text
from ..io.records import Records, Refused
from ..roofs import roofs_record
from ..structs import Array
from ..timing.calibration import COVERAGE
from .pair import FASTER_THAN_PHYSICS, Paired
from .placed import placed_rows, rounded, spread
from .run import Predictor, Validation
from .select import LeftOut, Unseen
from .statistics import (
    Doubling,
    Group,
    by_group,
    by_regime,
    by_size,
    doublings,
    error_statistics,
    overall_agreement,
    rows_of,
)

SCHEMA = "roofline.validation/1"

POINTS = 1200
"""Most rows of one device, family and format that a record keeps for its figures."""

EXAMPLES = 20
"""Most rows faster than physics that a record names one by one, of each device, family and format."""

ROW_FIELDS = ("key", "measured_s", "predicted_s", "low_s", "high_s", "roofline_s", "excluded", "reason")
"""Columns of the file with one line per record; predictions are empty where none was made."""


def validation_record(
    validation: Validation,
    predictors: Mapping[str, Predictor],
    *,
    refused: Sequence[Refused] = (),
    backend: str | None = None,
    unseen: Unseen | None = None,
    command: str = "",
) -> dict[str, Any]:
    """`validation` as JSON holds it, with up to POINTS rows of every group for the figures of its page, and
    up to placed.ROWS under the roofs of their device.

    `refused`: what the readers did not take. Nothing in it depends on when or where it is made.
    """
    pairs, selection = validation.pairs, validation.selection
    counted = by_group(pair for pair in pairs if not pair.excluded.all())
    doubled = {group: doublings(found) for group, found in counted.items()}
    used = {pair.device for pair in pairs}
    everything = rows_of(pairs) if counted else None
    overall = asdict(error_statistics(everything)) if everything is not None else {"n": 0}
    return {
        "schema": SCHEMA,
        "devices": [
            {
                "name": device.name,
                "profile_digest": device.digest,
                "calibration": calibration.summary,
                "roofs": roofs_record(device),
            }
            for device, calibration in {device.name: (device, fits) for device, fits in predictors.values()}.values()
            if device.name in used
        ],
        "backend": backend,
        "unseen": asdict(unseen) if unseen else None,
        "band": COVERAGE,
        "overall": overall | {"bound_agreement": overall_agreement(d for found in doubled.values() for d in found)},
        "families": [_family(group, found, doubled[group], validation) for group, found in counted.items()],
        "groups": [
            _named(group) | {"regime": regime} | asdict(errors)
            for group, found in counted.items()
            for regime, errors in by_regime(rows_of(found)).items()
        ],
        "bound_agreement": [_named(group) | asdict(each) for group, found in doubled.items() for each in found],
        "excluded": _excluded(pairs, selection.left_out, refused),
        "faster_than_physics": [entry for group, found in by_group(pairs).items() for entry in _faster(group, found)],
        "points": [_points(group, found) for group, found in by_group(pairs).items()],
        "placed": [
            _named(group) | placed for group, found in counted.items() if (placed := placed_rows(found)) is not None
        ],
        "notices": list(selection.notices),
        "provenance": {"package_version": __version__, "command": command},
    }


def rows_csv(validation: Validation) -> str:
    """Every record that was read, one line each (ROW_FIELDS): the compared ones, those faster than physics, and those
    left out, with the reason.
    """
    rows: list[list[Any]] = []
    for pair in validation.pairs:
        columns = (pair.measured_s, pair.predicted_s, pair.low_s, pair.high_s, pair.roofline_s, pair.excluded)
        for row, (*times, out) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            rows.append([pair.records.key(row), *times, _flag(out), FASTER_THAN_PHYSICS if out else ""])
    for entry in validation.selection.left_out:
        for row, measured_s in enumerate(entry.records.measured_s.tolist()):
            rows.append([entry.records.key(row), measured_s, "", "", "", "", _flag(True), entry.reason])
    return csv_text(ROW_FIELDS, rows)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _named(group: Group) -> dict[str, str]:
    device, family, dtype = group
    return {"device": device, "family": family, "dtype": dtype}


def _family(group: Group, pairs: Sequence[Paired], found: Sequence[Doubling], validation: Validation) -> dict[str, Any]:
    """All regimes of a family and format together, what it was compared with, and how error goes with size."""
    rows, first = rows_of(pairs), pairs[0]
    noise = [each for records, each in validation.selection.noise if _same(group, records, first) and each.pairs]
    repeated = sum(each.pairs for each in noise)
    return (
        _named(group)
        | {
            "library": ", ".join(
                dict.fromkeys(f"{pair.records.backend} {pair.records.version}".strip() for pair in pairs)
            ),
            "fitted": first.fitted,
            "band_source": first.band_source,
        }
        | asdict(error_statistics(rows))
        | {
            "faster_than_physics": int(sum(pair.excluded.sum() for pair in pairs)),
            "repeats": repeated,
            "repeat_median_ape": sum(each.median * each.pairs for each in noise) / repeated if repeated else None,
            "bound_agreement": overall_agreement(found),
            "by_size": [
                {"low_s": part.low_s, "median_s": part.median_s, "high_s": part.high_s} | asdict(part.errors)
                for part in by_size(rows)
            ],
        }
    )


def _same(group: Group, records: Records, first: Paired) -> bool:
    """Whether `records` belong to `group`, whose pairs were measured where `first` was."""
    measured_on = (records.device, key_of(records)[0], records.precision.label)
    return measured_on == (first.records.device, *group[1:])


def _excluded(
    pairs: Sequence[Paired], left_out: Iterable[LeftOut], refused: Iterable[Refused]
) -> list[dict[str, str | int]]:
    """How many rows (or files) were not compared, by reason, the most first."""
    counts: dict[str, int] = {}
    faster = int(sum(pair.excluded.sum() for pair in pairs))
    found = ((entry.reason, entry.records.size) for entry in left_out)
    for reason, n in ((FASTER_THAN_PHYSICS, faster), *found, *((entry.reason, entry.n) for entry in refused)):
        counts[reason] = counts.get(reason, 0) + n
    return [
        {"reason": reason, "n": n} for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n
    ]


def _faster(group: Group, pairs: Sequence[Paired]) -> list[dict[str, Any]]:
    """The first rows of a group that are faster than physics allows."""
    rows = [(pair, row) for pair in pairs for row in np.flatnonzero(pair.excluded).tolist()]
    return [
        _named(group)
        | {
            "key": pair.records.key(row),
            "measured_s": float(pair.measured_s[row]),
            "roofline_s": float(pair.roofline_s[row]),
        }
        for pair, row in rows[:EXAMPLES]
    ]


def _points(group: Group, pairs: Sequence[Paired]) -> dict[str, Any]:
    """Evenly spread rows of a group, in the order of its records, with four significant digits."""

    def column(name: str) -> Array:
        return np.concatenate([getattr(pair, name) for pair in pairs])

    keys = [(pair.records.source, line) for pair in pairs for line in pair.records.line.tolist()]
    chosen = spread(len(keys), POINTS)
    sources = list(dict.fromkeys(keys[row][0] for row in chosen))
    return (
        _named(group)
        | {"sources": sources, "source": [sources.index(keys[row][0]) for row in chosen]}
        | {"line": [int(keys[row][1]) for row in chosen]}
        | {name: rounded(column(name)[chosen]) for name in ("measured_s", "predicted_s", "roofline_s")}
        | {"excluded": [row for row, out in enumerate(column("excluded")[chosen].tolist()) if out]}
    )
