"""Reports of real ledgers, written to real files."""

import gzip
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import InvalidInputError, LedgerNotFoundError, ModelNotFoundError
from calibration_ledger.report import report
from calibration_ledger.report.drawing import _cache_file

START = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


@pytest.fixture
def calibrator(tmp_path):
    with AdaptiveCalibrator(tmp_path / "calls.db", durability="normal") as found:
        yield found
        assert found.audit() == []


def fill(calibrator, model="phi3:mini", calls=30):
    for at in range(calls):
        called_at = START + timedelta(hours=at)
        took = 400.0 + 30.0 * (at % 7)
        calibrator.record(model, 40 + at, took, completion_tokens=12, called_at=called_at)


def test_a_report_is_one_file_that_tells_every_model(calibrator, tmp_path):
    fill(calibrator)
    fill(calibrator, "llama3:8b", 1)
    path = report(calibrator, output=tmp_path / "report.html")
    page = path.read_text()
    assert path == tmp_path / "report.html"
    assert "phi3:mini" in page
    assert "llama3:8b" in page
    assert str(tmp_path) not in page
    assert 100_000 < path.stat().st_size < 2_000_000
    assert sorted(one.name for one in tmp_path.iterdir() if "html" in one.name) == ["report.html"]


def test_a_report_of_some_models_tells_those(calibrator, tmp_path):
    for model in ("a", "b", "c"):
        fill(calibrator, model, 3)
    page = report(calibrator, ["b", "b"], output=tmp_path / "r.html").read_text()
    assert page.count('<section id="model-') == 1
    assert '<h2 id="name-0">b</h2>' in page


def test_a_report_of_a_time_tells_the_calls_of_that_time(calibrator, tmp_path):
    fill(calibrator)
    since, until = START + timedelta(hours=10), START + timedelta(hours=15)
    page = report(calibrator, output=tmp_path / "r.html", since=since, until=until).read_text()
    assert '<th scope="row">calls in this time</th><td>5</td>' in page


def test_a_report_replaces_an_older_one_and_nothing_else(calibrator, tmp_path):
    fill(calibrator, calls=2)
    old = tmp_path / "report.html"
    old.write_text("old")
    report(calibrator, output=old)
    assert old.read_text().startswith("<!doctype html>")
    for place in (tmp_path, tmp_path / "calls.db", "/dev/null", tmp_path / "no" / "r.html"):
        with pytest.raises(InvalidInputError):
            report(calibrator, output=place)


def test_what_cannot_be_reported_is_a_typed_error_and_leaves_no_file(calibrator, tmp_path):
    target = tmp_path / "r.html"
    with pytest.raises(LedgerNotFoundError):
        report(calibrator, output=target)
    fill(calibrator, calls=1)
    with pytest.raises(ModelNotFoundError):
        report(calibrator, ["phi3:mini", "nobody"], output=target)
    for models in (3, [3], [""]):
        with pytest.raises(InvalidInputError):
            report(calibrator, models, output=target)
    with pytest.raises(InvalidInputError):
        report(calibrator, output=target, since=START.replace(tzinfo=None))
    assert not target.exists()


@pytest.mark.stress
def test_the_script_is_made_again_where_what_was_kept_is_torn(calibrator, tmp_path, monkeypatch):
    fill(calibrator, calls=1)
    first = report(calibrator, output=tmp_path / "a.html").read_text()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = _cache_file()
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"torn")
    again = report(calibrator, output=tmp_path / "b.html").read_text()
    assert len(first) == len(again)
    assert b"vegaEmbed" in gzip.decompress(kept.read_bytes())
    assert list(kept.parent.iterdir()) == [kept]


def test_without_the_extra_the_error_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['vl_convert'] = None\n"
        "from calibration_ledger import AdaptiveCalibrator\n"
        "from calibration_ledger.report import report\n"
        "report(AdaptiveCalibrator('x.db'), output='x.html')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "pip install vl-convert-python" in done.stderr
    assert list(tmp_path.iterdir()) == []
