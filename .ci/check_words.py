"""Refuse words that must not come back: private jargon, British spellings, functions named by a participle.

    python .ci/check_words.py [FILE ...]

Reads Python (identifiers, strings, comments), templates, Markdown and TOML. ``words.toml`` in the same folder lists the
words, what to say instead, and the exceptions with their reasons. Prints ``file:line: word: what to say`` and ends
with 1 where a word is found.
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
SUFFIXES = {".py", ".md", ".j2", ".html", ".toml", ".yml", ".js", ".css", ".cff"}
TEMPLATE_ENDING = "-tpl"
VERBS = {"bed", "embed", "feed", "need", "seed", "shed", "speed", "wed"}  # no participles, though they end in -ed


class Rules(NamedTuple):
    """What is read from ``words.toml``.

    Attributes:
        words: pattern -> what to say; matched in any case, as whole words and as whole parts of identifiers.
        functions: names of functions that may begin with a participle: standard terms, and names that a Protocol fixes.
        skipped: beginnings of paths that are not read.
        exceptions: ``(pattern of paths, text)`` pairs: the text is allowed in these files.
    """

    words: dict[re.Pattern[str], str]
    functions: frozenset[str]
    skipped: tuple[str, ...]
    exceptions: tuple[tuple[str, str], ...]


def read_rules(path: Path) -> Rules:
    """Return the rules of ``words.toml``."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    words = {_compile_word(word): replacement for word, replacement in table["words"].items()}
    exceptions = [(entry["files"], text) for entry in table["exceptions"] for text in entry["texts"]]
    return Rules(words, frozenset(table["functions"]), tuple(table["skipped"]), tuple(exceptions))


def _compile_word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE)


def list_files(names: Sequence[str]) -> list[Path]:
    """Return the files given, else all that git tracks, of those that hold text."""
    if not names:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    return [path for name in names if _is_text_file(path := (ROOT / name).resolve())]


def _is_text_file(path: Path) -> bool:
    return path.is_file() and (path.suffix in SUFFIXES or path.name.endswith(TEMPLATE_ENDING))


def check_text(name: str, text: str, rules: Rules) -> Iterator[str]:
    """Yield a line for every word in a file's text that must not be there."""
    for pattern, allowed in rules.exceptions:
        if Path(name).match(pattern):
            text = text.replace(allowed, "")
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, replacement in rules.words.items():
            for match in pattern.finditer(_split_camel_case(line)):
                yield f"{name}:{number}: {match.group()!r}: say {replacement}"


def check_function_names(name: str, text: str, rules: Rules) -> Iterator[str]:
    """Yield a line for every function whose name begins with a participle: functions are verbs."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_value(node):
            continue
        first = node.name.strip("_").split("_")[0]
        if first.endswith("ed") and first not in VERBS and node.name not in rules.functions:
            yield f"{name}:{node.lineno}: {node.name}: a function is a verb (compute_floor), not a participle"


def _split_camel_case(line: str) -> str:
    """Return a line with spaces between the parts of CamelCase, so that words are found in them."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", line)


def _is_value(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is read like a value: a property, or a fixture."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any("property" in name or "fixture" in name for name in decorators)


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
            lines.extend(check_function_names(name, text, rules))
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
