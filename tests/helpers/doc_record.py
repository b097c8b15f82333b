"""Record what a page's commands print: runs the page unchanged and writes the output into its ``console`` blocks.

    python -m tests.helpers.doc_record docs/tutorial.md

If a block omits lines (``...``), its other lines are matched by their words and get new numbers; a line without a match
is reported.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers.commands import Outcome
from tests.helpers.doc_blocks import RUN, Block, read_blocks
from tests.helpers.doc_run import Reader, prepare_folder

NUMBERS = re.compile(r"[-+]?\d[\d.,e+-]*|[▁▂▃▄▅▆▇█ ]+")


class Recorder(Reader):
    """A reader that records what is printed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, self._run_hseval, monkeypatch)
        self.exact = False
        self.printed: list[str] = []

    def _run_hseval(self, *arguments: str) -> Outcome:
        status, out, err = self._run_process([sys.executable, "-m", "hseval", *arguments])
        return Outcome(status, out, err)

    def _run(self, line: str) -> tuple[int, str, str]:
        print(f"$ {line}", file=sys.stderr)
        outcome = super()._run(line)
        self.printed.append(outcome[1] + outcome[2])
        return outcome


def update_block(block: Block, printed: list[str]) -> str:
    """Return a block's text with new output."""
    chunks = re.split(r"(?m)^(?=\$ )", block.text)
    with_command = [chunk for chunk in chunks if chunk.startswith("$ ")]
    assert len(with_command) == len(printed), str(block)
    text = chunks[0] if not chunks[0].startswith("$ ") else ""
    for chunk, new in zip(with_command, printed, strict=True):
        command, recorded = re.match(r"((?:.*\\\n)*.*\n?)([\s\S]*)", chunk).groups()  # type: ignore[union-attr]
        output = "\n".join(line.rstrip() for line in new.rstrip().splitlines()) + "\n" if new.strip() else ""
        text += command + ("" if not recorded.strip() else _update_output(block, recorded, output))
    return text


def _update_output(block: Block, recorded: str, printed: str) -> str:
    if "..." not in recorded.splitlines():
        return printed
    remaining, lines = printed.splitlines(), []
    for line in recorded.splitlines():
        index = next((i for i, new in enumerate(remaining) if NUMBERS.sub("", new) == NUMBERS.sub("", line)), None)
        if line == "..." or index is None:
            lines.append(line)
            if line != "...":
                print(f"{block}: not printed: {line}", file=sys.stderr)
            continue
        lines.append(remaining[index])
        remaining = remaining[index + 1 :]
    return "\n".join(lines) + "\n"


def record(page: Path) -> None:
    """Run a page and write its output into it."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder = Path(name) / "folder"
        folder.mkdir()
        monkeypatch.setenv("HSEVAL_CACHE", str(Path(name) / "cache"))
        prepare_folder(folder)
        recorder = Recorder(folder, monkeypatch)
        for block in read_blocks(page):
            if block.language in RUN and "not run" not in block.marks:
                recorder.printed = []
                recorder.run_block(block)
                if block.language == "console":
                    assert text.count(block.text) == 1, f"{block}: occurs twice"
                    text = text.replace(block.text, update_block(block, recorder.printed))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        record(Path(name).resolve())
