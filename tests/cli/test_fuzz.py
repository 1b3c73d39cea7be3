"""Whatever stands on the command line: an exit code from 0 to 3, and never a traceback.

The arguments are made from the commands themselves: every option and argument of every one gets
nasty values and good ones, in any number. The ledger named is a copy that must audit clean
afterwards; the user's own is never touched.
"""

import json
import os
import shutil
import subprocess

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.cli.main import main

from .conftest import PROGRAM, TIMEOUT_S

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", settings.default.max_examples))

TIMES = ["2026-01-02T03:04:05Z", "9999-12-31T23:59:59.999999Z", "1970-01-01T00:00:00+00:00"]
FITTING = {
    "model": ["tiny", "new", "größe", "x" * 512, "a\nb", "\x1b[2J"],
    "option": ["tiny", "new"],
    "ledger": ["calls.db"],
    "models": ["tiny", "new", "timmy:v0.1-q4"],
    "prompt_tokens": ["0", "5", str(2**31 - 1)],
    "text": ["calls.csv", "empty", "binary", "-", "calls.db"],
    "max_tokens": ["0", "7"],
    "chance": ["0.5", "0.999999"],
    "by": ["mean", "median", "0.95", "newest", "rate"],
    "as_of": TIMES,
    "elapsed": ["0", "2500.5", "1e300"],
    "tokens_so_far": ["0", "3"],
    "ttft_ms": ["0", "180"],
    "completion_tokens": ["0", "7", str(2**31 - 1)],
    "actual_ms": ["0", "-0.0", "3.5", "1e-300", "1.7e308"],
    "alpha": ["0.3", "1", "5e-324"],
    "rule": ["ema", "ema.1"],
    "since": [*TIMES, "1h", "90m", "yesterday", "2026-01-02", "2026-01-02 03:04"],
    "until": [*TIMES, "30s", "1w", "today", "20260102"],
    "called_at": TIMES,
    "request_id": ["r", "ü"],
    "details": ["a=1", "b=x", "c=1e300", "d=true"],
    "every": ["100ms", "2s", "1h"],
    "limit": ["0", "3", "1000", str(2**62)],
    "last": ["1", "3", str(2**62)],
    "noted": ["heads.jsonl", "-"],
    "save_heads": ["heads.jsonl", "new.jsonl"],
    "dest": ["copy.db"],
    "at": ["demo.db"],
    "words": ["auto", "jsonl", "csv", "ledger", "state", "calls.csv", "ledger.jsonl", "-"],
    "file": ["calls.csv", "state.json", "ledger.jsonl", "out", "-"],
}
"""Values that a parameter of this name may take, the edges included."""

