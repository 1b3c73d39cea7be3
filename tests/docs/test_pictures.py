"""The pictures of the pages: `docs/pictures.py` makes them."""

import os
import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("vl_convert")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "pictures.py"
FOLDER = ROOT / "docs" / "_static"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

BYTES = {".svg": 100_000, ".png": 300_000}
"""A picture at the most; all of them together are as large as a photo."""


def pictured():
    """Each picture that a page shows, with what is told to those who cannot see it."""
    image = re.compile(r"!\[([^]]*)\]\(([^)]+)\)")
    for page in PAGES:
        for told, target in image.findall(page.read_text(encoding="utf-8")):
            yield (page.parent / target).resolve(), told


def made():
    names = runpy.run_path(str(SCRIPT))
    return {*names["PLOTS"], *names["SCREENS"], *names["SCREENSHOTS"]}


def test_every_picture_that_a_page_shows_is_there_and_is_told_in_words():
    shown = list(pictured())
    assert ROOT / "docs" / "_static" in {path.parent for path, _ in shown}
    for path, told in shown:
        assert path.is_file(), path
        assert len(told.split()) > 8, path
    assert "](docs/_static/" in PAGES[0].read_text(encoding="utf-8")


def test_the_script_makes_every_picture_that_is_shown_and_no_other():
    there = {path.name for path in FOLDER.iterdir() if path.suffix in BYTES}
    assert there == made() == {path.name for path, _ in pictured()}


def test_no_picture_is_larger_than_it_need_be_or_fetches_anything():
    for path in FOLDER.iterdir():
        if path.suffix in BYTES:
            assert path.stat().st_size <= BYTES[path.suffix], path
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"href=|url\((?!#)|@import|<script", text), path
            assert not re.search(r"/(home|root|tmp)\b", text), path


def words_of(svg):
    """What a reader sees, however it is placed."""
    return re.sub(r"<style>.*?</style>|<[^>]*>|\s", "", svg, flags=re.DOTALL)


def make(folder, monkeypatch, *names):
    only = [word for name in names for word in ("--only", name)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folder), *only])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return {path.name: path.read_bytes().decode(errors="replace") for path in folder.iterdir()}


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal to picture is of POSIX")
def test_the_script_runs_and_its_pictures_are_of_today(tmp_path, monkeypatch):
    """`UPDATE_DOCS=1` makes all of them anew; then look at them."""
    if os.environ.get("UPDATE_DOCS"):
        make(FOLDER, monkeypatch)
    found = make(tmp_path, monkeypatch, "terminal-stats.svg")
    assert found.keys() == {"terminal-stats.svg"}
    words = words_of(found["terminal-stats.svg"])
    assert "newest&#160;errors" in words
    assert words == words_of((FOLDER / "terminal-stats.svg").read_text(encoding="utf-8"))


@pytest.mark.stress
def test_the_script_makes_all_of_them(tmp_path, monkeypatch):
    found = make(tmp_path, monkeypatch)
    assert found.keys() | {"report.png"} == made()  # which needs Chromium
