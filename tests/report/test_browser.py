"""The page in a real Chromium: the one that the system has, without a screen."""

import os
import shutil
from functools import cache

import pytest

from calibration_ledger.report.drawing import bundle
from calibration_ledger.report.page import compose
from support.hand_made import NASTY

from .test_page import content_of

playwright = pytest.importorskip(
    "playwright.sync_api", reason="what drives the browser is not installed: the extra `clients`"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

WHOLE = "[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn)"
MODELS = ("phi3:mini", NASTY)
PANELS = 1 + 2 * 8


@cache
def page_of(models):
    with bundle() as program:
        return compose(content_of(models, utc=False), program)


@pytest.fixture(scope="module")
def browser():
    # Chromium's sandbox does not start for root, as whom containers run; the page is our own.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page with all its charts drawn; in the end nothing was fetched, and nobody warned."""
    said, asked, contexts = [], [], []

    def opened(models=MODELS, *, wait=True, **options):
        file = tmp_path / "report.html"
        file.write_text(page_of(models))
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        if wait:
            page.wait_for_function(WHOLE)
        return page

    yield opened
    assert said == []
    assert {url.partition(":")[0] for url in asked} <= {"file"}
    assert len(asked) == len(contexts)
    for context in contexts:
        context.close()


def colours_of(page):
    return page.evaluate(
        "[document.body, document.querySelector('.plot text')].map((one) => "
        "(({backgroundColor, fill}) => [backgroundColor, fill])(getComputedStyle(one))).flat()"
    )


def test_every_chart_is_drawn_and_has_something_in_it(opened):
    page = opened()
    assert page.locator(".plot").count() == PANELS
    assert page.locator(".plot svg").count() == PANELS
    marks = page.evaluate(
        "[...document.querySelectorAll('.plot')].map((plot) => plot.querySelectorAll("
        "'.mark-symbol path, .mark-line path, .mark-area path, .mark-rect path, .mark-rule line'"
        ").length)"
    )
    assert min(marks) >= 2
    assert page.locator("[data-drawn=true]").count() == PANELS + 1


def test_a_name_does_nothing_and_is_read_as_it_is(opened):
    page = opened()
    assert page.locator("b").count() == 0
    shown = page.locator("#name-1").text_content()
    assert shown == '</script><b onclick="x()">\\u202e & {{name}} ${x} \\x1b[2J'
    assert shown[:20] in "".join(page.locator("#all-models .plot text").all_text_contents())


def test_light_and_dark_follow_the_system_and_the_switch(opened):
    light = opened(color_scheme="light")
    dark = opened(color_scheme="dark")
    in_light, in_dark = colours_of(light), colours_of(dark)
    assert in_light != in_dark
    light.get_by_label("Dark").check(force=True)
    assert colours_of(light) == in_dark
    dark.get_by_label("Light").check(force=True)
    assert colours_of(dark) == in_light
    dark.get_by_label("Auto").check(force=True)
    assert colours_of(dark) == in_dark


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_is_never_wider_than_the_screen(opened, width):
    page = opened(viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "[...document.querySelectorAll('.plot svg')].filter((svg) => "
        "svg.getBoundingClientRect().right > innerWidth || "
        "svg.getBoundingClientRect().width > svg.parentElement.clientWidth + 1).length"
    )
    assert outside == 0


def test_all_of_it_is_reached_by_keyboard_in_the_order_of_the_page(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    places = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "(({ tagName, type }) => [tagName, type, getComputedStyle(document.activeElement)"
            ".outlineStyle])(document.activeElement)"
        )
        if place[0] == "BODY":
            break
        places.append(place)
    tags = [tag for tag, *_ in places]
    assert {"INPUT", "A", "SUMMARY", "DIV"} <= {*tags}
    assert tags.count("SUMMARY") == 1 + 2 * 8  # two models, and the numbers of every chart drawn
    assert all(outline != "none" for _, kind, outline in places if kind != "radio")


def test_the_numbers_of_a_chart_are_tables_that_open_by_keyboard(opened):
    page = opened(timezone_id="Europe/Berlin")
    summary = page.locator("#m0-error details.numbers summary")
    summary.focus()
    page.keyboard.press("Enter")
    tables = page.locator("#m0-error table")
    tables.first.wait_for()
    captions = page.locator("#m0-error caption").all_text_contents()
    events = ["reset", "recalibrated", "voided", "imported", "archived", "drift"]
    assert captions == ["9 of 10 calls", "median", *events]
    rows = tables.nth(1).locator("tr").all_text_contents()
    assert len(rows) == 61
    assert page.locator("#m0-error table").nth(1).locator("td, th").all_text_contents()[:4] == [
        "Time",
        "Error (ms)",
        "2026-11-18 12:06",
        "-350",
    ]


def test_paper_is_white_and_has_every_chart(opened):
    page = opened(tuple(f"model-{at}" for at in range(8)), wait=False, color_scheme="dark")
    assert page.locator("details.model[open]").count() == 1
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(WHOLE)
    page.emulate_media(media="print")
    assert page.locator("details.model[open]").count() == 8
    assert colours_of(page)[0] == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    assert len(page.pdf()) > 100_000


def test_many_models_are_folded_and_open_where_a_link_leads(opened):
    page = opened(tuple(f"model-{at}" for at in range(8)), wait=False)
    page.locator("nav a", has_text="model-5").click()
    page.wait_for_selector("#model-5 .plot[data-drawn]")
    assert page.locator("details.model[open]").count() == 2
    page.get_by_role("button", name="Open all").click()
    page.wait_for_function(WHOLE)
    page.get_by_role("button", name="Close all").click()
    assert page.locator("details.model[open]").count() == 0
