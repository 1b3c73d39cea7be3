"""Metrics: what is scraped, read back by Prometheus' own parser, whole or not at all."""

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import threading
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError, ModelNotFoundError
from calibration_ledger.cli.main import main
from support.snippets import BLOCK
from support.terminal import Terminal

prometheus_client = pytest.importorskip("prometheus_client", reason="needs the extra metrics")

# ruff: noqa: E402 - what follows is imported only where that is installed
from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text

from calibration_ledger.live.prometheus import LedgerCollector, metrics, write_metrics

START = datetime(2026, 11, 1, tzinfo=UTC)
HOSTILE = 'a"b\\c{d}=,e'


def calls_of(model, n=120, factor=1.0, since=60):
    return [
        Call(
            model,
            100 + i % 50,
            20 + i % 7,
            (300.0 + 2 * (i % 50) + 10 * (i % 7) + (i * 7919 % 13)) * (factor if i >= since else 1),
            START + timedelta(minutes=i),
        )
        for i in range(n)
    ]


@pytest.fixture
def calibrator(ledger_path):
    with AdaptiveCalibrator(ledger_path, rule="kalman") as calibrator:
        calibrator.record_many(calls_of("phi3:mini"))
        calibrator.record_many(calls_of("slow", factor=2.0, since=100))
        calibrator.record_many(calls_of(HOSTILE, n=3))
        calibrator.record("slow", 100, 9_000.0, outcome="timeout")
        yield calibrator
        assert calibrator.audit() == []


def samples_of(text, read=read_text):
    """By name: from the values of the labels, but `model` first, to the value."""
    found = {}
    for family in read(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            key = tuple([labels.pop("model")] if "model" in labels else []) + tuple(labels.values())
            assert key not in found.setdefault(sample.name, {})
            found[sample.name][key] = sample.value
    return found


def of_model(found, name, model="phi3:mini"):
    return found[f"calibration_ledger_{name}"].get((model,))


def test_the_figures_are_those_of_the_ledger_in_base_units(calibrator):
    found = samples_of(metrics(calibrator))
    stats = calibrator.get_stats("phi3:mini", rounded=False)
    assert found["calibration_ledger_up"] == {(): 1.0}
    assert found["calibration_ledger_unreadable_models"] == {(): 0.0}
    assert of_model(found, "calls_total") == 120.0
    assert of_model(found, "entries_total") == 121.0
    assert of_model(found, "learnt_calls") == 120.0
    assert of_model(found, "last_call_timestamp_seconds") == stats["last_updated"]
    assert of_model(found, "latency_mean_seconds") == stats["mean_actual_ms"] / 1000.0
    assert (
        of_model(found, "absolute_error_mean_seconds") == stats["mean_absolute_error_ms"] / 1000.0
    )
    assert (
        of_model(found, "absolute_error_median_ratio")
        == stats["median_absolute_percentage_error"] / 100.0
    )
    prompt = of_model(found, "forecast_prompt_tokens")
    forecast = calibrator.forecast("phi3:mini", int(prompt))
    assert {
        level: seconds
        for (model, level), seconds in found["calibration_ledger_forecast_seconds"].items()
        if model == "phi3:mini"
    } == {f"{q:g}": forecast.quantile(q) / 1000.0 for q in (0.5, 0.9, 0.95, 0.99)}
    assert found["calibration_ledger_model_info"][("phi3:mini", "0.01", "kalman.2")] == 1.0


def test_drift_is_a_ratio_with_its_start_and_1_without(calibrator):
    found, [drift] = samples_of(metrics(calibrator)), calibrator.drift("slow")
    assert of_model(found, "drift_ratio") == 1.0
    assert of_model(found, "drift_start_timestamp_seconds") is None
    assert of_model(found, "drift_ratio", "slow") == drift.drift.factor > 1.5
    assert of_model(found, "drift_start_timestamp_seconds", "slow") == drift.first_at.timestamp()
    assert of_model(found, "drift_ratio", HOSTILE) is None, "3 calls tell nothing"


def test_time_outs_are_counted_and_voided_calls_stay_recorded(calibrator):
    before = samples_of(metrics(calibrator))
    assert of_model(before, "timeouts", "slow") == 1.0
    assert of_model(before, "timeouts") == 0.0
    assert of_model(before, "calls_total", "slow") == 121.0
    calibrator.void("slow", last=10)
    calibrator.recalibrate(0.2, "ema", model="slow")
    calibrator.reset("slow")
    after = samples_of(metrics(calibrator))
    assert of_model(after, "calls_total", "slow") == 121.0, "a counter never falls"
    assert of_model(after, "entries_total", "slow") == 125.0
    assert of_model(after, "learnt_calls", "slow") == 0.0
    assert of_model(after, "absolute_error_mean_seconds", "slow") is None


def test_an_archive_does_not_lower_the_counters(calibrator, tmp_path):
    before = samples_of(metrics(calibrator))
    calibrator.archive(START + timedelta(minutes=50), tmp_path / "old.jsonl", model="phi3:mini")
    after = samples_of(metrics(calibrator))
    assert of_model(after, "calls_total") == of_model(before, "calls_total")
    assert of_model(after, "entries_total") == of_model(before, "entries_total")


def test_names_of_models_come_back_as_they_are(calibrator):
    calibrator.record("名前 é", 1, 2.0)
    for text, read in ((metrics(calibrator), read_text),):
        names = {key[0] for key in samples_of(text, read)["calibration_ledger_calls_total"]}
        assert names == {HOSTILE, "phi3:mini", "slow", "名前 é"}


def test_openmetrics_says_the_same(calibrator):
    text = metrics(calibrator, openmetrics=True)
    assert text.endswith("# EOF\n")
    assert samples_of(text, read_open) == samples_of(metrics(calibrator))


def test_each_figure_has_its_help_and_type_once(calibrator):
    lines = metrics(calibrator).splitlines()
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    types = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    assert len(helps) == len(set(helps))
    assert set(helps) == set(types)
    assert all(name.startswith("calibration_ledger_") for name in helps)
    assert {name for name, kind in types.items() if kind == "counter"} == {
        name for name in types if name.endswith("_total")
    }


def test_promtool_finds_nothing_to_complain_about(calibrator):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here: it comes with Prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics(calibrator),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_rules_for_alerts_in_the_page_know_every_figure_and_promtool_reads_them(
    calibrator, tmp_path
):
    page = (Path(__file__).parents[2] / "docs" / "look.md").read_text(encoding="utf-8")
    (rules,) = [code for _, code in BLOCK.findall(page) if code.startswith("groups:")]
    known = {f"calibration_ledger_{name}" for name in ("up", "unreadable_models", "model_info")}
    known |= samples_of(metrics(calibrator)).keys()
    assert {*re.findall(r"calibration_ledger_\w+\b(?!\.)", rules)} <= known
    table = page.partition("| name, after `calibration_ledger_`")[2].partition("\n\n")[0]
    told = re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    assert {f"calibration_ledger_{name}" for name in told} == known
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here: it comes with Prometheus")
    (tmp_path / "rules.yml").write_text(rules, encoding="utf-8")
    subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], check=True)


