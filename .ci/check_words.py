"""Refuse words that must not come back: the private dialect, British spellings, functions named by a participle.

    python .ci/check_words.py [FILE ...]

Reads Python (identifiers, strings, comments), templates, Markdown and TOML; ``words.toml`` beside it lists the words,
what to say instead, and the exceptions with their reasons. Prints ``file:line: word: what to say`` and ends with 1
where a word is found.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".md", ".j2", ".html", ".toml", ".yml", ".js"}
SUFFIX_OF_TEMPLATES = "-tpl"


class Rules(NamedTuple):
    """What is read from ``words.toml``.

    Attributes:
        words: pattern -> what to say; matched in any case, at the borders of words and of parts of identifiers.
        verbs: first words of function names that end in -ed and are verbs all the same.
        skipped: folders and files that are not read.
        exceptions: ``(file pattern, text)`` pairs: in these files the text is taken out before words are looked for.
    """

    words: dict[re.Pattern[str], str]
    verbs: frozenset[str]
    skipped: tuple[str, ...]
    exceptions: tuple[tuple[str, str], ...]


def read_rules(path: Path) -> Rules:
    """Return the rules of ``words.toml``."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    words = {
        re.compile(rf"(?<![A-Za-z])(?:{word})(?![a-z])", re.IGNORECASE): say for word, say in table["words"].items()
    }
    exceptions = tuple((each["file"], text) for each in table["exceptions"] for text in each["texts"])
    return Rules(words, frozenset(table["verbs"]), tuple(table["skipped"]), exceptions)


def list_files(names: Sequence[str]) -> list[Path]:
    """Return the files given, else all that git tracks and that hold text."""
    if not names:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    paths = [(ROOT / name).resolve() for name in names]
    return [
        path
        for path in paths
        if path.is_file() and (path.suffix in SUFFIXES or path.name.endswith(SUFFIX_OF_TEMPLATES))
    ]


def check_text(name: str, text: str, rules: Rules) -> Iterator[str]:
    """Yield a line for every word in a file's text that must not be there."""
    for pattern, excepted in rules.exceptions:
        if Path(name).match(pattern):
            text = text.replace(excepted, "")
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, say in rules.words.items():
            for match in pattern.finditer(_split_capitals(line)):
                yield f"{name}:{number}: {match.group()!r}: say {say}"


def check_functions(name: str, text: str, rules: Rules) -> Iterator[str]:
    """Yield a line for every function whose name begins with a participle: functions are verbs."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_property(node):
            continue
        first = node.name.strip("_").split("_")[0]
        if first.endswith("ed") and first not in rules.verbs:
            yield f"{name}:{node.lineno}: {node.name}: a function is a verb (compute_floor), not a participle"


def _split_capitals(line: str) -> str:
    """Return a line with the parts of CamelCase set apart, so that words are found in them."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", line)


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        ast.unparse(each).endswith(("property", "fixture")) or "fixture" in ast.unparse(each)
        for each in node.decorator_list
    )


def main() -> int:
    """Check the files given, or all; return the exit status."""
    rules = read_rules(Path(__file__).with_name("words.toml"))
    lines: list[str] = []
    for path in list_files(sys.argv[1:]):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(rules.skipped):
            continue
        text = path.read_text(encoding="utf-8")
        lines.extend(check_text(name, text, rules))
        if path.suffix == ".py":
            lines.extend(check_functions(name, text, rules))
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
