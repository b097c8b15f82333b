"""The Pareto front, and the five panels of its plot."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hseval import HsevalError
from hseval.core.report import Score
from hseval.sweep.pareto.front import Quantity, build_points, build_table, get_quantity, mark_front
from hseval.sweep.pareto.plot import plot_pareto, save_figure
from hseval.sweep.plan import PlotConfig
from hseval.sweep.results import RunResult, SweepResults, Timing, load_results
from tests.helpers.commands import Command

SCORES = ("fid", "ms-ssim", "spectral-kl:vein", "spectral-kl:artery", "spectral-kl:onh")


def make_score(name: str, value: float, interval: tuple[float, float], **fields: Any) -> Score:
    return Score(**{"name": name, "value": value, "floor": 0.5, "interval": interval, "better": "lower",
                    "verdict": "", "n": 9, **fields})  # fmt: skip


def make_row(label: str, seconds: float | None, values: dict[str, float], **varied: Any) -> RunResult:
    timing = None if seconds is None else Timing(seconds, 0.9 * seconds, 1.2 * seconds, "a processor")
    scores = {name: make_score(name, value, (0.8 * value, 1.3 * value)) for name, value in values.items()}
    return RunResult(label, "ldm", "ldm", varied, f"runs/{label}", timing, None, scores)


def make_results(value: Callable[[int, int, int], float] = lambda c, z, b: c * z / b) -> SweepResults:
    """Return 2 x 2 x 2 runs."""
    rows = [
        make_row(f"{c}/{z}/{b}", b / (100 * c), {name: value(c, z, b) * (1 + i) for i, name in enumerate(SCORES)},
                 compression=c, latent_channels=z, base=b)
        for c in (4, 8) for z in (8, 32) for b in (16, 64)
    ]  # fmt: skip
    return SweepResults("s", tuple(rows), PlotConfig("samples/s", SCORES, "compression", "latent_channels", "base"))


def make_quantity(value: float, better: str = "lower") -> Quantity:
    return Quantity(value, value, value, better)  # type: ignore[arg-type]


# The front.


def test_the_front_contains_the_runs_that_no_other_run_beats() -> None:
    pairs = [
        (make_quantity(x, "higher"), make_quantity(y))
        for x, y in ((1, 1), (2, 2), (3, 3), (2, 3), (1, 1.5), (0.5, 0.9))
    ]
    assert mark_front(pairs) == [True, True, True, False, False, True]


def test_the_front_agrees_with_its_definition_on_random_runs() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for better in (("lower", "lower"), ("higher", "lower"), ("higher", "higher")):
        values = rng.integers(0, 6, (40, 2)).astype(float)  # many are equal
        costs = values * [1 if side == "lower" else -1 for side in better]
        dominated = [bool(((costs <= cost).all(1) & (costs < cost).any(1)).any()) for cost in costs]
        front = mark_front([(make_quantity(x, better[0]), make_quantity(y, better[1])) for x, y in values])
        assert front == [not is_dominated for is_dominated in dominated]


def test_the_front_does_not_depend_on_scale_or_order() -> None:
    runs = [(3.0, 5.0), (1.0, 9.0), (4.0, 4.0), (4.0, 6.0)]
    front = mark_front([(make_quantity(x), make_quantity(y)) for x, y in runs])
    assert mark_front([(make_quantity(x**3), make_quantity(y / 7)) for x, y in runs]) == front
    assert mark_front([(make_quantity(x), make_quantity(y)) for x, y in runs[::-1]]) == front[::-1]


def test_speed_is_the_reciprocal_of_seconds_with_exchanged_ends() -> None:
    run = make_row("a", 0.5, {})
    speed, seconds = get_quantity(run, "samples/s"), get_quantity(run, "seconds")
    assert speed == Quantity(2.0, 1 / 0.6, 1 / 0.45, "higher")
    assert seconds == Quantity(0.5, 0.45, 0.6, "lower")
    assert get_quantity(make_row("b", None, {}), "samples/s") is None


def test_a_score_that_is_best_at_its_floor_becomes_its_distance_from_the_floor() -> None:
    def make_authenticity_row(value: float, excess: tuple[float, float]) -> RunResult:
        score = make_score("authenticity", value, (0, 1), better="floor", excess_interval=excess)
        return RunResult("a", "x", "x", {}, "", scores={"authenticity": score})

    row = make_authenticity_row(0.2, (-0.4, -0.2))
    assert get_quantity(row, "authenticity") == Quantity(pytest.approx(0.3), 0.2, 0.4, "lower")
    row = make_authenticity_row(0.6, (-0.1, 0.3))
    assert get_quantity(row, "authenticity") == Quantity(pytest.approx(0.1), 0.0, 0.3, "lower")


def test_an_unknown_quantity_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(HsevalError, match=r"there is no quantity 'spectral-kl:vien' \(did you mean 'spectral-kl:vein'"):
        build_points(make_results(), "samples/s", "spectral-kl:vien")


def test_the_table_lists_the_fronts_that_each_run_is_on() -> None:
    rows = {row["run"]: row for row in build_table(make_results(), "samples/s", SCORES)}
    assert rows["4/8/64"]["front"] and not rows["8/32/64"]["front"]
    assert rows["4/8/64"]["figures"]["fid"]["value"] == pytest.approx(0.5)
    assert set(rows["4/8/64"]["figures"]) == {"samples/s", *SCORES}


# The plot.


def test_every_score_has_a_panel_with_labels_intervals_floor_and_front() -> None:
    results = make_results()
    axes = plot_pareto(results).axes
    assert len(axes) == 6  # the last one has the legend
    assert [panel.get_ylabel() for panel in axes[:5]] == [
        "Fréchet distance (fid)", "difference of MS-SSIM", "KL divergence, vein (nats)", "KL divergence, artery (nats)",
        "KL divergence, onh (nats)",
    ]  # fmt: skip
    for panel, name in zip(axes[:5], SCORES, strict=True):
        assert panel.get_xscale() == panel.get_yscale() == "log"
        points = build_points(results, "samples/s", name)
        plotted = {(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if len(line.get_xdata()) == 1}
        assert plotted == {(point.x.value, point.y.value) for point in points}
        assert len(panel.collections) == 2 * len(points)  # bars of both axes
        front = next(line for line in panel.lines if line.get_drawstyle() == "steps-pre")
        expected = sorted((point.x.value, point.y.value) for point in points if point.is_on_front)
        assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == expected
        assert any(list(line.get_ydata()) == [0.5, 0.5] for line in panel.lines)  # the floor


def test_color_encodes_compression_style_encodes_latents_and_lines_join_widths() -> None:
    panel = plot_pareto(make_results()).axes[0]
    lines = [line for line in panel.lines if len(line.get_xdata()) == 2 and line.get_drawstyle() == "default"]
    lines = [line for line in lines if line.get_zorder() == 3]
    assert len(lines) == 4
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 4
    markers = {line.get_marker() for line in panel.lines if len(line.get_xdata()) == 1}
    assert len(markers) == 2


def test_bars_are_the_intervals_and_stay_inside_the_panel() -> None:
    results = make_results(lambda c, z, b: 1.0)
    first = results.rows[0]
    score = make_score("fid", 1.0, (-3.0, 40.0))  # a wide interval
    rows = (RunResult(**{**vars(first), "scores": {**first.scores, "fid": score}}), *results.rows[1:])
    panel = plot_pareto(SweepResults("s", rows, results.plot)).axes[0]
    bottom, top = panel.get_ylim()
    assert 0 < bottom < 0.5 and top > 40
    ends = [y for bar in panel.collections for path in bar.get_paths() for _, y in path.vertices]
    assert min(ends) >= bottom * (1 - 1e-9) and max(ends) == pytest.approx(40)


def test_values_that_are_not_positive_get_a_linear_axis() -> None:
    panel = plot_pareto(make_results(lambda c, z, b: 0.0 if c == 4 else 1.0)).axes[0]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "linear")
    assert panel.get_ylim()[0] < 0


def test_runs_without_a_score_are_left_out_of_its_panel() -> None:
    results = make_results()
    scores = {name: score for name, score in results.rows[0].scores.items() if name != "fid"}
    rows = (
        RunResult(**{**vars(results.rows[0]), "scores": scores}),
        RunResult("failed", "ldm", "ldm", {}, "", error="fit: no"),
    )
    figure = plot_pareto(SweepResults("s", (*rows, *results.rows[1:]), results.plot))
    assert len([line for line in figure.axes[0].lines if line.get_marker() != "None"]) == 7
    single = SweepResults("s", (rows[0],), PlotConfig("samples/s", ("ms-ssim",), "compression"))
    assert len(plot_pareto(single).axes) == 2


def test_a_plot_without_any_run_is_an_error() -> None:
    rows = tuple(RunResult(**{**vars(row), "timing": None}) for row in make_results().rows)
    with pytest.raises(HsevalError, match="no run has both 'samples/s' and one of fid"):
        plot_pareto(SweepResults("s", rows, make_results().plot))


def test_speeds_of_several_devices_are_marked_as_not_comparable() -> None:
    rows = list(make_results().rows)
    assert rows[0].timing is not None
    rows[0] = dataclasses.replace(rows[0], timing=dataclasses.replace(rows[0].timing, device="another"))
    assert (
        "2 devices: speeds are not comparable"
        in plot_pareto(SweepResults("s", tuple(rows), make_results().plot)).get_supxlabel()
    )
    assert "(a processor)" in plot_pareto(make_results()).get_supxlabel()


def test_plots_are_written_as_png_svg_and_pdf_reproducibly(tmp_path: Path) -> None:
    figure = plot_pareto(make_results())
    for kind in ("png", "svg", "pdf"):
        save_figure(figure, tmp_path / f"f.{kind}")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width == 1530 and picture.height in (969, 970)  # 4.85 inches: matplotlib rounds either way
        assert len(picture.getcolors(1 << 20) or []) > 50
    assert "<svg" in (tmp_path / "f.svg").read_text() and (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    for name in ("a.svg", "b.svg"):
        save_figure(plot_pareto(make_results()), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(HsevalError, match=r"a plot is written as png, svg, pdf"):
        save_figure(figure, tmp_path / "f.docx")


# The command.


def test_any_two_quantities_are_plotted_from_a_sweeps_folder(tmp_path: Path, hseval: Command) -> None:
    make_results().save(tmp_path)
    assert load_results(tmp_path) == make_results()
    out = tmp_path / "f.svg"
    result = hseval("pareto", tmp_path, "--x", "fid", "--y", "ms-ssim", "--marker", "base", "--out", out)
    assert result.status == 0 and result.out == "front of fid and ms-ssim: 4/8/64\n"
    assert out.exists()
    listed = hseval("pareto", tmp_path / "results.json", "--json")
    assert json.loads(listed.out)["y"] == list(SCORES) and len(json.loads(listed.out)["rows"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--y", "fod"], "there is no quantity 'fod' (did you mean 'fid'?)"),
        (["--colour", "compresion", "--out", "f.png"], "did you mean 'compression'"),
        (["--out", "f.gif"], "f.gif: a plot is written as png, svg, pdf"),
    ],
)
def test_invalid_plots_are_refused(tmp_path: Path, hseval: Command, arguments: list[str], message: str) -> None:
    make_results().save(tmp_path)
    result = hseval("pareto", tmp_path, *arguments)
    assert result.status == 2 and len(result.err.splitlines()) == 1 and message in result.err
    missing = hseval("pareto", tmp_path / "nowhere")
    assert missing.status == 2 and "can't be read as the results of a sweep" in missing.err
