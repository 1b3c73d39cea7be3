"""Names come from files and other programs: none of them becomes an option, or hides."""

import shlex

from calibration_ledger import AdaptiveCalibrator
from support.old_names import record_old

from .conftest import plain_calls, run_in_terminal, some_calls


def test_a_suggested_command_takes_no_name_for_an_option(calib, run, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for model in ("--yes", "-good"):
            calibrator.record_many(plain_calls(model, 120))
    out = calib("sweep", "--top", 1, "--", "--yes").stdout
    adopt = shlex.split(out.partition("Adopt it: ")[2])
    assert adopt[-2:] == ["--", "--yes"]
    assert run(*adopt[1:]).exit_code == 0
    undo = calib("void", "--seq", 3, "--", "--yes").stderr.partition("take that back: ")[2]
    assert shlex.split(undo)[-2:] == ["--", "--yes"]
    assert run(*shlex.split(undo)[1:]).exit_code == 0
    hint = calib("stats", "--", "-good").stderr.rpartition(": ")[2]
    assert shlex.split(hint)[-2:] == ["--", "-good"]
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.calibration("--yes").rule == "kalman.2"
        assert calibrator.calibration("-good").rule == "ema.1"


def test_names_that_look_alike_are_told_apart(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for model in ("gpt4", "gpt\u034f4", "gpt4\ufe0f", "\u3164"):
            record_old(calibrator, some_calls(model, 1))
    shown = [line.split()[0] for line in calib("stats").stdout.splitlines()[1:]]
    assert shown == ["gpt4", "gpt4\\ufe0f", "gpt\\u034f4", "\\u3164"]


def test_an_export_to_a_terminal_is_shown_and_one_to_a_pipe_is_exact(run, calib, ledger_path):
    model = "a\x1b[2Jb\u2800\n,c\x7f"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        record_old(calibrator, some_calls(model, 2))
    seen = run_in_terminal("--ledger", ledger_path, "export", "csv")
    rows = [line for line in seen.out.splitlines() if line.startswith('"a')]
    assert len(rows) == 2
    assert all(row.startswith('"a\\x1b[2Jb\\u2800\\n,c\\x7f",') for row in rows)
    assert "\x7f" not in run_in_terminal("--ledger", ledger_path, "export", "jsonl").out
    assert "\x7f" not in calib("history", "--json").stdout
    assert model in calib("export", "csv").stdout


def test_a_name_that_a_ledger_has_from_before_can_be_given(calib, run, ledger_path):
    name = " a\u200bb"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        record_old(calibrator, some_calls(name, 6))
    for words in (["predict", "--prompt-tokens", 5], ["history"], ["stats"], ["void", "--seq", 3]):
        calib(*words, name)
    calib("audit")
    refused = run("record", name, "--prompt-tokens", 1, "--actual-ms", 2)
    assert refused.exit_code == 2
    assert "model must not begin or end with a blank (U+0020)" in refused.stderr


def test_a_name_that_differs_only_in_case_is_told_on_stderr(calib):
    words = ["--prompt-tokens", 1, "--actual-ms", 2]
    calib("record", "phi3", *words)
    result = calib("record", "Phi3", *words)
    assert "warning: the name of the new model 'Phi3' differs only in case" in result.stderr
    assert "warning" not in calib("record", "Phi3", *words).stderr
