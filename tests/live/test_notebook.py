"""A real notebook, run by a real kernel: what it shows of values."""

import json
import sys

import pytest

from calibration_ledger import AdaptiveCalibrator, Call

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: it is in `clients`")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: it is in `clients`")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: it is in `clients`")

CELLS = (
    "import os, calibration_ledger as cl; c = cl.AdaptiveCalibrator(os.environ['LEDGER'])",
    "c.all_stats()",
    "c.get_stats('<b>phi3')",
    "c.replay()",
    "c.sweep(alphas=[0.1, 0.2], rules='ema')[0]",
    "c.forecast('<b>phi3', 100)",
    "c.drift()",
    "c.all_stats()[0]['sample_count']",
)


@pytest.mark.filterwarnings("ignore")  # of the notebook's own libraries
def test_a_notebook_shows_tables_and_obeys_no_name(tmp_path, monkeypatch):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(Call("<b>phi3", 100 + i, 20, 500.0 + i) for i in range(50))
    monkeypatch.setenv("LEDGER", str(path))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    spec = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    kernel = tmp_path / "jupyter" / "kernels" / "here"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    told = {"argv": argv, "display_name": "here", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(told))
    done = nbclient.NotebookClient(spec, timeout=120, kernel_name="here").execute()
    shown = [cell.outputs[0].data if cell.outputs else {} for cell in done.cells]
    for data in shown[1:-1]:
        assert "<table>" in data["text/html"]
        assert "&lt;b&gt;phi3" in data["text/html"]
        assert "<b>" not in data["text/html"]
        assert data["text/plain"], "where no HTML is shown, the text is as ever"
    assert shown[-1] == {"text/plain": "50"}
