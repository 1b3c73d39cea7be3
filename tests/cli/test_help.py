import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from calibration_ledger import __version__
from calibration_ledger.calibrator import EXPORT_KINDS
from calibration_ledger.cli.main import COMMANDS, main
from calibration_ledger.formats.row import OPTIONAL

from .conftest import run_in_terminal, run_process


def walk(command, path=()):
    """Every command with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name="calib")
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


ALL = dict(walk(main))
LEAVES = [path for path, command in ALL.items() if not isinstance(command, click.Group)]


def test_the_help_of_import_names_all_columns(calib):
    told = calib("import", "--help").stdout
    assert [name for name in OPTIONAL if name not in told] == []


def test_the_commands_of_the_design_are_there():
    assert set(LEAVES) >= {
        *[("predict",), ("forecast",), ("compare",), ("timeout",)],
        *[("record",), ("stats",), ("history",), ("replay",), ("recalibrate",)],
        *[("sweep",), ("drift",)],
        *[("reset",), ("audit",), ("import",), ("export",), ("demo",)],
        *[
            ("db", "upgrade"),
            ("db", "current"),
            ("db", "check"),
            ("db", "backup"),
            ("db", "distribute"),
        ],
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_the_commands_say(name):
    command = ALL[(name,)]
    assert command.name == name
    assert command.help.split("\n\n")[0] == COMMANDS[name][1]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help(run, path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(['main', *path])} ")
    assert run(*path, "-h").stdout == result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_an_example_and_formats(run, path):
    text = run(*path, "--help").stdout
    assert "Examples:\n    calib " in text
    assert "--json" in text
    assert "--format FORMAT" in text


def test_every_option_has_help():
    for path, command in ALL.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)


def test_calib_alone_prints_help(run):
    result = run()
    assert "Commands:" in result.output
    for name, (_, text) in COMMANDS.items():
        assert f"  {name}" in result.output
        assert text in result.output


def test_version(run):
    assert run("--version").stdout == f"calib, version {__version__}\n"


def test_help_names_the_exit_codes(run):
    text = run("--help").stdout
    assert all(f"\n    {code}  " in text for code in range(4))


def test_a_misspelt_command_is_told_with_the_one_that_was_meant(run):
    result = run("stat")
    assert result.exit_code == 2
    assert "No such command 'stat'. Did you mean 'stats'?" in result.stderr
    assert "No such command 'xyzzy'." in run("xyzzy").stderr


def test_help_and_completion_import_nothing_heavy():
    """Neither SQLAlchemy nor Alembic, whose import takes longer than all the rest."""
    paths = [list(path) for path in ALL]
    script = (
        "import json, sys\n"
        "from click.testing import CliRunner\n"
        "from calibration_ledger.cli.main import main\n"
        f"for path in {json.dumps(paths)}:\n"
        "    assert CliRunner().invoke(main, [*path, '--help']).exit_code == 0\n"
        "runner = CliRunner(env={'_CALIB_COMPLETE': 'bash_complete', 'COMP_WORDS': 'calib re',\n"
        "                        'COMP_CWORD': '1'})\n"
        "print(runner.invoke(main, [], prog_name='calib').output.split())\n"
        "heavy = {'sqlalchemy', 'alembic', 'platformdirs', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    completed, heavy = done.stdout.splitlines()
    names = ("record", "report", "replay", "recalibrate", "reset")
    assert completed == str([f"plain,{name}" for name in names])
    assert heavy == "[]"


def test_the_list_of_commands_imports_none_of_them():
    script = (
        "import sys\n"
        "from calibration_ledger.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(*(name for name in sys.modules if name.startswith('calibration_ledger.cli.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    imported = {name.rpartition(".")[2] for name in done.stdout.splitlines()[-1].split()}
    assert imported == {"main", "options", "session", "terminal", "zone"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_completion_script(shell):
    env = {"_CALIB_COMPLETE": f"{shell}_source"}
    result = CliRunner(env=env).invoke(main, [], prog_name="calib", catch_exceptions=False)
    assert result.exit_code == 0
    assert "_CALIB_COMPLETE" in result.output


def test_what_the_command_line_repeats_of_the_library_agrees_with_it():
    choice = next(param.type for param in ALL[("export",)].params if param.name == "kind")
    assert tuple(choice.choices) == EXPORT_KINDS


def test_the_program_starts_in_a_process_of_its_own():
    assert run_process("--version").out == f"calib, version {__version__}\n"


def test_help_fits_a_terminal_of_40_columns_but_for_what_is_copied():
    shown = run_in_terminal("stats", "--help", COLUMNS="40").out.partition("Examples:")[0]
    assert [line for line in shown.splitlines() if len(line) > 40] == []
