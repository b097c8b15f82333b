"""Fronts, and the five panels: what is on them is what was measured."""

from __future__ import annotations

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
from hseval.sweep.results import RunResult, SweepResults, load_results
from tests.helpers.commands import Outcome

Command = Callable[..., Outcome]
SCORES = ("fid", "ms-ssim", "spectral-kl:vein", "spectral-kl:artery", "spectral-kl:onh")


def row(label: str, seconds: float | None, values: dict[str, float], **varied: Any) -> RunResult:
    timing = None if seconds is None else {
        "seconds": seconds, "fastest": 0.9 * seconds, "slowest": 1.2 * seconds, "device": "a processor",
    }  # fmt: skip
    scores = {name: Score(name, v, 0.5, (0.8 * v, 1.3 * v), "lower", "", 9) for name, v in values.items()}
    return RunResult(label, "ldm", "ldm", varied, f"runs/{label}", timing, None, scores)


def grid(value: Callable[[int, int, int], float] = lambda c, z, b: c * z / b) -> SweepResults:
    """Return 2 x 2 x 2 runs."""
    rows = [
        row(f"{c}/{z}/{b}", b / (100 * c), {name: value(c, z, b) * (1 + place) for place, name in enumerate(SCORES)},
            compression=c, latent_channels=z, base=b)
        for c in (4, 8) for z in (8, 32) for b in (16, 64)
    ]  # fmt: skip
    return SweepResults("s", tuple(rows), PlotConfig("samples/s", SCORES, "compression", "latent_channels", "base"))


def q(value: float, better: str = "lower") -> Quantity:
    return Quantity(value, value, value, better)  # type: ignore[arg-type]


# Fronts.


def test_the_front_holds_what_no_other_run_beats() -> None:
    pairs = [(q(x, "higher"), q(y)) for x, y in ((1, 1), (2, 2), (3, 3), (2, 3), (1, 1.5), (0.5, 0.9))]
    assert mark_front(pairs) == [True, True, True, False, False, True]


def test_the_front_agrees_with_its_definition_on_random_runs() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for better in (("lower", "lower"), ("higher", "lower"), ("higher", "higher")):
        values = rng.integers(0, 6, (40, 2)).astype(float)  # many are equal
        costs = values * [1 if side == "lower" else -1 for side in better]
        beaten = [bool(((costs <= mine).all(1) & (costs < mine).any(1)).any()) for mine in costs]
        found = mark_front([(q(x, better[0]), q(y, better[1])) for x, y in values])
        assert found == [not each for each in beaten]


def test_the_front_does_not_depend_on_scale_or_order() -> None:
    runs = [(3.0, 5.0), (1.0, 9.0), (4.0, 4.0), (4.0, 6.0)]
    plain = mark_front([(q(x), q(y)) for x, y in runs])
    assert mark_front([(q(x**3), q(y / 7)) for x, y in runs]) == plain
    assert mark_front([(q(x), q(y)) for x, y in runs[::-1]]) == plain[::-1]


def test_speed_is_the_reciprocal_of_seconds_with_the_ends_exchanged() -> None:
    run = row("a", 0.5, {})
    speed, seconds = get_quantity(run, "samples/s"), get_quantity(run, "seconds")
    assert speed == Quantity(2.0, 1 / 0.6, 1 / 0.45, "higher")
    assert seconds == Quantity(0.5, 0.45, 0.6, "lower")
    assert get_quantity(row("b", None, {}), "samples/s") is None


def test_a_score_that_is_best_at_its_floor_counts_by_its_distance_from_it() -> None:
    def run(value: float, excess: tuple[float, float]) -> RunResult:
        score = Score("authenticity", value, 0.5, (0, 1), "floor", "", 9, {"excess_interval": excess})
        return RunResult("a", "x", "x", {}, "", scores={"authenticity": score})

    assert get_quantity(run(0.2, (-0.4, -0.2)), "authenticity") == Quantity(pytest.approx(0.3), 0.2, 0.4, "lower")
    assert get_quantity(run(0.6, (-0.1, 0.3)), "authenticity") == Quantity(pytest.approx(0.1), 0.0, 0.3, "lower")


def test_a_figure_that_there_is_not_is_named() -> None:
    with pytest.raises(HsevalError, match=r"there is no figure 'spectral-kl:vien' \(did you mean 'spectral-kl:vein'"):
        build_points(grid(), "samples/s", "spectral-kl:vien")


def test_the_table_says_of_each_run_on_which_fronts_it_is() -> None:
    rows = {each["run"]: each for each in build_table(grid(), "samples/s", SCORES)}
    assert rows["4/8/64"]["front"] and not rows["8/32/64"]["front"]
    assert rows["4/8/64"]["figures"]["fid"]["value"] == pytest.approx(0.5)
    assert set(rows["4/8/64"]["figures"]) == {"samples/s", *SCORES}


# The figure.


