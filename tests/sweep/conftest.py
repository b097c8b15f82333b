"""Fixtures of the tests of sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.sweeps import register_plugin, save_sets


@pytest.fixture(autouse=True)
def register_staged_generator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the third party's generator in this process; other processes use ``pca``."""
    with register_plugin(monkeypatch):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with small sets."""
    save_sets(tmp_path)
    return tmp_path
