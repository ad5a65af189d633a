"""`roofline models` as its user sees it."""

import json

import pytest
from typer.testing import CliRunner

from roofline.cli.models import app
from roofline.errors import RooflineError
from roofline.io.models import preset_names


def invoke(*arguments, columns="80"):
    result = CliRunner(env={"COLUMNS": columns, "NO_COLOR": "1"}).invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_fits_a_terminal_of_80_columns():
    lines = invoke("list").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    assert {line.split()[0] for line in lines if line} >= set(preset_names())


def test_list_as_json():
    rows = {row["name"]: row for row in json.loads(invoke("list", "--json"))}
    assert tuple(rows) == preset_names()
    assert rows["llama-3.1-8b"]["parameters"] == 8_030_261_248
    assert rows["llama-3.1-8b"]["kv_byte_per_token_bf16"] == 2 * 2 * 8 * 128 * 32
    assert rows["deepseek-v3"]["kv_byte_per_token_bf16"] == 2 * (512 + 64) * 61  # arXiv 2405.04434, table 1
    assert rows["bert-base-uncased"]["kv_byte_per_token_bf16"] == 0


def test_show():
    shown = invoke("show", "openai/gpt-oss-120b", columns="100")
    published = ("116,829,156,672", "5.10 B active", "vendor doc")
    for words in (*published, "18 x GQA", "window 128", "4 of 128 experts", "experts fp4"):
        assert words in shown
    record = json.loads(invoke("show", "openai/gpt-oss-120b", "--json"))
    assert sum(role["parameters"] for role in record["roles"].values()) == record["parameters"]


def test_show_a_file(tmp_path):
    folder = tmp_path / "[red]mine[bold]"
    folder.mkdir()
    config = {
        "architectures": ["MistralForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "sliding_window": None, "vocab_size": 100, "max_position_embeddings": 512,
        "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shown = invoke("show", str(folder), columns="200")
    assert "[red]mine[bold]" in shown
    assert "not stated" in shown


def test_an_unknown_model_is_an_error_with_the_nearest():
    with pytest.raises(RooflineError, match=r"llama-3\.1-8b"):
        invoke("show", "llama-3.1-8bb")
