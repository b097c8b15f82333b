"""Links out of ``docs/``: written for a checkout, and served with the site.

A page links to a source file by its relative path (``../hseval/stats/paired.py``), which is right on a checkout. For
the site the file is copied under ``source/``: Markdown as a page, code as a page that shows it, anything else unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)((?:#[^)\s]*)?)(?=\))")
FENCED = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.DOTALL | re.MULTILINE)
CODE_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".sh": "sh", "": "makefile"}
SOURCE_FOLDER = "source"
HOME_PAGE = "README.md"  # the site has its front page in its place


class Sources:
    """What the pages link to outside ``docs/``, and where the site has it.

    Args:
        root: the checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_links(self, markdown: str, origin: str) -> Iterator[str]:
        """Yield the files outside ``docs/`` that a page links to, as paths from the root.

        Args:
            markdown: the page's text.
            origin: where it lies, from the root.
        """
        for match in LINK.finditer(FENCED.sub("", markdown)):
            target = self._target(origin, match[1])
            if target is not None and not target.startswith("docs/") and target != HOME_PAGE:
                yield target

    def rewrite_links(self, markdown: str, origin: str, page: str) -> str:
        """Return the page with links as they hold on the site.

        Args:
            markdown: the page's text.
            origin: where it lies on a checkout, from the root.
            page: where the site has it, from ``docs/``.
        """

        def link(match: re.Match[str]) -> str:
            target = self._target(origin, match[1])
            if target is None:
                return match[0]  # the build reports a broken link
            return make_relative(self.get_site_path(target), page) + match[2]

        return LINK.sub(link, markdown)

    def get_site_path(self, target: str) -> str:
        """Return where the site has a file of the checkout, from ``docs/``."""
        if target == HOME_PAGE:
            return "index.md"
        if target.startswith("docs/"):
            return target.removeprefix("docs/")
        shown = f"{SOURCE_FOLDER}/{target}"
        return f"{shown}.md" if PurePosixPath(target).suffix in CODE_LANGUAGES else shown

    def read_content(self, target: str) -> str | bytes:
        """Return a file of the checkout as the site has it."""
        path, suffix = self.root / target, PurePosixPath(target).suffix
        if suffix == ".md":
            return path.read_text(encoding="utf-8")
        if suffix not in CODE_LANGUAGES:
            return path.read_bytes()
        text = path.read_text(encoding="utf-8").rstrip()
        front = f"---\ntitle: {PurePosixPath(target).name}\nsearch:\n  exclude: true\n---\n"
        return f"{front}# `{target}`\n\n````{CODE_LANGUAGES[suffix]}\n{text}\n````\n"

    def _target(self, origin: str, link: str) -> str | None:
        """Return the file that a link leads to, from the root; for a folder, its README."""
        found = (self.root / origin).parent.joinpath(link).resolve()
        if found.is_dir():
            found = found / "README.md"
        return found.relative_to(self.root).as_posix() if found.is_file() and self.root in found.parents else None


def make_relative(target: str, page: str) -> str:
    """Return the link from one page to another, both from ``docs/``."""
    here, there = PurePosixPath(page).parent.parts, PurePosixPath(target).parts
    common = 0
    while common < min(len(here), len(there) - 1) and here[common] == there[common]:
        common += 1
    return "/".join([".."] * (len(here) - common) + list(there[common:]))
