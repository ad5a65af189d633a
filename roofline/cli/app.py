"""The commands, and how they end: data on stdout, notices and errors on stderr."""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

import typer

from .. import __version__
from ..errors import InfeasibleError, RooflineError

COMMANDS = (
    "predict",
    "compare",
    "plan",
    "sensitivity",
    "diff",
    "explain",
    "simulate",
    "calibrate",
    "validate",
    "report",
)
"""Commands: NAME is the function NAME_command of the module NAME beside this one."""

GROUPS = {
    "hardware": "Hardware profiles: list, show, lint, new.",
    "measure": "Run kernels on this machine: host profile, records of steps.",
    "models": "Model presets: list, show.",
}
"""Groups of commands, each the `app` of the module of its name, and what they are for."""


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"roofline {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of `roofline` itself."""


def command_line(names: Iterable[str] = (*COMMANDS, *GROUPS)) -> typer.Typer:
    """The command line with the commands and groups of `names`; their modules are imported."""
    app = typer.Typer(
        name="roofline",
        help="Hardware cost and roofline simulator for transformer workloads.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in names:
        module = import_module(f".{name}", __package__)
        if name in GROUPS:
            app.add_typer(module.app, name=name, help=GROUPS[name])
        else:
            app.command(name)(getattr(module, f"{name}_command"))
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit status. No traceback for a user's mistake.

    Only the module of the command that is asked for is imported: the others would double the time of a start.
    """
    asked = [name for name in arguments[:1] if name in COMMANDS or name in GROUPS]
    try:
        status = (command_line(asked) if asked else command_line())(args=list(arguments), standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except InfeasibleError as error:
        typer.echo(f"infeasible: {error}", err=True)
        return 1
    except RooflineError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left, as in `| head`
        return 0
    return status if isinstance(status, int) else 0
