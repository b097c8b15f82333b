"""The HTML report: complete, escaped, small, deterministic, and without influence on the scores."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hseval as package
from hseval.core.cubes import ArraySet
from hseval.core.figure_data import EmbeddedPoints, Embedding, FigureData, SensitivitySection
from hseval.core.report import Report, Score
from hseval.core.report_file import load_report
from hseval.renderers.html import HtmlRenderer
from hseval.renderers.html.charts import count_outside_frame
from hseval.reporting.figures import apply_placement, build_embedding
from hseval.reporting.preview.render import CubeRenderer
from hseval.sweep.plan import PlotConfig
from hseval.sweep.results import RunResult, SweepResults, Timing
from tests.helpers.sets import make_texture_set, save_set

EVIL = "<script>alert(1)</script>"
BREAKERS = (EVIL, "</script><!--", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "a&b 'c'")
METRICS = ["fid", "spectral-kl", "ms-ssim", "authenticity"]


class Page(html.parser.HTMLParser):
    """Tags, text and scripts of a page, as a browser's parser sees them."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.script_type: str | None = None
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.script_type = dict(attrs).get("type") or tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.script_type = None

    def handle_data(self, data: str) -> None:
        if self.script_type is None:
            self.text.append(data)
        else:
            self.scripts.append((self.script_type, data))

    def find_all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def rename_cubes(base: ArraySet, prefix: str) -> ArraySet:
    ids = [f"{prefix}{i}{BREAKERS[i % len(BREAKERS)]}" for i in range(len(base))]
    masks = {"fov": base.masks["fov"], f"vein{EVIL}": base.masks["bright"]}
    return ArraySet(base.cubes, wavelengths=base.wavelengths, masks=masks, ids=ids, location=f"{prefix}{EVIL}.h5")


