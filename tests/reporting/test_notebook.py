"""HTML of reports, scores and sets in notebooks: complete, escaped, and imported only on demand."""

from __future__ import annotations

import ast
import base64
import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import hseval
from hseval.core.cubes import ArraySet
from hseval.core.report import Report, Score
from hseval.reporting.summary import list_structures
from tests.helpers.sets import make_texture_set, save_set

SCRIPT = "<script>alert(1)</script>"
VOID_TAGS = {"img", "br", "meta"}


class HtmlTree(HTMLParser):
    """Checks that tags close in order; collects tags, images and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [] if tag in VOID_TAGS else [tag]
        self.images += [str(dict(attrs)["src"])] if tag == "img" else []
        assert all(name in ("style", "scope", "src", "alt", "class") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data.strip()}" if data.strip() else ""


def parse_html(thing: object) -> HtmlTree:
    return HtmlTree(thing._repr_html_())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("sets")
    generated, real = (
        save_set(folder / f"{name}.h5", make_texture_set(12, size=24, seed=i)) for i, name in enumerate("ab")
    )
    return hseval.score(generated, ref=real, metrics=["spectral-kl", "spectral-angle"], cache=False)


def test_a_report_shows_every_score_and_note(report: Report) -> None:
    page = parse_html(report)
    assert page.tags.count("thead") == 1
    for score in report.scores:
        assert f" {score.name} {score.value:.4g} " in page.text
        assert f" {score.floor:.4g} " in page.text
        assert f" {score.verdict} " in page.text
    for note in (*report.notes, *report.differences):
        assert note in page.text


def test_a_score_shows_its_structures(report: Report) -> None:
    page = parse_html(report["spectral-kl"])
    structures = list_structures(report["spectral-kl"])
    assert [name for name, *_ in structures] == ["bright", "dark"]
    for name, value, floor in structures:
        assert f" {name} {value:.4g} {floor:.4g} " in page.text


def test_a_score_without_a_value_shows_the_reason() -> None:
    score = Score(name="kid", better="lower", verdict="not computed: too few")
    assert " kid - - - - - not computed: too few - lower" in parse_html(score).text


def test_a_set_shows_its_headers_and_its_first_cubes() -> None:
    cubes = make_texture_set(7, size=24)
    page = parse_html(cubes)
    for text in ("cubes 7", "6 x 24 x 24 (band, y, x)", "6 bands, 450 to 905 nm", "bright, dark, fov"):
        assert text in page.text
    assert len(page.images) == 4
    from PIL import Image

    for i, source in enumerate(page.images):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
        assert image.shape == (24, 24, 4)
        assert np.array_equal(image[..., 3] == 255, cubes.masks["fov"][i])
        assert image[cubes.masks["fov"][i]].std() > 0


def test_a_set_of_large_cubes_is_shown_without_reading_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cubes = make_texture_set(2, size=24)
    monkeypatch.setattr("hseval.reporting.notebook.MAX_CUBE_VALUES", 100)
    monkeypatch.setattr(ArraySet, "read", lambda *_: pytest.fail("read"))
    assert parse_html(cubes).images == []


def test_a_set_that_can_not_be_read_is_shown_with_the_reason(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", make_texture_set(1).cubes[0])
    opened = hseval.open_set(tmp_path)
    (tmp_path / "a.npy").unlink()
    page = parse_html(opened)
    assert "no image: " in page.text
    assert page.images == []


def test_unknown_wavelengths_and_empty_sets_are_shown() -> None:
    cubes = np.zeros((0, 3, 4, 4))
    assert "3 bands, not known" in parse_html(ArraySet(cubes)).text
    assert "cubes 0" in parse_html(ArraySet(cubes)).text


def test_text_from_files_is_escaped() -> None:
    base = make_texture_set(2, size=24)
    names = [SCRIPT, f'"{SCRIPT}']
    cubes = ArraySet(base.cubes, masks={SCRIPT: base.masks["bright"]}, ids=names, groups=names, location=SCRIPT)
    details = {"shown": {SCRIPT: SCRIPT}, "structures": {SCRIPT: {}}}
    score = Score(name=SCRIPT, value=1.0, better="lower", verdict=SCRIPT, details=details)
    for thing in (cubes, score, Report((score,), (SCRIPT,), {SCRIPT: SCRIPT})):
        page = parse_html(thing)
        assert "script" not in page.tags
        assert SCRIPT in page.text


def test_importing_hseval_loads_no_template_engine() -> None:
    code = (
        "import sys, hseval, hseval.core.report, hseval.core.cubes; "
        "print([m for m in ('jinja2', 'PIL') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ast.literal_eval(process.stdout) == []
