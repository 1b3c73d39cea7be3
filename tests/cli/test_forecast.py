import json
from dataclasses import replace
from datetime import timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core import text
from support.old_names import record_old

from .conftest import at, plain_calls, run_process


@pytest.fixture
def learnt(ledger_path):
    """A ledger with 60 calls of one model that tell their first token, and 60 that drifted."""
    calls = [
        replace(call, details={"ttft_ms": 80.0 + 0.1 * call.prompt_tokens + i % 5})
        for i, call in enumerate(plain_calls("steady", 60))
    ]
    drifted = [
        replace(call, actual_ms=call.actual_ms * (2.0 if i >= 50 else 1.0))
        for i, call in enumerate(plain_calls("worse", 60))
    ]
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([*calls, *drifted])
    return ledger_path


def forecast_of(path, *arguments, **options):
    with AdaptiveCalibrator(path) as calibrator:
        return calibrator.forecast(*arguments, **options)


def rows_of(result):
    """The rows behind the first line, by name."""
    lines = result.stdout.splitlines()[1:]
    rows, name = {}, ""
    for line in lines:
        if not line.startswith(" "):
            name = line[:13].strip()
        rows[name] = f"{rows.get(name, '')} {line[13:]}".strip()
    return rows


def test_a_forecast_says_what_to_expect_and_what_it_rests_on(calib, learnt):
    expected = forecast_of(learnt, "steady", 512)
    result = calib("forecast", "steady", "-p", 512)
    first = result.stdout.splitlines()[0]
    assert first == f"steady: 9 of 10 such calls take {text.span(*expected.interval(0.9))}"
    rows = rows_of(result)
    assert rows.pop("newest call").endswith(" ago")
    low, high = expected.completion_tokens.interval(0.9)
    assert rows == {
        "half within": text.duration(expected.median_ms),
        "95 % within": text.duration(expected.timeout_ms(0.95)),
        "99 % within": text.duration(expected.timeout_ms(0.99)),
        "mean": text.duration(expected.mean_ms),
        "prompt": "512 tokens",
        "completion": f"typically {expected.completion_tokens.median} tokens, "
        f"9 of 10 have {low:.0f} to {high:.0f}",
        "status": "ok",
        "rests on": expected.explain(),
    }
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_what_is_known_of_the_completion_is_taken(calib, learnt):
    assert rows_of(calib("forecast", "steady", "-p", 512, "-c", 1))["completion"] == (
        "1 token, as given"
    )
    capped = rows_of(calib("forecast", "steady", "-p", 512, "--max-tokens", 20))
    assert capped["completion"].endswith(", at most 20")
    most = forecast_of(learnt, "steady", 512, max_tokens=20)
    assert capped["99 % within"] == text.duration(most.timeout_ms(0.99))


def test_json_holds_the_whole_forecast(calib, learnt):
    found = json.loads(calib("forecast", "steady", "-p", 512, "--json").stdout)
    assert (found.pop("counted_by"), found.pop("as_of"), found.pop("remaining")) == (None,) * 3
    assert found == forecast_of(learnt, "steady", 512).to_dict()
    assert found["tokens_per_second"] == pytest.approx(
        found["completion_tokens"]["median"] / found["median_ms"] * 1000
    )


def test_what_is_left_of_a_running_call(calib, learnt):
    expected = forecast_of(learnt, "steady", 512).remaining(2500.0)
    result = calib("forecast", "steady", "-p", 512, "--elapsed", 2500)
    assert result.stdout.splitlines()[0] == (
        f"steady: after 2.5 s, 9 of 10 take {text.span(*expected.interval(0.9))} more"
    )
    assert rows_of(result)["half within"] == text.duration(expected.median_ms)
    pace = ("--elapsed", 2500, "--tokens-so-far", 60, "--ttft-ms", 180)
    found = json.loads(calib("forecast", "steady", "-p", 512, *pace, "--json").stdout)
    paced = forecast_of(learnt, "steady", 512).remaining(2500.0, 60, 180.0)
    assert found["remaining"] == paced.to_dict() != expected.to_dict()


def test_the_time_to_the_first_token(calib, learnt):
    with AdaptiveCalibrator(learnt) as calibrator:
        expected = calibrator.forecast_ttft("steady", 512)
    result = calib("forecast", "steady", "-p", 512, "--ttft")
    assert result.stdout.splitlines()[0] == (
        f"steady: 9 of 10 such first tokens come after {text.span(*expected.interval(0.9))}"
    )
    rows = rows_of(result)
    assert "completion" not in rows
    assert "that tell their time to the first token" in rows["rests on"]
    untold = rows_of(calib("forecast", "worse", "-p", 512, "--ttft"))
    assert untold["status"] == "no history: a guess"
    assert (
        untold["rests on"] == "no call of worse tells its time to the first token: this is a guess"
    )


