"""What readers of formats give, and what the import makes of it."""

import json
import pickle
from datetime import UTC, datetime

import pytest

from calibration_ledger import Call, ImportRefusedError, InvalidInputError, Skip
from calibration_ledger.core.validation import check_time
from calibration_ledger.formats import registry
from calibration_ledger.formats.base import Format
from calibration_ledger.formats.json_text import load_json
from calibration_ledger.formats.row import BadRow, check_row, checked_row
from support.importing import HEADER, json_row

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
AT_US = check_time("at", AT)
VALUES = {"model": "m", "prompt_tokens": 10, "completion_tokens": 20, "actual_ms": 300.5}


@pytest.fixture(name="give")
def _give(monkeypatch, calibrator, tmp_path):
    """Import these items as those of a tool's format."""
    path = tmp_path / "file"
    path.touch()

    def give(*items, kind="module", **options):
        form = Format("tool", "things", kind, lambda _: enumerate(items, 1))
        monkeypatch.setattr(registry, "_MODULES", (form,))
        return calibrator.import_calls("tool", path, **options)

    return give


@pytest.mark.both
def test_calls_mappings_and_rows_are_calls_and_skips_are_counted(give, calibrator):
    report = give(
        VALUES | {"called_at": AT_US},
        VALUES | {"called_at": AT, "actual_ms": 301.5},
        VALUES | {"called_at": AT.isoformat(), "actual_ms": 302.5},
        Call("m", 10, 20, 303.5, called_at=AT, request_id="r", details={"ttft_ms": 3}),
        checked_row("m", AT_US, 10, 20, 304.5, "s", {"ttft_ms": 4, "clock": None}),
        Skip("failed"),
        Skip("cached"),
        Skip("failed"),
        Call("m", 10, 0, 9000.0, called_at=AT, outcome="timeout"),
        VALUES | {"completion_tokens": None, "actual_ms": 9001.0, "outcome": "timeout"},
        Call("m", 10, 20, 305.5, called_at=AT, voided=True),
    )
    assert (report.recorded, report.timeouts, report.voided) == (7, 2, 1)
    assert report.left_out == (("failed", 2), ("cached", 1))
    assert report.to_dict()["left_out"] == {"failed": 2, "cached": 1}
    calls = list(calibrator.calls("m"))
    assert {call.called_at for call in calls[:-1]} == {AT}
    assert [call.actual_ms for call in calls] == [
        *[300.5, 301.5, 302.5, 303.5, 304.5],
        *[9000.0, 9001.0],
    ]
    assert [dict(call.details).get("ttft_ms") for call in calls] == [
        *[None, None, None, 3, 4],
        *[None, None],
    ]


def test_one_id_twice_in_one_record_of_a_document_is_one_call(calibrator, monkeypatch, tmp_path):
    values = VALUES | {"request_id": "r"}
    again = values | {"called_at": AT, "details": {"ttft_ms": 3}}
    form = Format("tool", "things", "module", lambda _: [(1, again), (1, values)])
    monkeypatch.setattr(registry, "_MODULES", (form,))
    (tmp_path / "file").touch()
    report = calibrator.import_calls("tool", tmp_path / "file")
    assert (report.recorded, report.already, report.left_out) == (1, 0, (("duplicate", 1),))


def test_what_another_tool_does_not_say_is_a_skip_and_in_our_own_file_a_bad_line(give, take):
    report = give(
        VALUES,
        VALUES | {"model": None},
        {key: value for key, value in VALUES.items() if key != "prompt_tokens"},
        VALUES | {"completion_tokens": None},
        VALUES | {"actual_ms": None},
    )
    assert report.recorded == 1
    assert dict(report.left_out) == {
        "unknown tokens": 2,
        "unknown model": 1,
        "unknown duration": 1,
    }
    with pytest.raises(ImportRefusedError, match="completion_tokens is missing"):
        take("jsonl", json_row(completion_tokens=...))


def test_a_file_of_nothing_but_skips_makes_no_ledger(give, ledger_path):
    report = give(Skip("failed"), Skip("timeout"))
    assert (report.recorded, report.models, report.import_id) == (0, 0, None)
    assert not ledger_path.exists()


def test_a_bad_row_of_another_tool_stops_the_import_unless_it_is_skipped(give, ledger_path):
    items = [VALUES, BadRow("it is damaged"), VALUES | {"actual_ms": -1.0}]
    with pytest.raises(ImportRefusedError, match="it is damaged") as caught:
        give(*items)
    assert caught.value.line == 2
    assert not ledger_path.exists()
    report = give(*items, skip_bad=True)
    assert (report.recorded, report.skipped) == (1, 2)


def test_a_whole_number_is_a_time_for_a_reader_of_ours_and_for_no_file(give, take):
    assert give(VALUES | {"called_at": AT_US}).recorded == 1
    with pytest.raises(ImportRefusedError, match="called_at must be a time"):
        give(VALUES | {"called_at": AT_US}, kind="third party")
    with pytest.raises(ImportRefusedError, match="called_at must be a time"):
        take("jsonl", json_row(called_at=AT_US))


