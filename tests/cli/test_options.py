"""Options that every command has, or that mean the same wherever they are given."""

import json

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.command import quoted

from .test_help import ALL, LEAVES

ONE_MODEL = sorted(
    path
    for path in LEAVES
    if {"model", "option"} <= {parameter.name for parameter in ALL[path].params}
)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_takes_the_ledger_behind_it(run, path):
    text = run(*path, "--help").stdout
    assert "--ledger PATH-OR-URL" in text
    assert "$CALIBRATION_LEDGER" in text


@pytest.mark.parametrize(
    "words",
    [
        ("stats", "--json", "--ledger", "FILE"),
        ("stats", "--ledger", "FILE", "--json"),
        ("--ledger", "FILE", "stats", "--json"),
        ("--ledger", "FILE", "stats", "--ledger", "FILE", "--json"),
    ],
)
def test_the_ledger_is_named_before_the_command_or_behind_it(run, filled, words):
    result = run(*(filled if word == "FILE" else word for word in words))
    assert [one["model"] for one in json.loads(result.stdout)] == ["timmy:v0.1-q4", "tiny"]


@pytest.mark.parametrize("at", range(3))
def test_a_nested_command_takes_the_ledger_at_each_of_its_words(run, filled, at):
    words = ["db", "current", "--json"]
    words[at:at] = ["--ledger", str(filled)]
    assert json.loads(run(*words).stdout)["ledger"] == str(filled)


def test_two_ledgers_are_refused_and_neither_is_repeated(run, tmp_path):
    url = "postgresql://me:secret@host/db"
    result = run("--ledger", url, "record", "m", "-p", 1, "--actual-ms", 2, "--ledger", "a.db")
    assert result.exit_code == 2
    assert "another one is named before the command: leave one out." in result.stderr
    assert "secret" not in result.output
    nested = run("--ledger", "a.db", "db", "--ledger", "b.db", "current")
    assert "another one is named" in nested.stderr


def test_the_value_of_a_ledger_behind_the_command_is_checked_alike(run):
    before, behind = run("--ledger", "-", "stats"), run("stats", "--ledger", "-")
    assert before.exit_code == behind.exit_code == 2
    assert "- is no file here" in before.stderr
    assert "- is no file here" in behind.stderr
    assert run("stats", "--ledger").exit_code == 2


def test_commands_that_are_suggested_name_the_ledger_given_behind_the_command(run, filled):
    result = run("void", "tiny", "--last", "--dry-run", "--ledger", filled)
    assert result.exit_code == 0
    result = run("void", "tiny", "--last", "--ledger", filled)
    assert f"calib --ledger {quoted(str(filled))} void --seq 5 -- tiny" in result.stderr
    with AdaptiveCalibrator(filled) as calibrator:
        assert calibrator.audit() == []


@pytest.mark.parametrize("path", ONE_MODEL, ids=" ".join)
def test_a_model_is_an_argument_or_an_option_and_two_are_refused(run, path):
    assert "-m, --model MODEL" in run(*path, "--help").stdout
    first = ["name"] if path in {("alias",), ("archive",)} else []
    needed = {
        "record": ["-p", 1, "--actual-ms", 2],
        "archive": ["--before", "2026-01-01"],
    }.get(path[0], ["-p", 1] if path[0] in {"predict", "forecast", "timeout"} else [])
    result = run(*path, *first, "a", *needed, "-m", "b")
    assert result.exit_code == 2
    assert "two models are named, 'a' and 'b': leave one out." in result.stderr


def test_the_option_means_what_the_argument_means(calib, filled):
    argument = calib("stats", "tiny", "--json").stdout
    assert calib("stats", "-m", "tiny", "--json").stdout == argument
    assert calib("stats", "--model", "tiny", "tiny", "--json").stdout == argument
    several = json.loads(calib("compare", "tiny", "-m", "timmy:v0.1-q4", "-p", 1, "--json").stdout)
    assert {one["model"] for one in several} == {"tiny", "timmy:v0.1-q4"}
    assert json.loads(calib("drift", "-m", "tiny", "--json").stdout)[0]["model"] == "tiny"


@pytest.mark.parametrize("command", ["predict", "forecast", "timeout", "record"])
def test_a_model_that_is_needed_is_asked_for(run, command):
    result = run(command, "-p", 1, *(("--actual-ms", 2) if command == "record" else ()))
    assert result.exit_code == 2
    assert "Missing argument 'MODEL'" in result.stderr
    assert " MODEL\n" in run(command, "--help").stdout.partition("\n\n")[0] + "\n"
