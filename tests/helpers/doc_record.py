"""Records what a page's commands print: runs the page as it stands and writes the output into its ``console`` blocks.

    python tests/docrecord.py docs/tutorial.md

Where a block leaves lines out (``...``), the lines that it shows are found again by their words and get new numbers;
one that is not found is told.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers.commands import Outcome
from tests.helpers.doc_blocks import RUN, Block, blocks
from tests.helpers.doc_run import Reader, prepare

WORDLESS = re.compile(r"[-+]?\d[\d.,e+-]*|[▁▂▃▄▅▆▇█ ]+")


class Recorder(Reader):
    """A reader who writes down what is printed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, self._in_process, monkeypatch)
        self.exact = False
        self.printed: list[str] = []

    def _in_process(self, *typed: str) -> Outcome:
        status, out, err = self._process([sys.executable, "-m", "hseval", *typed])
        return Outcome(status, out, err)

    def _run(self, line: str) -> tuple[int, str, str]:
        print(f"$ {line}", file=sys.stderr)
        done = super()._run(line)
        self.printed.append(done[1] + done[2])
        return done


def written(block: Block, printed: list[str]) -> str:
    """Return a block's text with new output."""
    parts = re.split(r"(?m)^(?=\$ )", block.text)
    fresh = [part for part in parts if part.startswith("$ ")]
    assert len(fresh) == len(printed), str(block)
    text = parts[0] if not parts[0].startswith("$ ") else ""
    for part, new in zip(fresh, printed, strict=True):
        command, recorded = re.match(r"((?:.*\\\n)*.*\n?)([\s\S]*)", part).groups()  # type: ignore[union-attr]
        shown = "\n".join(line.rstrip() for line in new.rstrip().splitlines()) + "\n" if new.strip() else ""
        text += command + ("" if not recorded.strip() else _renewed(block, recorded, shown))
    return text


def _renewed(block: Block, recorded: str, printed: str) -> str:
    if "..." not in recorded.splitlines():
        return printed
    left, lines = printed.splitlines(), []
    for line in recorded.splitlines():
        found = next((i for i, new in enumerate(left) if WORDLESS.sub("", new) == WORDLESS.sub("", line)), None)
        if line == "..." or found is None:
            lines.append(line)
            if line != "...":
                print(f"{block}: not printed: {line}", file=sys.stderr)
            continue
        lines.append(left[found])
        left = left[found + 1 :]
    return "\n".join(lines) + "\n"


def record(page: Path) -> None:
    """Run a page and write what it printed into it."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder = Path(name) / "folder"
        folder.mkdir()
        monkeypatch.setenv("HSEVAL_CACHE", str(Path(name) / "cache"))
        prepare(folder)
        recorder = Recorder(folder, monkeypatch)
        for block in blocks(page):
            if block.language in RUN and "not run" not in block.marks:
                recorder.printed = []
                recorder.read(block)
                if block.language == "console":
                    assert text.count(block.text) == 1, f"{block}: stands there twice"
                    text = text.replace(block.text, written(block, recorder.printed))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for typed in sys.argv[1:]:
        record(Path(typed).resolve())