# -- the model of calls that name none ------------------------------------------------------


def test_a_model_is_given_to_the_calls_that_name_none_and_to_no_others(give, calibrator):
    report = give(VALUES | {"model": None}, VALUES | {"actual_ms": 1.5}, model="mine")
    assert (report.recorded, report.left_out) == (2, ())
    assert [(call.model, call.actual_ms) for call in calibrator.calls()] == [
        ("m", 1.5),
        ("mine", 300.5),
    ]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("jsonl", json_row(model=...) + json_row(actual_ms=1.5)),
        ("csv", "prompt_tokens,completion_tokens,actual_ms\n100,20,900.5\n"),
        ("csv", f"{HEADER}\n,100,20,900.5\nm,100,20,1.5\n"),
    ],
)
@pytest.mark.parametrize("auto", [False, True])
def test_our_own_files_may_leave_the_model_to_the_user(auto, kind, content, take, calibrator):
    kind = "auto" if auto else kind
    with pytest.raises(ImportRefusedError):
        take(kind, content)
    report = take(kind, content, model="mine")
    assert report.recorded == content.count("\n") - (kind == "csv" or content[0] != "{")
    assert next(call.actual_ms for call in calibrator.calls("mine")) == 900.5


@pytest.mark.parametrize("model", ["", " m", "a\nb", 3])
def test_a_model_that_can_be_none_is_refused(model, take):
    with pytest.raises(InvalidInputError, match="model must"):
        take("jsonl", json_row(), model=model)


# -- request ids ----------------------------------------------------------------------------


def test_a_call_that_a_tool_tells_twice_counts_once(give, calibrator):
    call = VALUES | {"called_at": AT_US, "request_id": "r"}
    report = give(call, call, VALUES | {"called_at": AT_US, "request_id": "s"})
    assert (report.recorded, report.already, report.left_out) == (2, 0, (("duplicate", 1),))
    assert give(call).already == 1
    assert calibrator.audit() == []


def test_a_tools_id_with_other_numbers_is_a_duplicate_and_in_our_own_file_a_bad_line(give, take):
    """The tool gave the call its id, so it is the same; nobody can mend a tool's file."""
    call = VALUES | {"called_at": AT, "request_id": "r"}
    report = give(call, call | {"actual_ms": 301.0})
    assert (report.recorded, report.left_out) == (1, (("duplicate", 1),))
    report = give(call | {"actual_ms": 302.0})  # a hook may have seen it, by a clock of its own
    assert (report.recorded, report.left_out) == (0, (("duplicate", 1),))
    assert give(call | {"actual_ms": 303.0}, kind="recipe").left_out == (("duplicate", 1),)
    with pytest.raises(ImportRefusedError, match="other numbers"):
        give(call | {"actual_ms": 303.0}, kind="third party")
    with pytest.raises(ImportRefusedError, match="other numbers"):
        take("jsonl", json_row(request_id="x") + json_row(request_id="x", actual_ms=1.0))


# -- the same file again, and files that say the same ---------------------------------------


@pytest.mark.parametrize("fields", [{}, {"called_at": AT_US}, {"request_id": ...}])
def test_a_file_that_has_grown_by_three_adds_three(fields, give, calibrator):
    def items(count):
        for number in range(count):
            given = {"request_id": f"r{number}"} if "request_id" in fields else fields
            yield VALUES | given | {"actual_ms": 100.0 + number % 4}

    assert give(*items(30)).recorded == 30
    report = give(Skip("failed"), *items(33))
    assert (report.recorded, report.already) == (3, 30)
    assert give(*items(33)).recorded == 0
    assert calibrator.audit() == []


@pytest.mark.both
def test_equal_calls_of_two_files_without_times_are_two_calls(give, calibrator):
    first = [VALUES | {"actual_ms": 1.0}] + [VALUES] * 20
    second = [VALUES | {"actual_ms": 2.0}] + [VALUES] * 20
    assert give(*first).recorded == 21
    report = give(*second)
    assert (report.recorded, report.known_by_file, report.models_extended) == (21, 21, 1)
    assert give(*first).recorded == give(*second).recorded == 0
    assert calibrator.audit() == []


def test_calls_are_learnt_in_the_order_of_their_times(give, calibrator):
    times = [AT_US + offset for offset in (5, 1, 4, 2, 3)]
    give(*(VALUES | {"called_at": at, "actual_ms": float(at - AT_US)} for at in times))
    assert [call.actual_ms for call in calibrator.calls("m")] == [1.0, 2.0, 3.0, 4.0, 5.0]


# -- a dry run ------------------------------------------------------------------------------


