"""What the package promises of itself is true: exports, versions, citation."""

from __future__ import annotations

import re
from pathlib import Path

import hseval

ROOT = Path(__file__).parents[2]


def test_the_python_page_lists_what_is_importable_from_hseval() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names == set(hseval.__all__) - {"__version__"}
    assert all(hasattr(hseval, name) for name in names)


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {hseval.__version__}\n" in citation
