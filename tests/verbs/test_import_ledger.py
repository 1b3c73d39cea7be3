"""A ledger file that does not explain itself, or fits not here, is refused and changes nothing."""

import io
import json

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import ImportRefusedError, NotRecordedError
from support import by_hand
from support.histories import soon
from support.importing import exported


def good():
    """The lines of a ledger with everything in it."""
    with AdaptiveCalibrator(":memory:") as source:
        for i in range(4):
            source.record(
                "a", 5 + i, 100.0 * i, completion_tokens=3, called_at=soon(i), request_id=f"r{i}"
            )
        source.recalibrate(0.4)
        source.record("a", 9, 55.5, called_at=soon(9), details={"ttft_ms": 1.5})
        source.reset("a")
        source.record("b", 1, 1.0, called_at=soon(1))
        return exported(source).splitlines(keepends=True)


GOOD = good()


def edited(line, **fields):
    """The file with fields of one line (from 1) replaced, or left out where they are ...."""
    lines = list(GOOD)
    values = json.loads(lines[line - 1]) | fields
    lines[line - 1] = json.dumps({k: v for k, v in values.items() if v is not ...}) + "\n"
    return "".join(lines)


def test_the_file_itself_is_good(calibrator):
    report = calibrator.import_calls("ledger", io.StringIO("".join(GOOD)))
    assert (report.recorded, report.adjustments, report.models) == (6, 4, 2)


@pytest.mark.parametrize("line", range(1, len(GOOD) + 1))
def test_no_line_can_be_missing(line, refuse, ledger_path):
    refuse("ledger", "".join(GOOD[: line - 1] + GOOD[line:]))
    assert not ledger_path.exists()


@pytest.mark.parametrize("line", range(1, len(GOOD) + 1))
def test_no_line_can_be_there_twice(line, refuse):
    refuse("ledger", "".join(GOOD[:line] + GOOD[line - 1 :]))


@pytest.mark.parametrize("line", range(1, len(GOOD)))
def test_no_two_lines_can_change_places(line, refuse):
    lines = list(GOOD)
    lines[line - 1], lines[line] = lines[line], lines[line - 1]
    refuse("ledger", "".join(lines))


@pytest.mark.parametrize("end", range(1, len(GOOD)))
def test_a_file_that_was_cut_short_is_recognised(end, refuse):
    error = refuse("ledger", "".join(GOOD[:end]))
    assert "cut short" in error.reason
    assert error.line == end


def _changed(value):
    if isinstance(value, bool) or value is None:
        return ["x"]
    if isinstance(value, int):
        return [value + 1, value + 0.5, str(value), None]
    if isinstance(value, float):
        return [value + 1.0, -1.0, str(value), None]
    if isinstance(value, dict):
        return [{**value, "x": 1}, {}, None, "x", [1]]
    flipped = value[:-1] + ("0" if value[-1] != "0" else "1")
    return [flipped, value + "x", "", None]


@pytest.mark.parametrize("line", range(1, len(GOOD) + 1))
def test_no_field_can_change(line, refuse):
    for name, value in json.loads(GOOD[line - 1]).items():
        for change in _changed(value):
            refuse("ledger", edited(line, **{name: change}))
        if value is not None:  # an absent note is as good as null
            refuse("ledger", edited(line, **{name: ...}))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "cut short"),
        ("\n\n", 2, "cut short"),
        ("nonsense\n", 1, "not valid JSON"),
        ('{"model":"m","prompt_tokens":1}\n', 1, "the kind `jsonl` or `csv`"),
        ('{"ledger":"calibration-ledger/2"}\n', 1, "begins with"),
        ("".join([*GOOD, "{}\n"]), len(GOOD) + 1, "behind the end"),
        (edited(2, extra=1), 2, "'extra' unknown"),
        (edited(3, extra=1), 3, "'extra' unknown"),
        (edited(3, actual_ms=...), 3, "actual_ms missing"),
        (edited(2, entry="closed"), 2, "entry must be call, opened"),
        (edited(2, entry=["call"]), 2, "entry must be call, opened"),
        (edited(2, rule="ema.9"), 2, "does not know the rule 'ema.9'"),
        (edited(2, rule_state="00"), 2, "rule_state"),
        (edited(2, rule_state=7), 2, "rule_state"),
        (edited(2, sample_count=2**60), 2, "sample_count"),
        (edited(2, alpha=0), 2, "alpha"),
        (edited(2, recorded_at="2025-01-01T00:00:00"), 2, "no time zone"),
        (edited(2, note=""), 2, "note must not be empty"),
        (edited(3, predicted_ms=1e999), 3, "Infinity"),
        (edited(3, predicted_ms=1.0), 3, "prediction: expected 326.5 ms, found 1.0 ms"),
        (edited(3, seq=True), 3, "seq must be a whole number"),
        (edited(3, details="[1]"), 3, "details must be an object"),
        (edited(4, request_id="r0"), 4, "the request id 'r0' of the model 'a' is there twice"),
        (edited(7, alpha=0.41), 7, "recalibrated"),
        (edited(10, head="0" * 64), 10, "not the head of the entries above"),
        (edited(10, head="0" * 63), 10, "64 hexadecimal digits"),
        (edited(10, head=None), 10, "64 hexadecimal digits"),
        (edited(10, seq=7), 10, "stands behind entry"),
        (edited(10, model="b"), 10, "stands behind entry"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text, line, said, refuse):
    error = refuse("ledger", text)
    assert error.line == line
    assert said in error.reason
    assert "Nothing was recorded" in error.reason


