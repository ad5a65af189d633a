"""`roofline predict` as its user sees it: screens, JSON, CSV, exit codes, and what bad input is answered with."""

import csv
import json
import math
import os
from itertools import pairwise

import pytest

from roofline.cli.app import run
from roofline.report.record import KERNEL_FIELDS

BASIC = ["predict", "llama-3.1-8b", "h100-sxm"]
MANY = ",".join(map(str, range(1, 401)))


@pytest.fixture
def command(capsys):
    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


def test_first_screen_answers_in_under_25_lines(command):
    status, out, err = command(*BASIC)
    assert status == 0 and err == ""
    assert len(out.splitlines()) < 25
    for word in (
        "TTFT",
        "TPOT",
        "tokens/s",
        "fits",
        "Verdict",
        "prefill",
        "decode",
        "Next",
        "Not modelled",
        "bare roofline",
    ):
        assert word in out


def test_record_has_the_promised_keys_and_adds_up(command):
    status, out, _ = command(*BASIC, "--json")
    record = json.loads(out)
    assert status == 0 and record["schema"] == "roofline.prediction/1"
    assert {"model", "device", "scenario", "ttft_s", "tpot_s", "e2e_s", "output_token_per_s", "fits"} <= record.keys()
    assert {"not_modelled", "provenance", "memory", "phases", "band"} <= record.keys()
    memory = record["memory"]
    needed = {"weight_byte", "kv_byte", "activation_byte", "reserve_byte", "capacity_byte", "max_batch"}
    assert needed <= memory.keys()
    held = sum(memory[key] for key in ("weight_byte", "kv_byte", "activation_byte", "reserve_byte"))
    assert memory["capacity_byte"] - held == pytest.approx(memory["free_byte"])
    for phase, total in (("prefill", "ttft_s"), ("decode", "tpot_s")):
        found = record["phases"][phase]
        assert found["total_s"] == pytest.approx(record[total])
        assert found["total_s"] == pytest.approx(sum(k["count"] * k["total_s"] for k in found["kernels"]))
        assert found["roofline_s"] < found["total_s"]
        for kernel in found["kernels"]:
            assert set(kernel) == set(KERNEL_FIELDS)
            byte = kernel["read_byte"] + kernel["write_byte"]
            assert kernel["intensity_flop_per_byte"] == (pytest.approx(kernel["flop"] / byte) if byte else None)
    low, high = record["band"]["tpot_s"]
    assert low <= record["tpot_s"] <= high


def test_the_library_whose_kernels_run_can_be_chosen_and_is_stated(command, tmp_path):
    (tmp_path / "scenario.toml").write_text('backend = "trtllm"\n')
    default, chosen, filed = (
        json.loads(command(*BASIC, *flags, "--json")[1])
        for flags in ((), ("--backend", "trtllm"), ("--scenario", tmp_path / "scenario.toml"))
    )
    assert default["scenario"]["backend"] == "vllm"
    assert chosen["scenario"]["backend"] == filed["scenario"]["backend"] == "trtllm"
    assert chosen["ttft_s"] == filed["ttft_s"] != default["ttft_s"]
    families = chosen["band"]["families"]
    assert families["gemm bf16"]["backend"] == families["decode_attention bf16"]["backend"] == "trtllm"
    assert families["moe bf16"]["backend"] == "vllm"
    assert "Kernels of trtllm (--backend takes vllm" in command(*BASIC, "--backend", "trtllm")[1].replace("\n", " ")
    assert "'vlm'" in command(*BASIC, "--backend", "vlm")[2]
    uncalibrated = command("predict", "llama-3.1-8b", "tpu-v3", "--backend", "vllm")
    assert uncalibrated[0] == 2 and "backend" in uncalibrated[2]
    assert json.loads(command("predict", "llama-3.1-8b", "epyc-9654", "--json")[1])["scenario"]["backend"] is None


