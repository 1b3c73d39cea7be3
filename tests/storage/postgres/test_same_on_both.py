"""The same on a file and on a server: every command's words, every number's bits, every digest."""

import json
import os
import random
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.main import main
from calibration_ledger.core.command import quoted, to_fill_in
from calibration_ledger.errors import RequestConflictError
from calibration_ledger.storage.place import find_place
from calibration_ledger.verbs import record as new_calls
from support.reference import digest_of, fold_file, numbers_of

NUMBERS = ("--prompt-tokens", "512", "--completion-tokens", "128", "--actual-ms", "3400")
CSV = "model,called_at,prompt_tokens,completion_tokens,actual_ms\n" + "".join(
    f"csv,2026-11-24T08:{minute:02}:00Z,{10 * minute},{minute},{100 + minute}.25\n"
    for minute in range(12)
)
STATE = '{"version": 1, "models": [{"model": "old", "sample_count": 3, "base_overhead_ms": 0.1}]}'


@pytest.fixture
def set_clock(monkeypatch):
    """Start the clock anew: from here on each look at it is a microsecond later."""

    def set_clock():
        ticks = count(1_763_971_200_000_001)
        clock = SimpleNamespace(time_ns=lambda: next(ticks) * 1000)
        monkeypatch.setattr(new_calls, "time", clock)

    return set_clock


@pytest.fixture
def ledgers(postgres, empty, tmp_path):
    """Where a ledger may be made, on either; nothing is there yet."""
    return {"sqlite": str(tmp_path / "calls.db"), "postgres": postgres.url(empty)}


# -- the command line -----------------------------------------------------------------------

COMMANDS = [
    # nothing there yet
    ("predict", "m", "--prompt-tokens", "512"),
    ("stats",),
    ("db", "current"),
    ("audit",),
    # recording
    ("record", "m", *NUMBERS),
    ("record", "m", *NUMBERS, "--request-id", "r", "--detail", "ttft_ms=80.5", "--json"),
    ("record", "m", *NUMBERS, "--request-id", "r"),
    ("record", "m", *NUMBERS[:-1], "3401", "--request-id", "r"),
    ("record", "模型", *NUMBERS, "--called-at", "2026-11-24T08:30:00Z", "--alpha", "0.5"),
    ("record", "m", *NUMBERS[:-1], "-1"),
    ("import", "csv", "-"),
    ("import", "csv", "-", "--json"),
    ("import", "jsonl", "-", "--skip-bad"),
    ("import", "state", "-"),
    # looking
    ("predict", "m", "--prompt-tokens", "512", "--completion-tokens", "7"),
    ("stats",),
    ("stats", "csv", "--json"),
    ("stats", "unheard of"),
    ("history", "--last", "3"),
    ("history", "csv", "--since", "2026-11-24T08:03:00Z", "--until", "2026-11-24T08:06:00Z"),
    ("history", "--all", "--json"),
    ("history", "unheard of"),
    ("replay", "--alpha", "0.3"),
    ("replay", "csv", "--until", "2026-11-24T08:06:00Z", "--json"),
    ("replay", "unheard of"),
    # changing
    ("recalibrate", "--alpha", "0.3", "--yes"),
    ("recalibrate", "csv", "--alpha", "0.7", "--json"),
    ("record", "csv", *NUMBERS),
    ("reset", "m", "--alpha", "0.2"),
    ("reset", "--all", "--yes", "--json"),
    ("record", "m", *NUMBERS),
    # checking and moving
    ("audit",),
    ("audit", "csv", "--json"),
    ("export", "csv", "-"),
    ("export", "jsonl", "-"),
    ("export", "jsonl", "-", "--model", "csv"),
    ("db", "upgrade"),
    ("db", "current"),
    ("db", "check"),
]
INPUTS = {
    "csv": CSV,
    "jsonl": '{"model": "m"}\n{"model": "j", "prompt_tokens": 1, "completion_tokens": 2,'
    ' "actual_ms": 0.1, "called_at": "2026-11-24T08:30:00Z"}\n',
    "state": STATE,
}


def nameless(text, ledger):
    """A text without what two ledgers, or two moments, can never share."""
    shown = find_place(ledger).shown
    text = text.replace(quoted(to_fill_in(shown)), "LEDGER").replace(shown, "LEDGER")
    text = text.replace("in LEDGER yet", "at LEDGER")  # one is a database, one a file
    return re.sub(r'"predicted_at": "[^"]+"', '"predicted_at": "NOW"', text)