def test_only_some_models_may_be_asked_for_by_any_of_their_names(calibrator):
    calibrator.alias("phi", "phi3:mini")
    found = samples_of(metrics(calibrator, ["phi", "phi3:mini", "slow"]))
    names = {key[0] for key in found["calibration_ledger_calls_total"]}
    assert names == {"phi3:mini", "slow"}
    with pytest.raises(ModelNotFoundError, match="phi3:minni"):
        metrics(calibrator, ["phi3:minni"])


# -- in a program's own registry ----------------------------------------------------------------


def test_a_program_serves_the_figures_of_now_among_its_own(calibrator):
    registry = CollectorRegistry()
    Counter("answers", "Answers.", registry=registry).inc(3)
    registry.register(LedgerCollector(calibrator))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        calls = []
        for _ in range(2):
            with urllib.request.urlopen(address) as answer:
                found = samples_of(answer.read().decode())
            assert found["answers_total"] == {(): 3.0}
            calls.append(of_model(found, "calls_total"))
            calibrator.record("phi3:mini", 100, 500.0)
        assert calls == [120.0, 121.0]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_ledger_that_cannot_be_read_costs_a_program_none_of_its_own_figures(tmp_path):
    registry, path = CollectorRegistry(), tmp_path / "calls.db"
    Counter("answers", "Answers.", registry=registry).inc(3)
    with AdaptiveCalibrator(path) as calibrator:
        registry.register(LedgerCollector(calibrator))
        nothing = samples_of(prometheus_client.generate_latest(registry).decode())
        assert nothing["answers_total"] == {(): 3.0}
        assert nothing["calibration_ledger_up"] == {(): 0.0}, "there is no ledger yet"
        assert not path.exists()
        calibrator.record("m", 1, 2.0)
        now = samples_of(prometheus_client.generate_latest(registry).decode())
        assert now["calibration_ledger_up"] == {(): 1.0}
    closed = samples_of(prometheus_client.generate_latest(registry).decode())
    assert closed["calibration_ledger_up"] == {(): 0.0}
    assert not any("calls_total" in name for name in closed)


def test_a_collector_is_registered_without_a_look_at_the_ledger_and_only_once(tmp_path):
    path = tmp_path / "no.db"
    path.write_text("no ledger")
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        registry = CollectorRegistry()
        registry.register(LedgerCollector(calibrator))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(LedgerCollector(calibrator))