def test_kernels_beyond_the_measured_sizes_are_named_and_less_sure(command):
    # The GEMMs that H100's profile is fitted to have up to 32,768 rows: 16 prompts of 2,048 tokens, not 17.
    width = {}
    for batch, outside in ((16, ""), (17, "m")):
        assert ("prefill gate_up_proj (m)" in command(*BASIC, "--batch", batch)[1].replace("\n", " ")) == bool(outside)
        kernels = json.loads(command(*BASIC, "--batch", batch, "--json")[1])["phases"]["prefill"]["kernels"]
        found = next(kernel for kernel in kernels if kernel["name"] == "gate_up_proj")
        assert found["extrapolated"] == outside
        width[outside] = found["high_s"] / found["low_s"]
    assert width["m"] > width[""]


def test_kernels_come_in_the_order_in_which_they_run(command):
    record = json.loads(command(*BASIC, "--attention", "unfused", "--json")[1])
    names = [kernel["name"] for kernel in record["phases"]["decode"]["kernels"]]
    order = [
        "embedding", "attention_norm", "q_proj", "k_proj", "v_proj", "rope", "kv_append", "attention_scores",
        "scale_mask", "softmax", "attention_values", "head_concat", "o_proj", "attention_residual", "mlp_norm",
        "gate_up_proj", "activation", "down_proj", "mlp_residual", "final_norm", "lm_head", "sampling",
    ]  # fmt: skip
    assert names == order


def test_python_and_command_line_agree(command):
    import roofline

    record = json.loads(command(*BASIC, "--batch", 8, "--input", 512, "--output", 64, "--json")[1])
    prediction = roofline.predict("llama-3.1-8b", "h100-sxm", batch=8, input=512, output=64)
    same = roofline.prediction_record(prediction)
    record["provenance"]["command"] = same["provenance"]["command"]
    for around in ("decode_map", "batch_curve", "sources"):  # what only --json and pages ask for
        assert record[around] is not None
        record[around] = None
    assert record == json.loads(json.dumps(same))


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", "3"), ("batch", None), ("batch", [1, 2]), ("batch", 0), ("input", 1.5), ("output", math.nan),
     ("tp", "2"), ("pp", True), ("dp", -1), ("weights", 8), ("kv", "tf32"), ("batch", math.inf), ("batch", 10**400)],
)  # fmt: skip
def test_mistakes_in_python_are_named(field, value):
    import roofline
    from roofline.errors import RooflineError

    with pytest.raises(RooflineError, match=rf"^{field}: "):
        roofline.predict("llama-3.1-8b", "h100-sxm", **{field: value})


def test_lists_give_a_row_each(command):
    status, out, _ = command(*BASIC, "--batch", "1,8,64", "--input", "128,256")
    assert status == 0
    assert sum(line.count("│") > 5 for line in out.splitlines()) >= 6
    many = json.loads(command(*BASIC, "--batch", "1,8,64", "--json")[1])
    assert many["schema"] == "roofline.predictions/1"
    assert [p["scenario"]["batch"] for p in many["predictions"]] == [1, 8, 64]
    times = [p["tpot_s"] for p in many["predictions"]]
    assert all(a <= b for a, b in pairwise(times))


def test_model_that_does_not_fit_says_what_would(command):
    status, out, _ = command("predict", "llama-3.1-70b", "h100-sxm")
    assert status == 1
    assert "DOES NOT FIT" in out and "weights" in out and "--tp" in out and "int4" in out
    assert len(out.splitlines()) < 25


def test_detail_lists_every_kernel(command):
    _, out, _ = command(*BASIC, "--detail")
    for name in ("qkv_proj", "attention", "rope", "kv_append", "lm_head", "sampling"):
        assert name in out


def test_csv_has_every_kernel_of_every_row(command, tmp_path):
    target = tmp_path / "kernels.csv"
    status, _, err = command(*BASIC, "--batch", "1,2", "--csv", target)
    rows = list(csv.DictReader(target.open()))
    assert status == 0 and "wrote" in err
    assert {row["batch"] for row in rows} == {"1", "2"} and {row["phase"] for row in rows} == {"prefill", "decode"}
    assert all(math.isfinite(float(row["total_s"])) for row in rows)


