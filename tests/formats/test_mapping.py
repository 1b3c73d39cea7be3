"""The language of maps: paths, units, times and conditions."""

import contextlib
import io
import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.errors import ImportRefusedError, InvalidInputError
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.mapping import parse_condition, parse_map, parse_path
from calibration_ledger.formats.recipe import map_rows
from calibration_ledger.formats.records import milliseconds, name_in
from calibration_ledger.formats.row import BadRow, Row
from calibration_ledger.formats.source import open_input

PLAIN = ["model=m", "prompt_tokens=p", "completion_tokens=c", "actual_ms=t"]
COLUMNS = {
    "model": "req.model",
    "prompt_tokens": "usage.input_tokens",
    "completion_tokens": "usage.output_tokens",
    "actual_ms": "took_s:s",
    "called_at": "ts",
    "request_id": "id",
}
ROW = {"m": "a", "p": 3, "c": 4, "t": 5.5}


def read(content, items, where=(), *, model=None, is_csv=None):
    """The items of a file, and what is said of it."""
    text = content if isinstance(content, str) else json.dumps(content)
    with open_input(io.BytesIO(text.encode()), None, None, model) as file:
        rows = [item for _, item in map_rows(parse_map(items, where), file, is_csv=is_csv)]
        return rows, file.said


def row(content, items=PLAIN, *where, **options):
    rows, _ = read(content, items, where, **options)
    assert len(rows) == 1
    return rows[0]


def test_a_map_names_each_column_where_it_lies():
    record = {
        "req": {"model": "m"},
        "usage": {"input_tokens": 5, "output_tokens": 7},
        "took_s": 0.1875,
        "ts": "2025-01-31T12:00:00Z",
        "id": 17,
        "ok": True,
    }
    items = [f"{column}={path}" for column, path in COLUMNS.items()]
    found = row(record, items, "ok=true")
    assert found == Row("m", 1_738_324_800_000_000, 5, 7, 187.5, "17", None)


# -- paths ----------------------------------------------------------------------------------

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\'), min_size=1)


@given(st.lists(KEYS, min_size=1, max_size=4), st.integers())
def test_any_key_is_found_by_its_name_in_quotes(keys, value):
    record = value
    for key in reversed(keys):
        record = {key: record}
    path = parse_path(".".join(f'"{key}"' for key in keys))
    assert path.getter()(record, ()) == value
    assert path.is_in(record, ())
    assert parse_path(str(path)) == path


@given(st.lists(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), min_size=1, max_size=4), st.data())
def test_a_path_finds_its_value_however_dots_are_spread_over_keys(names, data):
    cuts = [data.draw(st.booleans()) for _ in names[1:]]
    keys = [names[0]]
    for name, is_cut in zip(names[1:], cuts, strict=True):
        if is_cut:
            keys.append(name)
        else:
            keys[-1] += f".{name}"
    record = 7
    for key in reversed(keys):
        record = {key: record}
    assert parse_path(".".join(names)).getter()(record, ()) == 7


def test_a_key_with_dots_comes_before_the_path_that_reads_the_same():
    record = {**ROW, "p.q": 1, "p": {"q": 2}}
    assert row(record, ["prompt_tokens=p.q", *PLAIN[:1], *PLAIN[2:]]).prompt_tokens == 1
    quoted = ['prompt_tokens="p"."q"', *PLAIN[:1], *PLAIN[2:]]
    assert row(record, quoted).prompt_tokens == 2


def test_the_first_alternative_that_is_there_counts_and_null_is_not_there():
    items = ["model=x|m", *PLAIN[1:3], "actual_ms=u|t"]
    assert row({**ROW, "u": None}, items).actual_ms == 5.5
    assert row({**ROW, "u": 0, "x": "b"}, items)[0:5:4] == ("b", 0.0)


def test_a_sum_needs_its_first_part_and_adds_those_that_are_there():
    items = ["prompt_tokens=p+cache.read+cache.write", PLAIN[0], *PLAIN[2:]]
    assert row({**ROW, "cache": {"read": 10, "write": None}}, items).prompt_tokens == 13
    assert row({**ROW, "cache": {"read": 10, "write": 20}}, items).prompt_tokens == 33
    other = {**ROW, "cache": {"read": 10, "write": 20}}
    del other["p"]
    rows, _ = read([other, {**other, "p": 1}], items)
    assert rows[0] == Skip("unknown tokens")  # what is absent is no zero
    assert rows[1].prompt_tokens == 31


RUNS = {
    "tool": {"model": "a"},
    "runs": [
        {"tag": "x", "calls": [{"p": 1, "c": 2, "t": 3}, {"p": 2, "c": 2, "t": 3}]},
        {"tag": "y", "calls": [{"p": 3, "c": 2, "t": 3}]},
        {"tag": "z"},
    ],
}


