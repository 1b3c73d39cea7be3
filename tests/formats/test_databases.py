"""Calls in the databases of llm, Phoenix, Open WebUI and MLflow, one sample a generation of their
tables: the right numbers, skips by reason, the format told by itself, and no call twice."""

import shutil
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from calibration_ledger.formats.llm import default_place
from calibration_ledger.formats.phoenix import default_place as phoenix_place

SAMPLES = Path(__file__).parent / "samples"
SHARED = Path(__file__).parents[3] / "shared" / "samples"


@pytest.fixture
def written(tmp_path):
    """Writes a sample as the file that its tool has."""

    def write(name):
        if name.endswith(".json"):
            return shutil.copyfile(SAMPLES / name, tmp_path / "export.json")
        path = tmp_path / "a file.db"
        connection = sqlite3.connect(path)
        connection.executescript((SAMPLES / f"{name}.sql").read_text(encoding="utf-8"))
        connection.close()
        return path

    return write


def imported(path, format_="auto", **options):
    """The report of an import, and the calls by their request ids."""
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls(format_, path, **options)
        again = calibrator.import_calls(format_, path, **options)
        calls = {call.request_id: call for call in calibrator.calls()}
        assert calibrator.audit() == []
    assert again.recorded == 0
    assert again.already == report.recorded + report.already
    return report, calls


def numbers(call):
    details = {name: value for name, value in call.details.items() if name != "import_id"}
    return call.model, call.prompt_tokens, call.completion_tokens, call.actual_ms, details


# -- llm ------------------------------------------------------------------------------------

START = {"clock": "client+start"}


def test_a_log_of_llm_before_0_19_has_its_tokens_in_the_answers(written):
    report, calls = imported(written("llm.0-13"))
    assert report.format == "llm"
    assert dict(report.left_out) == {"unknown tokens": 2}
    mini = {**START, "answered_model": "gpt-4o-mini-2024-07-18", "streamed": False}
    haiku = {**START, "answered_model": "claude-3-haiku-20240307", "cached_tokens": 90}
    assert {name: numbers(call) for name, call in calls.items()} == {
        "01whole": ("gpt-4o-mini", 20, 5, 812.0, mini),
        "01claude": ("claude-3-haiku", 100, 7, 950.0, haiku),
        "01llama": ("llama3", 30, 12, 2100.0, {**START, "answered_model": "llama3:latest"}),
    }
    # A time without a zone is in UTC.
    assert calls["01whole"].called_at == datetime(2024, 3, 1, 9, 0, 0, 250_000, UTC)


def test_a_log_of_llm_from_0_19_on_has_them_in_columns_as_each_provider_counts(written):
    report, calls = imported(written("llm.0-19"))
    assert dict(report.left_out) == {"unknown tokens": 1, "unknown duration": 1}
    found = {name: numbers(call) for name, call in calls.items()}
    openai = {"answered_model": "gpt-4o-2024-08-06", "cached_tokens": 100, "reasoning_tokens": 10}
    claude = {"answered_model": "claude-sonnet-4", "cached_tokens": 70}
    assert found["01openai"] == ("gpt-4o", 120, 30, 900.0, {**START, **openai, "streamed": True})
    assert found["01anthropic"] == ("claude-sonnet", 100, 30, 1200.0, {**START, **claude})
    gemini = {**START, "reasoning_tokens": 60}
    assert found["01gemini-old"] == ("gemini-flash", 15, 100, 1300.0, gemini)
    assert found["01gemini"] == ("gemini-flash", 15, 100, 1300.0, {**gemini, "cached_tokens": 5})
    assert calls["01anthropic"].called_at == datetime(2025, 1, 1, 9, 1, tzinfo=UTC)


def test_both_generations_of_a_log_of_llm_are_read_and_no_call_twice(written):
    path = written("llm.0-36")
    report, calls = imported(path)
    assert dict(report.left_out) == {"unknown model": 1, "duplicate": 1}
    assert set(calls) == {"01old", "01both", "01new"}
    assert calls["01old"].details["answered_model"] == "gpt-4o-2024-11-20"
    new = {"answered_model": "gpt-5-2025-08-07", "cached_tokens": 64, "reasoning_tokens": 32}
    assert numbers(calls["01new"]) == ("gpt-5", 100, 40, 2500.0, {**START, **new})
    report, calls = imported(path, model="mine")
    assert calls["01unnamed"].model == "mine"
    assert report.left_out == (("duplicate", 1),)