def test_csv_tells_splits_and_formats_apart(command, tmp_path):
    target = tmp_path / "kernels.csv"
    command(*BASIC, "--tp", "1,2", "--pp", "1,2", "--kv", "fp8", "--csv", target)
    rows = list(csv.DictReader(target.open()))
    assert {(row["tp"], row["pp"]) for row in rows} == {("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")}
    assert {(row["weights"], row["kv"], row["attention"]) for row in rows} == {("bf16", "fp8", "fused")}


def test_split_that_is_impossible_leaves_the_others_of_a_list(command):
    status, out, err = command(*BASIC, "--tp", "2,3,4", "--json")
    assert status == 1 and "tp: 3" in err and "infeasible" in err
    assert [p["scenario"]["parallelism"]["tp"] for p in json.loads(out)["predictions"]] == [2, 4]


def test_two_outputs_do_not_share_a_file(command, tmp_path):
    target = tmp_path / "out"
    status, _, err = command(*BASIC, "--csv", target, "--html", target)
    assert status == 2 and str(target) in err and not target.exists()


def test_html_page_is_written(command, tmp_path):
    target = tmp_path / "page.html"
    status, _, err = command(*BASIC, "--html", target)
    assert status == 0 and f"wrote {target}" in err
    assert "Llama-3.1-8B" in target.read_text("utf-8")


def test_existing_output_is_replaced_whole(command, tmp_path):
    target = tmp_path / "kernels.csv"
    target.write_text("old " * 100_000)
    command(*BASIC, "--csv", target)
    assert target.read_text().startswith("model,device")
    assert os.listdir(tmp_path) == ["kernels.csv"]


def test_scenario_file_gives_settings_and_flags_win(command, tmp_path):
    file = tmp_path / "scenario.toml"
    file.write_text('model = "llama-3.1-8b"\ndevice = "h100-sxm"\nbatch = [4, 8]\ninput = 100\nkv = "fp8"\n')
    many = json.loads(command("predict", "--scenario", file, "--json")[1])
    assert [p["scenario"]["batch"] for p in many["predictions"]] == [4, 8]
    one = json.loads(command("predict", "--scenario", file, "--batch", 2, "--json")[1])
    assert one["scenario"]["batch"] == 2 and one["scenario"]["precision"]["kv"] == "fp8"


