"""Counts agree with their nouns."""

from __future__ import annotations

import pytest

from hseval.utils.plural import format_count


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, "cube"), "0 cubes"),
        ((1, "cube"), "1 cube"),
        ((2, "cube"), "2 cubes"),
        ((1, "match", "matches"), "1 match"),
        ((3, "match", "matches"), "3 matches"),
    ],
)
def test_one_is_singular_and_all_else_plural(arguments: tuple[int, str], text: str) -> None:
    assert format_count(*arguments) == text