def test_a_dry_run_shows_what_would_be_recorded_and_records_nothing(give, calibrator, ledger_path):
    items = [
        VALUES | {"called_at": AT_US + 10, "actual_ms": 10.0},
        VALUES | {"called_at": AT_US, "actual_ms": 40.0, "details": {"ttft_ms": 1}},
        VALUES | {"called_at": AT_US + 20, "actual_ms": 20.0, "request_id": "r"},
        VALUES | {"called_at": AT_US + 30, "actual_ms": 60.0},
        VALUES | {"model": "n"},
        Skip("failed"),
    ]
    report = give(*items, dry_run=True)
    assert not ledger_path.exists()
    assert (report.recorded, report.models, report.models_opened) == (5, 2, 2)
    assert (report.import_id, report.left_out) == (None, (("failed", 1),))
    of_m, of_n = report.preview.models
    assert of_m[:2] == ("m", 4)
    assert (of_m.first_at, of_m.last_at) == (AT, AT.replace(microsecond=678931))
    assert (of_m.prompt_tokens, of_m.completion_tokens, of_m.median_ms) == (40, 80, 30.0)
    assert of_n == ("n", 1, None, None, 10, 20, 300.5)
    assert [call.actual_ms for call in report.preview.calls] == [40.0, 10.0, 20.0, 60.0, 300.5]
    assert [call.request_id for call in report.preview.calls] == [None, None, "r", None, None]
    assert report.preview.calls[0].details == {"ttft_ms": 1}
    assert json.dumps(report.to_dict())

    give(*items[:2])
    heads = calibrator.heads()
    again = give(*items, dry_run=True)
    assert (again.recorded, again.already, again.models_opened) == (3, 2, 1)
    assert [one.calls for one in again.preview.models] == [2, 1]
    assert calibrator.heads() == heads
    assert give(*items).recorded == again.recorded


def test_a_dry_run_refuses_what_an_import_would_refuse(give, take, ledger_path):
    with pytest.raises(ImportRefusedError, match="actual_ms"):
        give(VALUES | {"actual_ms": -1.0}, dry_run=True)
    with pytest.raises(InvalidInputError, match="dry_run is for files of calls"):
        take("ledger", "", dry_run=True)
    assert not ledger_path.exists()


# -- rows -----------------------------------------------------------------------------------


def test_a_reader_makes_the_same_row_as_the_check_of_a_line():
    details = {"ttft_ms": 80.5, "clock": "server", "queue_ms": None}
    made = checked_row("m", AT_US, 10, 20, -0.0, "r", details, "timeout")
    told = VALUES | {"called_at": AT.isoformat(), "actual_ms": 0.0, "request_id": "r"}
    assert made == check_row(told | {"details": details, "outcome": "timeout"})
    assert checked_row("m", None, 1, 2, 3.0) == check_row(
        {"model": "m", "prompt_tokens": 1, "completion_tokens": 2, "actual_ms": 3.0}
    )


@pytest.mark.parametrize(
    "values",
    [
        ("", 0, 1, 2, 3.0),
        (" m", 0, 1, 2, 3.0),
        ("m", -1, 1, 2, 3.0),
        ("m", 2**62, 1, 2, 3.0),
        ("m", 0, -1, 2, 3.0),
        ("m", 0, 1, 2**31, 3.0),
        ("m", 0, 1, 2, float("nan")),
        ("m", 0, 1, 2, -1.0),
        ("m", 0, 1, 2, 3.0, ""),
        ("m", 0, 1, 2, 3.0, None, {"a": float("inf")}),
    ],
)
def test_a_reader_makes_no_row_of_what_cannot_be(values):
    with pytest.raises(InvalidInputError):
        checked_row(*values)


def test_json_of_other_tools_may_have_what_ours_may_not():
    assert load_json('{"a":1,"a":2}') == {"a": 2}
    assert load_json('{"a":NaN}')["a"] != 0
    for text in ("{", "[" * 100_000, '{"a":' + "1" * 5_000 + "}"):
        with pytest.raises(InvalidInputError):
            load_json(text)


# -- where something is wrong ---------------------------------------------------------------


def test_an_error_names_a_line_where_there_are_lines_and_a_record_where_there_are_none(take):
    rows = [VALUES, VALUES | {"actual_ms": -1.0}]
    with pytest.raises(ImportRefusedError, match=r"jsonl, line 2: .* mend the line") as caught:
        take("jsonl", "\n".join(map(json.dumps, rows)))
    assert (caught.value.line, caught.value.unit) == (2, "line")
    with pytest.raises(ImportRefusedError, match=r"jsonl, record 2: .* mend the record") as caught:
        take("jsonl", json.dumps(rows, indent=2))
    assert (caught.value.line, caught.value.unit) == (2, "record")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - ours
    report = take("jsonl", json.dumps(rows), skip_bad=True)
    assert (report.unit, report.skipped_lines[0].line) == ("record", 2)
