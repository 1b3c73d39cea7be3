import json
import re
from dataclasses import replace

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from support.old_names import record_old

from .conftest import plain_calls, run_in_terminal


@pytest.fixture
def three(ledger_path):
    """A fast, a slow and a forgotten model, and one that became slower of late."""
    calls = plain_calls("fast", 60)
    slow = [replace(call, model="slow", actual_ms=call.actual_ms * 3.0) for call in calls]
    worse = [
        replace(call, model="worse", actual_ms=call.actual_ms * (2.4 if i >= 50 else 1.2))
        for i, call in enumerate(calls)
    ]
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([*slow, *worse, *calls, *plain_calls("forgotten", 5)])
        calibrator.reset("forgotten")
    return ledger_path


def test_models_are_listed_soonest_first_and_those_without_history_last(calib, three):
    result = calib("compare", "-p", 512)
    header, *rows = result.stdout.splitlines()
    assert header.split("  ")[0] == "model"
    assert [row.split()[0] for row in rows] == ["fast", "worse", "slow", "forgotten"]
    assert rows[0].split()[-1] == "ok"
    assert re.search(r"  drifting: (1\.9|2\.0)\d x$", rows[1])
    assert rows[3].split() == ["forgotten", *["-"] * 8, "no", "history"]
    for title in ("mean", "9 of 10", "95 % within", "tokens/s", "calls", "newest call", "status"):
        assert title in header
    assert result.stderr == ""


def test_it_is_the_librarys_rank(calib, three):
    for words, options in (
        ((), {}),
        (("-c", 5), {"completion_tokens": 5}),
        (("--max-tokens", 9), {"max_tokens": 9}),
        (("--by", "median"), {"by": "median"}),
        (("--by", 0.95), {"by": 0.95}),
    ):
        found = json.loads(calib("compare", "-p", 512, *words, "--json").stdout)
        with AdaptiveCalibrator(three) as calibrator:
            expected = [one.to_dict() for one in calibrator.rank(512, **options)]
        assert [one.pop("counted_by") for one in found] == [None] * 4
        assert found == expected


def test_some_models_are_compared_each_once_and_a_wrong_name_is_told(calib, three):
    result = calib("compare", "slow", "fst", "fast", "slow", "-p", 512)
    names = [row.split()[0] for row in result.stdout.splitlines()[1:]]
    assert names == ["fast", "slow", "fst"]
    assert "did you mean 'fast'?" in result.stderr


def test_an_empty_ledger_says_how_to_begin(calib, run, ledger_path, tmp_path):
    calib("db", "upgrade")
    result = calib("compare", "-p", 1)
    assert result.stdout == ""
    assert "record one with" in result.stderr
    assert calib("compare", "-p", 1, "--json").stdout == "[]\n"
    missing = run("--ledger", tmp_path / "none.db", "compare", "-p", 1)
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_the_table_fits_a_terminal(three):
    shown = run_in_terminal("--ledger", three, "compare", "-p", 512, NO_COLOR="1")
    assert shown.code == 0
    assert all(len(line) <= 80 for line in shown.out.splitlines() if line[0] != "(")
    assert "tokens/s" in shown.out


def test_names_of_others_hide_nothing(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        names = ("--json", "bell\x07", "\u3164")
        record_old(calibrator, [Call(model, 10, 5, 500.0) for model in names])
    rows = calib("compare", "-p", 10, "--", "--json", "bell\x07", "\u3164").stdout.splitlines()
    assert {row.split()[0] for row in rows[1:]} == {"--json", "bell\\x07", "\\u3164"}
