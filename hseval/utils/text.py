"""Text from files: made visible where it would control a terminal, and walks over all text of a record."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")

MAX_LABEL_LENGTH = 80  # characters


def escape_unprintable(text: str, *, keep: str = "") -> str:
    r"""Return text with characters that control a terminal, and invisible ones, shown escaped: ``\x1b``, ``\u202e``.

    Lone surrogates, from file names that are not UTF-8, too. Wide and narrow spaces stay, as do characters in ``keep``.
    """
    if text.isprintable():
        return text
    return "".join(
        character if _is_visible(character) or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def _is_visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def shorten_text(text: str, max_length: int) -> str:
    """Return text of at most about ``max_length`` characters; what is left out is stated."""
    return text if len(text) <= max_length else f"{text[:max_length]} ... ({len(text)} characters)"


def escape_label(text: str) -> str:
    """Return text as a short label of a matplotlib figure: printable, and never taken for a formula."""
    return shorten_text(escape_unprintable(text), MAX_LABEL_LENGTH).replace("$", r"\$")


def map_text(record: Record, function: Callable[[str], str]) -> Record:
    """Return a copy of a record with ``function`` applied to every text in it, keys of mappings included.

    Walks dataclasses, mappings, lists and tuples; everything else stays as it is.
    """
    value: Any = record
    mapped: Any = record
    if isinstance(value, str):
        mapped = function(value)
    elif isinstance(value, Mapping):
        mapped = {map_text(key, function): map_text(item, function) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        mapped = (list if isinstance(value, list) else tuple)(map_text(item, function) for item in value)
    elif dataclasses.is_dataclass(value):
        changes = {field.name: map_text(getattr(value, field.name), function) for field in dataclasses.fields(value)}
        mapped = dataclasses.replace(value, **changes)  # type: ignore[type-var]
    return mapped  # type: ignore[no-any-return]
