"""`roofline validate`: measured kernels beside their predictions, on the screen, as JSON, CSV or a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RooflineError
from .output import called, check_files, name_files, print_json
from .progress import working

if TYPE_CHECKING:
    from ..io.profiles import Target
    from ..io.records import Records
    from ..validate.run import Predictor, Validation


def validate_command(
    records: Annotated[
        list[Path] | None,
        typer.Argument(help="Directories of measured records, records files, or request logs.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Predict with this profile (a name or a TOML file) [that of the records].")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Compare this library's rows [the calibration's].")] = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Only rows that the calibration did not see.")] = False,
    fit_fraction: Annotated[float, typer.Option(help="With --unseen: the fraction it was made with.")] = 0.5,
    seed: Annotated[
        int | None, typer.Option(help="With --unseen: the seed it was made with [0]; with --this-machine: any [fresh].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --device: rows of other devices too.")] = False,
    detail: Annotated[
        bool, typer.Option("--detail", help="Add what binds each kernel, and how time follows size.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    rows: Annotated[Path | None, typer.Option(help="Write one line per record to a CSV file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the comparison as one HTML page.")] = None,
    here: Annotated[
        bool, typer.Option("--this-machine", help="Measure this machine, calibrate on 60 %, validate on the rest.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --this-machine: under two minutes.")] = False,
    library: Annotated[str, typer.Option(help="With --this-machine: numpy, torch or both.")] = "both",
    threads: Annotated[int | None, typer.Option(help="With --this-machine: threads [the idle cores].")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="With --this-machine: the folder to write to.")] = Path(
        "this-machine"
    ),
) -> None:
    """Compare measured kernels with their predictions: errors, bands, and the bare roofline beside them."""
    from ..io.datasets import read
    from ..io.files import write_text
    from ..io.traces import is_request_log
    from ..validate.record import rows_csv, validation_record
    from ..validate.run import validate
    from ..validate.select import Unseen

    if here:
        from .this_machine import this_machine

        if records:
            raise RooflineError("records: --this-machine makes its own. Give one or the other.")
        this_machine(output, library=library, quick=quick, seed=seed, threads=threads)
        return
    if not records:
        raise RooflineError("records: none given. Give directories or files of measured records, or --this-machine.")
    if force and device is None:
        raise RooflineError("force: it needs a profile to predict the rows of all devices with. Give --device.")
    check_files(rows=rows, html=html)
    with working() as progress:
        logs = [path for path in records if is_request_log(path)]
        results = [read(path) for path in records if path not in logs]
        found = [group for groups, _ in results for group in groups]
        where = ", ".join(map(str, records))
        predictors = _predictors(found, device, force, where, backend) if len(logs) < len(records) else {}
        asked = Unseen(fit_fraction, seed or 0) if unseen else None
        targets = _targets(predictors, device)
        validation = validate(found, predictors, targets=targets, backend=backend, unseen=asked, progress=progress)
        for log in logs:
            progress(f"simulating {log}")
            validation = _with_log(validation, predictors, log, device)
        progress("counting errors")
        record = validation_record(
            validation,
            predictors,
            refused=[entry for _, entries in results for entry in entries],
            backend=backend,
            unseen=asked,
            command=called(),
        )
        if rows is not None:
            write_text(rows, rows_csv(validation))
        if html is not None:
            from ..report.pages import write_page

            write_page(record, html)
    if json_:
        print_json(record)
    else:
        typer.echo(_screen(record, detail))
    name_files(rows, html)
    if not record["overall"]["n"]:
        typer.echo(f"nothing to compare: every row of {where} is excluded (the reasons are above).", err=True)
        raise typer.Exit(1)


def _predictors(
    found: "Sequence[Records]", device: str | None, force: bool, where: str, backend: str | None
) -> "dict[str, Predictor]":
    """Which profile predicts the records of which device, with the kernels of `backend` where it is calibrated for it.

    Errors: RooflineError where no record is of the device asked for, or of one with a profile.
    """
    from ..io.calibration import backends_of, load_calibration
    from ..io.profiles import Target, load_target

    def predictor(target: Target) -> "Predictor":
        return target.device, load_calibration(target, backend if backend in backends_of(target) else None)

    names = sorted({group.device for group in found})
    if device is not None:
        target = load_target(device)
        own = names if force else [name for name in names if name == target.device.name]
        if not own:
            raise RooflineError(
                f"device: {where} has no rows of {target.device.name}; it has {', '.join(names)}. Give one of them, or "
                "--force to compare all the same."
            )
        return dict.fromkeys(own, predictor(target))
    predictors, problems = {}, []
    for name in names:
        try:
            target = load_target(name)
        except RooflineError as error:
            problems.append(str(error))
        else:
            predictors[name] = predictor(target)
    if not predictors:
        raise RooflineError(f"device: {where} is of {', '.join(names)}: {problems[0]} Give --device.")
    return predictors


def _with_log(
    validation: "Validation", predictors: "dict[str, Predictor]", path: Path, device: str | None
) -> "Validation":
    """`validation` with the requests of a log beside their simulation; `predictors` learns of its device.

    Errors: RooflineError where neither `device` nor a folder above the log says what served it.
    """
    from ..io.profiles import load_target
    from ..io.traces import read_request_log
    from ..simulator import served_as_logged
    from ..validate.request_log import device_of_log, pair_log

    log, name = read_request_log(path), device or device_of_log(path)
    if name is None:
        raise RooflineError(f"device: no folder above {path} names the device that served it. Give --device.")
    case, served = served_as_logged(log, name)
    predictors.setdefault(load_target(name).device.name, (case.device, case.calibration))
    return replace(validation, pairs=(*validation.pairs, *pair_log(log, served, case.model.name.lower(), case.device)))


def _targets(predictors: "dict[str, Predictor]", device: str | None) -> "dict[str, Target]":
    """The profiles that predict served models, by the devices of the records."""
    from ..io.profiles import load_target

    return {name: load_target(device or name) for name in predictors}


_ERRORS = (("median", "median_ape"), ("mean", "mape"), ("p90", "p90_ape"), ("bias", "bias"), ("in band", "coverage"))


def _screen(record: Mapping[str, Any], detail: bool) -> str:
    """The comparison as text: errors by family and format; with `detail`, by regime and by doubled dimension too."""
    from .screen import WIDTH

    overall = record["overall"]
    which = "rows that the calibration did not see" if record["unseen"] else "rows"
    parts = []
    if overall["n"]:
        parts.append(
            f"{overall['n']:,} {which} on {', '.join(device['name'] for device in record['devices'])}: median error "
            f"{overall['median_ape']:.1%}, mean {overall['mape']:.1%}, {overall['coverage']:.0%} within the "
            f"{record['band']:.0%} band; bare roofline {overall['roofline_median_ape']:.0%}"
        )
        parts.append(_errors_table(record["families"], "library"))
    if detail and overall["n"]:
        parts.append(_errors_table(record["groups"], "regime"))
        parts.append(_doubling_table(record["bound_agreement"]))
    if record["excluded"]:
        told = "; ".join(f"{entry['n']:,} {_plain(entry['reason'])}" for entry in record["excluded"])
        parts += wrap(f"Not compared: {told}.", WIDTH)
    for notice in record["notices"]:
        parts += wrap(f"Note: {_plain(notice)}", WIDTH)
    return "\n".join(parts)


def _errors_table(entries: Sequence[Mapping[str, Any]], third: str) -> str:
    from rich.markup import escape
    from rich.table import Table

    from .screen import rendered

    several = len({entry["device"] for entry in entries}) > 1
    table = Table()
    for column in (*(("device",) if several else ()), "family", "format", third):
        table.add_column(column)
    for column in (
        "n",
        *(title for title, _ in _ERRORS),
        "bare roofline",
        *(("bound agrees",) if third == "library" else ()),
    ):
        table.add_column(column, justify="right")
    for entry in entries:
        names = (*((entry["device"],) if several else ()), entry["family"], entry["dtype"], entry[third])
        shown = [escape(_plain(name)) for name in names]
        shown += [f"{entry['n']:,}", *(_percent(key, entry[key]) for _, key in _ERRORS)]
        shown.append(f"{entry['roofline_median_ape']:.0%}")
        if third == "library":
            share = entry["bound_agreement"]
            shown.append("-" if share is None else f"{share:.0%}")
        table.add_row(*shown)
    return rendered(table, width=150)


def _doubling_table(entries: Sequence[Mapping[str, Any]]) -> str:
    from rich.markup import escape
    from rich.table import Table

    from .screen import rendered

    table = Table(title="does time follow when only this doubles? measured and predicted agree", title_justify="left")
    for column in ("device", "family", "format", "dimension"):
        table.add_column(column)
    for column in ("pairs", "agree"):
        table.add_column(column, justify="right")
    for entry in entries:
        names = (escape(_plain(entry[key])) for key in ("device", "family", "dtype", "dimension"))
        table.add_row(*names, f"{entry['pairs']:,}", f"{entry['agreement']:.0%}")
    return rendered(table, width=150)


def _percent(key: str, value: float) -> str:
    return f"{value:.0%}" if key == "coverage" else f"{value:{'+' if key == 'bias' else ''}.1%}"


def _plain(text: str) -> str:
    """Text from a file without what a terminal would act on."""
    return "".join(character if character.isprintable() else "?" for character in text)
