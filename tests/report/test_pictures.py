"""`plot`: one chart as a picture in a file."""

import io
import sys
from xml.etree import ElementTree as ET

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError, ModelNotFoundError
from calibration_ledger.report import plot

pytest.importorskip("vl_convert")

NAME = 'm<&"$</script>'
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def calibrator(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(Call(NAME, 10 * i, i, 100.0 + 9 * i) for i in range(1, 40))
        yield calibrator
        assert calibrator.audit() == []


def test_an_svg_has_a_title_and_a_text_for_those_who_cannot_see_it(calibrator, tmp_path):
    path = plot(calibrator, NAME, "error", output=tmp_path / "error.svg", width=500)
    assert path == tmp_path / "error.svg"
    root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "chart-title chart-text")
    [chart] = calibrator.charts(NAME, "error")
    title, text = (root.find(f"{SVG}{tag}") for tag in ("title", "desc"))
    assert (title.get("id"), title.text) == ("chart-title", chart.title)
    assert (text.get("id"), text.text) == ("chart-text", chart.text)
    assert float(root.get("width")) == pytest.approx(500, abs=40)
    addresses = {value for one in root.iter() for key, value in one.items() if "href" in key}
    assert addresses == set()
    assert list(tmp_path.glob("*.partial")) == []


def test_a_png_is_drawn_light_or_dark_and_replaces_an_older_one(calibrator, tmp_path):
    path = tmp_path / "all.PNG"
    path.write_bytes(b"an older one")
    plot(calibrator, None, "models", output=path)
    light = path.read_bytes()
    plot(calibrator, None, "models", output=str(path), theme="dark")
    assert light.startswith(b"\x89PNG")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.read_bytes() != light


def test_an_open_file_gets_an_svg(calibrator):
    file = io.BytesIO()
    assert plot(calibrator, NAME, "speed", output=file) is None
    assert file.getvalue().startswith(b"<svg ")


WRONG = {
    "no suffix": ({"output": "error"}, "let 'error' end in .png or .svg"),
    "another suffix": ({"output": "error.pdf"}, "let 'error.pdf' end in .png or .svg"),
    "a folder": ({"output": "folder.svg"}, "is a folder"),
    "the ledger": ({"output": "LEDGER"}, "end in .png or .svg"),
    "no folder": ({"output": "nowhere/error.svg"}, "its folder does not exist"),
    "no kind": ({"kind": "eror"}, "a kind is one of"),
    "a kind of all models": ({"kind": "models"}, "is of all models"),
    "too narrow": ({"width": 100}, "240 to 4000 pixels wide, not 100"),
    "too wide": ({"width": 10**6}, "240 to 4000 pixels wide, not 1000000"),
    "no number": ({"width": "wide"}, "pixels wide, not 'wide'"),
    "no theme": ({"theme": "page"}, "a theme is 'light' or 'dark', not 'page'"),
}


@pytest.mark.parametrize(("wrong", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_and_nothing_is_written(
    calibrator, tmp_path, monkeypatch, wrong, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    wishes = {"kind": "error", "output": "error.svg"} | wrong
    if wishes["output"] == "LEDGER":
        wishes["output"] = calibrator.ledger
    with pytest.raises(InvalidInputError) as error:
        plot(calibrator, NAME, **wishes)
    assert told in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_model_that_is_not_there_is_told_and_an_older_picture_stays(calibrator, tmp_path):
    path = tmp_path / "error.svg"
    path.write_text("an older one", encoding="utf-8")
    with pytest.raises(ModelNotFoundError):
        plot(calibrator, "never seen", "error", output=path)
    assert path.read_text(encoding="utf-8") == "an older one"


def test_without_the_extra_one_sentence_says_what_to_install(calibrator, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(InvalidInputError, match=r"pip install vl-convert-python\.$"):
        plot(calibrator, NAME, "error", output=tmp_path / "error.svg")