def render_page(report: Report) -> str:
    stream = io.StringIO()
    HtmlRenderer().render(report, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    sets = [
        rename_cubes(make_texture_set(10, size=24, seed=seed), name) for name, seed in (("s", 1), ("r", 2), ("t", 3))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return package.score(sets[0], ref=sets[1], train=sets[2], metrics=METRICS, exhibits=True)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_page(report)


def test_every_section_is_on_the_page(page: str) -> None:
    ids = {attributes.get("id") for _, attributes in Page(page).tags}
    expected = {"scores", "pictures", "spectra", "wavelength", "pairs", "features", "values", "behind", "provenance"}
    assert expected <= ids


def test_nothing_from_files_becomes_a_tag_or_a_script(page: str) -> None:
    parsed = Page(page)
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
    sources = [image["src"] for image in parsed.find_all("img")]
    assert all(str(source).startswith(("data:image/png;base64,", "data:image/webp;base64,")) for source in sources)
    assert not any("alert(1)" in text for kind, text in parsed.scripts if kind == "script")
    assert any(EVIL in text for text in parsed.text)  # it is shown as text
    assert "{{ 7*7 }}" in "".join(parsed.text)
    assert "49" not in [text.strip() for text in parsed.text]


def test_specifications_of_plots_are_json_that_nothing_can_end(page: str, report: Report) -> None:
    specs = [text for kind, text in Page(page).scripts if kind == "application/json"]
    assert len(specs) > 5
    for text in specs:
        assert "<" not in text
        json.loads(text)
    plotted_id = report.exhibits.embedding.points[0].ids[0]  # type: ignore[union-attr]
    assert any(plotted_id in json.dumps(json.loads(text), ensure_ascii=False).replace('\\"', '"') for text in specs)


def test_the_page_loads_nothing_and_runs_only_its_own_two_scripts(page: str) -> None:
    parsed = Page(page)
    policy = next(str(meta["content"]) for meta in parsed.find_all("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "unsafe" not in re.search(r"script-src[^;]*", policy)[0]  # type: ignore[index]
    assert policy.count("sha256-") == 2
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "url(http" not in page
    assert "@import" not in page


def test_images_plots_and_tables_have_text_alternatives(page: str) -> None:
    parsed = Page(page)
    assert all(image.get("alt") for image in parsed.find_all("img"))
    assert len(parsed.find_all("caption")) == len(parsed.find_all("table"))
    slider = parsed.find_all("input")[0]
    assert slider["type"] == "range"
    assert any(label.get("for") == slider["id"] for label in parsed.find_all("label"))
    assert slider["aria-valuetext"]
    canvases = [div for div in parsed.find_all("div") if div.get("class") == "canvas"]
    assert canvases
    assert all(canvas.get("role") == "img" and canvas.get("aria-label") for canvas in canvases)
    assert parsed.find_all("html")[0]["lang"] == "en"


def test_clip_ids_of_drawings_are_unique(page: str) -> None:
    clips = re.findall(r'<clipPath id="([^"]+)"', page)
    used = set(re.findall(r"url\(#(c[0-9a-f]{8}-[^)]+)\)", page))
    assert used
    assert used <= set(clips)
    assert len(set(clips)) == len(clips)


def test_figure_data_changes_no_score(report: Report) -> None:
    sets = [
        rename_cubes(make_texture_set(10, size=24, seed=seed), name) for name, seed in (("s", 1), ("r", 2), ("t", 3))
    ]
    plain = package.score(sets[0], ref=sets[1], train=sets[2], metrics=METRICS)
    assert plain.exhibits is None
    assert json.loads(plain.to_json())["scores"] == json.loads(report.to_json())["scores"]
    assert set(json.loads(report.to_json())) == {"format", "version", "scores", "notes", "differences", "provenance"}


def test_rendering_twice_gives_the_same_page(report: Report, page: str) -> None:
    assert render_page(report) == page


def test_neither_order_nor_names_decide_which_cubes_are_shown(report: Report) -> None:
    base = make_texture_set(10, size=24, seed=1)
    order = np.random.default_rng(5).permutation(10)
    shuffled = ArraySet(
        base.cubes[order],
        wavelengths=base.wavelengths,
        masks={"fov": base.masks["fov"][order], f"vein{EVIL}": base.masks["bright"][order]},
    )
    real, train = (rename_cubes(make_texture_set(10, size=24, seed=seed), name) for name, seed in (("r", 2), ("t", 3)))
    again = package.score(shuffled, ref=real, train=train, metrics=METRICS, exhibits=True).exhibits
    first = report.exhibits
    assert first is not None
    assert again is not None
    for cube, cube_again in zip(first.generated, again.generated, strict=True):
        np.testing.assert_array_equal(cube.gray, cube_again.gray)
    np.testing.assert_array_equal(first.embedding.points[2].coordinates, again.embedding.points[2].coordinates)  # type: ignore[union-attr]


def test_the_page_of_a_json_report_has_everything_but_images(
    hseval: Callable[..., Any], report: Report, tmp_path: Path
) -> None:
    report.save(tmp_path / "report.json")
    done = hseval("show", tmp_path / "report.json", "--html", tmp_path / "page.html")
    assert done.status == 0, done.err
    parsed = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    ids = {attributes.get("id") for _, attributes in parsed.tags}
    assert {"scores", "wavelength", "pairs", "provenance"} <= ids
    assert not {"pictures", "features"} & ids
    assert "fid" in hseval("show", tmp_path / "report.json").out


def test_score_writes_the_page_as_typed(hseval: Callable[..., Any], tmp_path: Path) -> None:
    paths = [
        save_set(tmp_path / f"{name}.h5", make_texture_set(6, size=16, seed=seed)) for seed, name in enumerate("abc")
    ]
    out = tmp_path / "page.html"
    done = hseval("score", paths[0], "--ref", paths[1], "--metrics", "fid", "--html", out)
    assert done.status == 0, done.err
    text = out.read_text(encoding="utf-8")
    assert f"hseval score {paths[0]} --ref {paths[1]} --metrics fid --html {out}" in "".join(Page(text).text)
    for arguments, message in (
        (("--html", paths[0]), "is an input"),
        (("--html", tmp_path / "no" / "page.html"), "does not exist"),
        (("--html", tmp_path / "x", "--json", tmp_path / "x"), "is what --json writes"),
        (("--qualify", tmp_path / "q.json"), "--qualify needs --html"),
        (("--html", tmp_path / "x", "--qualify", tmp_path / "q.json"), "q.json"),
        (("--sweep", tmp_path / "s"), "--sweep needs --html"),
        (("--html", tmp_path / "x", "--sweep", tmp_path / "s"), "s"),
    ):
        done = hseval("score", paths[0], "--ref", paths[1], *arguments)
        assert done.status == 2
        assert message in done.err
        assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_the_page_shows_the_results_of_qualify(report: Report) -> None:
    rows = (("blur", "px", ("0.5",)),)
    section = SensitivitySection(f"q{EVIL}.json", (f"fid is about 2 px of {EVIL}",), ("rough",), ("fid",), rows, "x")
    parsed = Page(render_page(dataclasses.replace(report, exhibits=FigureData(sensitivity=section))))
    text = "".join(parsed.text)
    assert f"fid is about 2 px of {EVIL}" in text
    assert "blur" in text


def test_the_page_shows_a_sweep_with_its_plot_and_numbers(
    hseval: Callable[..., Any], report: Report, tmp_path: Path
) -> None:
    results = SweepResults(
        "s", tuple(make_run(f"{name}{EVIL}", value) for name, value in (("fine", 2.5), ("coarse", 7.5))), PLOT
    )
    results.save(tmp_path)
    report.save(tmp_path / "r.json")
    out = tmp_path / "page.html"
    done = hseval("show", tmp_path / "r.json", "--html", out, "--sweep", tmp_path)
    assert done.status == 0, done.err
    page = out.read_text(encoding="utf-8")
    text = "".join(Page(page).text)
    assert f"fine{EVIL}" in text
    assert "7.5" in text
    assert text.count("on a front") == 1  # as fast, and better
    svg = base64.b64decode(page.split("data:image/svg+xml;base64,")[1].split('"')[0])
    assert svg.startswith(b"<?xml")
    assert b"</svg>" in svg


def make_run(label: str, fid: float) -> RunResult:
    interval = (0.8 * fid, 1.3 * fid)
    score = Score(name="fid", value=fid, floor=0.5, interval=interval, better="lower", verdict="", n=9)
    return RunResult(
        label, "ldm", "ldm", {"base": 16}, "runs/x", Timing(0.5, 0.4, 0.6, "a processor"), None, {"fid": score}
    )


PLOT = PlotConfig("samples/s", ("fid",), "base", "base", "base")


def test_a_report_without_any_value_still_makes_a_page(tmp_path: Path) -> None:
    sets = [make_texture_set(2, size=16, seed=seed) for seed in (1, 2)]
    report = package.score(sets[0], ref=sets[1], metrics=["authenticity"], exhibits=True)
    text = "".join(Page(render_page(report)).text)
    assert "needs --train" in text
    assert "No score could be compared with its floor" in text
    report.save(tmp_path / "r.json")
    assert render_page(load_report(tmp_path / "r.json"))


def test_ten_thousand_samples_of_pure_noise_stay_below_fifteen_megabytes(report: Report) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.uniform(0, 1, (16, 224, 224)).astype(np.float32) for _ in range(2))  # incompressible
    nm = np.linspace(450, 905, 16)
    renderer, small = CubeRenderer.from_reference([first], nm), CubeRenderer.from_reference([first], nm, max_side=128)
    base = report.exhibits
    assert base is not None
    # The report has other bands than these cubes, so its own spectra are used.
    spectrum = base.nearest_pairs[0].sample.spectrum
    pair = [dataclasses.replace(small.render_cube(cube, "x"), spectrum=spectrum) for cube in (first, second)]
    points = tuple(
        EmbeddedPoints(role, rng.normal(size=(1000, 2)), ("a-rather-long-id-of-a-cube",) * 1000, 10_000)
        for role in ("train", "reference", "samples")
    )
    embedded = dataclasses.replace(base, embedding=Embedding("scattering", 772, (0.3, 0.2), points), nearest_pairs=())
    plain = dataclasses.replace(embedded, real=(), generated=())
    noisy = dataclasses.replace(
        embedded,
        style=renderer.build_style(),
        real=(renderer.render_cube(first, "x"),),
        generated=(renderer.render_cube(second, "x"),),
    )
    paired = dataclasses.replace(
        plain, nearest_pairs=(dataclasses.replace(base.nearest_pairs[0], sample=pair[0], training=pair[1]),)
    )
    pages = (render_page(dataclasses.replace(report, exhibits=data)) for data in (plain, noisy, paired))
    sizes = [len(page.encode()) for page in pages]
    # A page shows four cubes of each side and six pairs.
    assert sizes[0] + 4 * (sizes[1] - sizes[0]) + 6 * (sizes[2] - sizes[0]) < 15e6
    assert len(base.real) == len(base.generated) == 4
    assert len(base.nearest_pairs) == 6


def test_at_most_1000_points_of_a_set_are_plotted(report: Report) -> None:
    from hseval.core.feature_table import FeatureTable
    from hseval.pipeline.extract import ExtractedSet

    rng = np.random.default_rng(0)

    def extract(count: int, shift: float) -> ExtractedSet:
        names = np.array([f"{shift}-{i}" for i in range(count)])
        features = FeatureTable({"x": rng.normal(shift, 1, (count, 5))}, names, names, names, np.arange(3.0))
        return ExtractedSet(features, np.arange(count), (), (), (), 0)

    embedding = build_embedding("x", {"reference": extract(1500, 0), "samples": extract(4000, 3)}, seed=0)
    assert embedding is not None
    assert [len(points.ids) for points in embedding.points] == [1000, 1000]
    assert [points.total_count for points in embedding.points] == [1500, 4000]
    distance = abs(embedding.points[0].coordinates[:, 0].mean() - embedding.points[1].coordinates[:, 0].mean())
    assert distance == pytest.approx(3 * np.sqrt(5), rel=0.15)  # the first component separates the sets


def test_a_few_outliers_do_not_decide_the_frame() -> None:
    rng = np.random.default_rng(0)
    regular = rng.normal(0, 1, (500, 2))
    outlying = regular + np.array([4, 0])
    outlying[:5] = 1000
    points = (
        EmbeddedPoints("reference", regular, ("r",) * 500, 500),
        EmbeddedPoints("samples", outlying, ("s",) * 500, 500),
    )
    assert count_outside_frame(Embedding("x", 2, (0.5, 0.5), points)) >= 5
    assert count_outside_frame(Embedding("x", 2, (0.5, 0.5), points)) < 60


@pytest.mark.parametrize(
    "placement", ["as it is", "turned 90 degrees", "mirrored", "turned 270 degrees, mirrored, shifted by (1, 0) cells"]
)
def test_pairs_are_rotated_as_in_the_copy_search(placement: str) -> None:
    from hseval.metrics.copy_search import list_placements, orient_maps

    data = np.random.default_rng(0).normal(size=(2, 5, 5))
    match = next(each for each in list_placements((1.0, 1.0)) if str(each) == placement)
    np.testing.assert_array_equal(apply_placement(data, placement), orient_maps(data, match.turns, match.mirrored))
