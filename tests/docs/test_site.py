"""The site builds without a warning, documents every declaration, and renders pages like a code host."""

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
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    process = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return target


def read_article(site: Path, page: str) -> str:
    """Return the content of a page as HTML, without menus."""
    match = re.search(r"<article.*?</article>", (site / page).read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None, page
    return match[0]


def strip_tags(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_every_plugin_and_option_is_in_the_reference(site: Path) -> None:
    for kind, page in REFERENCE.items():
        text = strip_tags(read_article(site, f"reference/{page}.html"))
        for name in get_plugins().get_names(kind):
            factory = get_plugins().find(kind, name)
            summary = factory.summary[:1].upper() + factory.summary[1:].rstrip(".")
            assert f"{name} ¶ {summary}." in text
            for option in describe_options(factory):
                assert f"{name}.{option.name}=" in text
                assert " ".join(option.help.split()) in text


def test_every_command_and_flag_is_in_the_reference(site: Path) -> None:
    get_plugins().add_commands(cli)
    text = strip_tags(read_article(site, "reference/commands.html"))
    assert "Sentinel" not in text
    for name, command in cli.commands.items():
        assert f"hseval {name}" in text
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert parameter.opts[-1] in text


def test_the_python_interface_is_in_the_reference(site: Path) -> None:
    text = read_article(site, "reference/python.html")
    for name in ("hseval.scoring.score.score", "hseval.core.report.Report.save", "hseval.core.cubes.CubeSet.subset"):
        assert f'id="{name}"' in text


def test_the_site_renders_lists_and_tables_as_commonmark(site: Path) -> None:
    # Python-Markdown and the CommonMark of code hosts differ in how they recognize lists.
    for page in (page for page in PAGES if page.parts[0] != "reference"):
        expected = MarkdownIt("commonmark").enable("table").render((DOCS / page).read_text(encoding="utf-8"))
        rendered = read_article(site, page.with_suffix(".html").as_posix())
        for tag in ("li", "ol", "ul", "tr", "h2"):
            count = [len(re.findall(rf"<{tag}[ >]", text)) for text in (rendered, expected)]
            assert count[0] == count[1], f"{page}: <{tag}>"


def list_sources(site: Path) -> Iterator[tuple[Path, str]]:
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img)\b[^>]*>", page.read_text(encoding="utf-8")):
            match = re.search(r'(?:src|href)="([^"]+)"', tag)
            if match and 'rel="canonical"' not in tag:
                yield page, match[1]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    references = list(list_sources(site))
    assert len(references) > 100
    assert [pair for pair in references if "//" in pair[1]] == []


def test_links_to_sources_lead_to_pages_of_the_site(site: Path) -> None:
    links = re.findall(r'href="([^"#]+jackknife\.py\.html)"', read_article(site, "qualify.html"))
    assert links
    page = (site / links[0]).read_text(encoding="utf-8")
    assert "jackknife" in strip_tags(page)
    assert "def " in strip_tags(page)
