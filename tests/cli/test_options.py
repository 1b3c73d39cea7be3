"""Options that every command has, or that mean the same wherever they are given."""

import json
from time import process_time

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.command import quoted
from calibration_ledger.errors import ModelNotFoundError

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


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("Tiny", "did you mean 'tiny', which differs only in upper and lower case? "),
        (
            "ti\u200bny",
            "did you mean 'tiny', which differs only in blanks or in what is not shown? ",
        ),
        ("tiny ", "did you mean 'tiny', which differs only in blanks or in what is not shown? "),
        ("tinny", "did you mean 'tiny'? "),
        ("nik", "did you mean 'nick'? "),
        ("timmy", "did you mean 'timmy:v0.1-q4'? "),
        ("xyzzy", "of a model 'xyzzy': `calib"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_the_one_that_was_meant(calib, filled, typed, said):
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.alias("nick", "tiny")
        with pytest.raises(ModelNotFoundError) as caught:
            calibrator.calls(typed)
        assert said in str(caught.value)
    for command in ("stats", "history", "audit", "replay", "sweep", "log"):
        assert said in calib(command, typed, exit_code=1).stderr


def test_among_thousands_of_models_the_one_that_was_meant_is_found_soon(ledger_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record_many(Call(f"vendor/model-{n}:8b", 1, 1, 5.0) for n in range(2000))
        began = process_time()
        with pytest.raises(ModelNotFoundError, match="did you mean 'vendor/model-1234:8b'"):
            calibrator.calls("vendor/model-1234-8b")
        assert process_time() - began < 2.0
        assert calibrator.audit() == []


def test_a_rule_that_is_not_there_is_told_with_the_one_that_was_meant(calib, filled):
    assert "Did you mean 'kalman'? " in calib("rule", "kalmann", exit_code=2).stderr
    assert "Did you mean 'ema.1'? " in calib("replay", "--rule", "ema1", exit_code=2).stderr
    assert "id you mean" not in calib("rule", "xyzzy", exit_code=2).stderr


def test_the_log_has_a_window_as_the_history_has(calib, filled):
    calib("reset", "tiny")
    assert "reset" in calib("log", "--since", "1h").stdout
    assert calib("log", "--until", "1h").stdout == ""
    assert "swap them" in calib("log", "--since", "1h", "--until", "2h", exit_code=2).stderr


def test_short_options_are_the_usual_ones(calib, filled, tmp_path):
    for number in (1, 2):
        calib("export", "csv", "-o", tmp_path / f"{number}.csv", *["-m", "tiny"][: number * 2])
    assert (tmp_path / "1.csv").read_text().count("tiny") == 3
    result = calib("export", "csv", tmp_path / "a", "-o", tmp_path / "b", exit_code=2)
    assert "two files are named" in result.stderr
    assert len(calib("history", "-n", 2, "-m", "tiny").stdout.splitlines()) == 3
    calib("reset", "--all", "-y")
    assert len(calib("log", "-n", 1).stdout.splitlines()) == 2


SHORT = {
    "-c": "completion_tokens",
    "-f": "follow",
    "-h": "help",
    "-m": "option model models",
    "-n": "limit last top",
    "-o": "output",
    "-p": "prompt_tokens",
    "-y": "yes",
}


def test_a_short_option_means_the_same_in_all_commands():
    for path, command in ALL.items():
        for parameter in command.params:
            for name in parameter.opts:
                if len(name) == 2 and name.startswith("-"):
                    assert parameter.name in SHORT[name].split(), (path, name)


def test_what_is_asked_in_many_commands_is_asked_alike_in_all():
    """Whoever takes tokens, a model, a file to write or a yes, takes the short option, too."""
    asked = {
        "--prompt-tokens": "-p",
        "--completion-tokens": "-c",
        "--model": "-m",
        "--output": "-o",
        "--yes": "-y",
        "--follow": "-f",
    }
    for path, command in ALL.items():
        for parameter in command.params:
            for name in parameter.opts:
                assert name not in asked or asked[name] in parameter.opts, (path, name)
        names = {name for parameter in command.params for name in parameter.opts}
        if {parameter.name for parameter in command.params} & {"model", "models"}:
            assert {"-m", "--model"} <= names, path
        assert ("--since" in names) == ("--until" in names), path
