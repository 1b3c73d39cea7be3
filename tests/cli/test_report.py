"""`calib report`: it parses, and says what it wrote; tests/report looks at the page."""

import json

import pytest

from calibration_ledger import AdaptiveCalibrator

from .conftest import plain_calls, run_in_terminal


@pytest.fixture
def filled(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(plain_calls("a", 6))
        calibrator.record_many(plain_calls("b", 3))
    return ledger_path


def test_a_page_is_written_to_a_file_and_stdout_stays_empty(calib, filled, tmp_path):
    done = calib("report", "-o", str(tmp_path / "page.html"))
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("page.html: open it in a browser.")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<section id="model-') == 2


def test_what_was_written_is_told_to_programs_on_stdout(calib, filled, tmp_path):
    path = tmp_path / "page.html"
    done = calib("report", "-o", path, "--json")
    assert json.loads(done.stdout) == {"target": str(path), "size_bytes": path.stat().st_size}
    assert done.stderr == ""
    done = calib("report", "-o", "-", "--json", exit_code=2)
    assert "stdout gets the page: name a FILE, or leave --format out." in done.stderr


def test_a_page_of_some_models_goes_to_stdout(calib, filled):
    done = calib("report", "b", "-o", "-", "--since", "2020-01-01")
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.endswith("</html>\n")
    assert done.stdout.count('<section id="model-') == 1


def test_a_page_is_not_printed_on_a_terminal(filled):
    done = run_in_terminal("--ledger", filled, "report", "-o", "-")
    assert done.code == 2
    assert "name a FILE" in done.out


def test_a_model_that_is_not_there_is_named(calib, filled, tmp_path):
    done = calib("report", "nobody", "-o", str(tmp_path / "page.html"), exit_code=1)
    assert "nobody" in done.stderr
    assert not (tmp_path / "page.html").exists()
