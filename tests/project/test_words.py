"""The check of words finds what must not come back, and allows what stays."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / ".ci"


@pytest.fixture(scope="module")
def checker() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "check_words.py"))


@pytest.fixture(scope="module")
def rules(checker: dict[str, Any]) -> Any:
    return checker["read_rules"](FOLDER / "words.toml")


@pytest.mark.parametrize(
    "line",
    [
        'raise HsevalError("samples are t' + 'old from real")',
        "def compute(real, fa" + "ke): ...",
        "fa" + "ke_groups = 1",
        "class Ri" + "valNetwork: ...",
        "# the col" + "our of the cent" + "re",
        "normal" + "ised = standard" + "isation(x)",
        "a score is bl" + "ind to noise",
        "neighb" + "ourhood",
    ],
)
def test_words_are_found_in_strings_identifiers_and_comments(line: str, checker: dict[str, Any], rules: Any) -> None:
    assert list(checker["check_text"]("hseval/metrics/fid.py", line, rules)) != []


@pytest.mark.parametrize(
    "line",
    ["dose_response(x)", "a dose-response curve", "generated = real", "color, center, gray", "otherwise = precise"],
)
def test_terms_that_contain_or_resemble_them_pass(line: str, checker: dict[str, Any], rules: Any) -> None:
    assert list(checker["check_text"]("hseval/metrics/fid.py", line, rules)) == []


def test_names_of_random_streams_are_allowed_where_they_decide_draws(checker: dict[str, Any], rules: Any) -> None:
    line = 'sides = ("clean", "spoi' + 'led")'
    assert list(checker["check_text"]("hseval/qualification/replicates.py", line, rules)) == []
    assert list(checker["check_text"]("hseval/metrics/fid.py", line, rules)) != []


def test_functions_are_verbs(checker: dict[str, Any], rules: Any) -> None:
    source = "def _settled(): ...\n\ndef seed(): ...\n\nclass A:\n    @property\n    def sorted_ids(self): ...\n"
    lines = list(checker["check_function_names"]("a.py", source, rules))
    assert len(lines) == 1 and "_settled" in lines[0]
