"""A run that takes over the first stages of another: one autoencoder serves diffusion models of several widths."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

from hseval.core.cubes import CubeSet
from hseval.utils.atomic_files import written_whole
from hseval.utils.errors import HsevalError
from hseval_ldm.options import STAGES, LdmOptions
from hseval_ldm.training import checkpoint
from hseval_ldm.training.run_config import FILE, Config, hash_of_ids, read_config

FIRST = next(iter(STAGES))  # its options decide, trained or not, which cubes are held out of all stages


def adopt(start: Path, options: LdmOptions, data: CubeSet, out: Path, *, seed: int) -> None:
    """Give the folder ``out``, unless it holds a run, the finished stages of the run ``start``.

    Checkpoints are hard links where the file system has them: they are replaced by others, never changed.

    Raises:
        HsevalError: ``start`` is of another seed, set or options, or has an unfinished stage; or a full disk.
    """
    chief = int(os.environ.get("RANK", "0")) == 0  # the others wait for it when they join
    if (out / FILE).exists() or not chief:
        return
    found = read_config(start)
    finished = [stage for stage in STAGES if _is_finished(start, stage)]
    _check(found, options, hash_of_ids(data), seed, start)
    for stage in dict.fromkeys((FIRST, *finished)):  # what decides a stage that was not trained is free
        _check_options(found, options, STAGES[stage], start)
    out.mkdir(exist_ok=True)
    for stage in finished:
        (out / stage).mkdir(exist_ok=True)
        for which in (checkpoint.LAST, checkpoint.BEST):
            _link(checkpoint.file_of(start / stage, which), checkpoint.file_of(out / stage, which))
    # Written last: what makes the folder a run.
    dataclasses.replace(found, options=options, location=data.info.location).write(out)


def _check(found: Config, options: LdmOptions, data: str, seed: int, start: Path) -> None:
    if found.data != data:
        raise HsevalError(f"{start}: was trained on another set ({found.location}: its ids or groups differ)")
    if found.seed != seed:
        raise HsevalError(f"{start}: was trained with seed {found.seed}, not {seed}")


def _check_options(found: Config, options: LdmOptions, names: tuple[str, ...], start: Path) -> None:
    for name in names:
        was, now = getattr(found.options, name), getattr(options, name)
        if was != now:
            raise HsevalError(f"{start}: was trained with {name}={was}, not {now}; its stages can't be taken over")


def _is_finished(start: Path, stage: str) -> bool:
    """Tell whether the stage was trained; HsevalError where it was begun and not finished."""
    home = start / stage
    if not checkpoint.exists(home):
        return False
    if not checkpoint.read_record(home)["finished"]:
        raise HsevalError(f"{home}: is not finished; hseval train-ldm --resume finishes it")
    return True


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        target.hardlink_to(source)
        return
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)
