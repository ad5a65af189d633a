"""The commands, and how they end: data on stdout, notices and errors on stderr."""

import os
import sys
from collections.abc import Sequence

import typer

from .. import __version__
from ..errors import InfeasibleError, RooflineError
from . import hardware, measure, models
from .calibrate import calibrate_command
from .compare import compare_command
from .diff import diff_command
from .explain import explain_command
from .plan import plan_command
from .predict import predict_command
from .report import report_command
from .sensitivity import sensitivity_command
from .simulate import simulate_command
from .validate import validate_command

app = typer.Typer(
    name="roofline",
    help="Hardware cost and roofline simulator for transformer workloads.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("predict")(predict_command)
app.command("compare")(compare_command)
app.command("plan")(plan_command)
app.command("sensitivity")(sensitivity_command)
app.command("diff")(diff_command)
app.command("explain")(explain_command)
app.command("simulate")(simulate_command)
app.command("calibrate")(calibrate_command)
app.command("validate")(validate_command)
app.command("report")(report_command)
app.add_typer(hardware.app, name="hardware", help="Hardware profiles: list, show, lint, new.")
app.add_typer(measure.app, name="measure", help="Run kernels on this machine: host profile, records of steps.")
app.add_typer(models.app, name="models", help="Model presets: list, show.")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"roofline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of `roofline` itself."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit status. No traceback for a user's mistake."""
    try:
        status = app(args=list(arguments), standalone_mode=True)
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
