"""Models by name or path: presets shipped with the package (one small TOML file each) and Hugging Face configs."""

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import RooflineError, clip, unknown
from ..model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm, Position
from ..structs import Dtype
from .loaded import LoadedModel, PublishedCount

PRESETS = Path(__file__).parent.parent / "data" / "models"
_ALIASES = "_aliases.toml"
_CONFIG_FIX = "For any other model, give the path of its Hugging Face config.json (or of the directory that holds it)."


def preset_names() -> tuple[str, ...]:
    """The names of the presets, sorted."""
    return tuple(sorted(f[:-5] for f in os.listdir(PRESETS) if f.endswith(".toml") and not f.startswith("_")))


def load_model(name_or_path: str | os.PathLike[str]) -> LoadedModel:
    """The preset of that name, or the model that a local config.json describes.

    A preset's name wins over a file of the same name, so that a result does not depend on the working directory (write
    ./name for the file). Names: "llama-3.1-70b", "Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B". A path: anything
    that exists, ends in .json or starts with "/", "./", "../" or "~".

    Errors: RooflineError for an unknown name (with the nearest), a missing file or a config that is not understood.
    """
    text = os.fspath(name_or_path)
    stem = None if _is_path(text) else _preset(text)
    if stem is not None:
        return _load_preset(stem)
    path = Path(text).expanduser()
    if text and (_is_path(text) or _exists(path)):
        from .hf_config import load_config  # not needed for presets: keeps start-up short

        return load_config(path)
    raise unknown("model", text, preset_names(), _CONFIG_FIX)


def _is_path(text: str) -> bool:
    separators = tuple({"/", os.sep})
    starts = tuple(dots + separator for dots in ("", ".", "..") for separator in separators)
    return text in (".", "..") or text.startswith((*starts, "~")) or text.lower().endswith(".json")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or one with a NUL
        return False


@cache
def _aliases() -> dict[str, Any]:
    return tomllib.loads((PRESETS / _ALIASES).read_text("utf-8"))


def _preset(text: str) -> str | None:
    """The preset that `text` names, or None. A publisher's prefix and a tuning suffix do not change a shape."""
    names = preset_names()
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    if name in names:
        return name
    rules = _aliases()
    publisher, _, rest = name.rpartition("/")
    if publisher and publisher not in rules["publishers"]:
        return None
    for candidate in (rest, *(rest.removesuffix(s) for s in rules["suffixes"] if rest.endswith(s))):
        stem = rules["names"].get(candidate, candidate)
        if stem in names:
            return str(stem)
    return None


def _attention(table: dict[str, Any], window: bool) -> Attention | LatentAttention:
    shape = {key: value for key, value in table.items() if key not in ("window", "window_pattern")}
    if "kv_rank" in shape:
        return LatentAttention(**{"query_rank": None, **_floats(shape)})
    return Attention(**_floats(shape | ({"window": table["window"]} if window else {})))


def _floats(table: dict[str, Any]) -> dict[str, Any]:
    """Every count as float64 (bool stays bool)."""
    return {key: float(value) if type(value) is int else value for key, value in table.items()}


def _layers(preset: dict[str, Any]) -> tuple[Layer, ...]:
    """`layers` layers: the window pattern repeats; the first `dense_first` and all but each `every`-th are dense."""
    table = preset["attention"]
    pattern = table.get("window_pattern", ["local"] if "window" in table else ["global"])
    attention = {kind: _attention(table, kind == "local") for kind in set(pattern)}
    dense = Mlp(**_floats(preset["mlp"])) if "mlp" in preset else None
    placement = {key: int(preset["moe"].pop(key)) for key in ("dense_first", "every")} if "moe" in preset else {}
    moe = Moe(**_floats(preset["moe"])) if "moe" in preset else None

    def mlp(index: int) -> Mlp | Moe:
        routed = moe is not None and index >= placement["dense_first"] and (index + 1) % placement["every"] == 0
        chosen = moe if routed else dense
        if chosen is None:
            raise ValueError("no [mlp] for the dense layers")
        return chosen

    norms = float(preset.get("norm_count", 2))
    return tuple(Layer(attention[pattern[i % len(pattern)]], mlp(i), norms) for i in range(preset["layers"]))


def _load_preset(stem: str) -> LoadedModel:
    preset = tomllib.loads((PRESETS / f"{stem}.toml").read_text("utf-8"))
    try:
        return _build(stem, preset)
    except (KeyError, TypeError, ValueError) as error:
        raise RooflineError(f"model preset {stem}: {clip(str(error))}. Fix {PRESETS / stem}.toml.") from error


def _build(stem: str, preset: dict[str, Any]) -> LoadedModel:
    outer = {key: preset.pop(key) for key in ("parameters", "source")}
    dtypes = {key: Dtype(preset.pop(key)) if key in preset else None for key in ("weight_dtype", "expert_dtype")}
    layers = _layers(preset)
    rest = {k: v for k, v in preset.items() if k not in ("attention", "mlp", "moe", "layers", "norm_count")}
    rest["norm"], rest["position"] = Norm(rest["norm"]), Position(rest["position"])
    note = rest.pop("note", "")
    active = outer["parameters"].get("active")
    return LoadedModel(
        model=Model(layers=layers, note=note, **_floats(rest)),
        source=f"preset {stem}: {outer['source']['shape']}",
        kind=outer["source"]["kind"],
        note=note,
        published=PublishedCount(
            float(outer["parameters"]["official"]),
            None if active is None else float(active),
            outer["parameters"]["official_source"],
        ),
        **dtypes,
    )
