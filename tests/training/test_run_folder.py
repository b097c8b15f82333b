"""A run's folder: one training at a time, and the same cubes whenever it is resumed."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hseval import ArraySet, CubeSet, HsevalError, open_set
from hseval.training.run_folder import LOCK_FILE, check_training_set, hold_run_folder, sort_as_recorded
from hseval.utils.distributed import Ranks
from tests.helpers.sets import make_texture_set, save_set
from tests.helpers.two_ranks import run_on_two_ranks

HOLD = """
import sys, time
from pathlib import Path
from hseval.training.run_folder import hold_run_folder
with hold_run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def make_set(*, pixel: float = 0.0, mask: bool = False, group: str = "a", order: tuple[int, ...] = range(6)) -> CubeSet:
    """Return six cubes, of which the fifth may differ."""
    data = make_texture_set(6, size=8, bands=3)
    data.cubes[4, 1, 2, 3] += pixel
    if mask:
        data.masks["bright"][4, 0, 0] ^= True
    data.info = dataclasses.replace(data.info, groups=("a", "a", "b", "b", group, "c"))
    return data.subset(order)


@pytest.mark.parametrize("change", [{"pixel": 1e-6}, {"mask": True}, {"group": "z"}])
def test_one_changed_cube_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    check_training_set(tmp_path, "ldm", make_set(), resume=False)
    check_training_set(tmp_path, "ldm", make_set(), resume=True)
    changed = make_set(**change)
    with pytest.raises(HsevalError, match=rf"cube '{changed.ids[4]}' changed\); resume with the same set"):
        check_training_set(tmp_path, "ldm", changed, resume=True)


def test_missing_and_new_cubes_are_counted(tmp_path: Path) -> None:
    check_training_set(tmp_path, "ldm", make_set(order=(0, 1, 2, 3)), resume=False)
    with pytest.raises(HsevalError, match=r"2 cubes from 'cube-0-000' on gone, cube 'cube-0-004' new"):
        check_training_set(tmp_path, "ldm", make_set(order=(2, 3, 4)), resume=True)


def test_another_order_is_undone(tmp_path: Path) -> None:
    data = make_set()
    check_training_set(tmp_path, "ldm", data, resume=False)
    resorted = sort_as_recorded(tmp_path, "ldm", make_set(order=(3, 5, 0, 1, 4, 2)))
    assert resorted.ids == data.ids and np.array_equal(resorted[3].data, data[3].data)
    check_training_set(tmp_path, "ldm", resorted, resume=True)


def test_hashes_of_known_files_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_set(tmp_path / "set.h5", make_texture_set(4, size=8, bands=3))
    os.utime(path, (1e9, 1e9))
    time.sleep(2.1)  # a file that has just changed has no stamp
    check_training_set(tmp_path, "ldm", open_set(path), resume=False)
    monkeypatch.setattr(ArraySet, "read", None)
    data = open_set(path)
    monkeypatch.setattr(type(data), "read", None)
    check_training_set(tmp_path, "ldm", data, resume=True)


def test_a_run_without_hashes_is_resumed_with_a_note_and_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_training_set(tmp_path, "ldm", make_set(), resume=True)
    assert "it is not known whether" in caplog.text
    with pytest.raises(HsevalError, match="changed"):
        check_training_set(tmp_path, "ldm", make_set(pixel=1.0), resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "hseval-training-set", "version": 1, "cubes": {"a": 1}}'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    check_training_set(tmp_path, "ldm", make_set(), resume=False)
    (tmp_path / "training-set-ldm.json").write_text(text)
    with pytest.raises(HsevalError, match=r"training-set-ldm\.json: "):
        check_training_set(tmp_path, "ldm", make_set(), resume=True)


def check_on_rank(ranks: Ranks, folder: Path, pixel: float) -> str:
    """Compare the set as a rank; return the refusal, or nothing."""
    try:
        with hold_run_folder(folder, ranks):
            check_training_set(folder, "ldm", make_set(pixel=pixel), ranks, resume=True)
    except HsevalError as error:
        return str(error)
    return ""


def test_two_ranks_share_the_reading_and_refuse_together(tmp_path: Path) -> None:
    check_training_set(tmp_path, "ldm", make_set(), resume=False)
    assert run_on_two_ranks(check_on_rank, tmp_path, 0.0) == ["", ""]
    one, other = run_on_two_ranks(check_on_rank, tmp_path, 1.0)
    assert one == other and "cube 'cube-0-004' changed" in one


def test_a_folder_is_held_by_one_process_and_freed_by_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(HsevalError, match="another process is training into it"), hold_run_folder(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with hold_run_folder(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", [OSError(95, "Operation not supported"), None])
def test_a_file_system_without_locks_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: OSError | None
) -> None:
    import fcntl

    def lock(*_: object) -> None:
        if fails:
            raise fails

    replacement: Callable[..., None] = lock
    monkeypatch.setattr(fcntl, "lockf", replacement)
    with hold_run_folder(tmp_path):
        pass
