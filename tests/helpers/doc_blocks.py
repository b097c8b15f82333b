"""The code blocks of a page: found as Markdown means them, run in order in a folder of their own.

A block says what it is by its language:

- ``python``: run, in one namespace a page.
- ``sh``: commands as typed, one a line.
- ``console``: commands after ``$ ``, and what they print, which has to be what they print (``...``: any lines).
- ``toml``, ``json``: parsed.
- any of them with ``title="NAME"``: written to that file.
- ``text``: neither code nor commands.

Comments before a block change this:

- ``<!-- not run: why -->``, ``<!-- slow: why -->`` (run with ``-m slow``).
- ``<!-- in the tests: THIS => THAT; ... -->``: something else is typed.
- ``<!-- quick: THIS => THAT; ... -->``: so unless asked for with ``-m slow``; then the page is typed as it stands, and
  only then does its recorded output have to hold.
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
    """A code block, and what stands before it about running it."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def typed(self, *, slow: bool = False) -> str:
        """Return the text as the tests type it."""
        text = self.text
        marks = ["in the tests"] if slow else ["in the tests", "quick"]
        for pair in ";".join(self.marks.get(mark, "") for mark in marks).split(";"):
            if pair.strip():
                this, that = (part.strip() for part in pair.split("=>"))
                assert this in text, f"{self}: {this!r} does not stand in the block"
                text = text.replace(this, that)
        return text


def pages() -> list[Path]:
    """Return every page of the project."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/README.md")]
    return sorted([*found, ROOT / "benchmarks" / "README.md"])


def blocks(page: Path) -> Iterator[Block]:
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


def commands(block: Block, *, slow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, continued lines joined, with the output that follows it (or nothing)."""
    if block.language == "sh":
        joined = block.typed(slow=slow).replace("\\\n", " ")
        yield from ((line.strip(), "") for line in joined.splitlines() if line.split("#")[0].strip())
        return
    for part in re.split(r"^\$ ", block.typed(slow=slow), flags=re.MULTILINE)[1:]:
        line, _, printed = re.sub(r"\\\n", " ", part).partition("\n")
        yield line.strip(), printed


def prints(recorded: str, printed: str) -> list[str]:
    """Return the lines that are recorded and not printed; numbers may differ by 1 %, for other machines."""
    left, missing = printed.splitlines(), []
    skipping = True
    for line in recorded.rstrip().splitlines():
        if line.strip() == "...":
            skipping = True
            continue
        found = next((i for i, other in enumerate(left) if same(line, other)), None)
        if found is None or (found and not skipping and any(other.strip() for other in left[:found])):
            missing.append(line)
            continue
        left, skipping = left[found + 1 :], False
    return missing


def same(a: str, b: str) -> bool:
    """Return whether two lines say the same: words equal, numbers within 1 %."""
    these, those = a.split(), b.split()
    return len(these) == len(those) and all(_alike(*pair) for pair in zip(these, those, strict=True))


def _alike(a: str, b: str) -> bool:
    if a == b:
        return True
    if not (NUMBER.match(a) and NUMBER.match(b)):
        return False
    x, y = (float(text.strip("(,;:%)")) for text in (a, b))
    return abs(x - y) <= 0.01 * max(abs(x), abs(y))
