"""Plugins written for plugin API 1 are listed with what to rename, and everything else works."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

import hseval
from hseval.core import plugin_manager
from hseval.core.plugin_api import OldPluginError, check_plugin_api

RENAME = "written for plugin API 1: rename fake to generated, rows to features"
HEAD = """
from hseval import Needs, hookimpl

class Old:
    name, summary, better, needs = "old", "a metric of API 1", "lower", Needs({needs})

    def compare(self, *, real, {generated}, train=None, rng):
        return 0.0

@hookimpl
def hseval_metrics():
    return [Old]
"""
PLUGINS = {
    "needs rows": HEAD.format(needs='rows=("spectra",)', generated="generated"),
    "compares fake": HEAD.format(needs='features=("spectra",)', generated="fake"),
    "imports Rows": "from hseval import Rows\n" + HEAD.format(needs="", generated="generated"),
}


@pytest.mark.parametrize("source", PLUGINS.values(), ids=PLUGINS)
def test_a_plugin_of_api_1_is_broken_with_what_to_rename(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "old_plugin", raising=False)
    entry = types.SimpleNamespace(name="old", value="old_plugin")
    monkeypatch.setattr(plugin_manager, "_find_entry_points", lambda: [(entry, "hseval-old")])
    manager = plugin_manager.PluginManager()
    manager.load_entry_points()
    assert "old" not in manager.get_names("metric")
    (broken,) = manager.broken_plugins
    assert broken.distribution == "hseval-old" and broken.error.endswith(RENAME)
    assert "TypeError" not in broken.error


def test_a_property_that_asks_for_rows_is_refused_in_one_line() -> None:
    with pytest.raises(OldPluginError, match=RENAME):
        hseval.Needs(rows=("spectra",))  # type: ignore[call-arg]


def test_plugins_of_this_api_pass() -> None:
    for name in plugin_manager.get_plugins().get_names("metric"):
        check_plugin_api(plugin_manager.get_plugins().find("metric", name))
    assert hseval.PLUGIN_API == 2