def test_the_figure_has_a_panel_a_score_with_labels_intervals_floor_and_front() -> None:
    results = grid()
    axes = plot_pareto(results).axes
    assert len(axes) == 6  # the last one holds the legend
    assert [panel.get_ylabel() for panel in axes[:5]] == [
        "Fréchet distance (fid)", "difference of MS-SSIM", "KL divergence, vein (nats)", "KL divergence, artery (nats)",
        "KL divergence, onh (nats)",
    ]  # fmt: skip
    for panel, name in zip(axes[:5], SCORES, strict=True):
        assert panel.get_xscale() == panel.get_yscale() == "log"
        found = build_points(results, "samples/s", name)
        drawn = {(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if len(line.get_xdata()) == 1}
        assert drawn == {(point.x.value, point.y.value) for point in found}
        assert len(panel.collections) == 2 * len(found)  # bars of both axes
        front = next(line for line in panel.lines if line.get_drawstyle() == "steps-pre")
        best = sorted((point.x.value, point.y.value) for point in found if point.is_on_front)
        assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == best
        assert any(list(line.get_ydata()) == [0.5, 0.5] for line in panel.lines)  # the floor


def test_colour_tells_compression_style_latents_and_lines_join_widths() -> None:
    panel = plot_pareto(grid()).axes[0]
    joined = [line for line in panel.lines if len(line.get_xdata()) == 2 and line.get_drawstyle() == "default"]
    joined = [line for line in joined if line.get_zorder() == 3]
    assert len(joined) == 4
    assert len({line.get_color() for line in joined}) == len({line.get_linestyle() for line in joined}) == 2
    assert len({(line.get_color(), line.get_linestyle()) for line in joined}) == 4
    markers = {line.get_marker() for line in panel.lines if len(line.get_xdata()) == 1}
    assert len(markers) == 2


def test_bars_are_the_intervals_and_stay_inside_the_panel() -> None:
    results = grid(lambda c, z, b: 1.0)
    tall = results.rows[0]
    wide = Score("fid", 1.0, 0.5, (-3.0, 40.0), "lower", "", 9)
    rows = (RunResult(**{**vars(tall), "scores": {**tall.scores, "fid": wide}}), *results.rows[1:])
    panel = plot_pareto(SweepResults("s", rows, results.plot)).axes[0]
    bottom, top = panel.get_ylim()
    assert 0 < bottom < 0.5 and top > 40
    ends = [y for bar in panel.collections for path in bar.get_paths() for _, y in path.vertices]
    assert min(ends) >= bottom * (1 - 1e-9) and max(ends) == pytest.approx(40)


def test_values_that_are_not_positive_get_a_linear_axis() -> None:
    panel = plot_pareto(grid(lambda c, z, b: 0.0 if c == 4 else 1.0)).axes[0]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "linear")
    assert panel.get_ylim()[0] < 0


def test_runs_without_a_figure_are_left_out_and_a_panel_without_any_says_so() -> None:
    results = grid()
    few = {name: score for name, score in results.rows[0].scores.items() if name != "fid"}
    rows = (
        RunResult(**{**vars(results.rows[0]), "scores": few}),
        RunResult("failed", "ldm", "ldm", {}, "", error="fit: no"),
    )
    figure = plot_pareto(SweepResults("s", (*rows, *results.rows[1:]), results.plot))
    assert len([line for line in figure.axes[0].lines if line.get_marker() != "None"]) == 7
    only = SweepResults("s", (rows[0],), PlotConfig("samples/s", ("ms-ssim",), "compression"))
    assert len(plot_pareto(only).axes) == 2


def test_no_run_at_all_is_an_error_and_not_an_empty_picture() -> None:
    untimed = tuple(RunResult(**{**vars(each), "timing": None}) for each in grid().rows)
    with pytest.raises(HsevalError, match="no run has both 'samples/s' and one of fid"):
        plot_pareto(SweepResults("s", untimed, grid().plot))


def test_several_devices_are_no_one_scale() -> None:
    rows = list(grid().rows)
    rows[0] = RunResult(**{**vars(rows[0]), "timing": {**rows[0].timing, "device": "another"}})  # type: ignore[dict-item]
    assert "2 devices: not one scale!" in plot_pareto(SweepResults("s", tuple(rows), grid().plot)).get_supxlabel()
    assert "(a processor)" in plot_pareto(grid()).get_supxlabel()


def test_figures_are_written_whole_as_png_svg_and_pdf(tmp_path: Path) -> None:
    figure = plot_pareto(grid())
    for kind in ("png", "svg", "pdf"):
        save_figure(figure, tmp_path / f"f.{kind}")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size == (1530, 970) and len(picture.getcolors(1 << 20) or []) > 50
    assert "<svg" in (tmp_path / "f.svg").read_text() and (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    for name in ("a.svg", "b.svg"):
        save_figure(plot_pareto(grid()), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(HsevalError, match=r"a plot is written as png, svg, pdf"):
        save_figure(figure, tmp_path / "f.docx")


# The command.


def test_any_pair_of_figures_is_drawn_from_a_sweeps_folder(tmp_path: Path, hseval: Command) -> None:
    grid().save(tmp_path)
    assert load_results(tmp_path) == grid()
    out = tmp_path / "f.svg"
    done = hseval("pareto", tmp_path, "--x", "fid", "--y", "ms-ssim", "--marker", "base", "--out", out)
    assert done.status == 0 and done.out == "front of fid and ms-ssim: 4/8/64\n"
    assert out.exists()
    listed = hseval("pareto", tmp_path / "results.json", "--json")
    assert json.loads(listed.out)["y"] == list(SCORES) and len(json.loads(listed.out)["rows"]) == 8


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--y", "fod"], "there is no figure 'fod' (did you mean 'fid'?)"),
        (["--colour", "compresion", "--out", "f.png"], "did you mean 'compression'"),
        (["--out", "f.gif"], "f.gif: a plot is written as png, svg, pdf"),
    ],
)
def test_what_can_not_be_drawn_is_refused(tmp_path: Path, hseval: Command, typed: list[str], told: str) -> None:
    grid().save(tmp_path)
    done = hseval("pareto", tmp_path, *typed)
    assert done.status == 2 and len(done.err.splitlines()) == 1 and told in done.err
    missing = hseval("pareto", tmp_path / "nowhere")
    assert missing.status == 2 and "can't be read as results of a sweep" in missing.err
