"""Times as people read and write them, in zones near and odd."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli import zone

from .conftest import run_process


@pytest.fixture
def there(monkeypatch):
    """Put this process into a zone."""

    def there(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield there
    monkeypatch.undo()
    time.tzset()


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def at_times(calib, ledger_path):
    """Record a call at each of these times, in UTC; `prompt_tokens` numbers them from 1."""

    def at_times(*times):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record_many([Call("m", n, 1, 5.0, utc(t)) for n, t in enumerate(times, 1)])

    return at_times


SHOWN = {
    "America/New_York": ("when (EST/EDT)", "2026-01-01 22:04:05", "2026-07-01 08:00:00"),
    "Asia/Kolkata": ("when (IST)", "2026-01-02 08:34:05", "2026-07-01 17:30:00"),
    "Pacific/Chatham": ("when (+1345/+1245)", "2026-01-02 16:49:05", "2026-07-02 00:45:00"),
    "UTC": ("when", "2026-01-02 03:04:05Z", "2026-07-01 12:00:00Z"),
    "<-03>3": ("when (-03)", "2026-01-02 00:04:05", "2026-07-01 09:00:00"),
    "AAA+25": ("when (UTC)", "2026-01-02 03:04:05Z", "2026-07-01 12:00:00Z"),  # no such offset
}


@pytest.mark.parametrize("name", SHOWN)
def test_times_are_shown_in_the_local_zone_which_the_title_names(calib, at_times, there, name):
    at_times("2026-01-02T03:04:05.678901", "2026-07-01T12:00:00")
    there(name)
    title, *times = SHOWN[name]
    header, *lines = calib("history").stdout.splitlines()
    assert header.startswith(f"{title}  ")
    assert [line[: len(title)].strip()[:20].strip() for line in lines] == [
        one[: len(title)].strip()[:20] for one in times
    ]
    assert all(line.startswith(one) for line, one in zip(lines, times, strict=True))


@pytest.mark.parametrize("name", SHOWN)
def test_with_utc_and_for_programs_times_are_in_utc_wherever_one_is(calib, at_times, there, name):
    at_times("2026-01-02T03:04:05.678901")
    there(name)
    for words in (("history", "--utc"), ("--utc", "history"), ("--utc", "history", "--utc")):
        header, line = calib(*words).stdout.splitlines()
        assert header.startswith("when  ")
        assert line.startswith("2026-01-02 03:04:05Z  ")
    called_at = "2026-01-02T03:04:05.678901Z"
    assert json.loads(calib("history", "--json").stdout)["called_at"] == called_at
    for form in ("csv", "tsv", "json", "jsonl"):
        assert called_at in calib("history", "--format", form).stdout


def test_a_real_process_reads_tz_and_every_command_follows(filled):
    for name, shown in (("America/New_York", "22:04:29"), ("Asia/Kolkata", "08:34:29")):
        env = {**os.environ, "TZ": name}
        assert f" {shown} " in run_process("--ledger", filled, "stats", env=env).out
        assert f" {shown}-" in run_process("--ledger", filled, "doctor", env=env).out.replace(
            "+05:30", "-"
        )
        assert shown not in run_process("--ledger", filled, "stats", "--utc", env=env).out


# In New York, 01:30 came twice on 1 November 2026, and 02:30 never on 8 March.
TWICE = ("2026-11-01T05:30:00", "2026-11-01T06:30:00")


def test_a_time_that_comes_twice_is_told_apart_and_read_back(calib, at_times, there):
    at_times(*TWICE, "2026-11-01T08:30:00")
    there("America/New_York")
    lines = calib("history").stdout.splitlines()[1:]
    times = [line.partition("  ")[0] for line in lines]
    assert times == [
        "2026-11-01 01:30:00-04:00",
        "2026-11-01 01:30:00-05:00",
        "2026-11-01 03:30:00",
    ]
    for at, shown in enumerate(times):
        assert len(calib("history", "--since", shown).stdout.splitlines()) == 1 + 3 - at
    assert zone.time_of("2026-11-01 01:30") == utc(TWICE[0])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("America/New_York", "2026-11-24", "2026-11-24T05:00:00"),
        ("America/New_York", "2026-07-24 08:30", "2026-07-24T12:30:00"),
        ("America/New_York", "2026-03-08 02:30", "2026-03-08T07:30:00"),
        ("Asia/Kolkata", "2026-11-24", "2026-11-23T18:30:00"),
        ("Pacific/Chatham", "20261124", "2026-11-23T10:15:00"),
        ("Pacific/Chatham", "2026-11-24T08:30:00Z", "2026-11-24T08:30:00"),
        ("Pacific/Chatham", "2026-11-24T08:30:00+01:00", "2026-11-24T07:30:00"),
        # A day that began at 01:00, for the clocks were set forward at midnight.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00"),
        # A day that never was: Samoa went over the date line.
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00"),
        ("UTC", "2026-11-24 08:30", "2026-11-24T08:30:00"),
    ],
)
def test_a_time_without_a_zone_is_local(there, name, text, expected):
    there(name)
    assert zone.time_of(text) == utc(expected)


@pytest.mark.parametrize("name", ["America/New_York", "Pacific/Chatham", "UTC"])
def test_with_utc_a_time_without_a_zone_is_read_in_utc(calib, at_times, there, name):
    at_times("2026-01-01T23:59:59.999999", "2026-01-02T00:00:00")
    there(name)
    calls = calib("history", "--utc", "--since", "2026-01-02", "--json").stdout.splitlines()
    assert [json.loads(call)["prompt_tokens"] for call in calls] == [2]
    # Wherever it stands: also behind the time that it is about.
    assert calib("history", "--since", "2026-01-02", "--json", "--utc").stdout.splitlines() == calls


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30s", timedelta(seconds=30)),
        ("90m", timedelta(minutes=90)),
        ("1h", timedelta(hours=1)),
        ("2D", timedelta(days=2)),
        (" 1w ", timedelta(weeks=1)),
        ("0s", timedelta()),
    ],
)
def test_a_span_is_so_long_ago(text, ago):
    before = datetime.now(UTC)
    at = zone.time_of(text)
    assert before <= at + ago <= datetime.now(UTC)


@pytest.mark.parametrize("name", ["America/New_York", "Pacific/Chatham", "UTC"])
def test_today_and_yesterday_begin_at_local_midnight(there, name):
    there(name)
    for word, days in (("today", 0), ("Yesterday", 1)):
        at = zone.time_of(word).astimezone()
        assert (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0)
        assert (datetime.now().astimezone().date() - at.date()).days == days


@pytest.mark.parametrize(
    "text",
    [
        *("", "now-ish", "1", "h", "1y", "-1h", "1.5h", "2026-02-30", "2026-13-01", "tomorrow"),
        *("999999999w", "0001-01-01", "9999-12-31T23:59:59", "25:00", "2026-11-24T08:30:00X"),
    ],
)
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_what_is_no_time_is_told_with_all_that_may_be_written(calib, filled, there, text, option):
    there("America/New_York")
    result = calib("history", option, text, exit_code=2)
    words = " ".join(result.stderr.split())
    if "lie between 1970 and 9999" not in words:
        for form in ("1h", "90m", "30s", "2d", "1w", "today", "yesterday", "2026-11-24 08:30"):
            assert form in words


def test_a_window_that_is_still_to_come_or_upside_down_is_said(calib, filled):
    result = calib("history", "--since", "2030-01-01T00:00:00Z")
    assert "--since is still to come (2030-01-01 00:00:00Z)" in result.stderr
    assert "no calls to show" in result.stderr
    result = calib("history", "--since", "1h", "--until", "2h", exit_code=2)
    assert "since is later than until: swap them." in result.stderr


@pytest.mark.parametrize("name", ["Pacific/Chatham", "America/New_York", "Nowhere/At_All"])
def test_the_ends_of_time_are_shown_in_every_zone(calib, at_times, there, name):
    at_times("1970-01-01T00:00:00", "9999-12-31T23:59:59.999999")
    there(name)
    lines = calib("history").stdout.splitlines()
    assert len(lines) == 3
    assert calib("stats").exit_code == 0


def test_the_time_of_a_call_to_record_says_its_zone(calib):
    """What is kept must not hang on the zone of the machine that recorded it."""
    words = ("record", "m", "-p", 1, "--actual-ms", 2, "--called-at", "2026-01-02 03:04:05")
    assert "has no time zone" in calib(*words, exit_code=2).stderr
