"""What the package promises of itself is true: exports, versions, citation."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import hseval
import hseval.plugin

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", [hseval, hseval.plugin], ids=["hseval", "hseval.plugin"])
def test_the_python_page_lists_what_is_importable(module: ModuleType) -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    table = page.split(f"| from `{module.__name__}` | |\n")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names == set(module.__all__) - {"__version__"}
    assert all(hasattr(module, name) for name in names)


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {hseval.__version__}\n" in citation
