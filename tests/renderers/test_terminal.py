"""The report on the terminal: it fits 80 columns and 25 lines, and is plain and unwrapped in a pipe."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest

from hseval.core.report import Report, Score
from hseval.core.score_records import DetectableDifference, SplitStatistics
from hseval.renderers.terminal import TerminalRenderer
from tests.helpers.commands import strip_styles

NOTES = (
    "160 samples against 160 reference cubes, 160 training cubes",
    "using the masks in the files; masks supplied by the generator may bias the score (--segmenter pixels finds "
    "structures in all sets in the same way, and shows both scores)",
)
DIFFERENCE = (
    "spectral-kl: values differ most in onh near 450 nm (450 to 480 nm), where samples are darker by 0.16 standard "
    "deviations of the real data; also in vein near 450 nm (450 to 480 nm), where samples are brighter by 0.26 "
    "standard deviations of the real data; also in artery near 450 nm (450 to 480 nm), where samples are brighter by "
    "0.24 standard deviations of the real data"
)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def make_score(name: str, value: float, floor: float, verdict: str, p_adjusted: float, **fields: Any) -> Score:
    statistics = SplitStatistics(
        16, 160, 160, value * 1.1, detectable=DetectableDifference(160, 0.5 * value, 0.25 * value)
    )
    excess = value - floor
    half_width = 0.3 * abs(excess)
    return Score(
        name=name,
        value=value,
        floor=floor,
        excess=excess,
        interval=(0.8 * value, 1.2 * value),
        excess_interval=(excess - half_width, excess + half_width),
        p_value=p_adjusted / 2,
        p_adjusted=p_adjusted,
        better="lower",
        verdict=verdict,
        n=80,
        statistics=statistics,
        **fields,
    )


@pytest.fixture
def report() -> Report:
    """Return a report as ``make demo`` gives it."""
    scores = (
        make_score("fid", 4514.0, 161.0, "worse than real", 2.4e-6),
        make_score("spectral-kl", 0.1407, 0.01655, "worse than real", 1.8e-6),
        make_score("ms-ssim", 0.03567, 0.01292, "like real", 0.00034),
        make_score("authenticity", 0.004688, 0.02344, "like real", 0.75, details={"caveat": "no proof of privacy"}),
    )
    return Report(scores, NOTES, {}, differences=(DIFFERENCE,))


def render(report: Report, stream: io.StringIO, **options: Any) -> list[str]:
    TerminalRenderer(TerminalRenderer.Options(**options)).render(report, stream)
    return strip_styles(stream.getvalue()).splitlines()


@pytest.mark.parametrize("details", [False, True])
def test_a_report_fits_a_terminal(report: Report, monkeypatch: pytest.MonkeyPatch, details: bool) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = render(report, Terminal(), details=details)
    assert max(map(len, lines)) <= 80
    assert details or len(lines) <= 25
    assert " ".join(lines[:2]) == (
        "These samples are significantly different from real cubes in fid and spectral-kl, but not in ms-ssim and "
        "authenticity."
    )


def test_a_piped_report_is_plain_and_not_wrapped(report: Report) -> None:
    stream = io.StringIO()
    lines = render(report, stream)
    assert "\x1b" not in stream.getvalue()
    assert len(lines) <= 25
    assert f"· {DIFFERENCE}" in lines
    assert f"· {NOTES[1]}" in lines
    assert "\n".join(line.rstrip() for line in lines) == "\n".join(line.rstrip() for line in str(report).splitlines())


def test_a_row_has_the_verdict_the_excess_and_the_adjusted_p(report: Report) -> None:
    rows = {line.split()[0]: line.split() for line in str(report).splitlines() if line.startswith(("fid", "score"))}
    assert rows == {
        "score": ["score", "verdict", "excess", "p"],
        "fid": ["fid", "worse", "than", "real", "4353", "2.4e-06"],
    }


@pytest.mark.parametrize("columns", [50, 80])
def test_a_long_verdict_is_wrapped_but_never_cut(report: Report, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    verdict = "not computed: no structure has masks in both sets, in at least two cubes each, as the metric needs"
    missing = Score(name="fid", better="lower", verdict=verdict)
    lines = render(dataclasses.replace(report, scores=(*report.scores[1:], missing)), Terminal())
    assert max(map(len, lines)) <= columns
    start = next(i for i, line in enumerate(lines) if line.startswith("fid "))
    end = lines.index("Notes")
    assert " ".join(" ".join(lines[start:end]).replace("fid ", "").replace(" -", "").split()) == verdict


def test_what_stands_behind_a_score_is_shown_with_details_alone(report: Report) -> None:
    shown = "\n".join(render(report, io.StringIO(), details=True))
    for text in ("95 % interval", "floor", "smallest detectable difference", "Holm-adjusted: 2.4e-06", "no proof of"):
        assert text in shown
        assert text not in str(report)


def test_text_from_a_report_does_not_control_the_terminal(report: Report) -> None:
    note = "\x1b[2Jwiped [bold]markup[/bold] \x07 second\nline"
    shown = str(dataclasses.replace(report, notes=(note,)))
    assert not {"\x1b", "\x07"} & set(shown)
    assert "wiped [bold]markup[/bold]" in shown
