"""What is no ordinary file is never replaced by one: `--overwrite` on /dev/null, as root, did."""

import os
import stat

import pytest


@pytest.fixture(name="pipe")
def _pipe(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    yield path
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "words",
    [("export", "csv"), ("export", "jsonl"), ("export", "csv", "--salvage")],
    ids=" ".join,
)
def test_an_export_does_not_replace_it(calib, filled, pipe, words):
    result = calib(*words, "--overwrite", pipe, exit_code=2)
    assert "is no ordinary file" in result.stderr


def test_nor_do_saved_heads(calib, filled, pipe):
    result = calib("audit", "--save-heads", pipe, exit_code=2)
    assert "is no ordinary file" in result.stderr