def test_a_consistent_forgery_needs_all_the_arithmetic(refuse):
    """A changed time changes no number; the head alone gives it away."""
    error = refuse("ledger", edited(3, called_at="2025-05-01T00:00:00.000001Z"))
    assert (error.line, "not the head" in error.reason) == (10, True)


# -- what is in the ledger already --------------------------------------------------------------


@pytest.fixture
def source():
    with AdaptiveCalibrator(":memory:") as opened:
        for i in range(5):
            opened.record("a", i, 10.0, called_at=soon(i))
            opened.record("b", i, 10.0, called_at=soon(i))
        yield opened


def import_text(calibrator, text):
    return calibrator.import_calls("ledger", io.StringIO(text))


def test_another_history_of_a_model_is_refused_by_name_and_nothing_changes_for_any(
    source, calibrator
):
    calibrator.record("b", 1, 1.0)  # of the same name, with another life
    before = calibrator.heads()
    with pytest.raises(ImportRefusedError, match=r"'b': the ledger .* each with --model\."):
        import_text(calibrator, exported(source))
    assert calibrator.heads() == before
    assert import_text(calibrator, exported(source, model="a")).models_opened == 1


def test_a_history_that_parted_ways_is_refused_whichever_is_longer(source, calibrator):
    import_text(calibrator, exported(source))
    calibrator.record("a", 7, 1.0)
    source.record("a", 8, 1.0)
    for _ in range(3):  # as long, then shorter here, then shorter there
        with pytest.raises(ImportRefusedError, match="'a': the ledger"):
            import_text(calibrator, exported(source))
        source.record("a", 8, 1.0)
    for _ in range(6):
        calibrator.record("a", 7, 1.0)
    with pytest.raises(ImportRefusedError, match="'a': the ledger"):
        import_text(calibrator, exported(source))


def test_an_older_export_finds_everything_there(source, calibrator):
    text = exported(source)
    source.recalibrate(0.5)
    source.record("a", 1, 1.0)
    source.reset()
    import_text(calibrator, exported(source))
    heads = calibrator.heads()
    report = import_text(calibrator, text)
    assert (report.already, report.recorded, report.models_unchanged) == (10, 0, 2)
    assert calibrator.heads() == heads


def test_many_models_of_another_history_are_named_up_to_a_few(calibrator):
    with AdaptiveCalibrator(":memory:") as other:
        for i in range(9):
            calibrator.record(f"m{i}", 1, 1.0)
            other.record(f"m{i}", 2, 1.0)
        with pytest.raises(ImportRefusedError, match=r"'m0', .*, 'm4' and 4 more: the ledger"):
            import_text(calibrator, exported(other))


@pytest.mark.parametrize("known", [False, True])
def test_a_model_that_others_write_to_meanwhile_stops_the_import(
    known, calibrator, ledger_path, tmp_path
):
    with AdaptiveCalibrator(":memory:") as source:
        source.record("a", 1, 1.0)
        if known:
            import_text(calibrator, exported(source))
        source.record_many(
            {"model": "a", "prompt_tokens": 1, "completion_tokens": 1, "actual_ms": float(i)}
            for i in range(3000)
        )
        text = exported(source)
    told = []
    with AdaptiveCalibrator(ledger_path) as second:

        def meddle(steps):
            told.append(steps)
            if sum(told) == 3001 + 1000:
                second.record("a", 1, 1.0)

        (tmp_path / "l.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(NotRecordedError, match="'a' was written to while its import ran") as e:
            calibrator.import_calls("ledger", tmp_path / "l.jsonl", progress=meddle)
        assert "1000 entries of" in str(e.value)


def test_a_model_that_appears_meanwhile_stops_the_import(calibrator, ledger_path, source):
    told = []
    with AdaptiveCalibrator(ledger_path) as second:

        def meddle(steps):
            told.append(steps)
            if len(told) == 2:  # all is read, and the model a is recorded
                second.record("b", 1, 1.0)

        with pytest.raises(NotRecordedError, match="'b' was written to"):
            calibrator.import_calls("ledger", io.StringIO(exported(source)), progress=meddle)
    assert [(head.model, head.seq) for head in calibrator.heads()] == [("a", 6), ("b", 2)]


def test_a_damaged_history_here_is_not_continued(source, tmp_path):
    path = tmp_path / "damaged.db"
    with AdaptiveCalibrator(path) as damaged:
        text = exported(source)
        import_text(damaged, text)
        damaged.record("a", 1, 1.0)
        by_hand.edited(path, "UPDATE calls SET called_at = called_at + 1 WHERE seq = 3")
        with pytest.raises(ImportRefusedError, match="'a': the ledger"):
            import_text(damaged, text)