def test_encoder_has_no_decode(command):
    record = json.loads(command("predict", "bert-base-uncased", "h100-sxm", "--input", 128, "--json")[1])
    assert record["tpot_s"] is None and record["phases"]["decode"] is None and record["memory"]["kv_byte"] == 0
    status, out, _ = command("predict", "bert-base-uncased", "h100-sxm", "--input", 128)
    assert status == 0 and "TPOT" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["predict", "llama-3.1-8", "h100-sxm"], 2, ["model", "'llama-3.1-8'", "llama-3.1-8b"]),
        (["predict", "llama-3.1-8b", "h10-sxm"], 2, ["h10-sxm", "h100-sxm"]),
        (["predict", "llama-3.1-8b", "../h100-sxm"], 2, ["../h100-sxm"]),
        (["predict", "llama-3.1-8b", "/etc/passwd"], 2, ["/etc/passwd"]),
        (["predict", "llama-3.1-8b", "../../etc/passwd.toml"], 2, ["passwd.toml"]),
        (["predict", "llama-3.1-8b"], 2, ["device", "missing"]),
        (["predict"], 2, ["model", "missing"]),
        ([*BASIC, "--weights", "fp9"], 2, ["weights", "'fp9'", "fp8"]),
        ([*BASIC, "--kv", "int"], 2, ["kv", "'int'"]),
        ([*BASIC, "--attention", "flash"], 2, ["attention", "'flash'", "fused"]),
        ([*BASIC, "--batch", "0"], 2, ["batch", "'0'", "from 1"]),
        ([*BASIC, "--batch", "-4"], 2, ["batch", "'-4'"]),
        ([*BASIC, "--batch", "1.5"], 2, ["batch", "'1.5'"]),
        ([*BASIC, "--batch", "1e3"], 2, ["batch", "'1e3'"]),
        ([*BASIC, "--batch", "nan"], 2, ["batch", "'nan'"]),
        ([*BASIC, "--batch", ""], 2, ["batch"]),
        ([*BASIC, "--batch", "1,,2"], 2, ["batch"]),
        ([*BASIC, "--batch", "9" * 400], 2, ["batch"]),
        ([*BASIC, "--batch", "٣"], 2, ["batch"]),
        ([*BASIC, "--input", "131072"], 2, ["input", "131072", "exceed"]),
        ([*BASIC, "--tp", "3"], 1, ["tp: 3", "heads", "32"]),
        (["predict", "llama-3.1-8b", "h100-sxm:8", "--tp", "4"], 2, ["4", "8", "DEVICE:4"]),
        (["predict", "llama-3.1-8b", "h100-sxm:0"], 2, ["h100-sxm:0", "from 1"]),
        (["predict", "llama-3.1-8b", "h100-sxm:x"], 2, ["h100-sxm:x"]),
        (["predict", "llama-3.1-8b", "h100-sxm:" + "9" * 5000], 2, ["h100-sxm:999", "from 1"]),
        ([*BASIC, "--ep", "2"], 1, ["ep", "no experts"]),
        (["predict", "llama-3.1-8b", "a100-sxm-80gb", "--weights", "fp8", "--activations", "fp8", "--bad"], 2, ["bad"]),
        ([*BASIC, "--scenario", "/nonexistent.toml"], 2, ["scenario", "/nonexistent.toml"]),
        ([*BASIC, "--csv", "/nonexistent/folder/x.csv"], 2, ["output", "/nonexistent/folder"]),
        ([*BASIC, "--html", "/"], 2, ["output", "/"]),
        ([*BASIC, "--batch", MANY, "--input", MANY], 2, ["160,000"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(command, arguments, status, words):
    code, out, err = command(*arguments)
    assert code == status
    assert out == ""
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch = 4\nbtach = 5\n", ["'btach'", "batch"]),
        ("batch = [1, true]\n", ["batch", "True"]),
        ('batch = "many"\n', ["batch", "'many'"]),
        ("batch = \n", ["TOML"]),
        ("batch = 1.5\n", ["batch", "'1.5'"]),
    ],
)
def test_mistakes_in_a_scenario_file_are_named(command, tmp_path, text, words):
    file = tmp_path / "s.toml"
    file.write_text(text)
    code, _, err = command(*BASIC, "--scenario", file)
    assert code == 2
    for word in words:
        assert word in err


def test_folder_without_permission(command):
    code, _, err = command(*BASIC, "--csv", "/proc/x.csv")  # a folder in which not even root may create a file
    assert code == 2 and "cannot write /proc/x.csv" in err


def test_profile_path_is_read(command, tmp_path):
    from roofline.io.profiles import profile_path

    copy = tmp_path / "h100-sxm.toml"
    copy.write_text(profile_path("h100-sxm").read_text("utf-8"))
    shipped = json.loads(command(*BASIC, "--json")[1])
    own = json.loads(command("predict", "llama-3.1-8b", f"{copy}:1", "--json")[1])
    assert own["tpot_s"] == shipped["tpot_s"]
    copy.write_text(copy.read_text().replace("kind = ", "knid = ", 1))
    code, _, err = command("predict", "llama-3.1-8b", copy)
    assert code == 2 and "knid" in err


def test_quantised_weights_without_arithmetic_are_said(command):
    record = json.loads(command("predict", "llama-3.1-8b", "a100-sxm-80gb", "--weights", "int4", "--json")[1])
    assert any("no FLOP gained" in line for line in record["assumptions"])
    plain = json.loads(command("predict", "llama-3.1-8b", "a100-sxm-80gb", "--json")[1])
    for a, b in zip(plain["phases"]["prefill"]["kernels"], record["phases"]["prefill"]["kernels"], strict=True):
        assert a["flop"] == b["flop"] and a["total_s"] <= 1.2 * b["total_s"], a["name"]
