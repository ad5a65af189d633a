"""`roofline calibrate`: fit the timing models of a device to measured kernels and write its profile."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RooflineError, unknown
from .progress import working
from .screen_fits import errors_table, undetermined_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..calibrate.run import Skipped
    from ..io.records import Records
    from ..timing.calibration import Fitted, Key


def calibrate_command(
    data: Annotated[
        list[Path], typer.Argument(help="Directories of measured records, records files, or a request log.")
    ],
    device: Annotated[str, typer.Option(help="The profile to calibrate: a name or a TOML file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the calibrated profile here.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Libraries to calibrate, e.g. vllm,trtllm: the first is the default [most rows].")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Start from this device's calibration: a few rows are enough.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Fit this serving engine (vllm, sglang, trtllm or a .toml) to served rows of DATA instead."),
    ] = None,
    fit_fraction: Annotated[float, typer.Option(help="Share of the rows to fit; the others judge.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Which rows are fitted.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Take rows of other devices too.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the fits as JSON.")] = False,
) -> None:
    """Fit the few physical parameters of a device's timing models to part of DATA and judge them on the rest."""
    from ..calibrate.run import calibrate
    from ..io.calibration import (
        backends_of,
        calibration_text,
        carried_over,
        declared_kernels,
        fitted_table,
        load_calibration,
    )
    from ..io.datasets import read
    from ..io.datasets.own import one_machine
    from ..io.datasets.source import Source
    from ..io.files import write_text
    from ..io.profiles import load_target, profile_path
    from ..io.traces import is_request_log

    target = load_target(device)
    if engine is not None and all(is_request_log(path) for path in data):
        from .calibrate_log import calibrate_log

        if len(data) > 1 or backend or like or force:
            raise RooflineError("log: one request log at a time is fitted, without --backend, --like and --force.")
        calibrate_log(data[0], target, engine, output, fit_fraction=fit_fraction, as_json=json_)
        return
    one_machine([Source(file, str(file), "") for path in data for file in _record_files(path)])
    results = [read(path) for path in data]
    records = [group for found, _ in results for group in found]
    refused = [item for _, items in results for item in items]
    where = ", ".join(map(str, data))
    if engine is not None:
        from .calibrate_engine import calibrate_engine

        if backend or like or force:
            raise RooflineError("engine: it is fitted to its own served rows. Leave out --backend, --like and --force.")
        how = {"fit_fraction": fit_fraction, "seed": seed}
        calibrate_engine(records, target, engine, output, **how, where=where, as_json=json_)  # type: ignore[arg-type]
        return
    records = [group for group in records if group.family != "serving"]
    own = tuple(group for group in records if force or group.device == target.device.name)
    if not own:
        found = ", ".join(sorted({group.device for group in records})) or "nothing"
        raise RooflineError(
            f"device: {where} has no rows of {target.device.name}; it has {found}. Give one of them, or --force."
        )
    relative = load_target(like) if like else None
    names = _libraries(own, backend)
    fits: dict[tuple[str, Key], Fitted] = {}
    skipped: list[Skipped] = []
    with working() as progress:
        for library in names:
            prior = None
            if relative is not None:
                lent = load_calibration(relative, library if library in backends_of(relative) else None).models
                prior = carried_over(lent, relative, target)
            fitted_here, left = calibrate(
                own if library == names[0] else tuple(group for group in own if group.backend == library),
                target.device,
                backend=library,
                fit_fraction=fit_fraction,
                seed=seed,
                date=datetime.now(UTC).date().isoformat(),
                like=prior,
                kernels={name: declared_kernels(target, name) for name in target.kernels},
                progress=progress,
            )
            fits |= {(fitted.evidence.backend, key): fitted for key, fitted in fitted_here.items()}
            skipped += left
    if not fits:
        reasons = "\n".join(f"  {' '.join(item.key)}: {item.reason}" for item in skipped)
        raise RooflineError(f"records: nothing in {where} could be calibrated:\n{reasons}")
    if output is not None:
        text = profile_path(device).read_text("utf-8")
        listed = [(key, fitted) for (_, key), fitted in fits.items()]
        write_text(output, named(_without_calibration(text), output.stem) + "\n" + calibration_text(names[0], listed))
    if json_:
        table = {" ".join((name, *key)): fitted_table(fitted) for (name, key), fitted in fits.items()}
        typer.echo(json.dumps({"schema": "roofline.calibration/1", "fits": table}, indent=1, default=str))
    else:
        typer.echo("\n".join([errors_table(fits), *undetermined_lines(fits)]))
    for item in skipped:
        typer.echo(f"skipped {' '.join(item.key)}: {item.reason}", err=True)
    left_out = sum(item.n for item in refused)
    if left_out:
        typer.echo(f"{left_out:,} rows or files of {where} were refused: {refused[0].reason}, …", err=True)
    if output is not None:
        typer.echo(f"wrote {output}", err=True)


def _libraries(records: "Sequence[Records]", asked: str | None) -> tuple[str, ...]:
    """The libraries to calibrate, the default first: those asked for, else the one with the most rows.

    Errors: RooflineError for one that no record is of.
    """
    rows = Counter[str]()
    for group in records:
        rows[group.backend] += group.size
    if asked is None:
        return (max(sorted(rows), key=rows.__getitem__),)
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in rows:
            raise unknown("backend", name, list(rows))
    return names


def _record_files(path: Path) -> list[Path]:
    """The files among which the project's own records may be."""
    return [path] if path.is_file() else sorted(path.rglob("*.json"))


def _without_calibration(text: str) -> str:
    """A profile's text up to its calibration."""
    return (
        re.split(r"^# Fitted by `roofline calibrate`|^\[calibration", text, maxsplit=1, flags=re.MULTILINE)[0].rstrip()
        + "\n"
    )


def named(text: str, name: str) -> str:
    """A profile's text under another name: a profile is named as its file."""
    return re.sub(r'^name = ".*"$', f'name = "{name}"', text, count=1, flags=re.MULTILINE)
