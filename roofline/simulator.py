"""From names to a served model, as a simulation takes it: a deployment under an engine, or what a request log says."""

from dataclasses import replace
from typing import Any

from .api import case_of, split_device
from .errors import RooflineError
from .io.calibration import backends_of
from .io.engines import load_engine
from .io.profiles import load_target
from .outcome import Case
from .serving.engine import Engine
from .serving.step import ServedModel, served_model
from .trace import RequestLog


def served_case(
    model: str,
    device: str,
    engine: str | Engine = "vllm",
    *,
    max_batch_token: float | None = None,
    max_sequence: float | None = None,
    **settings: Any,
) -> tuple[Case, ServedModel]:
    """The Case of `model` on `device` (`settings` as case_of takes them), and the model served by `engine` there.

    Limits that are not given are the engine's own; its kernels are used where the device is calibrated for them.
    Errors: as case_of and load_engine; RooflineError for an encoder.
    """
    running = load_engine(engine) if isinstance(engine, str) else engine
    limits = running.limits
    limits = replace(
        limits,
        max_batch_token=limits.max_batch_token if max_batch_token is None else max_batch_token,
        max_sequence=limits.max_sequence if max_sequence is None else max_sequence,
    )
    if settings.get("backend") is None and running.backend in backends_of(load_target(split_device(device)[0])):
        settings["backend"] = running.backend
    case = case_of(model, device, **settings)
    if not case.model.causal:
        raise RooflineError(f"model: {case.model.name} is an encoder and generates nothing. Give a causal model.")
    engine_there = replace(running, limits=limits)
    return case, served_model(case.model, case.device, case.calibration, case.scenario, engine_there)


def served_as_logged(log: RequestLog, device: str, engine: str | Engine = "vllm") -> tuple[Case, ServedModel]:
    """The Case and ServedModel of the run that `log` is of, on `device`; limits, formats and split as the log says.

    Errors: RooflineError where the log does not name a known model, or says what is not understood.
    """
    said = log.settings
    if said.model is None:
        raise RooflineError(f"log: {log.trace.source} does not say which model was served (meta.json beside it).")
    formats = {"weights": said.weight_format, "kv": said.kv_format}
    known = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "auto": None, None: None}
    settings: dict[str, Any] = {}
    for field, text in formats.items():
        settings[field] = known.get(text, text)
    return served_case(
        said.model.split("/")[-1].lower(),
        f"{device}:{(said.tp or 1) * (said.dp or 1)}",
        engine,
        max_batch_token=said.max_batch_token,
        max_sequence=said.max_sequence,
        dp=said.dp or 1,
        **settings,
    )
