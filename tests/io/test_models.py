"""Presets: against the facts table, against what publishers say, and against careless or hostile names."""

import csv
import os
import re
import tomllib
from pathlib import Path

import pytest

from roofline.errors import RooflineError
from roofline.io.models import PRESETS, load_model, preset_names
from roofline.model import Attention, LatentAttention, Moe
from roofline.parameters import active_parameter_count, parameter_count
from roofline.structs import NO_WINDOW, Dtype

FACTS = Path(os.environ.get("ROOFLINE_DATA", "")).parent / "facts" / "models.csv"

COUNTED_HERE_ONLY = {
    "OPT-350M": -2 * 1024,  # the table has a final layer norm; the post-norm model has none
    "Phi-3-small (7B)": 32 * (2 * 14336 + 4096),  # biases of the MLP's linear layers
    "DeepSeek-V3": 58 * 256,  # from here on: the routers' correction bias
    "DeepSeek-R1": 58 * 256,
    "Kimi-K2": 60 * 384,
    "GLM-4.5": 89 * 160,
    "GLM-4.5-Air": 45 * 128,
}


def rows():
    if not os.environ.get("ROOFLINE_DATA") or not FACTS.is_file():
        pytest.skip("facts/models.csv is not there: set ROOFLINE_DATA")
    with FACTS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def preset(row):
    return load_model(re.sub(r"\s*\(.*\)", "", row["model"]).strip().replace(" ", "-"))


def test_totals_equal_the_facts_table():
    for row in rows():
        extra = COUNTED_HERE_ONLY.get(row["model"], 0)
        model = preset(row).model
        assert parameter_count(model) == float(row["params_computed"]) + extra, row["model"]
        assert active_parameter_count(model) == float(row["params_active_computed"]) + extra, row["model"]


def test_shapes_equal_the_facts_table():
    for row in rows():
        loaded = preset(row)
        model, attention = loaded.model, loaded.model.layers[0].attention
        assert (len(model.layers), model.hidden, model.vocabulary, model.max_context) == tuple(
            float(row[field]) for field in ("num_layers", "hidden_size", "vocab_size", "max_position")
        ), row["model"]
        assert loaded.published.total == float(row["params_official"])
        per_token = sum(
            2 * layer.attention.kv_heads * layer.attention.head_dim
            if isinstance(layer.attention, Attention)
            else layer.attention.kv_rank + layer.attention.rope_dim
            for layer in model.layers
        )
        assert 2 * per_token == float(row["kv_bytes_per_token_bf16"]), row["model"]
        window = float(row["sliding_window"] or NO_WINDOW)
        assert isinstance(attention, LatentAttention) or attention.window == window, row["model"]


def test_most_totals_are_within_a_percent_of_the_published_ones_and_the_others_say_why():
    off = {name for name in preset_names() if published_gap(name) > 0.01}
    assert len(preset_names()) - len(off) >= 55
    for name in off:
        assert re.search(r"round|says|vision tower", load_model(name).note), name
        assert published_gap(name) < 0.06


def published_gap(name):
    loaded = load_model(name)
    return abs(parameter_count(loaded.model) / loaded.published.total - 1.0)


def test_every_preset_states_its_sources():
    assert len(preset_names()) >= 70
    for name in preset_names():
        loaded = load_model(name)
        assert loaded.published.source and len(loaded.source) > len(f"preset {name}: ")
        assert loaded.kind in ("vendor doc", "secondary", "assumed")
        assert (loaded.expert_dtype is not None) == any(isinstance(layer.mlp, Moe) for layer in loaded.model.layers)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("gpt-oss-120b", [128, NO_WINDOW] * 18),  # arXiv 2508.10925, 2.2
        ("gemma-2-9b", [4096, NO_WINDOW] * 21),  # arXiv 2408.00118, table 1
        ("gemma-3-27b", [1024, 1024, 1024, 1024, 1024, NO_WINDOW] * 10 + [1024] * 2),  # arXiv 2503.19786, 2
        ("gemma-3-1b", [512, 512, 512, 512, 512, NO_WINDOW] * 4 + [512] * 2),
        ("mistral-7b-v0.1", [4096] * 32),  # arXiv 2310.06825, table 1
        ("llama-4-scout-17b-16e", [8192, 8192, 8192, NO_WINDOW] * 12),
        ("llama-3.1-8b", [NO_WINDOW] * 32),
    ],
)
def test_windows(name, windows):
    assert [layer.attention.window for layer in load_model(name).model.layers] == windows


@pytest.mark.parametrize(
    ("name", "routed"),
    [
        ("deepseek-v3", [False] * 3 + [True] * 58),  # arXiv 2412.19437, 4.2: all but the first three layers
        ("kimi-k2", [False] + [True] * 60),
        ("llama-4-maverick-17b-128e", [False, True] * 24),
        ("llama-4-scout-17b-16e", [True] * 48),
        ("mixtral-8x7b", [True] * 32),
    ],
)
def test_which_layers_route(name, routed):
    assert [isinstance(layer.mlp, Moe) for layer in load_model(name).model.layers] == routed


def test_native_formats():
    formats = {name: (load_model(name).weight_dtype, load_model(name).expert_dtype) for name in preset_names()}
    assert formats["gpt-oss-120b"] == (Dtype.BF16, Dtype.FP4)
    assert formats["deepseek-v3"] == (Dtype.FP8, Dtype.FP8)
    assert formats["llama-3.1-8b"] == (Dtype.BF16, None)
    assert formats["palm-540b"] == (None, None)  # never published


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("meta-llama/Llama-3.1-70B", "llama-3.1-70b"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("gpt2", "gpt2-small"),
        ("openai-community/gpt2-xl", "gpt2-xl"),
        ("GPT-3 175B", "gpt3-175b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("Llama_3.1_8B", "llama-3.1-8b"),
    ],
)
def test_other_names(name, stem):
    assert load_model(name) == load_model(stem)


def test_every_alias_leads_to_a_preset_and_hides_none():
    names = tomllib.loads((PRESETS / "_aliases.toml").read_text())["names"]
    assert set(names.values()) <= set(preset_names())
    assert not set(names) & set(preset_names())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lama-3.1-8b", "Did you mean 'llama-3.1-8b'"),
        ("deepseek-v4", "Did you mean 'deepseek-v"),
        ("someone/llama-3.1-8b", "config.json"),  # a stranger's model of that name may have any shape
        ("", "is not known"),
        ("x" * 100_000, "is not known"),
        ("llama\0", "is not known"),
        ("_aliases", "is not known"),
        ("../models/llama-3.1-8b", "no such file"),
        ("/etc", "no such file"),
        ("missing.json", "no such file"),
    ],
)
def test_unknown_names(name, hint):
    with pytest.raises(RooflineError) as error:
        load_model(name)
    assert hint in str(error.value)
    assert len(str(error.value)) < 700


def test_a_preset_wins_over_a_file_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "llama-3.1-8b").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert load_model("llama-3.1-8b").source.startswith("preset")
    with pytest.raises(RooflineError, match="architectures"):
        load_model("./llama-3.1-8b")


def test_reading_one_preset_reads_one_file(monkeypatch):
    read = []
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *rest: read.append(self.name) or real(self, *rest))
    load_model("deepseek-v3")
    assert read == ["deepseek-v3.toml"]
