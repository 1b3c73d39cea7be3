"""`calib plot`: one chart as a picture, and words that name none."""

import json

import pytest

pytest.importorskip("vl_convert")


def test_a_chart_becomes_a_file_and_stdout_gets_nothing(calib, filled, tmp_path):
    path = tmp_path / "sweep.svg"
    shown = calib("plot", "tiny", "sweep", "-o", path, "--width", 400)
    assert (shown.stdout, shown.stderr) == ("", f"{path}: the chart sweep of tiny.\n")
    assert path.read_text(encoding="utf-8").startswith("<svg ")


def test_a_dash_writes_an_svg_to_stdout(calib, filled):
    shown = calib("plot", "-m", "tiny", "speed", "-o", "-", "--dark", "--since", "2026-01-02")
    assert shown.stdout.startswith("<svg ")
    assert shown.stdout.endswith("</svg>\n")
    assert shown.stderr == ""


def test_what_was_written_is_told_to_programs_on_stdout(calib, filled, tmp_path):
    path = tmp_path / "speed.png"
    shown = calib("plot", "tiny", "speed", "-o", path, "--format", "json")
    assert json.loads(shown.stdout) == {
        "model": "tiny",
        "kind": "speed",
        "target": str(path),
        "size_bytes": path.stat().st_size,
    }
    assert shown.stderr == ""


WRONG = {
    "nothing": ((), "name one model and one kind of chart: calib plot MODEL KIND."),
    "two models": (("tiny", "tiny", "error"), "name one model and one kind"),
    "a model twice": (("tiny", "error", "-m", "tiny"), "name one model and one kind"),
    "a model alone": (("tiny",), "'tiny' is no kind of chart: give models, actual, error"),
    "a kind alone": (("error",), "the chart 'error' is of one model: calib plot MODEL error."),
    "nearly a kind": (("tiny", "coeficients"), "Did you mean 'coefficients'?"),
    "in capitals": (("tiny", "Sweep"), "Did you mean 'sweep'?"),
    "all, of one": (("tiny", "models"), "the chart 'models' is of all models: leave the model out"),
    "two results": (("tiny", "error", "-o", "-", "--json"), "stdout gets the picture: name a FILE"),
    "a wrong name": (("tiny", "error", "-o", "error.jpg"), "end in .png or .svg"),
}


@pytest.mark.parametrize(("args", "told"), WRONG.values(), ids=WRONG)
def test_wrong_usage_is_told_in_a_sentence(calib, filled, tmp_path, monkeypatch, args, told):
    monkeypatch.chdir(tmp_path)
    shown = calib("plot", *("-o", "x.svg"), *args, exit_code=2)
    assert told in " ".join(shown.stderr.split())
    assert shown.stdout == ""
    assert not [*tmp_path.glob("x.*"), *tmp_path.glob("error.*")]


def test_of_a_mistyped_model_the_nearest_is_named(calib, filled, tmp_path):
    shown = calib("plot", "Tinny", "error", "-o", tmp_path / "error.svg", exit_code=1)
    assert "did you mean 'tiny'?" in shown.stderr
