"""Every tree recombines: the expression of a node, over the values of its children, is the node's value."""

import json
import math

import pytest

from roofline.api import case_of
from roofline.cli.app import run
from roofline.errors import RooflineError
from roofline.explanation.figures import explanation, figure_names
from roofline.explanation.node import Citations, SourceKind
from roofline.prediction import predict_case
from roofline.report.record import prediction_record

FUNCTIONS = {"max": max, "min": min, "ceil": math.ceil}

FIGURES = {
    "e2e" , "ttft", "input_token_per_s", "usd_per_mtok_output", "carbon_kg_per_mtok_input", "joule_per_output_token",
    "free", "mfu", "mbu",
}  # fmt: skip

CASES = {
    "dense": ("llama-3.1-8b", "h100-sxm", {}),
    "owned, with carbon": ("llama-3.1-8b", "h100-sxm", {"prices": "own-dgx-h100", "grid": "france"}),
    "idle power stated": ("llama-3.1-8b", "h200-sxm", {"pue": 1.3}),
    "tensor parallel": ("llama-3.1-70b", "h100-sxm:8", {"weights": "fp8"}),
    "pipeline": ("llama-3.1-70b", "a100-sxm-80gb:4", {"tp": 2, "pp": 2, "batch": 5}),
    "experts": ("qwen3-30b-a3b", "h100-sxm:2", {"ep": 2}),
    "latent attention": ("deepseek-v2-lite", "h100-sxm", {}),
    "sliding windows": ("gemma-2-2b", "mi300x", {"input": 6000}),
    "unfused": ("gpt2-small", "a100-sxm-80gb", {"attention": "unfused", "input": 500}),
    "encoder": ("bert-base-uncased", "mi210", {"input": 128}),
    "systolic": ("llama-3.1-8b", "tpu-v5e:8", {}),
    "cpu": ("llama-3.2-1b", "xeon-8380", {"batch": 2, "input": 64}),
    "dataflow": ("gpt2-medium", "fpga-u280", {"batch": 1, "input": 64, "output": 64}),
}


def nodes(tree):
    yield tree
    for child in tree.children:
        yield from nodes(child)


@pytest.mark.parametrize("name", CASES)
def test_children_recombine_to_their_parent_in_every_figure(name):
    model, device, settings = CASES[name]
    case = case_of(model, device, **settings)
    checked = 0
    figures = figure_names(case)
    # a phase holds the trees of all its kernels, and a bill or a rate those of its phase: one of each is enough
    for figure in (name for name in figures if name.split(".")[-1] in FIGURES):
        for node in nodes(explanation(case, figure, Citations())):
            if node.exact:
                children = {child.name: child.value for child in node.children}
                assert len(children) == len(node.children), (figure, node.name, node.formula)
                value = eval(node.formula, {"__builtins__": {}}, FUNCTIONS | children)
                assert value == pytest.approx(node.value, rel=1e-9, abs=1e-18), (figure, node.name, node.formula)
                checked += 1
            elif not node.children:
                assert node.kind is not SourceKind.COMPUTED or node.formula, (figure, node.name)
    assert checked > 50


def test_a_wrong_value_would_be_seen():
    tree = explanation(case_of("llama-3.1-8b", "h100-sxm"), "memory.kv", Citations())
    sequences, per_sequence = tree.children
    assert sequences.value * per_sequence.value == tree.value
    assert (sequences.value + 1.0) * per_sequence.value != pytest.approx(tree.value)


@pytest.mark.parametrize("name", ["dense", "pipeline", "encoder", "owned, with carbon"])
def test_values_are_those_of_the_prediction(name):
    model, device, settings = CASES[name]
    case = case_of(model, device, **settings)
    record = prediction_record(predict_case(case))
    keys = {
        "ttft": record["ttft_s"],
        "tpot": record["tpot_s"],
        "e2e": record["e2e_s"],
        "output_token_per_s": record["output_token_per_s"],
        "usd_per_mtok_input": record["usd_per_mtok_input"],
        "usd_per_mtok_output": record["usd_per_mtok_output"],
        "joule_per_output_token": record["joule_per_output_token"],
        "carbon_kg_per_mtok_output": record["carbon_kg_per_mtok_output"],
        "memory.weights": record["memory"]["weight_byte"],
        "memory.free": record["memory"]["free_byte"],
        "decode.mbu": record["phases"]["decode"] and record["phases"]["decode"]["mbu"],
    }
    for figure in figure_names(case):
        if figure in keys:
            assert explanation(case, figure, Citations()).value == pytest.approx(keys[figure], rel=1e-12)
    for kernel in record["phases"]["prefill"]["kernels"]:
        found = explanation(case, f"prefill.{kernel['name']}", Citations())
        assert found.value == pytest.approx(kernel["count"] * kernel["total_s"], rel=1e-12)


def test_the_cache_of_llama_by_hand():
    # 32 layers x 2 x 8 KV heads x 128 values x 2 B for each of ceil(2304 / 16) x 16 tokens, 32 sequences: 9.66 GB.
    tree = explanation(case_of("llama-3.1-8b", "h100-sxm"), "memory.kv", Citations())
    assert tree.value == 32 * 32 * 2 * 8 * 128 * 2 * 2304
    (layers,) = tree.children[1].children
    assert {child.name: child.value for child in layers.children} == {
        "count": 32.0,
        "tokens": 2304.0,
        "values": 2048.0,
        "value_byte": 2.0,
    }


def test_leaves_cite_the_profile_the_calibration_the_model_and_the_user(capsys):
    assert run(["explain", "llama-3.1-8b", "h100-sxm", "usd_per_mtok_output", "--batch", "8", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "roofline.explanation/1" and record["figure"] == "usd_per_mtok_output"
    found = {}

    def walk(node):
        found.setdefault(node["source"]["kind"], {})[node["name"]] = node["source"]["text"]
        for child in node["children"]:
            walk(child)

    walk(record["tree"])
    assert "aws/karpenter" in found["fact"]["usd_per_device_hour"]
    assert "3350 GB/s (datasheet)" in found["fact"]["bandwidth"]
    assert "vllm" in found["calibration"]["dram_fraction"] and "median error" in found["calibration"]["launch_s"]
    assert "config" in found["model"]["k"]
    assert found["user"]["batch"] == "--batch" and "default" in found["user"]["device_count"]


def test_screens_and_mistakes(capsys):
    assert run(["explain", "llama-3.1-8b", "h100-sxm", "ttft"]) == 0
    out = capsys.readouterr().out
    assert "ttft  1." in out and "= count * once" in out and "gate_up_proj" in out
    assert max(map(len, out.splitlines())) <= 112
    assert run(["explain", "llama-3.1-8b", "h100-sxm"]) == 0
    assert "  decode.attention\n" in capsys.readouterr().out
    assert run(["explain", "llama-3.1-8b", "h100-sxm", "decode.atention"]) == 2
    assert "Did you mean 'decode.attention'" in capsys.readouterr().err
    with pytest.raises(RooflineError, match="not known"):
        explanation(case_of("bert-base-uncased", "mi210", input=128), "tpot", Citations())
    assert run(["explain", "llama-3.1-8b", "h100-sxm", "ttft", "--input", "1000000"]) == 2
