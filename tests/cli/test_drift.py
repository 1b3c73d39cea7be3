"""`calib drift`, and where other commands tell of drift."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call

START = datetime(2026, 1, 2, tzinfo=UTC)


def some(model, *parts):
    """A call an hour, for (factor, count) one after the other: each takes the factor as long."""
    factors = [factor for factor, count in parts for _ in range(count)]
    for i, factor in enumerate(factors):
        p, c = 100 + 373 * i % 3001, 5 + 53 * i % 307
        ms = factor * (400.0 + 0.5 * p + 20.0 * c) * (1.0 + 0.02 * (i % 7 - 3))
        yield Call(model, p, c, ms, START + timedelta(hours=i))


@pytest.fixture(scope="module", name="drifted")
def _drifted(tmp_path_factory):
    """A ledger of a model that became slower, one that became faster, and two others."""
    path = tmp_path_factory.mktemp("drifted") / "calls.db"
    with AdaptiveCalibrator(path, rule="kalman") as calibrator:
        calibrator.record_many(some("fast", (1.0, 200), (0.5, 28)))
        calibrator.record_many(some("new", (1.0, 10)))
        calibrator.record_many(some("same", (1.0, 228)))
        calibrator.record_many(some("slow one", (1.0, 200), (1.5, 20)))
        assert calibrator.audit() == []
    return path


@pytest.fixture(name="calib_drift")
def _calib_drift(run, drifted):
    def calib(*args, exit_code=0, **options):
        result = run("--ledger", drifted, *args, **options)
        assert result.exit_code == exit_code, result.output
        return result

    return calib


def test_each_model_is_a_line(calib_drift):
    result = calib_drift("drift")
    header, *lines = [line.split("  ") for line in result.stdout.splitlines()]
    rows = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert header[0] == "model"
    assert rows["fast"][2:] == ["28", "2026-01-10 08:00:00Z"]
    assert rows["fast"][1].endswith(" x")
    assert 0.45 < float(rows["fast"][1][:-2]) < 0.55
    assert 1.4 < float(rows["slow one"][1][:-2]) < 1.6
    assert rows["slow one"][2:] == ["20", "2026-01-10 08:00:00Z"]
    assert rows["same"] == ["200", "none"]
    assert rows["new"] == ["10", "too few calls"]


def test_the_hint_names_the_largest_change_and_commands_that_run(calib_drift, run, drifted):
    (hint,) = calib_drift("drift").stderr.splitlines()
    assert hint.startswith("hint: fast has drifted: the newest 28 calls took 0.")
    assert " times as long as those before, for the same tokens, and 1 other drifted, too." in hint
    command = f"calib --ledger {drifted}"
    assert f"Since which day: {command} stats --by-day -- fast. " in hint
    assert hint.endswith(f"{command} sweep -- fast")
    (other,) = calib_drift("drift", "slow one").stderr.splitlines()
    assert f"{command} stats --by-day -- 'slow one'. " in other
    for words in (("stats", "--by-day", "--", "fast"), ("sweep", "--", "fast")):
        assert run("--ledger", drifted, *words).exit_code == 0
    assert calib_drift("drift", "same", "new").stderr == ""


def test_json_is_what_the_library_gives(calib_drift, drifted):
    with AdaptiveCalibrator(drifted) as calibrator:
        found = [one.to_dict() for one in calibrator.drift()]
    result = calib_drift("drift", "--json")
    assert json.loads(result.stdout) == found
    assert result.stderr == ""
    (slow,) = json.loads(calib_drift("drift", "slow one", "--json").stdout)
    assert slow["drift"].keys() == {"since", "factor"}
    assert (slow["first_seq"], slow["first_at"]) == (202, "2026-01-10T08:00:00.000000Z")


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        ((), 0),
        (("--fail-above", 1), 3),
        (("--fail-above", 1.3), 3),
        (("--fail-above", 2), 0),
        (("--fail-below", 1), 3),
        (("--fail-below", 0.7), 3),
        (("--fail-below", 0.3), 0),
        (("--fail-below", 0), 0),
        (("--fail-above", 2, "--fail-below", 0.7), 3),
        (("--fail-above", 1.3, "slow one"), 3),
        (("--fail-above", 1.3, "fast", "same", "new"), 0),
        (("--fail-below", 0.7, "fast"), 3),
        (("--fail-below", 0.7, "slow one"), 0),
    ],
)
def test_how_much_slower_or_faster_is_a_failure_is_for_the_user_to_say(
    calib_drift, options, exit_code
):
    plain = calib_drift("drift", *options, exit_code=exit_code)
    as_json = calib_drift("drift", *options, "--json", exit_code=exit_code)
    assert json.loads(as_json.stdout)
    for result in (plain, as_json):
        assert ("drifted too far: nothing was changed." in result.stderr) == (exit_code == 3)


@pytest.mark.parametrize(
    "options",
    [
        ("--fail-above", 0.9),
        ("--fail-above", "nan"),
        ("--fail-above", "x"),
        ("--fail-below", 1.1),
        ("--fail-below", -0.1),
        ("--fail-below", "nan"),
        ("--since", "2026-01-01"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(calib_drift, options):
    result = calib_drift("drift", *options, exit_code=2)
    assert result.stdout == ""


def test_a_ledger_without_models_says_so(calib):
    calib("db", "upgrade")
    result = calib("drift", "--fail-above", 1)
    assert (result.stdout, result.stderr) == ("", "no models to look at yet.\n")
    assert json.loads(calib("drift", "--json").stdout) == []


# -- where else it is told ---------------------------------------------------------------------


def test_stats_have_a_column_of_drift_only_where_there_is_one(calib_drift):
    header, *lines = calib_drift("stats").stdout.splitlines()
    assert header.split()[-4:] == ["status", "drift", "calls", "since"]
    told = {line.split("  ")[0]: line for line in lines}
    assert told["fast"].endswith(" x           28")
    assert told["same"].endswith("calibrated")
    result = calib_drift("stats", "same")
    assert "drift" not in result.stdout
    assert result.stderr == ""
    assert calib_drift("stats").stderr == calib_drift("drift").stderr
    figures = {one["model"]: one for one in json.loads(calib_drift("stats", "--json").stdout)}
    assert figures["slow one"]["drift"]["since"] == 20
    assert figures["same"]["drift"] is None


def test_the_doctor_tells_of_it_as_good_to_know(calib_drift, drifted):
    result = calib_drift("doctor")
    words = " ".join(result.stdout.partition("Good to know")[2].split())
    assert "- 2 models became slower or faster: fast (the newest 28 calls took 0." in words
    assert "; slow one (the newest 20 calls took 1." in words
    assert f"calib --ledger {drifted} stats --by-day -- fast " in words
    assert words.endswith("ok: nothing needs action.")
    value = json.loads(calib_drift("doctor", "--json").stdout)
    assert value["needs_action"] is False
    assert [one["model"] for one in value["drifts"]] == ["fast", "slow one"]


# -- figures of a time -------------------------------------------------------------------------


def test_stats_by_day_show_on_which_day_it_changed(calib_drift, drifted):
    result = calib_drift("stats", "slow one", "--by-day")
    header, *lines = result.stdout.splitlines()
    assert header.split("  ")[0] == "model"
    assert header.endswith("typically within  to now")
    assert "time-outs" not in header
    days = [line.replace("slow one", "").split() for line in lines]
    assert [day[0] for day in days] == [f"2026-01-{2 + i:02}" for i in range(10)]
    assert [int(day[1]) for day in days] == [24] * 9 + [4]
    ratios = [float(day[-2]) for day in days]
    assert all(0.6 < ratio < 0.75 for ratio in ratios[:8])
    assert all(0.9 < ratio < 1.1 for ratio in ratios[9:])
    with AdaptiveCalibrator(drifted) as calibrator:
        told = [one.to_dict() for one in calibrator.stats("slow one", by_day=True)]
    assert json.loads(calib_drift("stats", "slow one", "--by-day", "--json").stdout) == told
    assert told[0]["day"] == "2026-01-02"


def test_stats_since_a_time_are_of_all_its_calls_together(calib_drift):
    header, *lines = calib_drift("stats", "--since", "2026-01-10").stdout.splitlines()
    assert "day" not in header
    assert [line.split("  ")[0] for line in lines] == ["fast", "same", "slow one"]
    assert lines[0].split()[1] == "36"
    (one,) = json.loads(calib_drift("stats", "new", "--until", "2026-01-03", "--json").stdout)
    assert (one["model"], one["day"], one["calls"]) == ("new", None, 10)
    result = calib_drift("stats", "--since", "2027-01-01")
    assert result.stdout == ""
    assert "--since is still to come" in result.stderr
    assert "no calls in that time." in result.stderr
    assert json.loads(calib_drift("stats", "--since", "2027-01-01", "--json").stdout) == []


def test_time_outs_have_a_column_where_there_are_any(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some("m", (1.0, 30)))
        calibrator.record("m", 10, 9000.0, called_at=START, outcome="timeout")
    header, first, second = calib("stats", "--by-day").stdout.splitlines()
    assert header.endswith("to now  time-outs")
    assert (first.split()[-1], second.split()[-1]) == ("1", "0")


@pytest.mark.parametrize(
    "options",
    [("--since", "tomorrow"), ("--until", "2026-01-02T25:00:00"), ("--by-day", "x", "y")],
)
def test_a_time_that_is_none_is_wrong_usage(calib_drift, options):
    assert calib_drift("stats", *options, exit_code=2).stdout == ""
