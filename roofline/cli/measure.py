"""`roofline measure`: run kernels on this machine, and write what was seen as records or as a hardware profile."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RooflineError
from .progress import bar

if TYPE_CHECKING:
    from ..model import Model

app = typer.Typer()

Quick = Annotated[bool, typer.Option("--quick", help="Fewer shapes and repeats: under a minute.")]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, or cuda (with torch).")]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@app.callback(invoke_without_command=True)
def few_command(
    context: typer.Context,
    shots: Annotated[int | None, typer.Option("--shots", help="Measure this many single kernels, such as 60.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the records to this .json file.")] = None,
    device: DeviceName = "cpu",
    library: Annotated[str, typer.Option("--library", help="numpy or torch.")] = "torch",
    profile: Annotated[str, typer.Option("--profile", help="Name of the profile that the records belong to.")] = "host",
    dtype: Annotated[str | None, typer.Option("--dtype", help="fp32, bf16 or fp16 [cpu fp32, cuda bf16].")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the drawn shapes [a fresh one, recorded].")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads; all CPUs unless given.")] = None,
) -> None:
    """Run kernels on this machine, and write what was seen as records or as a hardware profile.

    With --shots and no command: a few single kernels, a third each of products, prompt attention and decode attention,
    for `roofline calibrate RECORDS --device PROFILE --like RELATIVE --fit-fraction 0.8`.
    """
    from ..io.datasets.own import write
    from ..io.files import require_writable
    from ..measure.session import DEVICES, Request, measure_few

    if context.invoked_subcommand is not None:
        if shots is not None:
            raise RooflineError(f"shots: `measure {context.invoked_subcommand}` takes none. Leave the command out.")
        return
    if shots is None:
        typer.echo(context.get_help())
        return
    if output is None:
        raise RooflineError("output: where to write the records is not given. Give -o FILE.json.")
    _choice("device", device, DEVICES)
    require_writable(output)
    request = Request(
        library=library,
        device=device,
        profile=profile,
        quick=True,
        threads=threads,
        activations=dtype or ("bf16" if device == "cuda" else "fp32"),
        seed=fresh_seed() if seed is None else seed,
    )
    with bar("starting") as tell:
        file = measure_few(request, shots, tell)
    write(output, file)
    where = file.environment.accelerator or file.environment.cpu_model
    typer.echo(f"{output}: {len(file.records)} records of {library} on {where}, seed {file.seed}.")
    if file.interrupted:
        typer.echo("interrupted: the file holds what was measured until then.", err=True)
        raise typer.Exit(INTERRUPTED)


@app.command("host")
def host_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Write the profile to this NAME.toml.")],
    quick: Quick = False,
    device: DeviceName = "cpu",
) -> None:
    """Measure this machine's rates and write them as a hardware profile."""
    from ..io.files import require_writable, write_text
    from ..io.profile_lint import lint_profile
    from ..measure.host_profile import profile_text
    from ..measure.session import DEVICES, measure_host

    if output.suffix != ".toml":
        raise RooflineError(f"output: {output.name!r} cannot hold a profile. Accepted: NAME.toml, such as host.toml.")
    _choice("device", device, DEVICES)
    require_writable(output)
    with bar("starting") as tell:
        machine, measured, interrupted = measure_host(device, quick, tell)
    write_text(output, profile_text(output.stem, machine, measured))
    for finding in lint_profile(output):
        typer.echo(f"{finding.severity}: {finding.field}: {finding.found}: {finding.why}", err=True)
    typer.echo(f"{output}: {machine.title}. `roofline hardware show {output}` shows every figure.")
    if interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command("steps")
def steps_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Write the records to this .json file.")],
    library: Annotated[str, typer.Option("--library", help="numpy or torch.")] = "numpy",
    quick: Quick = False,
    model: Annotated[str | None, typer.Option("--model", help="A preset or config.json, not drawn layers.")] = None,
    layers: Annotated[int | None, typer.Option("--layers", help="Only this many of the model's layers.")] = None,
    device: DeviceName = "cpu",
    profile: Annotated[str, typer.Option("--profile", help="Name of the profile that the records belong to.")] = "host",
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16 or fp16 (torch).")] = "fp32",
    weights: Annotated[str | None, typer.Option("--weights", help="int8 (torch); else as --dtype.")] = None,
    steps: Annotated[str, typer.Option("--steps", help="Only these steps, with commas.")] = "",
    warm: Annotated[
        bool, typer.Option("--warm", help="Reuse operands from cache; else weights come from DRAM.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads; all CPUs unless given.")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Samples per record; else until the spread is known.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the drawn layers [a fresh one, recorded].")] = None,
) -> None:
    """Measure the steps of transformer layers and write one record per shape. Ctrl-C keeps what was measured."""
    from ..io.datasets.own import write
    from ..io.files import require_writable
    from ..measure.campaign import check_steps
    from ..measure.session import Request, measure_steps

    require_writable(output)
    request = Request(
        library=library,
        device=device,
        profile=profile,
        quick=quick,
        cold=not warm,
        threads=threads,
        samples=samples,
        seed=fresh_seed() if seed is None else seed,
        activations=dtype,
        weights=weights,
        steps=check_steps([name.strip() for name in steps.split(",") if name.strip()]),
    )
    with bar("starting") as tell:
        file = measure_steps(request, _loaded(model, layers), tell)
    write(output, file)
    typer.echo(f"{output}: {len(file.records)} records of {library} on {file.environment.cpu_model}.")
    if file.interrupted:
        typer.echo("interrupted: the file holds what was measured until then.", err=True)
        raise typer.Exit(INTERRUPTED)


def fresh_seed() -> int:
    """A seed that nobody chose: shapes drawn with it are not those that a model was formed on."""
    import secrets

    return secrets.randbelow(10**6)


def _loaded(name: str | None, layers: int | None) -> "Model | None":
    """The model of a preset or file with its first `layers` layers, or None."""
    from dataclasses import replace

    from ..io.models import load_model

    if name is None:
        return None
    model = load_model(name).model
    if layers is None:
        return model
    if not 1 <= layers <= len(model.layers):
        raise RooflineError(f"layers: {layers} is not accepted. Accepted: 1 to {len(model.layers)} for {model.name}.")
    return replace(model, layers=model.layers[:layers])


def _choice(field: str, value: str, accepted: tuple[str, ...]) -> None:
    from ..errors import unknown

    if value not in accepted:
        raise unknown(field, value, accepted)
