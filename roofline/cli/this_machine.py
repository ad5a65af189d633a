"""`roofline validate --this-machine`: measure this machine, calibrate on most of the shapes, judge by the others."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import RooflineError, unknown
from .progress import bar

if TYPE_CHECKING:
    from ..calibrate.run import Skipped
    from ..io.datasets.own import RecordFile

PROFILE = "host"
LIBRARIES = ("numpy", "torch", "both")
FIT_FRACTION = 0.6
BUSY = 0.25
"""Load of one core from which it counts as taken: threads that must share a core measure the scheduler."""


def this_machine(
    output: Path, *, library: str = "both", quick: bool = False, seed: int | None = None, threads: int | None = None
) -> None:
    """Measure a profile and the steps of drawn layers, calibrate, validate, and write everything into `output`.

    `seed` decides which layers are drawn and which shapes are fitted; None: a fresh one, recorded. `threads` None: as
    many as there are idle cores.

    Writes host.toml, and for each library its records, its calibrated profile host-LIBRARY.toml, and its validation as
    JSON and as a page. Errors: RooflineError for an unknown or missing library, or a folder that cannot be written;
    typer.Exit(130) after Ctrl-C, with what was measured until then on disk.
    """
    from ..io.datasets.own import write
    from ..io.files import write_text
    from ..measure.environment import bind, busy_cores, cores
    from ..measure.host_profile import profile_text
    from ..measure.session import Request, measure_host, measure_steps
    from .measure import INTERRUPTED, fresh_seed

    libraries = _chosen(library)
    if threads is not None:
        bind(cores(), threads)  # a number that cannot be is named before anything is measured or written
    _prepare(output)
    seed = fresh_seed() if seed is None else seed
    threads = idle_cores(len(cores()), busy_cores()) if threads is None else threads
    typer.echo(f"measuring with {threads} of {len(cores())} cores, seed {seed}", err=True)
    profile = output / f"{PROFILE}.toml"
    with bar("starting") as tell:
        machine, measured, interrupted = measure_host("cpu", quick, tell)
    text = profile_text(PROFILE, machine, measured)
    write_text(profile, text)
    for name in libraries:
        if interrupted:
            break
        with bar("starting") as tell:
            request = Request(library=name, profile=PROFILE, quick=quick, threads=threads, seed=seed)
            file = measure_steps(request, tell=tell)
        write(output / f"{name}.json", file)
        interrupted = file.interrupted
        if not interrupted:
            _judge(output, name, text, file, seed)
    if interrupted:
        typer.echo(f"interrupted: {output} holds what was measured until then.", err=True)
        raise typer.Exit(INTERRUPTED)


def idle_cores(count: int, busy: float) -> int:
    """How many of `count` cores nothing else uses where `busy` cores' worth of time is taken; at least one."""
    return max(count - int(busy + 1.0 - BUSY), 1)


def _chosen(library: str) -> tuple[str, ...]:
    """The libraries to measure; with `both`, NumPy alone where torch is missing."""
    from ..measure.torch_executor import require_torch

    if library not in LIBRARIES:
        raise unknown("library", library, LIBRARIES)
    if library == "numpy":
        return ("numpy",)
    try:
        require_torch()
    except RooflineError as error:
        if library == "torch":
            raise
        typer.echo(f"numpy only: {error}", err=True)
        return ("numpy",)
    return ("numpy", "torch") if library == "both" else ("torch",)


def _prepare(output: Path) -> None:
    from ..io.files import require_writable

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RooflineError(f"output: cannot make the folder {output}: {error.strerror}. Give another one.") from None
    require_writable(output / f"{PROFILE}.toml")


def _judge(output: Path, name: str, profile: str, file: "RecordFile", seed: int) -> None:
    """Calibrate one library on FIT_FRACTION of its shapes, judge it by the others, write both, and print the errors."""
    import json
    from datetime import UTC, datetime

    from ..calibrate.run import calibrate
    from ..io.calibration import calibration_text, declared_kernels, load_calibration
    from ..io.datasets import read
    from ..io.files import write_text
    from ..io.profiles import load_target
    from ..report.pages import write_page
    from ..validate.record import validation_record
    from ..validate.run import validate
    from ..validate.select import Unseen
    from .calibrate import named

    calibrated = output / f"{PROFILE}-{name}.toml"
    records, refused = read(output / f"{name}.json")
    bare = load_target(str(output / f"{PROFILE}.toml"))
    with _status(f"fitting {name}"):
        fits, skipped = calibrate(
            records,
            bare.device,
            backend=name,
            fit_fraction=FIT_FRACTION,
            seed=seed,
            date=datetime.now(UTC).date().isoformat(),
            kernels={name: declared_kernels(bare, name)},
        )
    write_text(calibrated, named(profile, calibrated.stem) + "\n" + calibration_text(name, fits.items()))
    target = load_target(str(calibrated))
    predictors = {PROFILE: (target.device, load_calibration(target))}
    unseen = Unseen(FIT_FRACTION, seed)
    validation = validate(records, predictors, backend=name, unseen=unseen)
    record = validation_record(
        validation,
        predictors,
        refused=refused,
        backend=name,
        unseen=unseen,
        command=f"roofline validate --this-machine --library {name} --seed {seed}",
    )
    write_text(output / f"validation-{name}.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    write_page(record, output / f"validation-{name}.html")
    typer.echo(summary(name, record, file, skipped))


def summary(name: str, record: Mapping[str, Any], file: "RecordFile", skipped: "Sequence[Skipped]") -> str:
    """Errors on shapes that were not fitted, by family, beside the noise of measuring the same shape again."""
    from rich.table import Table

    from .screen import rendered

    overall, families = record["overall"], record["families"]
    table = Table(
        title=f"{name}: {file.environment.cpu_model}, threads: {file.environment.thread_count}, seed: {file.seed}",
        title_justify="left",
    )
    table.add_column("family")
    for column in ("unseen", "median", "noise", "p90", "in band", "bare roofline"):
        table.add_column(column, justify="right")
    for entry in families:
        told = entry["family"] if entry["fitted"] else f"{entry['family']} (datasheet)"
        table.add_row(told, f"{entry['n']}", *_figures(entry, entry["repeat_median_ape"]))
    repeats = [(entry["repeat_median_ape"], entry["repeats"]) for entry in families if entry["repeats"]]
    count = sum(number for _, number in repeats)
    noise = sum(median * number for median, number in repeats) / count if count else None
    if overall["n"]:
        table.add_row("all", f"{overall['n']}", *_figures(overall, noise))
    lines = [rendered(table)]
    lines += [f"not calibrated: {' '.join(item.key)}: {item.reason}" for item in skipped]
    return "\n".join(lines)


def _figures(entry: Mapping[str, Any], noise: float | None) -> tuple[str, ...]:
    return (
        f"{entry['median_ape']:.1%}",
        "-" if noise is None else f"{noise:.1%}",
        f"{entry['p90_ape']:.0%}",
        f"{entry['coverage']:.0%}",
        f"{entry['roofline_median_ape']:.0%}",
    )


@contextmanager
def _status(text: str) -> Iterator[None]:
    """What is being done, on stderr where that is a terminal."""
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
