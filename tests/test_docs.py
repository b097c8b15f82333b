"""The pages tell the truth: links resolve, snippets run, and the commands they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import saved, texture_set

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_placeholder_is_left(page: Path) -> None:
    assert re.findall(r"@[A-Z]+@", page.read_text(encoding="utf-8")) == []


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("samples", 1), ("real", 2), ("train", 3)):
        saved(tmp_path / f"{name}.h5", texture_set(8, size=24, seed=seed))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "report.json").exists()


def test_the_readme_names_every_metric_and_command() -> None:
    from hseval.evaluate import DEFAULT_METRICS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*DEFAULT_METRICS, "hseval info", "hseval sample", "hseval train", "hseval plugins", "hseval score"):
        assert name in text