def test_the_place_of_the_log_of_llm_is_found_as_llm_finds_it(monkeypatch):
    monkeypatch.setenv("LLM_USER_PATH", "/data/llm")
    assert default_place() == Path("/data/llm/logs.db")
    monkeypatch.delenv("LLM_USER_PATH")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    assert default_place() == Path("/config/io.datasette.llm/logs.db")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    home = Path("~").expanduser()
    assert default_place() == home / ".config/io.datasette.llm/logs.db"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_place() == home / "Library/Application Support/io.datasette.llm/logs.db"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", "/roaming")
    assert default_place() == Path("/roaming/io.datasette.llm/logs.db")


# -- Phoenix --------------------------------------------------------------------------------

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
SPAN = {"clock": "client", "retries": "included"}


def test_spans_of_phoenix_are_read_to_the_microsecond_and_counts_only_from_attributes(written):
    report, calls = imported(written("phoenix.8"))
    assert report.format == "phoenix"
    # What is no JSON, and a stream without counts, whose columns say 0.
    assert dict(report.left_out) == {
        "unknown tokens": 2,
        "nested": 1,
        "not a completion": 1,
        "timeout": 1,
    }
    inner = {"answered_model": "gpt-4o-2024-08-06", "cached_tokens": 4, "reasoning_tokens": 2}
    outer = {"answered_model": "gpt-4o-mini-2024-07-18"}
    assert {name: numbers(call) for name, call in calls.items()} == {
        f"{TRACE}:aaaaaaaaaaaaaaa3": (
            "gpt-4o", 11, 7, 127.153, {**SPAN, **inner, "streamed": True, "ttft_ms": 50.0}
        ),
        f"{OTHER}:bbbbbbbbbbbbbbb3": ("gpt-4o-mini", 50, 20, 1500.0, {**SPAN, **outer}),
    }  # fmt: skip
    at = datetime(2026, 1, 1, 9, 0, 1, 100_000, UTC)
    assert calls[f"{TRACE}:aaaaaaaaaaaaaaa3"].called_at == at


def test_the_place_of_phoenix_is_known(monkeypatch):
    monkeypatch.setenv("PHOENIX_WORKING_DIR", "/data/phoenix")
    assert phoenix_place() == Path("/data/phoenix/phoenix.db")
    monkeypatch.delenv("PHOENIX_WORKING_DIR")
    assert phoenix_place() == Path("~/.phoenix/phoenix.db").expanduser()


# -- Open WebUI -----------------------------------------------------------------------------

SERVER = {"clock": "server"}
UNQUEUED = {"clock": "server-queue"}  # as of the answers of llama.cpp


def test_messages_of_open_webui_are_calls_by_what_the_provider_itself_said(written):
    report, calls = imported(written("openwebui.messages"))
    assert report.format == "openwebui"
    assert dict(report.left_out) == {
        "unknown duration": 1,
        "cancelled": 1,
        "failed": 1,
        "unknown tokens": 1,
    }
    assert {name: numbers(call) for name, call in calls.items()} == {
        # Of two model calls: the sums are 126 and 598, and the duration is that of the second.
        "chat-1-m2": ("llama3.2:latest", 26, 298, 2000.0, {**SERVER, "load_ms": 500.0}),
        "chat-1-m3": ("qwen-server", 312, 20, 440.75, {**UNQUEUED, "cached_tokens": 300}),
        "chat-1-m4": ("old-server", 77, 20, 440.75, UNQUEUED),
        "chat-1-m6": ("groq.llama", 41, 27, 320.0, {**SERVER, "queue_ms": 250.0}),
        "chat-1-m9": ("llama3.2:latest", 31, 9, 900.0, SERVER),  # in the chat's JSON alone
    }
    assert calls["chat-1-m2"].called_at == datetime(2026, 1, 1, 9, tzinfo=UTC)


def test_chats_of_open_webui_from_before_2026_are_read_each_message_once(written):
    report, calls = imported(written("openwebui.chats"))
    assert report.format == "openwebui"
    assert dict(report.left_out) == {"failed": 1}
    assert {name: numbers(call) for name, call in calls.items()} == {
        "chat-1-m2": ("llama3:8b", 26, 30, 1250.0, {**SERVER, "load_ms": 250.0}),
        "chat-2-m1": ("llama3:8b", 15, 8, 800.0, SERVER),
    }


def test_an_export_of_chats_brings_the_calls_of_the_database_under_the_same_ids(written):
    report, calls = imported(written("openwebui.export.json"))
    assert report.format == "openwebui"
    assert dict(report.left_out) == {"unknown duration": 1, "cancelled": 1}
    assert {name: numbers(call) for name, call in calls.items()} == {
        "chat-1-m2": ("llama3:8b", 26, 30, 1250.0, {**SERVER, "load_ms": 250.0})
    }
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.import_calls("openwebui", written("openwebui.chats"))
        again = calibrator.import_calls("openwebui", written("openwebui.export.json"))
    assert (again.recorded, again.already) == (0, 1)


