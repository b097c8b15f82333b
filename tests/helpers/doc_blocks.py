"""The code blocks of a page, parsed as CommonMark, which the tests run in order in a folder of their own.

The language of a block states its kind:

- ``python``: run, in one namespace per page.
- ``sh``: commands, one per line.
- ``console``: commands after ``$ ``, and their recorded output, which is compared (``...``: any lines).
- ``toml``, ``json``: parsed.
- any of them with ``title="NAME"``: written to that file.
- ``text``: neither code nor commands.

Comments before a block change this:

- ``<!-- not run: REASON -->``, ``<!-- slow: REASON -->`` (run with ``-m slow``).
- ``<!-- in the tests: THIS => THAT; ... -->``: the tests replace THIS by THAT.
- ``<!-- quick: THIS => THAT; ... -->``: the same, except with ``-m slow``, which runs the page unchanged; only then is
  its recorded output compared.
- ``<!-- exit status: 2 -->``: of the block's last line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
RUN = ("python", "sh", "console", "toml", "json")
MARK = re.compile(r"<!-- (not run|slow|in the tests|quick|exit status): (.+?) -->", re.DOTALL)
COMMAND = re.compile(r"^\s*(\$ |hseval |make |pip |python )")
NUMBER = re.compile(r"^[-+(]*\d+(\.\d+)?(e[-+]?\d+)?[,;:%)]*$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block, and the comments before it on how to run it."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def get_text(self, *, slow: bool = False) -> str:
        """Return the text that the tests run."""
        text = self.text
        marks = ["in the tests"] if slow else ["in the tests", "quick"]
        for pair in ";".join(self.marks.get(mark, "") for mark in marks).split(";"):
            if pair.strip():
                old, new = (side.strip() for side in pair.split("=>"))
                assert old in text, f"{self}: {old!r} is not in the block"
                text = text.replace(old, new)
        return text


def find_pages() -> list[Path]:
    """Return every page of the project."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/README.md")]
    return sorted([*pages, ROOT / "benchmarks" / "README.md"])


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield a page's code blocks, indented ones included."""
    marks: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            marks = {**marks, **dict(MARK.findall(token.content))}
        elif token.type in ("fence", "code_block"):
            language, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            yield Block(page, (token.map or [0])[0] + 1, language, title and title[1], token.content, marks)
            marks = {}
        elif token.nesting >= 0:
            marks = {}


def read_commands(block: Block, *, slow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, continued lines joined, with its recorded output (or an empty string)."""
    if block.language == "sh":
        joined = block.get_text(slow=slow).replace("\\\n", " ")
        yield from ((line.strip(), "") for line in joined.splitlines() if line.split("#")[0].strip())
        return
    for part in re.split(r"^\$ ", block.get_text(slow=slow), flags=re.MULTILINE)[1:]:
        line, _, printed = re.sub(r"\\\n", " ", part).partition("\n")
        yield line.strip(), printed


def find_missing_lines(recorded: str, printed: str) -> list[str]:
    """Return the recorded lines that are not printed; numbers may differ by 1 %, for other machines."""
    remaining, missing = printed.splitlines(), []
    skipping = True
    for line in recorded.rstrip().splitlines():
        if line.strip() == "...":
            skipping = True
            continue
        index = next((i for i, other in enumerate(remaining) if match_lines(line, other)), None)
        if index is None or (index and not skipping and any(other.strip() for other in remaining[:index])):
            missing.append(line)
            continue
        remaining, skipping = remaining[index + 1 :], False
    return missing


def match_lines(a: str, b: str) -> bool:
    """Return whether two lines agree: words equal, numbers within 1 %."""
    a_words, b_words = a.split(), b.split()
    return len(a_words) == len(b_words) and all(_match_words(*pair) for pair in zip(a_words, b_words, strict=True))


def _match_words(a: str, b: str) -> bool:
    if a == b:
        return True
    if not (NUMBER.match(a) and NUMBER.match(b)):
        return False
    x, y = (float(text.strip("(,;:%)")) for text in (a, b))
    return abs(x - y) <= 0.01 * max(abs(x), abs(y))
