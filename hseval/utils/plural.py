"""Counts with the right plural."""

from __future__ import annotations


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Return ``"1 cube"``, ``"2 cubes"``; ``plural`` for nouns that do not just take -s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
