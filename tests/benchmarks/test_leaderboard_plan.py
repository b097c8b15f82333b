"""The leaderboard goes on where it stopped, and its parts of a scene share no square of patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence import leaderboard
from benchmarks.evidence.leaderboard_plan import BOARDS, GENERATORS, Place
from hseval import open_set
from hseval.data.writer import write_set


def test_no_square_of_patches_is_divided(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).random((36, 2, 4, 4), dtype=np.float32)
    groups = [f"square-{i // 4}" for i in range(36)]
    write_set(tmp_path / "patches.h5", cubes, wavelengths=np.array([500.0, 600.0]), groups=groups)
    leaderboard.divide(tmp_path / "patches.h5", tmp_path)
    parts = [open_set(str(tmp_path / f"{name}.h5")) for name in ("train", "reference", "oracle")]
    squares = [set(part.groups or ()) for part in parts]
    assert [len(part) for part in parts] == [12, 12, 12]
    assert set.union(*squares) == set(groups)
    assert sum(map(len, squares)) == 9


def test_every_generator_has_settings_that_it_takes() -> None:
    from hseval.core.plugin_manager import get_plugins

    for board in BOARDS.values():
        assert tuple(board.settings) == GENERATORS
        for name in ("pca", "ldm", "diffusers", "monai"):
            get_plugins().build("generator", name, board.settings[name])


def test_what_is_finished_is_kept_and_made_anew_when_its_settings_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[tuple[str, ...]] = []

    def command(*words: object) -> None:
        typed.append(tuple(str(word) for word in words))
        for flag, written in zip(typed[-1], typed[-1][1:], strict=False):
            if flag in ("--out", "--json"):
                Path(written).mkdir() if typed[-1][0] == "train" else Path(written).write_text("{}")

    monkeypatch.setattr(leaderboard, "command", command)
    place = Place(tmp_path, "phantom", tmp_path / "none")
    leaderboard.made(place, "pca")
    assert [words[0] for words in typed] == ["train", "sample", "score"]
    assert place.finished() == ["pca"]
    leaderboard.made(place, "pca")
    assert len(typed) == 3
    place.report("pca").unlink()
    leaderboard.made(place, "pca")
    assert [words[0] for words in typed[3:]] == ["score"]
    (place.folder / "pca.settings.json").write_text(json.dumps({"variance": 0.5}))
    leaderboard.made(place, "pca")
    assert [words[0] for words in typed[4:]] == ["train", "sample", "score"]
