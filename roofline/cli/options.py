"""The options that say what is asked for, declared once for every command that takes a model on a device."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from .scenario import NAMES, NUMBERS, Request, request, traffic_of_file


def _number(text: str) -> Any:
    return typer.Option(help=f"{text} Several with commas give a row each.", show_default=False, metavar="N[,N..]")


def _name(text: str, metavar: str = "NAME") -> Any:
    return typer.Option(help=text, show_default=False, metavar=metavar)


def traffic_option(text: str, metavar: str = "N") -> Any:
    """An option of commands that serve requests, not one batch."""
    return typer.Option(help=text, show_default=False, metavar=metavar, rich_help_panel="Under traffic")


Concurrency = Annotated[str | None, traffic_option("Clients, each sending its next request when answered: serve them.")]
Rate = Annotated[str | None, traffic_option("Requests per second that arrive: serve them.", "X")]
EngineName = Annotated[str | None, traffic_option("vllm, sglang, trtllm or a .toml [vllm].", "NAME|FILE")]
MaxBatchTokens = Annotated[str | None, traffic_option("Token budget of a step [the engine's].")]
MaxSequences = Annotated[str | None, traffic_option("Sequences that run at once [the engine's].")]


def _options(
    model: Annotated[str | None, typer.Argument(help="A preset, or a path to a config.json.")] = None,
    device: Annotated[str | None, typer.Argument(help="A profile or a path to a TOML, with :N for N devices.")] = None,
    batch: Annotated[str | None, _number("Requests in flight [32].")] = None,
    input: Annotated[str | None, _number("Prompt tokens of each request [2048].")] = None,
    output: Annotated[str | None, _number("Tokens that each request generates [256].")] = None,
    tp: Annotated[str | None, _number("Tensor-parallel ranks [all devices that pp and dp leave].")] = None,
    pp: Annotated[str | None, _number("Pipeline stages [1].")] = None,
    ep: Annotated[str | None, _number("Ranks that share the routed experts [1].")] = None,
    dp: Annotated[str | None, _number("Replicas that split the batch [1].")] = None,
    weights: Annotated[str | None, _name("Format of the weights: bf16, fp8, int8, int4, fp4 [as published].")] = None,
    activations: Annotated[str | None, _name("Format of activations that enter products [bf16].")] = None,
    kv: Annotated[str | None, _name("Format of the KV cache [bf16].")] = None,
    attention: Annotated[str | None, _name("fused or unfused [fused].")] = None,
    backend: Annotated[str | None, _name("Library whose kernels run, of those calibrated [the profile's].")] = None,
    prices: Annotated[str | None, _name("A price file, by name or path [as the profile states].", "NAME|FILE")] = None,
    price_kind: Annotated[str | None, _name("on-demand, reserved or own [as the file has it].", "KIND")] = None,
    pue: Annotated[str | None, _name("Power of the site over that of its devices [1].", "X")] = None,
    grid: Annotated[str | None, _name("Carbon of the grid: g CO2/kWh, or a name.", "X|NAME")] = None,
    scenario: Annotated[Path | None, typer.Option(help="Read settings from a TOML file; flags win over it.")] = None,
) -> None:
    """The parameters of a command that takes a scenario."""


_DEPLOYMENT = (
    *("model", "device", "tp", "pp", "ep", "dp", "weights", "activations", "kv", "attention", "backend", "scenario"),
)
"""The options that say what runs where, without what is asked of it."""


def takes_scenario(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose parameter `asked` is a Request, with the options of a scenario in the place of it."""
    return _taking(command, tuple(inspect.signature(_options).parameters))


def takes_deployment(command: Callable[..., None]) -> Callable[..., None]:
    """The same with the options of a deployment alone: the command says itself what is asked of it."""
    return _taking(command, _DEPLOYMENT)


RENAMED = {"simulate": {"cv": "arrival_cv"}}
"""Settings of a scenario file that a command's parameter has another name for."""


def _taking(command: Callable[..., None], names: tuple[str, ...]) -> Callable[..., None]:
    shared = {name: entry for name, entry in inspect.signature(_options).parameters.items() if name in names}
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        settings = {name: given.pop(name) for name in shared}
        model, device, scenario = (settings.pop(name, None) for name in ("model", "device", "scenario"))
        asked: Request = request(model, device, settings, scenario)
        name = command.__name__.removesuffix("_command")
        traffic = traffic_of_file(scenario, given, RENAMED.get(name, {}), name)
        command(asked=asked, **given | traffic)

    parameters = [
        entry.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.items()
        for entry in (shared.values() if name == "asked" else (parameter,))
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return run


assert set(inspect.signature(_options).parameters) == {"model", "device", "scenario", *NUMBERS, *NAMES}
