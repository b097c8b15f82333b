"""The HTML report in a real, headless Chromium: nothing fails, the slider moves, tables sort, text stays text.

Skipped where there is no Chromium, visibly; with HSEVAL_BROWSER set (``make test-browser``) that fails.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hseval as package
from hseval.core.cubes import ArraySet
from hseval.renderers.html import HtmlRenderer
from tests.helpers.sets import texture_set

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("background-networking", "component-update", "sync", "gpu")  # what Chromium is to leave alone
EVIL = "<script>window.struck = true</script>"
STRIKE = "<img src=x onerror='window.struck = true'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without("playwright is not installed (pip install playwright)")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        _without(f"no Chromium: none of {', '.join(NAMES)} is on the path (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", *(f"--disable-{what}" for what in QUIET)]
        started = playwright.chromium.launch(executable_path=found, args=flags)
        yield started
        started.close()


def _without(why: str) -> None:
    if os.environ.get("HSEVAL_BROWSER"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    sets = []
    for seed in (1, 2, 3):
        base = texture_set(10, size=24, seed=seed)
        ids = [f"{seed}-{i}{(EVIL, STRIKE)[i % 2]}" for i in range(10)]
        masks = {"fov": base.masks["fov"], f"vein{STRIKE}": base.masks["bright"], "dark": base.masks["dark"]}
        sets.append(ArraySet(base.cubes, wavelengths=base.wavelengths, masks=masks, ids=ids))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(folder / "cache"))
        report = package.score(sets[0], ref=sets[1], train=sets[2], exhibits=True)
    stream = io.StringIO()
    HtmlRenderer().render(report, stream)
    (folder / "page.html").write_text(stream.getvalue(), encoding="utf-8")
    return folder / "page.html"


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Any]:
    """A tab with the page in it, every plot looked at once; fails where the console or the network said anything."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    tab.goto(written.as_uri())
    for plot in tab.query_selector_all(".plot"):
        plot.scroll_into_view_if_needed()
    tab.wait_for_function("() => [...document.querySelectorAll('.plot')].every((plot) => plot.dataset.live)")
    yield tab
    tab.close()
    assert said == []


def test_the_slider_moves_every_film_and_says_where_it_is(opened: Any) -> None:
    slider, window = opened.locator("#band"), opened.locator(".film").first
    film = window.locator("img")
    window.scroll_into_view_if_needed()
    before, start = window.screenshot(), film.bounding_box()["y"] - window.bounding_box()["y"]
    slider.focus()
    for _ in range(2):
        opened.keyboard.press("ArrowRight")
    assert opened.locator("output[for=band]").inner_text() == slider.get_attribute("aria-valuetext")
    assert film.get_attribute("alt").endswith(slider.get_attribute("aria-valuetext"))
    place = window.bounding_box()
    assert start - (film.bounding_box()["y"] - place["y"]) == pytest.approx(2 * place["height"], rel=0.15)
    assert window.screenshot() != before


def test_a_table_sorts_by_number_and_says_how(opened: Any) -> None:
    head = opened.locator("#score-table thead th").nth(2)  # value
    values = "() => [...document.querySelectorAll('#score-table tbody tr')].map((row) => row.cells[2].dataset.value)"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = [float(each) for each in opened.evaluate(values) if each]
    assert rising == sorted(rising)
    opened.keyboard.press("Enter")  # the button keeps the focus
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(each) for each in opened.evaluate(values) if each] == rising[::-1]


def test_text_from_files_stays_text(opened: Any) -> None:
    assert opened.evaluate("() => window.struck") is None
    assert EVIL in opened.locator("#pictures ~ section").first.inner_text()
    opened.locator("#features + .plot .points_marks path").last.hover(force=True)
    opened.wait_for_selector("#vg-tooltip-element.visible", timeout=5000)
    told = opened.locator("#vg-tooltip-element").inner_text()
    assert EVIL in told or STRIKE in told
    assert opened.evaluate("() => window.struck") is None


def test_a_script_that_got_in_would_not_run(browser: Any, written: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / "page.html"
    text = written.read_text(encoding="utf-8")
    spoiled.write_text(text.replace("<main>", f"<main>{EVIL}{STRIKE}", 1), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(spoiled.as_uri())
    tab.wait_for_timeout(200)
    assert tab.evaluate("() => window.struck") is None
    tab.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_it_fits_a_phone_and_follows_the_scheme(browser: Any, written: Path, scheme: str, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.goto(written.as_uri())
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    paper = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    ink = "() => getComputedStyle(document.querySelector('.plot svg text')).fill"
    light = scheme == "light"
    level = sum(int(each) for each in tab.evaluate(ink).removeprefix("rgb(").removesuffix(")").split(","))
    assert (level < 3 * 128) == light  # plots follow, too
    tab.emulate_media(media="print")
    assert tab.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.close()