GOOD = [value for fitting in FITTING.values() for value in fitting]
NASTY = [
    *("", " ", "-", "--", "-1", "0", "1.5", "nan", "-inf", "1e400", "1e-400", "0x10", "1_000"),
    *(str(2**31 - 1), str(2**31), str(2**63), str(-(2**63)), "9" * 5000, "١٢", "true", "None"),
    *("\0", "a\0b", "\udcff", "half \ud800", "🦙" * 200, "\x1b[2J", "a\nb", "\r", "x" * 100_000),
    *("=", "a", "=5", "a=", "a=nan", "a=1e999", "a={", "a=" + "[" * 3000, "é=ü"),
    *("0000-00-00", "9999-12-31T23:59:59.999999Z", "10000-01-01T00:00:00Z", "2026-02-30T00:00Z"),
    *("1969-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "now", "2026-01-02"),
    *(
        ".",
        "..",
        "folder",
        "no/where",
        "missing",
        "binary",
        "calls.db",
        "empty",
        "folder/new.jsonl",
    ),
    *("sqlite://", "://", "mysql://u:p@h/d", "file:x?mode=memory", ":memory:", "~nobody/x", "%s%n"),
]
values = st.one_of(st.sampled_from(GOOD), st.sampled_from(NASTY), st.text(max_size=10))


def leaves(command, words=()):
    """Every command that does something, by its words."""
    if not isinstance(command, click.Group):
        return {words: command}
    found = {}
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        found |= leaves(child, (*words, name))
    return found


COMMANDS = leaves(main)


def value_of(parameter):
    """Three times out of four one that fits, so that there is something to go wrong later."""
    if isinstance(parameter.type, click.Choice):
        fitting = list(parameter.type.choices)
    else:
        fitting = FITTING.get(parameter.name or "", GOOD)
    return st.integers(0, 3).flatmap(lambda n: st.sampled_from(fitting) if n else values)


def one(parameter):
    """One use of an option, or the value of an argument."""
    if isinstance(parameter, click.Argument):
        return st.lists(value_of(parameter), min_size=1, max_size=3 if parameter.nargs < 0 else 1)
    name = st.sampled_from([*parameter.opts, *parameter.secondary_opts])
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return name.map(lambda flag: [flag])
    return st.builds(lambda flag, value: [flag, value], name, value_of(parameter))


@st.composite
def arguments(draw):
    """A command with some of its parameters; now and then twice, or another command's."""
    words = draw(st.sampled_from(sorted(COMMANDS)))
    # What follows has no end; tests/cli/test_history.py tries it in processes of their own.
    parameters = [one for one in COMMANDS[words].params if one.name != "follow"]
    used = [p for p in parameters if p.required or draw(st.integers(0, 2)) == 0]
    if draw(st.integers(0, 4)) == 0:
        used.append(draw(st.sampled_from([*parameters, *COMMANDS["record",].params])))
    return [*words, *(word for parameter in used for word in draw(one(parameter)))]


@pytest.fixture
def home(template, tmp_path, users_own, monkeypatch):
    """A folder to run in, with one of each; whatever is named lies in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    with AdaptiveCalibrator(users_own) as calibrator:
        calibrator.record("own", 1, 2.0)
    shutil.copy(template, folder / "template")
    with AdaptiveCalibrator(folder / "template") as calibrator:
        calibrator.export_ledger("jsonl", folder / "template.ledger")
        heads = [json.dumps(head._asdict()) for head in calibrator.heads()]
    (folder / "template.jsonl").write_text("\n".join(heads))
    return folder


def furnish(home):
    for path in home.iterdir():
        if path.stem != "template":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (home / "folder").mkdir()
    (home / "empty").touch()
    (home / "heads.jsonl").write_text((home / "template.jsonl").read_text())
    (home / "state.json").write_text(json.dumps({"version": 1, "saved_at": 1.5, "models": []}))
    (home / "ledger.jsonl").write_text((home / "template.ledger").read_text())
    (home / "binary").write_bytes(bytes(range(256)))
    (home / "calls.csv").write_text(
        "model,prompt_tokens,completion_tokens,actual_ms,request_id\ntiny,1,2,3.5,r\n"
    )
    shutil.copy(home / "template", home / "calls.db")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check(home, words, run, own):
    before = contents(own.parent)
    result = run("--ledger", "calls.db", *words, input="model,prompt_tokens\n[]\n{\n\0\xff")
    assert result.exit_code in {0, 1, 2, 3}, (words, result.output)
    assert "Traceback" not in result.output, words
    assert contents(own.parent) == before
    with AdaptiveCalibrator(home / "calls.db") as calibrator:
        assert calibrator.audit() == []


@settings(max_examples=4 * EXAMPLES)
@given(words=arguments())
@example(words=["audit", "--save-heads", "calls.db"])
@example(words=["export", "jsonl", "calls.db", "--overwrite"])
@example(words=["import", "ledger", "calls.db"])
@example(words=["db", "backup", "calls.db"])
@example(words=["demo", "--at", "calls.db"])
def test_any_arguments_of_any_command(home, run, users_own, words):
    furnish(home)
    check(home, words, run, users_own)


@pytest.mark.stress
@settings(max_examples=25 * EXAMPLES)
@given(words=arguments())
def test_very_many_arguments_of_any_command(home, run, users_own, words):
    furnish(home)
    check(home, words, run, users_own)


@settings(max_examples=EXAMPLES)
@given(words=st.lists(values, max_size=6))
def test_any_words_at_all(home, run, users_own, words):
    furnish(home)
    check(home, words, run, users_own)


@settings(max_examples=EXAMPLES)
@given(place=values, words=arguments())
def test_any_ledger(home, run, users_own, place, words):
    furnish(home)
    before = contents(users_own.parent)
    result = run("--ledger", place, *words)
    assert result.exit_code in {0, 1, 2, 3}, (place, words, result.output)
    assert "Traceback" not in result.output
    assert contents(users_own.parent) == before


BYTES = {
    "a model": ["record", b"m\xff\xfe", "--prompt-tokens", "1", "--actual-ms", "2"],
    "a request id": [
        *("record", "m", "--prompt-tokens", "1", "--actual-ms", "2", "--request-id", b"\x80")
    ],
    "a file to import": ["import", "csv", b"no\xffwhere.csv"],
    "heads": ["audit", "--heads", b"\xc3\x28"],
    "a file to write": ["export", "jsonl", b"out\xff.jsonl"],
    "a command": [b"\xf0\x28\x8c\x28"],
}


@pytest.mark.skipif(os.name != "posix", reason="elsewhere arguments are no bytes")
@pytest.mark.parametrize(
    ("what", "locale"),
    [
        pytest.param(what, locale, marks=[pytest.mark.stress] if i % 3 else [])
        for i, (what, locale) in enumerate(
            (what, locale) for what in BYTES for locale in ("C.UTF-8", "C")
        )
    ],
)
def test_bytes_that_are_no_text_are_told_by_a_real_process(home, users_own, what, locale):
    furnish(home)
    before = contents(users_own.parent)
    done = subprocess.run(
        [*PROGRAM, "--ledger", "calls.db", *BYTES[what]],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert done.returncode == (0 if what == "a file to write" else 2), done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr
    assert contents(users_own.parent) == before
    with AdaptiveCalibrator(home / "calls.db") as calibrator:
        assert calibrator.audit() == []
        assert len(list(calibrator.calls())) == 28
