"""Whatever is wrong: a sentence on stderr, exit code 1 or 2, and nothing changes.

What is no ledger at all is in `tests/storage/test_bad_places.py`.
"""

from __future__ import annotations

import os

import pytest

RECORD = ("record", "tiny", "--prompt-tokens", 5, "--actual-ms", 5)
PREDICT = ("predict", "tiny", "--prompt-tokens")
PACE = ("forecast", "tiny", "-p", 1, "--elapsed", 5)
HEAVY = "1.7e308"

WRONG = [
    # tokens
    ((*PREDICT, -1), "at least 0 and below 2**31"),
    ((*PREDICT, 2**31), "at least 0 and below 2**31"),
    ((*PREDICT, 10**30), "at least 0 and below 2**31"),
    ((*PREDICT, "9" * 5000), "integer"),
    ((*PREDICT, 1.5), "'1.5' is not a valid integer"),
    ((*PREDICT, "true"), "'true' is not a valid integer"),
    ((*PREDICT, ""), "'' is not a valid integer"),
    ((*PREDICT, "nan"), "'nan' is not a valid integer"),
    ((*PREDICT, 1, "--completion-tokens", -1), "completion_tokens must be at least 0"),
    ((*RECORD, "--completion-tokens", 2**31), "completion_tokens must be at least 0"),
    # forecasts
    *[
        ((*command, "-p", -1), "prompt_tokens must be at least 0 and below 2**31")
        for command in (("forecast", "tiny"), ("timeout", "tiny"), ("compare",))
    ],
    *[
        (command, "Missing option '--prompt-tokens' / '-p' or '--text'")
        for command in (PREDICT[:2], ("forecast", "tiny"), ("timeout", "tiny"), ("compare",))
    ],
    ((*PREDICT, 1, "--max-tokens", -1), "max_tokens must be at least 0"),
    (("forecast", "tiny", "-p", 1, "-c", 2**31), "completion_tokens must be at least 0"),
    (("forecast", "", "-p", 1), "model must not be empty"),
    (("compare", "", "-p", 1), "model must not be empty"),
    (("forecast", "tiny", "-p", 1, "--elapsed", "nan"), "elapsed_ms must be finite"),
    (("forecast", "tiny", "-p", 1, "--elapsed", -1), "elapsed_ms must be finite"),
    (("forecast", "tiny", "-p", 1, "--as-of", "next week"), "'next week' is no time"),
    *[
        (("forecast", "tiny", "-p", 1, *alone), "go together, and with --elapsed")
        for alone in (
            ("--tokens-so-far", 1),
            ("--ttft-ms", 1),
            ("--elapsed", 5, "--ttft-ms", 1),
            ("--tokens-so-far", 1, "--ttft-ms", 1),
        )
    ],
    ((*PACE, "--tokens-so-far", -1, "--ttft-ms", 1), "tokens_so_far must be at least 0"),
    ((*PACE, "--tokens-so-far", 1, "--ttft-ms", 9), "later than elapsed_ms"),
    ((*PACE, "--tokens-so-far", 1, "--ttft-ms", 1, "-c", 5), "leave out --completion-tokens"),
    ((*PACE, "--tokens-so-far", 1, "--ttft-ms", 1, "--ttft"), "has nothing to forecast"),
    ((*PACE, "--ttft", "-c", 5), "--completion-tokens tells nothing about the first token"),
    ((*PACE, "--ttft", "--max-tokens", 5), "--max-tokens tells nothing about the first token"),
    *[
        (("timeout", "tiny", "-p", 1, "--chance", bad), "chance must be a number above 0 and below")
        for bad in (0, 1, 99, "nan", -0.5)
    ],
    (("compare", "-p", 1, "--by", "slowest"), "neither mean nor median nor a level"),
    (("compare", "-p", 1, "--by", 2), "by must be a number above 0 and below 1"),
    # texts
    ((*PREDICT, 1, "--text", "x"), "give --prompt-tokens or --text, not both"),
    (("forecast", "tiny", "--text", "missing.txt"), "missing.txt: the file cannot be opened"),
    (("timeout", "tiny", "--text", "."), "the file cannot be opened: Is a directory"),
    (("compare", "--text", ""), "name the file, or `-` for what comes on stdin"),
    # milliseconds
    *[
        ((*RECORD[:-1], bad), "actual_ms must be finite and not negative")
        for bad in ("nan", "inf", "-inf", "-1", "-1e-300", "1e999")
    ],
    ((*RECORD[:-1], "fast"), "'fast' is not a valid float"),
    # models
    (("predict", "", "--prompt-tokens", 1), "model must not be empty"),
    (("record", "", *RECORD[2:]), "model must not be empty"),
    (("stats", ""), "model must not be empty"),
    (("history", ""), "model must not be empty"),
    (("replay", ""), "model must not be empty"),
    (("recalibrate", "", "--alpha", 0.3), "model must not be empty"),
    (("reset", ""), "model must not be empty"),
    (("audit", ""), "model must not be empty"),
    (("export", "jsonl", "--model", ""), "model must not be empty"),
    (("predict", "x" * 513, "--prompt-tokens", 1), "shorten it to at most 512"),
    (("predict", "half \udcff", "--prompt-tokens", 1), "half a surrogate pair"),
    (("record", "a\0b", *RECORD[2:]), "NUL"),
    # alpha and rule
    *[
        ((*command, "--alpha", bad), "alpha must be above 0 and at most 1")
        for bad in ("0", "-0.1", "1.5", "nan", "inf")
        for command in (RECORD, ("replay",), ("recalibrate", "tiny"), ("reset", "tiny"))
    ],
    (("replay", "--alpha", "slow"), "'slow' is not a valid float"),
    (("replay", "--rule", "kalmann"), "does not know the rule 'kalmann'"),
    ((*RECORD, "--rule", "ema.99"), "does not know the rule 'ema.99'"),
    # times
    ((*RECORD, "--called-at", "2026-11-24"), "write 2026-11-24T00:00:00Z for UTC"),
    ((*RECORD, "--called-at", "20261124"), "no time of day"),
    (("history", "--until", "2026-11-31"), "is no time"),
    (
        ("replay", "--until", "2026-11-24T25:30"),
        "such as '2026-11-24 08:30' or 2026-11-24T08:30:00Z",
    ),
    (("replay", "--since", "last tuesday"), "'last tuesday' is no time"),
    (("history", "--since", "2026-13-01T00:00:00Z"), "is no time"),
    (("history", "--since", ""), "'' is no time"),
    ((*RECORD, "--called-at", "2026-11-24 08:30:00"), "has no time zone"),
    ((*RECORD, "--called-at", "1969-12-31T23:59:59Z"), "between 1970 and 9999"),
    ((*RECORD, "--called-at", "0001-01-01T00:00:00+23:59"), "between 1970 and 9999"),
    (
        ("history", "--since", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"),
        "since is later than until",
    ),
    # the rest of a call
    ((*RECORD, "--request-id", ""), "request_id must not be empty"),
    ((*RECORD, "--request-id", "x" * 513), "shorten it to at most 512"),
    ((*RECORD, "--detail", "ttft_ms"), "is not KEY=VALUE"),
    ((*RECORD, "--detail", "=5"), "is not KEY=VALUE"),
    ((*RECORD, "--detail", "a=1", "--detail", "a=2"), "'a' is given twice"),
    ((*RECORD, "--detail", "a=1e999"), "details must be"),
    ((*RECORD, "--detail", "a=" + "x" * 5000), "details take"),
    # usage
    (("history", "--last", 0), "last must be a whole number from 1"),
    (("history", "--last", -3), "last must be a whole number from 1"),
    (("history", "--last", "few"), "'few' is not a valid integer"),
    (("record", "tiny"), "Missing option"),
    (("predict",), "Missing argument 'MODEL'"),
    (("stats", "a", "b"), "unexpected extra argument"),
    (("stats", "--frobnicate"), "No such option"),
    (("db",), "Usage"),
    (("db", "downgrade"), "No such command"),
    (("db", "backup"), "Missing argument 'DEST'"),
]


@pytest.mark.parametrize(("args", "sentence"), WRONG)
def test_wrong_input_is_refused_with_exit_code_2(calib, filled, args, sentence):
    before = filled.read_bytes()
    result = calib(*args, exit_code=2)
    assert sentence in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert filled.read_bytes() == before


def test_a_call_that_would_not_stay_finite_is_refused(calib, ledger_path):
    calib("record", "m", "--prompt-tokens", 1, "--actual-ms", HEAVY, "--alpha", 1)
    before = ledger_path.read_bytes()
    result = calib("record", "m", "--prompt-tokens", 1000, "--actual-ms", 1, exit_code=2)
    assert result.stderr.startswith("Error: ")
    assert ledger_path.read_bytes() == before
    # What is in the ledger is absurd, and can be shown all the same.
    for args in (("stats",), ("history",), ("replay",), ("predict", "m", "--prompt-tokens", 0)):
        assert "e+" in calib(*args).stdout


@pytest.mark.parametrize("name", ["", "mysql://host/db", "nonsense://"])
@pytest.mark.parametrize("args", [("stats",), RECORD, ("db", "upgrade")])
def test_a_ledger_of_no_known_kind_is_refused(run, name, args):
    result = run("--ledger", name, *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_what_may_not_be_read_or_written_is_told(run, filled):
    filled.chmod(0)
    result = run("--ledger", filled, "stats")
    assert (result.exit_code, "may not be read" in result.stderr) == (1, True)
    filled.chmod(0o400)
    before = filled.read_bytes()
    result = run("--ledger", filled, *RECORD)
    assert (result.exit_code, "may not be written" in result.stderr) == (1, True)
    assert filled.read_bytes() == before
    filled.chmod(0o600)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_a_file_that_may_not_be_read_is_told_by_name(run, filled, tmp_path):
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(0)
    for args in (("import", "csv", file), ("audit", "--heads", file)):
        result = run("--ledger", filled, *args)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ")
        assert "Permission denied" in result.stderr
        assert str(file) in result.stderr
