"""Traffic in scenario files: the same answer as with flags, flags win, and what no command takes is refused."""

import json

import pytest

from roofline.cli.app import run

HEAD = 'model = "llama-3.1-8b"\ndevice = "h100-sxm"\ninput = 512\noutput = 64\n'
ASK = ["llama-3.1-8b", "h100-sxm", "--input", "512", "--output", "64"]


@pytest.fixture
def asked(tmp_path, capsys):
    def ask(command, text, *words):
        path = tmp_path / "case.toml"
        path.write_text(HEAD + text)
        status = run([command, "--scenario", str(path), *words])
        return status, capsys.readouterr()

    return ask


def record(out):
    found = json.loads(out)
    found.pop("provenance", None)
    return found


@pytest.mark.parametrize(
    ("command", "text", "flags"),
    [
        ("predict", "rate = 3\ncv = 2\nmax-sequences = 64\n", ["--rate", "3", "--cv", "2", "--max-sequences", "64"]),
        ("predict", 'concurrency = 8\nengine = "sglang"\n', ["--concurrency", "8", "--engine", "sglang"]),
        ("sensitivity", "rate = 3\nmax_batch_tokens = 4096\n", ["--rate", "3", "--max-batch-tokens", "4096"]),
        ("simulate", "rate = 3\ncv = 0\n", ["--rate", "3", "--arrival-cv", "0"]),
    ],
)
def test_a_file_says_what_flags_say(command, text, flags, asked, capsys):
    extra = ["--requests", "20"] if command == "simulate" else ["--devices", "h100-sxm"] if "sens" in command else []
    status, told = asked(command, text, *extra, "--json")
    assert status == 0
    assert run([command, *ASK, *flags, *extra, "--json"]) == 0
    assert record(told.out) == record(capsys.readouterr().out)


def test_a_flag_replaces_the_traffic_of_the_file(asked):
    status, told = asked("predict", "rate = 3\ncv = 2\n", "--concurrency", "4", "--json")
    assert status == 0
    settings = json.loads(told.out)["serving"]["settings"]
    assert settings["concurrency"] == 4 and settings["request_per_s"] is None


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("explain", "rate = 3\n", "rate is of no use here: `roofline explain` does not take it"),
        ("compare", "concurrency = 3\n", "`roofline compare` does not take it"),
        ("sensitivity", "rate = 3\ncv = 2\n", "cv is of no use here"),
        ("predict", "rate = 0\n", "rate: '0' is not accepted"),
        ("predict", "rate = nan\n", "rate: 'nan' is not accepted"),
        ("predict", "rate = true\n", "rate: 'True' is not accepted"),
        ("predict", "rate = 3\nconcurrency = 3\n", "both are given"),
        ("predict", 'engine = "vllm"\n', "only of use with traffic"),
        ("predict", "rats = 3\n", "Did you mean 'rate'"),
        ("simulate", "rate = [1, 2]\n", "rate: '[1, 2]' is not accepted"),
    ],
)
def test_mistakes_in_a_file_are_named(command, text, said, asked):
    status, told = asked(command, text)
    assert status == 2
    assert told.err.startswith("error: ") and said in told.err and told.out == ""
