"""The leaderboard resumes where it stopped, and its parts of a scene share no square of patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence import leaderboard
from benchmarks.evidence.leaderboard_plan import BOARDS, GENERATORS, BoardFiles
from hseval import open_set
from hseval.data.writer import write_set


def test_no_square_of_patches_is_divided(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).random((36, 2, 4, 4), dtype=np.float32)
    groups = [f"square-{i // 4}" for i in range(36)]
    write_set(tmp_path / "patches.h5", cubes, wavelengths=np.array([500.0, 600.0]), groups=groups)
    leaderboard.assign_squares(tmp_path / "patches.h5", tmp_path)
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


def test_finished_steps_are_not_repeated_unless_the_settings_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def run_command(*words: object) -> None:
        commands.append(tuple(str(word) for word in words))
        for flag, path in zip(commands[-1], commands[-1][1:], strict=False):
            if flag in ("--out", "--json"):
                Path(path).mkdir() if commands[-1][0] == "train" else Path(path).write_text("{}")

    monkeypatch.setattr(leaderboard, "run_command", run_command)
    files = BoardFiles(tmp_path, "phantom", tmp_path / "none")
    leaderboard.run_generator(files, "pca")
    assert [words[0] for words in commands] == ["train", "sample", "score"]
    assert files.list_finished() == ["pca"]
    leaderboard.run_generator(files, "pca")
    assert len(commands) == 3
    files.get_report_path("pca").unlink()
    leaderboard.run_generator(files, "pca")
    assert [words[0] for words in commands[3:]] == ["score"]
    (files.folder / "pca.settings.json").write_text(json.dumps({"variance": 0.5}))
    leaderboard.run_generator(files, "pca")
    assert [words[0] for words in commands[4:]] == ["train", "sample", "score"]
