"""What MkDocs asks while it builds the site (``hooks`` in ``mkdocs.yml``)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, InclusionLevel

sys.path.insert(0, str(Path(__file__).parent))

from declared import fill_placeholders
from sources import SOURCE_FOLDER, Sources

ROOT = Path(__file__).parents[2]
NOT_RUN = re.compile(r"^([ \t]*)<!-- not run: (.*?) -->$", re.MULTILINE)
COPIED_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")


def on_config(config: Any) -> Any:
    """Add every plugin's commands to the group, so that the reference shows them, and the READMEs to the menu."""
    from hseval.cli.main import cli
    from hseval.core.plugin_manager import get_plugins

    get_plugins().add_commands(cli)
    menu = next(entry["Plugins"] for entry in config.nav if "Plugins" in entry)
    known = [page for entry in menu for page in entry.values()]
    for readme in sorted(ROOT.glob("plugins/*/README.md")):
        place = f"{SOURCE_FOLDER}/{readme.relative_to(ROOT)}"
        if place not in known:
            menu.append({_title(readme): place})
    return config


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside ``docs/`` that the pages link to, and what these link to in turn."""
    sources = Sources(ROOT)
    pages = [page.abs_src_path for page in files.documentation_pages()]
    found = {*COPIED_PAGES, *(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/*/README.md"))}
    waiting = [*found]
    for page in pages:
        waiting += sources.find_links(Path(page).read_text(encoding="utf-8"), str(Path(page).relative_to(ROOT)))
    found = set()
    while waiting:
        target = waiting.pop()
        if target in found:
            continue
        found.add(target)
        if target.endswith(".md"):
            waiting += sources.find_links((ROOT / target).read_text(encoding="utf-8"), target)
    for target in sorted(found):
        place, content = sources.get_site_path(target), sources.read_content(target)
        level = InclusionLevel.INCLUDED if target.endswith(".md") else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, place, content=content, inclusion=level))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Return the page without what click calls a default where there is none."""
    return html.replace("<code>Sentinel.UNSET</code>", "")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with links, the reference and remarks on blocks as the site shows them."""
    place = page.file.src_uri
    origin = place.removeprefix(f"{SOURCE_FOLDER}/") if place.startswith(f"{SOURCE_FOLDER}/") else f"docs/{place}"
    if not (ROOT / origin).exists():
        return markdown  # code that is shown: nothing in it is a link
    text = fill_placeholders(markdown, ROOT / "docs")
    text = NOT_RUN.sub(r"\1*Not run by the tests: \2.*{ .not-run }\n", text)
    return Sources(ROOT).rewrite_links(text, origin, place)
