"""The command line as a whole: it starts without what the command at hand does not need, and knows all commands."""

import subprocess
import sys

import pytest

from roofline.cli.app import COMMANDS, GROUPS, command_line, run


def test_a_command_is_started_without_the_modules_of_the_others():
    code = (
        "import sys; from roofline.cli.app import run; run(['hardware', 'list', '--json']);"
        "print([name for name in sys.modules if name.startswith('roofline.cli.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr
    assert "roofline.cli.hardware" in loaded
    assert not [name for name in COMMANDS if f"'roofline.cli.{name}'" in loaded]


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_every_command_has_help(name, capsys):
    assert run([name, "--help"]) == 0
    assert f" {name} [OPTIONS]" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys):
    assert run(["predikt"]) == 2
    assert "predict" in capsys.readouterr().err


def test_the_whole_command_line_lists_every_command(capsys):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in (*COMMANDS, *GROUPS))
    assert {command.name for command in command_line().registered_commands} == set(COMMANDS)
