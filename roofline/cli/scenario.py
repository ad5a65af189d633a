"""What a prediction is asked for: flags over a scenario file over defaults, each checked and named in its errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RooflineError, clip, unknown
from ..service_settings import SETTINGS

NUMBERS = {"batch": 32, "input": 2048, "output": 256, "tp": None, "pp": 1, "ep": 1, "dp": 1}
"""Numeric settings and their defaults; each takes a list. `tp` None: the devices that pp and dp leave."""

NAMES = {
    "weights": None,
    "activations": None,
    "kv": None,
    "attention": "fused",
    "backend": None,
    "prices": None,
    "price_kind": None,
    "pue": None,
    "grid": None,
}
"""Settings that take one value, and their defaults. None: as the model is published, or as the profile states."""

LARGEST_LIST = 100_000
"""Most combinations that one command predicts; a grid beyond that is a job for roofline.decode_grid."""


@dataclass(frozen=True, slots=True)
class Request:
    """Everything asked of one `predict` command. Numbers are lists: every combination gives a row."""

    model: str
    device: str
    numbers: Mapping[str, tuple[int | None, ...]]
    names: Mapping[str, str | None]


def single(asked: Request, command: str) -> dict[str, Any]:
    """The settings of a command that takes one scenario. Errors: RooflineError naming a list."""
    for field, values in asked.numbers.items():
        if len(values) > 1:
            raise RooflineError(f"{field}: {command} takes one number, not {len(values)}. Give one of them.")
    return {field: values[0] for field, values in asked.numbers.items()} | dict(asked.names)


def parse_numbers(field: str, text: object) -> tuple[int, ...]:
    """Whole numbers from 1 on, one or several with commas. Errors: RooflineError naming field and value."""
    items = text if isinstance(text, list) else str(text).split(",")
    numbers = []
    for item in items:
        word = str(item).strip().replace("_", "")
        if isinstance(item, bool) or not (word.isascii() and word.isdigit() and 1 <= int(word[:20]) <= 2**40):
            raise RooflineError(
                f"{field}: {clip(str(item))} is not accepted. Accepted: whole numbers from 1 on, several with commas "
                f"(--{field} 1,8,64)."
            )
        numbers.append(int(word))
    return tuple(numbers)


def read_scenario(path: Path) -> dict[str, Any]:
    """The settings of a scenario file: a flat TOML table with the names of the flags (`-` or `_`), those of traffic
    too, and `model` and `device`.

    Errors: RooflineError for a missing or broken file, or a key that is not a setting.
    """
    import tomllib

    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RooflineError(f"scenario: cannot read {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RooflineError(f"scenario: {path} is not valid TOML: {error}.") from None
    known = ("model", "device", *NUMBERS, *NAMES, *SETTINGS)
    for key in table:
        if key.replace("-", "_") not in known:
            raise unknown(f"scenario {path}", key, known)
    return {key.replace("-", "_"): value for key, value in table.items()}


def traffic_of_file(
    scenario: Path | None, flags: Mapping[str, Any], renamed: Mapping[str, str], command: str
) -> dict[str, str]:
    """What a scenario file says of the traffic that `command` takes, by the names of its parameters, where `flags`
    (by those names, None: not given) say nothing. `renamed`: parameters that go by another name than the setting.

    A rate or a concurrency given as a flag replaces the traffic of the file, whichever kind that is.
    Errors: RooflineError where the file has a setting of traffic that the command does not take.
    """
    table = read_scenario(scenario) if scenario else {}
    told: dict[str, str] = {}
    replaced = any(flags.get(name) is not None for name in ("rate", "concurrency"))
    for key in SETTINGS:
        name = renamed.get(key, key)
        if key not in table:
            continue
        if name not in flags:
            raise RooflineError(
                f"scenario {scenario}: {key} is of no use here: `roofline {command}` does not take it. Leave it out, "
                "or ask predict, sensitivity or simulate."
            )
        if flags[name] is None and not (replaced and key in ("rate", "concurrency", "cv")):
            told[name] = str(table[key])
    return told


def request(model: str | None, device: str | None, flags: Mapping[str, str | None], scenario: Path | None) -> Request:
    """The Request that flags and scenario file make together; a flag wins over the file.

    Errors: RooflineError where model or device is missing, or a value is not accepted.
    """
    table = read_scenario(scenario) if scenario else {}
    given = table | {key: value for key, value in flags.items() if value is not None}
    model, device = model or given.get("model"), device or given.get("device")
    for field, value in (("model", model), ("device", device)):
        if not isinstance(value, str) or not value:
            raise RooflineError(f"{field}: missing. Try: roofline predict llama-3.1-8b h100-sxm")
    numbers: dict[str, tuple[int | None, ...]] = {
        field: parse_numbers(field, given[field]) if field in given else (default,)
        for field, default in NUMBERS.items()
    }
    combinations = 1
    for values in numbers.values():
        combinations *= len(values)
    if combinations > LARGEST_LIST:
        raise RooflineError(
            f"{combinations:,} combinations are more than the {LARGEST_LIST:,} that one command predicts. Shorten the "
            "lists, or use roofline.decode_grid from Python."
        )
    names = {
        field: str(given[field]) if given.get(field) not in (None, "") else default for field, default in NAMES.items()
    }
    return Request(str(model), str(device), numbers, names)
