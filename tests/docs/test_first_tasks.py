"""A newcomer's three first tasks, typed from the page's own blocks in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import hseval as package
from tests.helpers.doc_blocks import ROOT, read_blocks
from tests.helpers.doc_run import Reader


def test_a_folder_is_scored_a_metric_written_and_a_generator_wrapped(
    tmp_path: Path, hseval: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    reader = Reader(folder, hseval, monkeypatch)
    try:
        for block in read_blocks(ROOT / "docs" / "how-to" / "first-tasks.md"):
            reader.run_block(block)
        scores = {path.stem: json.loads(path.read_text())["scores"] for path in folder.glob("*.json")}
        samples = package.open_set(folder / "my-gan.h5")
    finally:
        reader.clean_up()
    by_name = {score["name"]: score for score in scores["report"]}
    assert by_name["spectral-kl"]["verdict"] == "worse than real" and by_name["authenticity"]["value"] is None
    assert [score["name"] for score in scores["band-level"]] == ["band-level"]
    assert scores["band-level"][0]["value"] > scores["band-level"][0]["floor"]
    assert len(samples) == 24 and samples.ids[0] == "my-gan-0-000000"
    assert {score["name"]: score["verdict"] for score in scores["my-gan"]}["fid"] == "worse than real"