# -- MLflow ---------------------------------------------------------------------------------


def test_spans_of_mlflow_are_read_with_the_cache_as_each_provider_counts_it(written):
    report, calls = imported(written("mlflow.3"))
    assert report.format == "mlflow"
    assert dict(report.left_out) == {
        "not a completion": 1,
        "timeout": 1,
        "unknown tokens": 1,
        "unknown duration": 1,
    }
    mini = {"answered_model": "gpt-4o-mini-2024-07-18", "cached_tokens": 64}
    streamed = {"streamed": True, "ttft_ms": 50.0}
    assert {name: numbers(call) for name, call in calls.items()} == {
        f"{TRACE}:aaaaaaaaaaaaaaa2": (
            "gpt-4o-mini", 100, 7, 171.5, {**SPAN, **mini, **streamed}
        ),
        f"{TRACE}:aaaaaaaaaaaaaaa3": (
            "claude-sonnet-4", 100, 30, 1000.0, {**SPAN, "cached_tokens": 70}
        ),
    }  # fmt: skip


def test_files_of_traces_of_mlflow_are_read_too(written):
    report, calls = imported(written("mlflow.traces.json"))
    assert report.format == "mlflow"
    assert dict(report.left_out) == {"unknown tokens": 1}
    assert {name: numbers(call) for name, call in calls.items()} == {
        f"{TRACE}:aaaaaaaaaaaaaaaa": ("gpt-4o-mini", 100, 7, 171.5, SPAN)
    }


def test_a_database_of_mlflow_without_spans_is_refused_by_a_sentence(written):
    path = written("mlflow.3")
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE spans")
    connection.close()
    with pytest.raises(ImportRefusedError, match=r"has no spans: older versions .* traces\.json"):
        imported(path)


# -- all of them ----------------------------------------------------------------------------

GROW = {
    "llm.0-13": ("responses", "id", "01whole"),
    "llm.0-36": ("turns", "id", "01new"),
    "phoenix.8": ("spans", "span_id", "bbbbbbbbbbbbbbb3"),
    "openwebui.messages": ("chat_message", "id", "chat-1-m2"),
    "mlflow.3": ("spans", "span_id", "aaaaaaaaaaaaaaa3"),
}


@pytest.mark.parametrize("name", GROW)
def test_a_database_that_grew_by_three_calls_adds_three(written, name):
    path = written(name)
    table, key, value = GROW[name]
    with AdaptiveCalibrator(":memory:") as calibrator:
        first = calibrator.import_calls("auto", path)
        connection = sqlite3.connect(path)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for number in range(3):
            given = dict(zip(columns, columns, strict=True))
            if "id" in columns:
                given["id"] = str(1000 + number)
            given[key] = f"'{value}{number}'"
            select = f"SELECT {', '.join(given.values())} FROM {table} WHERE {key} = '{value}'"
            connection.execute(f"INSERT INTO {table} {select}")
        connection.commit()
        connection.close()
        grown = calibrator.import_calls("auto", path)
        assert (grown.recorded, grown.already) == (3, first.recorded + first.already)
        assert calibrator.audit() == []


@pytest.mark.parametrize("format_", ["llm", "phoenix", "openwebui", "mlflow"])
def test_the_database_of_something_else_is_refused_by_a_sentence(tmp_path, format_):
    path = tmp_path / "notes.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (id)")
    connection.close()
    with (
        AdaptiveCalibrator(":memory:") as calibrator,
        pytest.raises(ImportRefusedError, match="this is no "),
    ):
        calibrator.import_calls(format_, path)


REAL = {
    "llm-0.27.1-logs.db": (
        "llm",
        {"fake-gpt": [(11, 12, 285.0), (45, 12, 289.0), (10, 12, 285.0)]},
    ),
    "llm-0.36-logs.db": ("llm", {"fake-gpt": [(11, 12, 240.0), (12, 12, 239.0), (48, 12, 236.0)]}),
    "llm-mixed-0.27-then-0.36.db": (
        "llm",
        {"fake-gpt": [(11, 12, 285.0), (45, 12, 289.0), (10, 12, 285.0), (49, 12, 242.0)]},
    ),
    "phoenix-20.26.1.db": (
        "phoenix",
        {"gpt-4o": [(11, 12, 185.063), (11, 12, 183.025), (100, 20, 50.198)]},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_databases_are_read(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip("the real files of other tools (../shared/samples) are not here")
    format_, expected = REAL[name]
    report, calls = imported(path)
    assert (report.format, report.left_out) == (format_, ())
    found = {}
    for call in calls.values():
        row = (call.prompt_tokens, call.completion_tokens, call.actual_ms)
        found.setdefault(call.model, []).append(row)
    assert found == expected
