"""Calls that look wrong are recorded, and somebody is told; `strict` refuses them."""

import gzip
import random
import sys
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import (
    AdaptiveCalibrator,
    Call,
    DoubtfulCallError,
    DoubtfulCallWarning,
    ImportRefusedError,
    InvalidInputError,
)

DAY_MS = 86_400_000.0
PAST = datetime(2025, 5, 1, tzinfo=UTC)


def in_(**time):
    return datetime.now(UTC) + timedelta(**time)


@pytest.fixture(name="known")
def _known(calibrator):
    """A model whose longest call took 1,200 ms."""
    calibrator.record_many([Call("m", 100, 20, 1000.0 + 10 * i, PAST) for i in range(21)])
    return calibrator


DOUBTFUL = {
    "0 ms": (Call("m", 100, 0, 0.0), "took 0 ms, and has tokens"),
    "a day": (Call("m", 100, 20, DAY_MS * 1.01), "took more than 24 h"),
    "the future": (Call("m", 100, 20, 1000.0, in_(hours=2)), "was made in the future"),
    "seconds": (Call("m", 100, 20, 2_400_001.0), "more than 2,000 times as long as any call"),
}
PLAIN = {
    "nothing": Call("m", 0, 0, 0.0),
    "just a day": Call("new", 100, 20, DAY_MS),
    "a clock ahead": Call("m", 100, 20, 1000.0, in_(seconds=20)),
    "a cold start": Call("m", 100, 20, 2_399_999.0),
    "a first call": Call("new", 1, 1, 80_000_000.0),
}


@pytest.mark.both
@pytest.mark.parametrize("which", DOUBTFUL)
def test_a_call_that_looks_wrong_is_recorded_with_a_warning_that_tells_how_to_void_it(known, which):
    call, why = DOUBTFUL[which]
    with pytest.warns(DoubtfulCallWarning, match=why) as told:
        error_ms = known.record(
            "m",
            call.prompt_tokens,
            call.actual_ms,
            completion_tokens=call.completion_tokens,
            called_at=call.called_at,
        )
    assert told[0].filename == __file__
    (last,) = known.calls(last=1)
    assert (last.seq, last.actual_ms, last.error_ms) == (23, call.actual_ms, error_ms)
    assert "void --seq 23 -- m`" in str(told[0].message)
    assert "void('m', seq=23)" in str(told[0].message)
    known.void("m", seq=23)
    with pytest.warns(DoubtfulCallWarning, match=why):  # what is voided is no longest call
        known.record_many([call])


@pytest.mark.parametrize("which", DOUBTFUL)
@pytest.mark.parametrize("how", ["record", "record_once", "record_many"])
def test_strict_refuses_it_and_nothing_is_recorded(known, which, how):
    call, why = DOUBTFUL[which]
    numbers = {"completion_tokens": call.completion_tokens, "called_at": call.called_at}
    uses = {
        "record": lambda: known.record(
            "m", call.prompt_tokens, call.actual_ms, strict=True, **numbers
        ),
        "record_once": lambda: known.record_once(call, strict=True),
        "record_many": lambda: known.record_many([Call("m", 1, 1, 5.0), call], strict=True),
    }
    heads = known.heads()
    with pytest.raises(DoubtfulCallError, match=why) as caught:
        uses[how]()
    assert isinstance(caught.value, InvalidInputError)
    assert known.heads() == heads


@pytest.mark.parametrize("which", PLAIN)
def test_what_may_well_be_is_recorded_without_a_word(known, which):
    call = PLAIN[which]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known.record_once(call, strict=True)
        known.record_many([call], strict=True)
        known.record_many([call])


def test_a_filter_that_makes_errors_of_warnings_comes_after_the_call_is_recorded(known):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DoubtfulCallWarning):
            known.record("m", 5, 0.0)
        with pytest.raises(DoubtfulCallWarning):
            known.record_many([Call("m", 5, 5, 0.0)] * 1500)
    assert sum(call.actual_ms == 0.0 for call in known.calls()) == 1501
    known.record("m", 5, 1000.0)