def test_every_command_says_the_same_with_the_same_numbers(ledgers, set_clock):
    said = {}
    for name, ledger in ledgers.items():
        set_clock()
        said[name] = []
        for command in COMMANDS:
            text = INPUTS.get(command[1]) if command[0] == "import" else None
            result = CliRunner().invoke(main, ["--ledger", ledger, *command], input=text)
            assert result.exception is None or isinstance(result.exception, SystemExit), command
            shown = [nameless(text, ledger) for text in (result.stdout, result.stderr)]
            said[name].append((command, result.exit_code, *shown))
    for on_file, on_server in zip(*said.values(), strict=True):
        assert on_file == on_server
    codes = [exit_code for _, exit_code, _, _ in said["postgres"]]
    assert codes.count(0) >= 30, "most of them do something"
    assert {0, 1, 2} == set(codes)
    for ledger in ledgers.values():
        with AdaptiveCalibrator(ledger) as calibrator:
            assert calibrator.audit() == []


# -- the library ----------------------------------------------------------------------------


def live(calibrator):
    """A history of everything, numbers of all sizes among it; gives every error in it."""
    rng = random.Random(11)
    start = datetime(2026, 1, 2, tzinfo=UTC)
    errors = []
    for i in range(40):
        calls = [
            Call(
                rng.choice(["m", "groq-llama", "größe 模型"]),
                rng.choice([0, 1, rng.randrange(4096), 2**31 - 1]),
                rng.choice([0, 1, rng.randrange(1024)]),
                rng.choice([0.0, 0.1, 5e-324, 1e15, rng.random() * 5000]),
                start + timedelta(microseconds=rng.randrange(10**12)),
                request_id=rng.choice([None, f"r{i}-{k}"]),
                details=rng.choice([None, {"ttft_ms": rng.random(), "é": "✓"}]),
            )
            for k in range(rng.randrange(1, 9))
        ]
        calls += [call for call in calls if call.request_id is not None]  # each of them twice
        errors += calibrator.record_many(calls)
        errors.append(
            calibrator.record("m", rng.randrange(99), rng.random() * 1e4, completion_tokens=i)
        )
        if i % 13 == 5:
            calibrator.recalibrate(rng.random())
        if i % 29 == 7:
            calibrator.reset(rng.choice([None, "m"]))
    conflict = [Call("m", 1, 2, 3.0, request_id="x"), Call("m", 1, 2, 4.0, request_id="x")]
    with pytest.raises(RequestConflictError):
        calibrator.record_many(conflict)
    return [error.hex() for error in errors]


def test_the_same_calls_give_the_same_bits_digests_and_audit(ledgers, set_clock):
    found = {}
    for name, ledger in ledgers.items():
        set_clock()
        with AdaptiveCalibrator(ledger) as calibrator:
            errors = live(calibrator)
            heads = calibrator.heads()
            numbers = {head.model: numbers_of(calibrator.calibration(head.model)) for head in heads}
            replays = [
                (replay.model, numbers_of(replay.calibration), replay.bias_ms.hex())
                for alpha in (None, 0.05, 1.0)
                for replay in calibrator.replay(alpha)
            ]
            found[name] = errors, heads, numbers, replays, list(calibrator.calls())
            assert calibrator.audit() == []
        # And as somebody else reads the rows, and works it all out again.
        for head in heads:
            assert digest_of(ledger, head.model) == head.digest
            assert fold_file(ledger, head.model).numbers() == numbers[head.model]
    assert found["sqlite"] == found["postgres"]
    # Each is audited against what was noted of the other.
    for name, ledger in ledgers.items():
        (other,) = set(found) - {name}
        with AdaptiveCalibrator(ledger) as calibrator:
            assert calibrator.audit(heads=found[other][1]) == []


# -- from one into the other ----------------------------------------------------------------


def calib(ledger, *arguments, **options):
    code = "from calibration_ledger.cli.main import main; main(prog_name='calib')"
    done = subprocess.run(
        [sys.executable, "-c", code, "--ledger", ledger, *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"},
        **options,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("source", ["sqlite", pytest.param("postgres", marks=pytest.mark.stress)])
def test_a_ledger_moves_whole_from_one_into_the_other(ledgers, source, tmp_path):
    """By the real command line: an export piped into an import, and audited against the heads."""
    (target,) = set(ledgers) - {source}
    with AdaptiveCalibrator(ledgers[source]) as calibrator:
        live(calibrator)
        heads = calibrator.heads()
    noted = tmp_path / "heads.jsonl"
    calib(ledgers[source], "audit", "--save-heads", noted)
    exported = calib(ledgers[source], "export", "jsonl")
    calib(ledgers[target], "import", "ledger", "-", input=exported)
    calib(ledgers[target], "audit", "--heads", noted)
    assert calib(ledgers[target], "export", "jsonl") == exported, "it comes back byte for byte"
    again = calib(ledgers[target], "import", "ledger", "-", "--json", input=exported)
    assert json.loads(again)["recorded"] == 0
    # Both go on alike.
    with AdaptiveCalibrator(ledgers[source]) as one, AdaptiveCalibrator(ledgers[target]) as two:
        assert two.heads() == heads
        call = Call("m", 7, 8, 9.0, datetime(2027, 1, 1, tzinfo=UTC))
        assert one.record_many([call]) == two.record_many([call])
        assert one.heads() == two.heads()
        assert one.audit() == two.audit() == []
