"""Damaged checkpoints and training runs: refused, or what is made with them is what the undamaged ones give.

A damaged file does not match its hash. In some files the record or the tensors are changed and the hash is made again,
as by another program: then the result may be another one, but must be made of finite numbers.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.attempts import Attempt, assess, call_in_process, run_in_process
from benchmarks.reliability.cache_inputs import read_result, read_set
from benchmarks.reliability.jobs import LDM, read_weights
from tests.helpers.commands import Outcome
from tests.helpers.damaged_checkpoints import find_problem
from tests.helpers.mutations import Rng, mutate_bytes, mutate_json
from tests.helpers.sets import make_texture_set, save_set
from tests.hseval_ldm.training.test_damaged_checkpoints import load_mixer, make_mixer, resume_mixer

Read = Callable[[Path, Outcome], Any]  # the folder of an attempt, and a command's output -> its result


@dataclasses.dataclass(frozen=True)
class Trained:
    """What was trained, and the command that reads it.

    Attributes:
        source: file or folder.
        command: with ``{source}``, a copy of it, and ``{folder}``.
        read: the command's result.
        right: with the undamaged source.
        may_damage: names of the files that are damaged, by the ends of their paths.
    """

    source: Path
    command: tuple[str, ...]
    read: Read
    right: Any
    may_damage: tuple[str, ...] = (".safetensors",)


def make_pca(folder: Path) -> Trained:
    """Fit ``pca``; two cubes are sampled with it."""
    _call("train", "pca", _save_train(folder), "--out", folder / "pca", "-q")
    command = ("sample", "pca", "--checkpoint", "{source}", "-n", "2", "-q", "--out", "{folder}/out.h5")
    return _finish(folder, folder / "pca", command, _read_samples)


def make_ldm(folder: Path) -> Trained:
    """Train ``ldm``; a cube is sampled with it."""
    _train_ldm(folder)
    command = ("sample", "ldm", "--checkpoint", "{source}", "-n", "1", "-q", "--out", "{folder}/out.h5")
    return _finish(folder, folder / "ldm", command, _read_samples, (".safetensors", ".json"))


def make_run(folder: Path) -> Trained:
    """Train ``ldm``, and let the run be resumed: what is damaged is trained again, or refused."""
    _train_ldm(folder)
    (folder / "ldm" / "diffusion" / "best.safetensors").unlink()
    command = ("train-ldm", str(folder / "train.h5"), "--out", "{source}", "--resume", "-q")
    read = read_weights("source/diffusion/last.safetensors")
    may_damage = (".safetensors", ".json", ".npy", ".jsonl")
    return _finish(folder, folder / "ldm", command, lambda place, _: read(place), may_damage)


def make_encoder(folder: Path) -> Trained:
    """Fit an encoder; two sets are scored with its features."""
    _save_train(folder)
    save_set(folder / "ref.h5", make_texture_set(8, size=16, bands=4, seed=1))
    _call("fit-extractor", folder / "train.h5", "--out", folder / "it.safetensors", "--set", "steps=2", "-q")
    sets = (str(folder / "train.h5"), "--ref", str(folder / "ref.h5"), "--segmenter", "none", "--metrics", "fid")
    options = ("--extractor", "encoder", "--set", "encoder.weights={source}", "--no-cache", "-q", "--json", "-")
    return _finish(
        folder, folder / "it.safetensors", ("score", *sets, *options), lambda _, outcome: read_result(outcome.out)
    )


NETWORK_FILES = ("mixer.safetensors", "mixer/last.safetensors", "training-set-mixer.json", "metrics.jsonl")


def make_network(folder: Path) -> Path:
    """Fit a small network by the generator kit, as the plugins ``diffusers`` and ``monai`` do; return its folder."""
    make_mixer(folder)
    return folder


def attempt_network(run: Path, folder: Path, rng: Rng) -> Attempt:
    """Damage a file of the network's run, and load or resume it."""
    name = str(rng.choice(NETWORK_FILES))
    load = load_mixer if name == NETWORK_FILES[0] else resume_mixer
    result, problem = call_in_process(partial(find_problem, run=run), run / name, load, folder, rng)
    if problem:
        return Attempt(name, "traceback" if result == "failed" else "untidy", problem)
    return Attempt(name, "refused" if result == "refused" else "read")


