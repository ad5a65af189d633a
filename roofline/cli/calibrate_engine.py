"""`roofline calibrate --engine`: fit an engine's parameters to measured service and write its file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import RooflineError
from .progress import working
from .screen import rendered

if TYPE_CHECKING:
    from ..calibrate.engine import EngineFit
    from ..io.profiles import Target
    from ..io.records import Records

LEAST_ROWS = 2
"""Fewest rows of a set: one to fit and one to judge."""


def calibrate_engine(
    records: "Sequence[Records]",
    target: "Target",
    name: str,
    output: Path | None,
    *,
    fit_fraction: float,
    seed: int,
    where: str,
    as_json: bool,
) -> None:
    """Fit the engine `name` (a preset or a file) to the serving rows of `records` on `target`, judge it on the rest of
    them, print both and write it to `output`.

    Errors: RooflineError where there are no rows of the engine on that device.
    """
    from ..calibrate.engine import fit_and_judge, fitted_paths
    from ..calibrate.served import served_sets
    from ..io.engine_text import engine_text
    from ..io.engines import load_engine, load_engine_file
    from ..io.files import write_text

    engine, file = load_engine(name), load_engine_file(name)
    preset = replace(engine, name=engine.backend)
    sets = [of for of in served_sets(records, target, (preset,)) if of.size >= LEAST_ROWS]
    if not sets:
        of = ", ".join(sorted({f"{group.backend} on {group.device}" for group in records if group.family == "serving"}))
        raise RooflineError(
            f"engine: {where} has no served rows of {engine.backend} on {target.device.name}; it has "
            f"{of or 'none at all'}. Give data of a serving benchmark (aiconfigurator's silicon_sample*.csv layout)."
        )
    with working() as progress:
        fit = fit_and_judge(engine, sets, fit_fraction, seed, progress)
    dated = replace(fit.engine.evidence, data=where, date=datetime.now(UTC).date().isoformat())
    fitted = replace(fit.engine, evidence=dated)
    if as_json:
        typer.echo(json.dumps(_record(fit), indent=1))
    else:
        typer.echo(_summary(fit))
    if output is not None:
        source = f"fitted to {dated.fitted_rows} served rows of {where} on {target.device.title}"
        write_text(output, engine_text(file, fitted, output.stem, fitted_paths(), source))
        typer.echo(f"wrote {output}", err=True)


def _record(fit: "EngineFit") -> dict[str, Any]:
    return {
        "schema": "roofline.engine-calibration/1",
        "engine": fit.engine.name,
        "parameters": fit.parameters,
        "before": fit.before,
        "sets": [{"name": name, "tpot": asdict(tpot), "ttft": asdict(ttft)} for name, tpot, ttft in fit.errors],
    }


def _summary(fit: "EngineFit") -> str:
    from rich.table import Table

    errors = Table(title="errors on rows not fitted: median / mean (bias)", title_justify="left")
    for column in ("model, format, engine", "fitted", "judged", "TPOT", "TTFT"):
        errors.add_column(column, justify="left" if column.startswith("model") else "right")
    for (name, tpot, ttft), fitted in zip(fit.errors, fit.fitted_rows, strict=True):
        shown = (f"{each.median_ape:.1%} / {each.mape:.1%} ({each.bias:+.1%})" for each in (tpot, ttft))
        errors.add_row(name, f"{fitted:,}", f"{tpot.n:,}", *shown)
    parameters = Table(title="parameters", title_justify="left")
    for column in ("parameter", "before", "fitted"):
        parameters.add_column(column, justify="left" if column == "parameter" else "right")
    for name, value in fit.parameters.items():
        parameters.add_row(name, f"{fit.before[name]:.3g}", f"{value:.3g}")
    return rendered(errors, width=130) + "\n" + rendered(parameters)
