"""Really measured calls of others, as published: zero, missing and absurd values included."""

import csv
import gzip
import io
import itertools
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.importing import HEADER

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = [
    "bfcl_result_20240811",
    "llmperf_leaderboard",
    "local_llm_bench_m1",
    "npc_agent_metrics",
    "ollama_small_llms",
    "splitwise_profile",
]

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the measured calls lie beside the checkout, and are not here"
)


@pytest.fixture
def calibrator(ledger_path):
    """On a file alone: these are many calls."""
    with AdaptiveCalibrator(ledger_path) as opened:
        yield opened
        assert opened.audit() == []


def converted(name, most):
    """The file with our columns, with the number of its rows and of those that say too little."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*HEADER.split(","), "called_at", "details"])
    rows = unknown = 0
    with gzip.open(DATA / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in itertools.islice(csv.DictReader(file), most):
            rows += 1
            numbers = [row["prompt_tokens"], row["completion_tokens"], row["latency_ms"]]
            unknown += not all(numbers)
            at = row["timestamp"] + "Z" if row["timestamp"] else ""
            details = f'{{"ttft_ms":{row["ttft_ms"]}}}' if row["ttft_ms"] else ""
            writer.writerow([row["model"], *numbers, at, details])
    return out.getvalue(), rows, unknown


@pytest.mark.parametrize("most", [2000, pytest.param(None, marks=pytest.mark.stress)])
@pytest.mark.parametrize("name", FILES)
def test_measured_calls_are_imported_and_audit(name, most, calibrator, other, tmp_path):
    text, rows, unknown = converted(name, most)
    path = tmp_path / "calls.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    report = calibrator.import_calls("csv", path, skip_bad=True)
    assert report.recorded == rows - unknown
    assert report.skipped == unknown
    assert all("is missing" in reason for reason, _ in report.skipped_reasons)
    again = calibrator.import_calls("csv", path, skip_bad=True)
    assert (again.recorded, again.already) == (0, rows - unknown)
    moved = io.StringIO()
    calibrator.export_ledger("jsonl", moved)
    other.import_calls("ledger", io.StringIO(moved.getvalue()))
    assert other.heads() == calibrator.heads()