def attempt(trained: Trained, folder: Path, rng: Rng) -> Attempt:
    """Damage a file of what was trained, and run the command that reads it."""
    source = folder / "source"
    _copy(trained.source, source)
    files = [path for path in sorted(source.rglob("*")) if path.name.endswith(trained.may_damage)] or [source]
    path = files[int(rng.integers(len(files)))]
    how, has_new_hash = _damage(path, rng)
    command = [word.format(source=source, folder=folder) for word in trained.command]
    outcome = run_in_process(*command)
    wrong = ""
    if outcome.status != 2:
        result = trained.read(folder, outcome)
        if not has_new_hash and result != trained.right:
            wrong = "another result than with the undamaged file;"
        elif "out.h5" in command[-1] and not np.isfinite(np.array(result["cubes"])).all():
            wrong = "cubes with values that are not finite;"
        outcome = dataclasses.replace(outcome, out="")
        (folder / "out.h5").unlink(missing_ok=True)
    if source.is_dir():
        shutil.rmtree(source)
    else:
        source.unlink()
    name = path.relative_to(folder)
    # Status 1 of score: no metric has a value, as features are not finite.
    return assess(f"{name} ({how}): {' '.join(command)}", [outcome], folder, wrong, status_1=command[0] == "score")


def _damage(path: Path, rng: Rng) -> tuple[str, bool]:
    """Damage a file; return how, and whether a record or tensors were changed in a file that is otherwise valid."""
    data, choice = path.read_bytes(), rng.random()
    if path.suffix == ".json" and choice < 0.8:
        path.write_bytes(mutate_json(json.loads(data), rng))
        return "values", True
    if (path.suffix != ".safetensors" and path.name != "source") or choice < 0.4:
        path.write_bytes(mutate_bytes(data, rng))
        return "bytes", path.suffix != ".safetensors" and path.name != "source"
    if choice < 0.6:
        size = int.from_bytes(data[:8], "little")
        header = mutate_json(json.loads(data[8 : 8 + size]), rng)
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
        return "header", False
    return _rewrite(path, rng, change_record=choice < 0.85), True


def _rewrite(path: Path, rng: Rng, *, change_record: bool) -> str:
    from safetensors import safe_open

    from hseval.training.checkpoint_file import write_content

    with safe_open(path, "np") as handle:
        record = json.loads(handle.metadata()["record"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no dict
    form = record.pop("format")
    how = "record"
    if change_record:
        try:
            changed = json.loads(mutate_json(record, rng))
            record = changed if isinstance(changed, dict) else {"x": changed}
            record.pop("format", None)
            json.dumps(record, allow_nan=False)
        except (ValueError, RecursionError):  # what is no JSON can't be in a file whose hash is right
            record = {}
    else:
        how = _change_tensors(tensors, rng)
    write_content(path, tensors, record, format=form)
    return how


def _change_tensors(tensors: dict[str, Any], rng: Rng) -> str:
    name, other = (str(chosen) for chosen in rng.choice(sorted(tensors), 2))
    value = tensors.pop(name)
    changed = {
        "dropped": {},
        "renamed": {f"{name}x": value},
        "NaN": {name: np.full_like(value, np.nan if value.dtype.kind == "f" else 1)},
        "huge": {name: np.full_like(value, 3e38 if value.dtype == np.float32 else 100)},
        "another": {name: tensors.get(other, value)},
        "flat": {name: value.ravel()},
        "empty": {name: value[:0] if value.ndim else value},
        "one more axis": {name: value[None]},
        "float64": {name: value.astype(np.float64)},
        "integers": {name: np.zeros(value.shape, np.int64)},
    }
    how = str(rng.choice(sorted(changed)))
    tensors.update(changed[how])
    return how


def _finish(
    folder: Path, source: Path, command: tuple[str, ...], read: Read, may_damage: tuple[str, ...] = (".safetensors",)
) -> Trained:
    """Run the command with the undamaged source, and return its result with all else."""
    place = folder / "right"
    place.mkdir()
    _copy(source, place / "source")
    outcome = _call(*(word.format(source=place / "source", folder=place) for word in command))
    return Trained(source, command, read, read(place, outcome), may_damage)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _train_ldm(folder: Path) -> None:
    preset = folder / "ldm.toml"
    preset.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in LDM.items()))
    _call("train-ldm", _save_train(folder), "--out", folder / "ldm", "--preset", preset, "-q")


def _save_train(folder: Path) -> Path:
    return save_set(folder / "train.h5", make_texture_set(8, size=16, bands=4))


def _read_samples(place: Path, _: Outcome) -> Any:
    return read_set(place / "out.h5")


def _call(*arguments: Any) -> Outcome:
    outcome = run_in_process(*map(str, arguments))
    assert outcome.status == 0, outcome
    return outcome