def test_a_forecast_of_the_past_is_as_it_was_then(calib, learnt):
    then = at(40) - timedelta(microseconds=at(40).microsecond)
    expected = forecast_of(learnt, "steady", 512, as_of=then)
    result = calib("forecast", "steady", "-p", 512, "--as-of", then.isoformat())
    rows = rows_of(result)
    assert rows["rests on"] == expected.explain()
    assert "the newest 30 of 40 calls" in rows["rests on"]
    assert rows["newest call"] == "just now"
    later = json.loads(calib("forecast", "steady", "-p", 512, "--as-of", then, "--json").stdout)
    assert later["as_of"] == f"{then:%Y-%m-%dT%H:%M:%S}.000000Z"


def test_drift_is_told_with_its_size(calib, learnt):
    status = rows_of(calib("forecast", "worse", "-p", 512))["status"]
    assert status.startswith("drifting: the newest 10 calls took 2.0")
    assert status.endswith(" times as long as those before, for the same tokens")
    outlook = calib("predict", "worse", "-p", 512).stdout.splitlines()[1]
    assert outlook.endswith(f" s ({status})")


def test_a_model_without_history_is_a_guess_and_the_name_that_was_meant_is_told(calib, learnt):
    result = calib("forecast", "stedy", "-p", 512)
    assert rows_of(result)["status"] == "no history: a guess"
    assert rows_of(result)["completion"] == "128 tokens, assumed"
    assert "did you mean 'steady'?" in result.stderr
    assert (
        json.loads(calib("forecast", "stedy", "-p", 1, "--json").stdout)["status"] == "no history"
    )


def test_a_forecast_without_a_ledger_is_a_guess_and_makes_none(run, tmp_path):
    path = tmp_path / "calls.db"
    result = run("--ledger", path, "forecast", "m", "-p", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    assert not path.exists()


def test_a_name_like_an_option_and_one_that_commands_terminals(calib, ledger_path):
    name = "--json \x1b[2J\n"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        record_old(calibrator, [Call(name, 512, 10, 900.0)])
    result = calib("forecast", "-p", 512, "--", name)
    assert result.stdout.startswith("--json \\x1b[2J\\n: 9 of 10 such calls take ")
    assert "\x1b" not in result.stdout
    assert "1 of 1 calls of --json \\x1b[2J\\n:" in rows_of(result)["rests on"]


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (1.0, 4.0, "1.0 to 4.0 ms"),
        (812.0, 951.0, "812 to 951 ms"),
        (812.0, 3840.0, "0.8 to 3.8 s"),
        (12.0, 3840.0, "12 ms to 3.8 s"),
        (1900.0, 4100.0, "1.9 to 4.1 s"),
        (1960.0, 2040.0, "about 2.0 s"),
        (9900.0, 125_000.0, "9.9 s to 2 min 5 s"),
        (125_000.0, 185_000.0, "2 min 5 s to 3 min 5 s"),
        (185_000.0, 12_000_000.0, "3 min 5 s to 3 h 20 min"),
    ],
)
def test_a_range_is_told_in_seconds_where_it_reaches_them(low, high, told):
    assert text.span(low, high) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1, "in the future"),
        (0, "just now"),
        (10, "10 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7199, "120 min ago"),
        (7200, "2 h ago"),
        (172_800, "2 days ago"),
    ],
)
def test_an_age_is_told_in_one_unit(seconds, told):
    assert text.age(seconds) == told


# -- the tokens of a text -------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_table(tmp_path, monkeypatch):
    """No table of tiktoken's is here, so that texts are counted by the rule of thumb."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("command", ["forecast", "predict", "timeout", "compare"])
def test_the_tokens_of_a_text_are_counted_and_it_says_by_what(calib, learnt, tmp_path, command):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Secret: " + "x" * 2040)
    model = () if command == "compare" else ("steady",)
    before = learnt.read_bytes()
    told = calib(command, *model, "-p", 512, "--json").stdout
    for source, options in ((prompt, {}), ("-", {"input": prompt.read_bytes()})):
        result = calib(command, *model, "--text", source, "--json", **options)
        expected = told.replace('"counted_by": null', '"counted_by": "rule of thumb"')
        assert without_time(result.stdout) == without_time(expected)
        assert result.stderr.startswith("about 512 prompt tokens, by the rule of thumb: ")
        assert calib(command, *model, "--text", source, **options).exit_code == 0
    assert learnt.read_bytes() == before
    assert b"Secret" not in before


def without_time(as_json):
    return [line for line in as_json.splitlines() if "predicted_at" not in line]


def test_a_text_that_is_none_is_refused(calib, learnt, tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    result = calib("forecast", "steady", "--text", binary, exit_code=2)
    assert "the text is not UTF-8 (byte 0xff)" in result.stderr
    for part in ("", "-wal"):
        result = calib("forecast", "steady", "--text", f"{learnt}{part}", exit_code=2)
        assert "this is the ledger itself: name another file." in result.stderr


def test_an_empty_text_has_no_tokens(calib, learnt):
    result = calib("forecast", "steady", "--text", "-", input="")
    assert rows_of(result)["prompt"] == "0 tokens"


def test_a_forecast_goes_through_a_pipe(learnt):
    done = run_process("--ledger", learnt, "forecast", "steady", "--text", "-", input="four words")
    assert done.code == 0
    assert done.out.startswith("steady: 9 of 10 such calls take ")
    assert done.err.startswith("about 3 prompt tokens, by the rule of thumb: ")
