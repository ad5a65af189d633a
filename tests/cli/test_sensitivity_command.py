"""`roofline sensitivity` as its user sees it."""

import json

import pytest

from roofline.cli.app import run


@pytest.fixture
def command(capsys):
    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


BASIC = ["sensitivity", "llama-3.1-8b", "h100-sxm", "--devices", "h200-sxm,mi210,nonsense"]


def test_screen_answers_first(command):
    status, out, _ = command(*BASIC)
    lines = out.splitlines()
    assert status == 0
    assert lines[3].startswith("  TTFT") and "FLOP/s -0." in lines[3]
    assert lines[4].startswith("  TPOT") and "DRAM bandwidth -0." in lines[4]
    assert "best next change" in lines[5]
    assert max(map(len, lines)) <= 124
    assert "h200-sxm" in out


def test_record_is_complete_and_consistent(command):
    status, out, _ = command(*BASIC, "--json")
    record = json.loads(out)
    assert status == 0 and record["schema"] == "roofline.sensitivity/1"
    keys = [figure["key"] for figure in record["figures"]]
    assert [row["key"] for row in record["levers"]][:2] == ["dram_bandwidth", "flop_rate"]
    for row in record["levers"]:
        assert list(row["elasticity"]) == keys
        for step in row["steps"]:
            for key in keys:
                assert step["change"][key] == pytest.approx(step["figures"][key] / record["base"][key] - 1.0)
    (device,) = (choice for choice in record["choices"] if choice["key"] == "device")
    by_name = {option["value"]: option for option in device["options"]}
    assert "not known" in by_name["nonsense"]["refused"] and by_name["h200-sxm"]["figures"]["tpot_s"]
    gains = [change["gain"] for change in record["changes"] if change["fits"] and change["gain"] is not None]
    assert gains == sorted(gains)
    (unpriced,) = (change for change in record["changes"] if change["device"] == "mi210")
    assert (
        unpriced["gain"] is None and unpriced["usd_per_hour"] is None
    )  # its profile states no price: unknown, no guess


def test_a_price_file_holds_for_every_device(command):
    _, out, _ = command(*BASIC, "--prices", "azure-2026-06", "--json")
    hourly = {change["device"]: change["usd_per_hour"] for change in json.loads(out)["changes"]}
    assert hourly["h100-sxm"] == pytest.approx(12.29) and hourly["h200-sxm"] == pytest.approx(10.6)
    assert hourly["mi210"] is None


def test_encoders_and_devices_without_a_price(command):
    status, out, _ = command("sensitivity", "bert-base-uncased", "mi210", "--input", 128, "--devices", "h100-sxm")
    assert status == 0 and "TPOT" not in out and "device-seconds of a request" in out


def test_what_does_not_fit_is_said_and_fails(command):
    status, out, _ = command("sensitivity", "llama-3.1-70b", "h100-sxm", "--devices", "h200-sxm")
    assert status == 1 and "does not fit" in out


def test_a_served_deployment_moves_with_its_load_its_limits_and_its_host(command):
    status, out, _ = command(*BASIC, "--concurrency", 32, "--json")
    record = json.loads(out)
    assert status == 0 and record["traffic"]["engine"] == "vllm" and record["traffic"]["concurrency"] == 32
    rows = {row["key"]: row for row in record["levers"]}
    assert {
        "concurrency",
        "input",
        "output",
        "max_sequence",
        "max_batch_token",
        "host",
        "dram_bandwidth",
    } <= rows.keys()
    assert rows["concurrency"]["elasticity"]["tpot_s"] > 0.1 and rows["host"]["elasticity"]["tpot_s"] > 0.0
    assert rows["dram_bandwidth"]["elasticity"]["tpot_s"] < -0.3
    kinds = {change["kind"] for change in record["changes"]}
    assert "limit" in kinds and "batch" not in kinds


def test_a_rate_that_cannot_be_served_is_said_and_fails(command):
    status, out, _ = command(*BASIC, "--rate", 1000)
    assert "served by vllm to 1,000 requests/s" in out and "host time" in out
    assert status == 1 and "does not keep up" in out and "max req/s" in out and "at saturation" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "1", "--concurrency", "1"], "Give one of them"),
        (["--rate", "0"], "above 0"),
        (["--concurrency", "1.5"], "whole numbers from 1"),
        (["--engine", "vllm"], "only of use with traffic"),
        (["--rate", "1", "--engine", "vlm"], "Did you mean"),
        (["--by", "mony"], "Accepted: cost, throughput, tpot, ttft"),
        (["--batch", "1,2"], "takes one number"),
        (["--batch", "0"], "whole numbers from 1 on"),
        (["--weights", "fp7"], "Did you mean"),
    ],
)
def test_bad_input_is_named(command, arguments, said):
    status, _, err = command("sensitivity", "llama-3.1-8b", "h100-sxm", *arguments)
    assert status == 2 and said in err
