"""Files of other tools, taken into a ledger of their own."""

from __future__ import annotations

import json
from pathlib import Path

from calibration_ledger import AdaptiveCalibrator

SAMPLES = Path(__file__).parents[1] / "formats" / "samples"
REAL = Path(__file__).parents[3] / "shared" / "samples"


def imported(name, path, **options):
    """The calls that a file gives, and how many were left out by each reason.

    It is taken in twice: the second time nothing is new.
    """
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls(name, path, **options)
        again = calibrator.import_calls(name, path, **options)
        assert (again.recorded, again.left_out) == (0, report.left_out)
        assert calibrator.audit() == []
        calls = sorted(calibrator.calls(), key=lambda call: (call.called_at, call.seq))
        assert len(calls) == report.recorded
        return calls, dict(report.left_out)


def numbers(calls):
    """What is learnt of calls."""
    return [(c.model, c.prompt_tokens, c.completion_tokens, c.actual_ms) for c in calls]


def details(call):
    """The details of a call without the id of its import."""
    return {name: value for name, value in call.details.items() if name != "import_id"}


def written(tmp_path, *records, name="file.jsonl"):
    """A file of JSON lines."""
    path = tmp_path / name
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def lines_of(name):
    """The records of a sample of JSON lines."""
    return [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]
