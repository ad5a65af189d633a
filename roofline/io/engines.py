"""Read a serving engine (TOML): a preset shipped with the package, or a file of your own."""

import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RooflineError, clip, unknown
from ..serving.engine import (
    ChunkedPrefill,
    Engine,
    EngineEvidence,
    HostCost,
    KernelScale,
    Limits,
    PrefillFirst,
    Schedule,
)
from ..timing import Band

if TYPE_CHECKING:
    from .engine_schema import EngineFile

PRESETS = Path(__file__).parent.parent / "data" / "engines"
DEFAULT_ENGINE = "vllm"


def engine_names() -> tuple[str, ...]:
    """The names of the shipped engines, sorted."""
    return tuple(sorted(file.removesuffix(".toml") for file in os.listdir(PRESETS) if file.endswith(".toml")))


def load_engine(name_or_path: str | Path) -> Engine:
    """The Engine of a shipped preset (any case) or of a .toml file.

    Errors: RooflineError for an unknown name (with the nearest), a file that cannot be read, broken TOML, or content
    that the schema refuses, each problem on its own line.
    """
    return engine_of(load_engine_file(name_or_path))


def load_engine_file(name_or_path: str | Path) -> "EngineFile":
    """The engine's file with every fact, its printed text, kind and source. Errors: as load_engine."""
    text = str(name_or_path)
    if text.lower().endswith(".toml"):
        path = Path(text)
    elif text.strip().lower() in engine_names():
        path = PRESETS / f"{text.strip().lower()}.toml"
    else:
        raise unknown("engine", text, engine_names(), "Or give a .toml file.")
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RooflineError(
            f"engine: cannot read {clip(str(path))}: {getattr(error, 'strerror', None) or error}."
        ) from None
    return _parsed(content, str(path))


@lru_cache(maxsize=16)
def _parsed(content: str, origin: str) -> "EngineFile":
    from pydantic import ValidationError  # 75 ms: only when an engine is read

    from .engine_schema import EngineFile

    try:
        return EngineFile.model_validate(tomllib.loads(content))
    except tomllib.TOMLDecodeError as error:
        raise RooflineError(f"{origin}: not valid TOML: {error}.") from None
    except ValidationError as error:
        lines = []
        for found in error.errors(include_url=False):
            where = ".".join(str(part) for part in found["loc"])
            lines.append(f"{origin}: {where}: {found['msg'].removeprefix('Value error, ')}")
        raise RooflineError("\n".join(lines[:20])) from None


def engine_of(file: "EngineFile") -> Engine:
    """The numbers of an engine's file."""
    schedules: dict[str, Schedule] = {"chunked_prefill": ChunkedPrefill(), "prefill_first": PrefillFirst()}
    known = file.evidence
    return Engine(
        name=file.name,
        title=file.title,
        release=file.release,
        backend=file.backend,
        schedule=schedules[file.scheduling.order],
        host=HostCost(**{f"{name}_s": fact.value for name, fact in file.host}),
        scale=KernelScale(**{name: fact.value for name, fact in file.scale}),
        limits=Limits(
            max_batch_token=file.limits.max_batch_token.value,
            max_sequence=file.limits.max_sequence.value,
            memory_fraction=file.limits.memory_fraction.value,
            reserve_byte=file.limits.reserve.value,
        ),
        reserved_output=file.scheduling.reserved_output.value,
        prefill_wait=file.scheduling.prefill_wait.value,
        ahead=file.scheduling.ahead,
        own_kernels=file.scheduling.own_kernels,
        tpot_band=Band(file.tpot_band.low, file.tpot_band.high, file.tpot_band.source),
        ttft_band=Band(file.ttft_band.low, file.ttft_band.high, file.ttft_band.source),
        evidence=EngineEvidence() if known is None else EngineEvidence(**known.model_dump()),
        assumptions=tuple(
            f"{file.name} {path} = {fact.printed}: assumed ({file.sources[fact.source]})"
            for path, fact in file.facts()
            if fact.kind == "assumed"
        ),
    )
