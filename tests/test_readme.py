"""Every code block of the README: consoles print what they show, Python runs, set-up commands are what CI runs."""

import re
import shlex
from pathlib import Path

import pytest

from roofline.cli.app import run

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(.*?)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def blocks(kind):
    return [text for name, text in BLOCKS if name == kind]


def test_every_block_is_of_a_kind_that_is_tested():
    assert {name for name, _ in BLOCKS} == {"sh main-job", "sh tests", "console", "python", ""}


@pytest.mark.parametrize("text", blocks("console"))
def test_console_blocks_print_what_they_show(text, capsys):
    command, _, shown = text.partition("\n")
    assert command.startswith("$ roofline ")
    assert run(shlex.split(command)[2:]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_run(text):
    exec(compile(text, "README.md", "exec"), {})


def test_set_up_blocks_are_what_ci_runs():
    (main_job,), (tests,) = blocks("sh main-job"), blocks("sh tests")
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "roofline predict" in main_job
    assert "main-job" in ci and tests.strip() in ci