def test_a_damaged_call_costs_its_model_a_forecast_and_the_others_nothing(ledger_path):
    with AdaptiveCalibrator(ledger_path, rule="ema") as calibrator:
        for model in ("damaged", "phi3:mini"):
            calibrator.record_many(calls_of(model))
        with closing(sqlite3.connect(ledger_path)) as database, database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            database.execute("UPDATE calls SET actual_ms = 9e999 WHERE model_id = 1 AND seq = 110")
        found = samples_of(metrics(calibrator))
    assert found["calibration_ledger_unreadable_models"] == {(): 1.0}
    assert of_model(found, "forecast_prompt_tokens", "damaged") is None
    assert of_model(found, "calls_total", "damaged") == 120.0
    assert of_model(found, "forecast_prompt_tokens") > 0


def test_scrapes_and_records_at_the_same_time_harm_neither(calibrator):
    stop, errors = threading.Event(), []

    def scrape():
        while not stop.is_set():
            try:
                assert of_model(samples_of(metrics(calibrator)), "calls_total") >= 120
            except Exception as error:  # noqa: BLE001 - told below
                errors.append(error)
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(60):
        calibrator.record("phi3:mini", 100, 500.0)
    stop.set()
    thread.join()
    assert errors == []


# -- the command, and the file ------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)], prog_name="calib")


def test_the_command_prints_what_the_library_gives(calibrator):
    done = run("--ledger", calibrator.ledger, "metrics")
    assert (done.exit_code, done.stdout, done.stderr) == (0, metrics(calibrator), "")
    one = run("--ledger", calibrator.ledger, "metrics", "slow", "--openmetrics")
    assert one.stdout == metrics(calibrator, ["slow"], openmetrics=True)


def test_on_a_terminal_what_nobody_sees_is_written_out(calibrator):
    name = "phi\u2800mini"  # the Braille pattern without dots
    calibrator.record(name, 1, 2.0)
    script = "from calibration_ledger.cli.main import main; main()"
    with Terminal(script, "--ledger", calibrator.ledger, "metrics", name) as terminal:
        shown = terminal.until("calibration_ledger_calls_total{")
        shown += terminal.until("\n")
    assert "phi\\u2800mini" in shown
    assert name not in shown
    assert name in run("--ledger", calibrator.ledger, "metrics", name).stdout


def test_other_formats_list_the_same_samples(calibrator):
    found = samples_of(metrics(calibrator))
    done = run("--ledger", calibrator.ledger, "metrics", "--json")
    assert {
        (one["metric"], one.get("model"), one.get("level")): one["value"]
        for one in json.loads(done.stdout)
        if one["metric"] != "calibration_ledger_model_info"
    } == {
        (name, *key, *[None] * (2 - len(key))): value
        for name, samples in found.items()
        for key, value in samples.items()
        if name != "calibration_ledger_model_info"
    }
    table = run("--ledger", calibrator.ledger, "metrics", "slow", "--format", "markdown").stdout
    assert "| calibration_ledger_calls_total | slow |" in " ".join(table.split())
    assert run("metrics", "--format", "csv", "--openmetrics").exit_code == 2


def test_a_missing_ledger_or_model_is_an_error_and_no_file(calibrator, tmp_path):
    output = tmp_path / "out.prom"
    missing = run("--ledger", tmp_path / "none.db", "metrics", "-o", output)
    assert (missing.exit_code, missing.stdout) == (1, "")
    wrong = run("--ledger", calibrator.ledger, "metrics", "slo", "-o", output)
    assert wrong.exit_code != 0
    assert "slow" in wrong.stderr
    assert not output.exists()


def test_a_file_is_replaced_as_a_whole_and_may_be_read_by_a_collector(calibrator, tmp_path):
    output = tmp_path / "calibration_ledger.prom"
    output.write_text("before")
    Path(calibrator.ledger).chmod(0o600)
    before = os.umask(0o022)
    try:
        done = run("--ledger", calibrator.ledger, "metrics", "-o", output)
    finally:
        os.umask(before)
    assert (done.exit_code, done.output) == (0, "")
    assert output.read_text(encoding="utf-8") == metrics(calibrator)
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.glob("*.prom*")] == [output.name]


def test_what_cannot_be_written_leaves_the_file_that_was_there(calibrator, tmp_path):
    output = tmp_path / "out.prom"
    output.write_text("before")
    with pytest.raises(ModelNotFoundError):
        write_metrics(calibrator, output, ["nobody"])
    assert output.read_text() == "before"
    for wrong in (tmp_path, tmp_path / "no" / "out.prom", calibrator.ledger, ""):
        with pytest.raises(InvalidInputError):
            write_metrics(calibrator, wrong)
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_without_the_library_a_sentence_says_what_to_install(calibrator, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "calibration_ledger.live.prometheus")
    monkeypatch.delattr("calibration_ledger.live.prometheus", raising=False)
    done = run("--ledger", calibrator.ledger, "metrics")
    assert done.exit_code == 2
    assert "pip install prometheus-client" in done.stderr
    assert done.stdout == ""
