"""The site builds without a warning, holds what is declared, and shows what a checkout shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from hseval.cli.main import cli
from hseval.core.options import describe_options
from hseval.core.plugin_manager import get_plugins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS) for page in DOCS.rglob("*.md"))
REFERENCE = {
    "metric": "metrics", "extractor": "extractors", "generator": "generators", "segmenter": "segmenters",
    "reader": "others", "renderer": "others",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once; warnings stop it."""
    pytest.importorskip("mkdocs")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    given = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return target


def article(site: Path, page: str) -> str:
    """Return a page's own part as HTML, without menus."""
    found = re.search(r"<article.*?</article>", (site / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, page
    return found[0]


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_every_plugin_and_option_stands_in_the_reference(site: Path) -> None:
    for kind, page in REFERENCE.items():
        text = words(article(site, f"reference/{page}.html"))
        for name in get_plugins().get_names(kind):
            factory = get_plugins().find(kind, name)
            summary = factory.summary[:1].upper() + factory.summary[1:].rstrip(".")
            assert f"{name} ¶ {summary}." in text
            for option in describe_options(factory):
                assert f"{name}.{option.name}=" in text
                assert " ".join(option.help.split()) in text


def test_every_command_and_flag_stands_in_the_reference(site: Path) -> None:
    get_plugins().add_commands(cli)
    text = words(article(site, "reference/commands.html"))
    assert "Sentinel" not in text
    for name, command in cli.commands.items():
        assert f"hseval {name}" in text
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[-1] in text


def test_what_python_offers_stands_in_the_reference(site: Path) -> None:
    text = article(site, "reference/python.html")
    for name in ("hseval.scoring.score.score", "hseval.core.report.Report.save", "hseval.core.cubes.CubeSet.subset"):
        assert f'id="{name}"' in text


def test_the_site_shows_the_lists_and_tables_of_a_checkout(site: Path) -> None:
    # Python-Markdown and the CommonMark of code hosts differ in what they take for a list.
    for page in (page for page in PAGES if page.parts[0] != "reference"):
        wanted = MarkdownIt("commonmark").enable("table").render((DOCS / page).read_text(encoding="utf-8"))
        shown = article(site, page.with_suffix(".html").as_posix())
        for tag in ("li", "ol", "ul", "tr", "h2"):
            count = [len(re.findall(rf"<{tag}[ >]", text)) for text in (shown, wanted)]
            assert count[0] == count[1], f"{page}: <{tag}>"


def sources(site: Path) -> Iterator[tuple[Path, str]]:
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img)\b[^>]*>", page.read_text(encoding="utf-8")):
            found = re.search(r'(?:src|href)="([^"]+)"', tag)
            if found and 'rel="canonical"' not in tag:
                yield page, found[1]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = list(sources(site))
    assert len(found) > 100
    assert [pair for pair in found if "//" in pair[1]] == []


def test_links_to_sources_lead_to_pages_of_the_site(site: Path) -> None:
    links = re.findall(r'href="([^"#]+jackknife\.py\.html)"', article(site, "qualify.html"))
    assert links
    page = (site / links[0]).read_text(encoding="utf-8")
    assert "jackknife" in words(page)
    assert "def " in words(page)