def test_of_many_calls_the_first_are_named_in_one_warning(known):
    with pytest.warns(DoubtfulCallWarning) as told:
        known.record_many([Call("m", 5, 5, 0.0)] * 2 + [Call("n", 5, 5, 0.0)] * 1200)
    (one,) = told
    assert "entry 23, took 0 ms" in str(one.message)
    assert "; and 1199 more. They were recorded" in str(one.message)
    assert "void --seq 23 --seq 24 -- m`" in str(one.message)


def test_the_longest_call_so_far_may_be_of_the_same_batch(calibrator):
    calls = [Call("m", 1, 1, 1.0), Call("m", 1, 1, 1999.0), Call("m", 1, 1, 3_900_000.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrator.record_many(calls)
    with pytest.warns(DoubtfulCallWarning, match="entry 3, took more than 2,000 times"):
        calibrator.record_many([Call("n", 1, 1, 1.0), Call("n", 1, 1, 2001.0)])


def test_a_call_recorded_again_is_not_doubted_again(known):
    call = Call("m", 5, 5, 0.0, PAST, "r1")
    with pytest.warns(DoubtfulCallWarning):
        assert known.record_once(call)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not known.record_once(call)[1]


# -- files ------------------------------------------------------------------------------------

HEADER = "model,prompt_tokens,completion_tokens,actual_ms\n"


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(name, rows, header=HEADER):
        path = tmp_path / name
        path.write_text(header + "".join(f"{','.join(map(str, row))}\n" for row in rows))
        return path

    return write


def test_an_import_tells_of_failed_calls_that_took_0_ms(calibrator, write):
    rows = [("m", 550, 1, 0) if i % 15 > 1 else ("m", 550, 150, 3800 + i) for i in range(150)]
    path = write("calls.csv", rows)
    with pytest.warns(DoubtfulCallWarning, match="130 calls with tokens took 0 ms") as told:
        report = calibrator.import_calls("csv", path)
    assert told[0].filename == __file__
    assert (report.recorded, report.doubtful) == (150, 130)
    assert report.doubtful_reasons == (("took 0 ms, and has tokens", 130),)
    assert report.doubtful_lines[0].line == 4
    assert "took 0 ms (the first in line 4). They were recorded." in str(told[0].message)
    assert f"--import {report.import_id}`)" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert calibrator.import_calls("csv", path).already == 150


def test_a_strict_import_takes_such_lines_for_bad_ones(calibrator, write):
    path = write("calls.csv", [("m", 5, 5, 700), ("m", 5, 5, 0), ("m", 5, 5, 1_400_001)])
    with pytest.raises(ImportRefusedError, match="line 3: this call took 0 ms"):
        calibrator.import_calls("csv", path, strict=True)
    report = calibrator.import_calls("csv", path, strict=True, skip_bad=True)
    assert (report.recorded, report.skipped, report.doubtful) == (1, 2, 0)
    with pytest.raises(InvalidInputError, match="strict is for files of calls"):
        calibrator.import_calls("ledger", path, strict=True)


@pytest.mark.parametrize(
    ("scale", "told"),
    [(0.001, "as if actual_ms were in seconds"), (1e6, "in microseconds or"), (1.0, None)],
)
def test_a_file_in_another_unit_is_told_of(calibrator, write, scale, told):
    random.seed(3)
    rows = [("m", 512, 128, random.uniform(900, 5000) * 120 * scale) for _ in range(99)]
    if told is None or scale < 1.0:
        rows = [("m", p, c, ms / 120) for _, p, c, ms in rows]
    path = write("calls.csv", [*rows, *[("m", 5, 5, 0), ("m", 0, 0, 1e9)] * 30])
    with pytest.warns(DoubtfulCallWarning) as caught:
        report = calibrator.import_calls("csv", path)
    assert (report.unit_doubt is None) == (told is None)
    if told is not None:
        assert told in report.unit_doubt
        assert told in str(caught[0].message)
        with pytest.raises(ImportRefusedError, match=told):
            calibrator.import_calls("csv", path, strict=True)
        calibrator.void(None, import_id=report.import_id)


def run_of(seed, count=200):
    rng = random.Random(seed)
    return [("m", 75, 20, f"{round(rng.gauss(1.25, 0.12), 2) * 1000:.0f}") for _ in range(count)]


@pytest.mark.both
def test_equal_rows_of_two_files_without_times_are_two_calls(calibrator, write):
    paths = [write(f"run{seed}.csv", run_of(seed)) for seed in range(3)]
    for done, path in enumerate(paths):
        report = calibrator.import_calls("csv", path)
        assert (report.recorded, report.already, report.known_by_file) == (200, 0, 200)
        assert calibrator.calibration("m").sample_count == 200 * (done + 1)
    for path in paths:
        report = calibrator.import_calls("csv", path)
        assert (report.recorded, report.already) == (0, 200)


@pytest.mark.parametrize("first", [1, 2, 15, 16, 17, 90])
def test_a_file_without_times_that_grew_adds_only_what_is_new(calibrator, write, first):
    calibrator.import_calls("csv", write("other.csv", run_of(7)))
    calibrator.import_calls("csv", write("run.csv", run_of(1, first)))
    report = calibrator.import_calls("csv", write("run.csv", run_of(1, first + 3)))
    assert (report.recorded, report.already) == (3, first)
    path = write("run.csv", run_of(1, first + 3))
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert calibrator.import_calls("csv", packed).recorded == 0


def test_rows_with_times_are_the_same_calls_in_every_file(calibrator, write):
    header = "model,called_at,prompt_tokens,completion_tokens,actual_ms\n"
    rows = [("m", f"2025-05-01T00:00:{i:02d}Z", 75, 20, 1000 + i) for i in range(40)]
    calibrator.import_calls("csv", write("a.csv", rows[:30], header))
    report = calibrator.import_calls("csv", write("b.csv", rows[10:], header))
    assert (report.recorded, report.already, report.known_by_file) == (10, 20, 0)


def test_a_file_that_was_imported_before_files_were_told_apart_is_known(
    calibrator, write, monkeypatch
):
    path = write("run.csv", run_of(1))
    with monkeypatch.context() as before:
        module = sys.modules["calibration_ledger.verbs.import_calls"]
        before.setattr(module, "_file_of", lambda *_: "")
        calibrator.import_calls("csv", path)
    report = calibrator.import_calls("csv", path)
    assert (report.recorded, report.already) == (0, 200)
    assert calibrator.import_calls("csv", write("other.csv", run_of(2))).recorded == 200
    assert {call.request_id.count(":") for call in calibrator.calls()} == {2, 3}


def test_a_command_tells_it_on_stderr_and_refuses_it_strictly(ledger_path, write):
    from click.testing import CliRunner

    from calibration_ledger.cli.main import main

    def calib(*words):
        return CliRunner().invoke(main, ["--ledger", str(ledger_path), *map(str, words)])

    record = ("record", "--prompt-tokens=5", "--actual-ms=0", "--json", "--", "--yes")
    done = calib(*record)
    assert (done.exit_code, "warning" in done.stdout) == (0, False)
    assert "took 0 ms" in done.stderr
    assert f"`calib --ledger {ledger_path} void --seq 2 -- --yes`" in done.stderr
    refused = calib("record", "--strict", *record[1:])
    assert (refused.exit_code, refused.stdout) == (2, "")
    path = write("calls.csv", [("m", 5, 5, 0)])
    assert calib("import", "csv", path, "--strict").exit_code == 2
    done = calib("import", "csv", path)
    assert "1 call took 0 ms, and has tokens" in done.stderr
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() == []
        assert len(list(calibrator.calls())) == 2
