"""The pages are complete: links resolve, and metrics and commands are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_the_readme_names_every_metric_and_command() -> None:
    from hseval.scoring.metric_choice import DEFAULT_METRICS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*DEFAULT_METRICS, "hseval info", "hseval sample", "hseval train", "hseval plugins", "hseval score"):
        assert name in text
