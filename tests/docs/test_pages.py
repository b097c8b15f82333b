"""The pages are complete: links resolve, and metrics and commands are named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from hseval.core.report import Score
from hseval.core.score_records import (
    DetectableDifference,
    OwnMaskScore,
    Resamples,
    SegmentationRecord,
    SplitStatistics,
)

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_resolves(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_placeholder_is_left(page: Path) -> None:
    assert re.findall(r"@[A-Z]+@", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_page_begins_with_a_picture_the_table_and_two_commands(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    places = [text.index(part) for part in ("report-page.png", "score          verdict", "make demo", "make test")]
    assert places == sorted(places)
    assert page != "README.md" or len(text.splitlines()) <= 150


def test_every_field_of_a_report_is_described() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").split("## Reports as JSON")[1]
    records = (Score, SplitStatistics, Resamples, DetectableDifference, SegmentationRecord, OwnMaskScore)
    for record in records:
        assert [field.name for field in dataclasses.fields(record) if f"`{field.name}`" not in text] == []


def test_the_readme_names_every_metric_and_command() -> None:
    from hseval.scoring.metric_choice import DEFAULT_METRICS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*DEFAULT_METRICS, "hseval info", "hseval sample", "hseval train", "hseval plugins", "hseval score"):
        assert name in text
