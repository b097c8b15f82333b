"""The HTML report in a headless Chromium: nothing fails, the slider moves, tables sort, text stays text.

Skipped where there is no Chromium; with HSEVAL_BROWSER set (``make test-browser``) that fails.
"""

from __future__ import annotations

import dataclasses
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
from tests.helpers.sets import make_texture_set

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
DISABLED_FEATURES = ("background-networking", "component-update", "sync", "gpu")  # of Chromium
EVIL = "<script>window.struck = true</script>"
STRIKE = "<img src=x onerror='window.struck = true'>"
UNITS = '\\" + (window.struck = true) + "\x1b\x07\n\u2028'  # would leave a text in an expression of Vega


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed (pip install playwright)")
    executable = next((path for name in NAMES if (path := shutil.which(name))), None)
    if executable is None:
        skip_or_fail(f"no Chromium: none of {', '.join(NAMES)} is on the path (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", *(f"--disable-{feature}" for feature in DISABLED_FEATURES)]
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        yield browser
        browser.close()


def skip_or_fail(reason: str) -> None:
    if os.environ.get("HSEVAL_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    sets = []
    for seed in (1, 2, 3):
        base = make_texture_set(10, size=24, seed=seed)
        ids = [f"{seed}-{i}{(EVIL, STRIKE)[i % 2]}\x1b\u202e" for i in range(10)]
        masks = {"fov": base.masks["fov"], f"vein{STRIKE}\0": base.masks["bright"], "dark": base.masks["dark"]}
        cubes = ArraySet(base.cubes, wavelengths=base.wavelengths, masks=masks, ids=ids)
        cubes.info = dataclasses.replace(cubes.info, units=UNITS)
        sets.append(cubes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(folder / "cache"))
        report = package.score(sets[0], ref=sets[1], train=sets[2], exhibits=True)
    stream = io.StringIO()
    HtmlRenderer().render(report, stream)
    (folder / "page.html").write_text(stream.getvalue(), encoding="utf-8")
    return folder / "page.html"


@pytest.fixture
def tab(browser: Any, page_path: Path) -> Iterator[Any]:
    """Open the page in a tab, scroll to every plot, and fail on any console message or network request."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    messages: list[str] = []
    tab.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on(
        "request",
        lambda request: messages.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    tab.goto(page_path.as_uri())
    for plot in tab.query_selector_all(".plot"):
        plot.scroll_into_view_if_needed()
    tab.wait_for_function("() => [...document.querySelectorAll('.plot')].every((plot) => plot.dataset.live)")
    yield tab
    tab.close()
    assert messages == []


def test_the_slider_moves_every_film_and_states_the_wavelength(tab: Any) -> None:
    slider, window = tab.locator("#band"), tab.locator(".film").first
    film = window.locator("img")
    window.scroll_into_view_if_needed()
    before, start = window.screenshot(), film.bounding_box()["y"] - window.bounding_box()["y"]
    slider.focus()
    for _ in range(2):
        tab.keyboard.press("ArrowRight")
    assert tab.locator("output[for=band]").inner_text() == slider.get_attribute("aria-valuetext")
    assert film.get_attribute("alt").endswith(slider.get_attribute("aria-valuetext"))
    box = window.bounding_box()
    assert start - (film.bounding_box()["y"] - box["y"]) == pytest.approx(2 * box["height"], rel=0.15)
    assert window.screenshot() != before


def test_a_table_sorts_by_number_and_states_the_direction(tab: Any) -> None:
    heading = tab.locator("#score-table thead th").nth(2)  # value
    values = "() => [...document.querySelectorAll('#score-table tbody tr')].map((row) => row.cells[2].dataset.value)"
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    ascending = [float(value) for value in tab.evaluate(values) if value]
    assert ascending == sorted(ascending)
    tab.keyboard.press("Enter")  # the button keeps the focus
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in tab.evaluate(values) if value] == ascending[::-1]


def test_text_from_files_stays_text(tab: Any) -> None:
    assert tab.evaluate("() => window.struck") is None
    assert EVIL in tab.locator("#pictures ~ section").first.inner_text()
    tab.locator("#features + .plot .points_marks path").last.hover(force=True)
    tab.wait_for_selector("#vg-tooltip-element.visible", timeout=5000)
    tooltip = tab.locator("#vg-tooltip-element").inner_text()
    assert EVIL in tooltip or STRIKE in tooltip
    assert tab.evaluate("() => window.struck") is None


def test_charts_work_without_eval_and_a_click_on_the_legend_selects_a_set(tab: Any) -> None:
    policy = tab.locator("meta[http-equiv]").get_attribute("content")
    scripts = next(part for part in policy.split(";") if part.strip().startswith("script-src"))
    assert "unsafe" not in scripts
    assert all(source.startswith("'sha256-") for source in scripts.split()[1:])
    opacity = """() => [...document.querySelectorAll('#features + .plot .points_marks path')]
                       .map((mark) => mark.getAttribute('opacity'))"""
    assert set(tab.evaluate(opacity)) == {"0.65"}
    tab.locator("#features + .plot .role-legend-symbol path").first.click(force=True)
    tab.wait_for_timeout(300)
    assert set(tab.evaluate(opacity)) == {"0.65", "0.05"}


def test_an_injected_script_does_not_run(browser: Any, page_path: Path, tmp_path: Path) -> None:
    injected = tmp_path / "page.html"
    text = page_path.read_text(encoding="utf-8")
    injected.write_text(text.replace("<main>", f"<main>{EVIL}{STRIKE}", 1), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(injected.as_uri())
    tab.wait_for_timeout(200)
    assert tab.evaluate("() => window.struck") is None
    tab.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_it_fits_a_phone_and_follows_the_scheme(browser: Any, page_path: Path, scheme: str, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.goto(page_path.as_uri())
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    paper = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    ink = "() => getComputedStyle(document.querySelector('.plot svg text')).fill"
    light = scheme == "light"
    level = sum(int(channel) for channel in tab.evaluate(ink).removeprefix("rgb(").removesuffix(")").split(","))
    assert (level < 3 * 128) == light  # plots follow the scheme, too
    tab.emulate_media(media="print")
    assert tab.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.close()