def test_brackets_make_a_record_of_every_element_and_what_is_around_it_is_seen():
    items = [
        "model=tool.model",
        *(f"{name}=runs[].calls[].{key}" for name, key in (
            ("prompt_tokens", "p"), ("completion_tokens", "c"), ("actual_ms", "t"))),
        "details.tag=runs[].tag",
    ]  # fmt: skip
    rows, _ = read(RUNS, items)
    assert [(one.prompt_tokens, one.details) for one in rows] == [
        (1, '{"tag":"x"}'),
        (2, '{"tag":"x"}'),
        (3, '{"tag":"y"}'),
    ]
    outside = ["model=^.^.tool.model", *items[1:4], "details.tag=^.tag"]
    assert read(RUNS, outside)[0] == rows
    assert read([RUNS, RUNS], outside)[0] == rows * 2


def test_records_of_two_lists_are_refused():
    with pytest.raises(InvalidInputError, match=r"two lists, b\[\] and a\[\]"):
        parse_map(["model=a[].x", "prompt_tokens=b[].y"])


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (["modell=m"], "no column 'modell': did you mean 'model'"),
        (["details.=m"], "no column 'details.'"),
        (["model"], "write COLUMN=PATH"),
        (["model="], "write COLUMN=PATH"),
        (["=m"], "no column ''"),
        ([], "the map is empty"),
        (["model=a", "model=b"], "names model twice"),
        (["actual_ms=t:sec"], "':sec' is no unit: actual_ms knows :s, :ms, :us, :ns"),
        (["actual_ms=t:end"], "is no unit"),
        (["actual_ms=t:s:ms"], "two units"),
        (["prompt_tokens=p:s"], "prompt_tokens has no unit"),
        (["called_at=t:utcc"], "did you mean 'utc'"),
        (["model=a..b"], "a key is missing"),
        (["model=a|"], "a key is missing"),
        (["model=^"], "a key is missing"),
        (["model=a[0]"], "is no path"),
        (["model=" + "a." * 20_000 + "a"], "is longer than 1000 characters"),
        (["model=a+b"], "has no sum"),
        (["called_at=a+b"], "has no sum"),
    ],
)
def test_a_map_that_is_none_is_refused_with_what_is_wrong_in_it(items, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_map(items)
    assert said in str(caught.value)


@given(st.text(max_size=20), st.sampled_from(["model", "actual_ms", "called_at", "details.x"]))
def test_any_text_is_a_source_or_a_typed_error(text, column):
    with contextlib.suppress(InvalidInputError):
        parse_map([f"{column}={text}"])


@given(st.text(max_size=20), st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_any_text_is_a_condition_or_a_typed_error(text, value):
    try:
        condition = parse_condition(text)
    except InvalidInputError:
        return
    assert condition.holds(value) in {True, False}


def test_a_path_that_no_record_has_is_refused_with_the_nearest_one():
    items = [*PLAIN, "details.ttft_ms=usage.tfft"]
    with pytest.raises(ImportRefusedError, match=r"usage\.tfft.*did you mean 'usage\.ttft'"):
        read({**ROW, "usage": {"ttft": 1}}, items)
    with pytest.raises(ImportRefusedError, match=r"the condition okk=true.*'ok'"):
        read({**ROW, "ok": True}, PLAIN, ["okk=true"])
    with pytest.raises(ImportRefusedError, match=r"nothing at runz\[\].*tool, runs"):
        read(RUNS, ["model=^.tool.model", *(one.replace("=", "=runz[].") for one in PLAIN[1:])])
    rows, _ = read([{**ROW, "u": None}], [*PLAIN, "details.u=u"])  # it is there, without a value
    assert rows[0].details is None


# -- numbers and units ----------------------------------------------------------------------


@given(st.integers(0, 10**9))
def test_whole_milliseconds_come_out_of_every_unit(ms):
    assert milliseconds(ms, None, "x") == milliseconds(ms, "ms", "x") == ms
    assert milliseconds(ms * 1_000, "us", "x") == ms
    assert milliseconds(ms * 1_000_000, "ns", "x") == ms
    assert math.isclose(milliseconds(ms / 1_000, "s", "x"), ms)
    assert milliseconds({"value": ms * 1_000, "unit": "us"}, None, "x") == ms
    assert milliseconds({"value": str(ms), "unit": "ms"}, None, "x") == ms


def test_a_unit_counts_for_the_paths_before_it_that_have_none():
    items = [*PLAIN[:3], "actual_ms=a|b:s"]
    assert row({**ROW, "a": 2}, [*items[:3], "actual_ms=a|t:s"]).actual_ms == 2_000
    mixed = [*PLAIN[:3], "actual_ms=a:ms|t:s"]
    assert row({**ROW, "a": 2}, mixed).actual_ms == 2
    assert row([{**ROW, "t": 2}], [*mixed[:3], "actual_ms=t:s"]).actual_ms == 2_000
    assert row({**ROW, "a": 1, "b": 2}, [*items[:3], "actual_ms=a+b:s"]).actual_ms == 3_000


@pytest.mark.parametrize("value", ["x", "", "1,5", [], {}, True, "1e999"])
def test_what_is_no_duration_is_a_bad_row(value):
    assert isinstance(row({**ROW, "t": value}), BadRow)


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_duration_that_is_not_known_is_skipped(value):
    lenient = json.dumps({**ROW, "t": value}).replace("NaN", "null")
    assert row(lenient) == Skip("unknown duration")


@pytest.mark.parametrize("value", [1.5, "x", True, [], -1, 2**31])
def test_what_is_no_count_is_a_bad_row(value):
    assert isinstance(row({**ROW, "p": value}), BadRow)


@pytest.mark.parametrize("value", [3.0, "3", "3.0", {"value": 3, "unit": "tokens"}])
def test_a_count_may_be_written_in_many_ways(value):
    assert row({**ROW, "p": value}).prompt_tokens == 3


# -- times ----------------------------------------------------------------------------------

TIMES = st.datetimes(datetime(2001, 9, 10), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis asks for bounds without a zone
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(TIMES)
def test_a_time_comes_out_of_every_way_to_write_it(time):
    us = (time - EPOCH) // timedelta(microseconds=1)
    for value, flags in (
        (time.isoformat(), ""),
        (time.astimezone(UTC).replace(tzinfo=None).isoformat(), ":utc"),
        (us, ":us"),
        (us, ""),
        (us * 1_000, ":ns"),
        (us * 1_000, ""),
    ):
        assert row({**ROW, "ts": value}, [*PLAIN, f"called_at=ts{flags}"]).called_at == us
    whole = us // 1_000_000
    for value, flags in ((whole, ":s"), (whole, ""), (whole * 1_000, ":ms"), (whole * 1_000, "")):
        found = row({**ROW, "ts": value}, [*PLAIN, f"called_at=ts{flags}"])
        assert found.called_at == whole * 1_000_000


def test_the_end_of_a_call_is_set_back_by_its_duration():
    end = {**ROW, "t": 1_500, "ts": 1_738_324_801_500}
    assert row(end, [*PLAIN, "called_at=ts:ms:end"]).called_at == 1_738_324_800_000_000
    text = {**end, "ts": "2025-01-31T12:00:01.5"}
    assert row(text, [*PLAIN, "called_at=ts:end:utc"]).called_at == 1_738_324_800_000_000
    start = {**end, "t0": "2025-01-31T12:00:00Z"}
    assert row(start, [*PLAIN, "called_at=t0|ts:ms:end"]).called_at == 1_738_324_800_000_000


def test_the_import_says_how_it_read_a_bare_number_and_holds_on_to_it():
    rows, said = read([{**ROW, "ts": 1_738_324_800}], [*PLAIN, "called_at=ts"])
    assert said == ["called_at from ts, in s since 1970 by its size"]
    mixed = [{**ROW, "ts": 1_738_324_800}, {**ROW, "ts": 1_738_324_800_000}]
    rows, _ = read(mixed, [*PLAIN, "called_at=ts"])
    assert "where the times before it are s" in rows[1].reason


@pytest.mark.parametrize("value", [0, 1234.5, 99_999_999, 10**20])
def test_a_number_of_which_nobody_can_tell_what_it_counts_is_a_bad_row(value):
    found = row({**ROW, "ts": value}, [*PLAIN, "called_at=ts"])
    assert "called_at=ts:s or :ms" in found.reason


def test_a_time_without_a_zone_is_refused_with_the_way_to_say_that_it_is_utc():
    found = row({**ROW, "ts": "2025-01-31 12:00"}, [*PLAIN, "called_at=ts"])
    assert "called_at=ts:utc" in found.reason
    found = row({**ROW, "ts": "2025-01-31 12:00"}, [*PLAIN, "called_at=ts:end"])
    assert "called_at=ts:end:utc" in found.reason


# -- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("openai:chat:gpt-4o-mini", "gpt-4o-mini"),
        ("openai:gpt-4o-mini", "gpt-4o-mini"),
        ("anthropic:messages:claude-x", "claude-x"),
        ("ollama:chat:llama3:8b", "llama3:8b"),
        ("ollama:llama3:8b", "llama3:8b"),
        ("openrouter:openai/gpt-oss-20b", "openai/gpt-oss-20b"),
        ("gpt-4o", "gpt-4o"),
        ("https://host.example/v1", None),
        ("file://provider.js", None),
    ],
)
def test_a_models_name_is_taken_out_of_the_id_of_its_provider(text, name):
    assert name_in(text) == name
    found = row([{**ROW, "m": text}, ROW][:1], ["model=m:name", *PLAIN[1:]], model="else")
    assert found.model == name or name is None


def test_calls_of_which_no_one_names_a_model_ask_for_it():
    with pytest.raises(ImportRefusedError, match="--model NAME"):
        read({**ROW, "m": None}, PLAIN)
    with pytest.raises(ImportRefusedError, match="the map names no model"):
        read(ROW, PLAIN[1:])
    assert row(ROW, PLAIN[1:], model="b").model == "b"
    rows, _ = read([{**ROW, "m": None}, ROW], PLAIN)
    assert rows[0] == Skip("unknown model")


# -- conditions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("x=true", True, True),
        ("x=true", "True", True),
        ("x=true", 1, False),
        ("x=false", False, True),
        ("x=false", None, False),
        ("x=null", None, True),
        ("x=null", 0, False),
        ("x!=null", "e", True),
        ("x=200", 200, True),
        ("x=200", "200", True),
        ("x=1", True, False),
        ("x=200|201", 201, True),
        ("x!=200|201", 201, False),
        ("x=stop", "stop", True),
        ("x=stop|", None, True),
        ("x!=true", None, True),
        ('x="true"', True, False),
        ('x="a|b"', "a|b", True),
        ("x=", "", True),
        ("x=a=b", "a=b", True),
    ],
)
def test_a_condition_says_what_a_record_must_say(text, value, holds):
    assert parse_condition(text).check()({"x": value}, ()) is holds
    if value is None:
        assert parse_condition(text).check()({}, ()) is holds


