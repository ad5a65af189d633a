"""`roofline hardware`: which devices are known, what their files say, and how to write another one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RooflineError

if TYPE_CHECKING:
    from ..device import Device

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the shipped profiles."""
    from ..io.profiles import load_device, profile_names

    rows = [_row(load_device(name)) for name in profile_names()]
    if as_json:
        _print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("structure")
    for heading in ("bf16 TFLOP/s", "memory GB", "GB/s", "W", "USD/h"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            row["structure"],
            _shown(row["bf16_flop_per_s"], 1e12),
            _shown(row["memory_byte"], 1e9),
            _shown(row["memory_byte_per_s"], 1e9),
            _shown(row["power_w"], 1.0),
            _shown(row["price_usd_per_hour"], 1.0),
        )
    _print(table)
    typer.echo("\nDense rates; bf16 without a unit of its own runs in the format it is upcast to. - : none stated.")


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="A profile, an alias, or a .toml file.")],
    family: Annotated[
        str | None, typer.Option(help="Show the fitted parameters of this kernel family instead, such as gemm.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every fact of a profile with its printed text, kind and source, and how well its kernels are known."""
    from ..io.profiles import load_device, load_profile

    if family is not None:
        _show_family(name, family, as_json)
        return

    profile, device = load_profile(name), load_device(name)
    if as_json:
        _print_json({"digest": device.digest, **profile.model_dump(mode="json", by_alias=True, exclude_none=True)})
        return
    from rich.table import Table
    from rich.text import Text

    typer.echo(f"{profile.title} ({profile.name}, {profile.vendor}, {profile.year}, {profile.form_factor})")
    typer.echo(f"structure {profile.structure}, digest {device.digest}\n")
    table = Table(box=None, pad_edge=False)
    for heading in ("fact", "printed", "kind", "source"):
        table.add_column(heading, no_wrap=heading != "source", overflow="fold")
    for path, fact in profile.facts():
        date = f" ({fact.date})" if fact.date else ""
        table.add_row(*(Text(cell) for cell in (path, fact.printed, fact.kind, fact.source + date)))
    _print(table)
    upcast = ", ".join(f"{narrow} as {wide}" for narrow, wide in profile.upcast.items())
    typer.echo(f"\nupcast: {upcast or 'none'}")
    typer.echo(f"unsupported: {', '.join(profile.unsupported) or 'none'}\n\nsources:")
    for key, citation in profile.sources.items():
        typer.echo(f"  {key}: {citation}")
    _show_calibration(name)


def _show_calibration(name: str) -> None:
    """How well the kernels of a device are known, in one line and a table."""
    from ..io.calibration import every_fit, load_calibration
    from ..io.profiles import load_target
    from .screen_fits import errors_table

    target = load_target(name)
    typer.echo(f"\ncalibration: {load_calibration(target).summary}")
    fits = every_fit(target)
    if fits:
        typer.echo(f"\n{errors_table(fits)}\n--family NAME shows the parameters of a family.")


def _show_family(name: str, family: str, as_json: bool) -> None:
    """The fitted parameters of one kernel family, for every library and format."""
    from ..io.calibration import every_fit, fitted_table
    from ..io.profiles import load_target
    from .screen_fits import of_family, parameter_tables

    fits = of_family(every_fit(load_target(name)), family, name)
    if as_json:
        _print_json({" ".join((library, *key)): fitted_table(fitted) for (library, key), fitted in fits.items()})
        return
    typer.echo(parameter_tables(fits))


@app.command("lint")
def lint_command(
    files: Annotated[list[str], typer.Argument(help="Profiles to check: .toml files or names.")],
) -> None:
    """Check profiles for the mistakes that datasheets invite; exit with 1 where one has errors."""
    from ..io.profile_lint import lint_profile

    errors = 0
    for file in files:
        findings = lint_profile(file)
        errors += sum(finding.severity == "error" for finding in findings)
        for finding in findings:
            typer.echo(f"{file}: {finding.severity}: {finding.field}: {finding.found}")
            typer.echo(f"    {finding.why}. To fix: {finding.fix}.")
        if not findings:
            typer.echo(f"{file}: nothing to object to")
    if errors:
        raise typer.Exit(1)


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(help="The name of the profile, such as my-gpu-80gb.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write to this NAME.toml, not stdout.")] = None,
) -> None:
    """Print a profile with blanks to fill from a datasheet."""
    from ..io.profile_template import template

    text = template(name)
    if output is None:
        typer.echo(text, nl=False)
        return
    from ..io.files import write_text

    if output.name != f"{name}.toml":
        raise RooflineError(f"output: {output.name!r} cannot hold the profile {name}; accepted: {name}.toml.")
    if output.exists():
        raise RooflineError(f"output: {str(output)!r} exists and is not overwritten; remove it or choose another name.")
    write_text(output, text)


def _row(device: "Device") -> dict[str, Any]:
    """What `list` says of a device, in SI."""
    from ..structs import Dtype

    rate = device.matrix_flop_per_s.get(device.upcast.get(Dtype.BF16, Dtype.BF16))
    return {
        "name": device.name,
        "title": device.title,
        "structure": type(device.structure).__name__.lower(),
        "bf16_flop_per_s": rate,
        "memory_byte": device.dram.capacity_byte,
        "memory_byte_per_s": device.dram.bandwidth_byte_per_s,
        "power_w": device.power_w,
        "price_usd_per_hour": device.price_usd_per_hour,
        "digest": device.digest,
    }


def _shown(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.4g}"


def _print(table: Any) -> None:
    """Print a Rich table to stdout; as wide as it needs to be where stdout is no terminal."""
    import sys

    from rich.console import Console

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)
    console.print(table)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, allow_nan=False))
