"""What TAB completes: by the shells' protocol, and in the shells that are installed."""

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import get_args

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.cli.main import COMMANDS, main
from calibration_ledger.core.charts import ChartKind
from calibration_ledger.rules import KNOWN_RULES

MODELS = ("llama3:8b", "llama3:70b", "a b", "tiny")
BIN = Path(sys.executable).parent


@pytest.fixture
def named(ledger_path):
    """A ledger with names that are hard for a shell."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for model in MODELS:
            calibrator.record(model, 1, 5.0)
        calibrator.alias("nick", "tiny")
    return ledger_path


@pytest.fixture
def offered(named):
    """What bash is offered for a line, without the kind of word; FILE stands for the ledger."""

    def offered(line):
        env = {
            "_CALIB_COMPLETE": "bash_complete",
            "COMP_LINE": "calib " + line.replace("FILE", str(named)),
        }
        result = CliRunner(env=env).invoke(main, [], prog_name="calib", catch_exceptions=False)
        assert result.exit_code == 0
        assert result.stderr == ""
        return [one.partition(",")[2] for one in result.stdout.splitlines() if one]

    return offered


def test_commands_and_options_and_their_values_are_completed(offered):
    assert offered("") == list(COMMANDS)
    assert offered("db c") == ["check", "current"]
    assert offered("history --by") == ["--by-model"]
    assert {"--ledger", "--utc", "--limit"} <= {*offered("history --")}
    assert offered("stats --format j") == ["json", "jsonl"]
    assert offered("export p") == ["parquet"]


@pytest.mark.parametrize(
    "line",
    [
        "--ledger FILE stats ",
        "stats --ledger FILE ",
        "stats --ledger=FILE -m ",
        "compare tiny --ledger FILE ",
        "--ledger FILE record --prompt-tokens 3 ",
    ],
)
def test_models_and_aliases_of_the_named_ledger_are_completed(offered, line):
    assert offered(line) == ["'a b'", "llama3:70b", "llama3:8b", "tiny", "nick"]


def test_what_bash_parts_at_a_colon_is_completed_behind_it(offered):
    assert offered("--ledger FILE stats llama3:") == ["70b", "8b"]
    assert offered("--ledger FILE stats -m llama3:8") == ["8b"]
    assert offered("--ledger FILE stats lla") == ["llama3:70b", "llama3:8b"]
    assert offered("--ledger FILE stats 'a") == ["a b"]


def test_rules_and_formats_are_completed(offered):
    assert {"ema", "kalman", *KNOWN_RULES} == {*offered("rule ")}
    assert offered("sweep --rule ema") == ["ema", "ema.1"]
    assert offered("record m --rule kalman.") == ["kalman.1", "kalman.2"]
    assert {"auto", "llm", "otlp", "csv"} <= {*offered("import ")}
    assert offered("import csv ot") == ["ot"]  # of files; the format is known


def test_the_kinds_of_charts_are_completed(offered):
    assert offered("plot --ledger FILE tiny ") == [*get_args(ChartKind)]
    assert {"tiny", "models"} <= {*offered("plot --ledger FILE ")}


def test_completion_makes_no_ledger_and_never_complains(offered, tmp_path):
    missing = tmp_path / "missing.db"
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no ledger at all" * 100)
    before = {*tmp_path.iterdir()}
    for place in (missing, broken, tmp_path / "no" / "where.db", "postgresql://127.0.0.1:1/x", "-"):
        assert offered(f"--ledger {place} stats ") == []
    assert {*tmp_path.iterdir()} == before


SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'eval "$(_CALIB_COMPLETE=bash_source calib)"',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -D; eval "$(_CALIB_COMPLETE=zsh_source calib)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "_CALIB_COMPLETE=fish_source calib | source"),
}


@pytest.mark.skipif(not (BIN / "calib").exists(), reason="calib is not installed as a program")
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_in_a_real_shell_completes_a_model_with_a_colon(named, shell):
    """Whether the line that is run is the completed one, tells what the command prints."""
    arguments, setup = SHELLS[shell]
    for program in ("setsid", arguments[0]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    ours, its = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *arguments],  # fish needs a terminal of its own
        stdin=its,
        stdout=its,
        stderr=its,
        env={
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "CALIBRATION_LEDGER": str(named),
            "TERM": "dumb",
        },
    )
    shown = b""

    def until(text):
        nonlocal shown
        end = monotonic() + 30
        while text not in shown:
            assert monotonic() < end, shown
            if select.select([ours], [], [], 0.1)[0]:
                shown += os.read(ours, 4096)

    try:
        os.write(ours, f"{setup}; echo rea''dy\n".encode())
        until(b"ready")
        os.write(ours, b"calib stats llama3:8\t")
        until(b"llama3:8b")
        os.write(ours, b"--json; echo do''ne\n")
        until(b"done")
        assert b'"model": "llama3:8b"' in shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(its)