def test_records_that_a_condition_leaves_out_are_counted():
    rows, said = read([{**ROW, "ok": one} for one in (True, False, True)], PLAIN, ["ok=true"])
    assert len(rows) == 2
    assert said == ["1 of 3 records left out by a condition"]


# -- CSV ------------------------------------------------------------------------------------


def test_a_table_of_texts_is_read_by_the_same_map():
    text = "m;p;c;t;ts;flag;n\na;3;4;1900,5;2025-01-31 12:00:00;True;007\n\n"
    found = row(text, [*PLAIN, "called_at=ts:utc", "details.flag=flag", "details.n=n"])
    assert found.actual_ms == 1900.5
    assert found.called_at == 1_738_324_800_000_000
    assert found.details == '{"flag":true,"n":"007"}'
    assert row("m\tp\tc\tt\na\t3\t4\t5.5\n").actual_ms == 5.5


def test_a_number_whose_comma_may_stand_between_thousands_is_a_bad_row():
    assert "with a point" in row("m;p;c;t\na;3;4;190,125\n").reason
    assert row("m;p;c;t\na;3;4;1900,125\n").actual_ms == 1900.125
    assert row("m;p;c;t\na;3;4;0,125\n").actual_ms == 0.125


def test_a_table_without_a_column_of_the_map_is_refused_also_without_rows():
    with pytest.raises(ImportRefusedError, match="no record has p, which"):
        read("m,pp,c,t\n", PLAIN, is_csv=True)


def test_a_map_without_what_a_call_needs_is_refused():
    with pytest.raises(ImportRefusedError, match="names no completion_tokens and no actual_ms"):
        read(ROW, PLAIN[:2])


@pytest.mark.parametrize("value", [1e306, 10**400, -5, 1e13])
def test_a_time_or_a_duration_beyond_all_bounds_is_a_bad_row(value):
    text = json.dumps({**ROW, "ts": value})
    assert isinstance(row(text, [*PLAIN, "called_at=ts:s"]), BadRow)
    assert isinstance(row(text, [*PLAIN, "called_at=ts:s:end"]), BadRow)
    if value != 1e13:
        assert isinstance(row(text, [*PLAIN[:3], "actual_ms=ts:s"]), BadRow)


@pytest.mark.parametrize("value", [7, True, ["m"], {"name": "m"}])
def test_a_model_is_named_by_a_text(value):
    assert isinstance(row({**ROW, "m": value}), BadRow)


@pytest.mark.parametrize("items", [5, [5], [None], 1.5])
def test_what_is_no_map_at_all_is_a_typed_error(items):
    with pytest.raises(InvalidInputError):
        parse_map(items)
