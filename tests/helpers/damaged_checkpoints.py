"""Checkpoints and files of runs, damaged by a function of a seed, and what loading them comes to."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from hseval import HsevalError
from hseval.training import checkpoint_file
from tests.helpers.mutations import Rng, mutate_json

NAMES = ("", "x", "model.x", "mean", "ema.input.weight", "scale.mean")
DTYPES = ("float64", "float16", "int64", "uint8", "bool")


def damage_file(path: Path, rng: Rng) -> None:
    """Replace a file by a damaged copy; checkpoints often get a record or tensors with the right sha256."""
    if path.suffix == ".json":
        path.write_bytes(mutate_json(json.loads(path.read_text()), rng))
    elif path.suffix == ".jsonl":
        lines = [mutate_json(json.loads(line), rng) for line in path.read_text().splitlines()]
        path.write_bytes(b"\n".join(lines) + b"\n")
    elif path.suffix != ".safetensors" or rng.random() < 0.25:
        data = bytearray(path.read_bytes())
        if rng.random() < 0.5:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        else:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
    else:
        _damage_content(path, rng)


def find_problem(path: Path, load: Callable[[Path], None], folder: Path, rng: Rng, *, run: Path) -> tuple[str, str]:
    """Damage the file ``path`` of a copy of ``run`` in ``folder``, load that, and return the outcome and the fault.

    ``load`` takes the copy. Expected: it loads, or an HsevalError of one line.
    """
    copy = folder / run.name
    shutil.copytree(run, copy)
    damage_file(copy / path.relative_to(run), rng)
    try:
        load(copy)
    except HsevalError as error:
        return "refused", "" if len(str(error).splitlines()) == 1 and len(str(error)) < 2000 else f"lines: {error}"
    except Exception:  # noqa: BLE001 - any other one is the fault that is looked for
        return "failed", traceback.format_exc(limit=-4)
    finally:
        shutil.rmtree(copy)
    return "loaded", ""


def _damage_content(path: Path, rng: Rng) -> None:
    """Change the record or a tensor, and write the file with the sha256 of its new content."""
    with safe_open(path, framework="np") as handle:
        text = handle.metadata()["record"]
        tensors = {name: handle.get_tensor(name) for name in list(handle.keys())}
    if not tensors or rng.random() < 0.6:
        text = mutate_json(json.loads(text), rng).decode("utf-8", "replace")
    else:
        name = list(tensors)[int(rng.integers(len(tensors)))]
        tensors = _damage_tensor(tensors, name, rng)
    tensors = {key: np.asarray(value) for key, value in tensors.items()}
    names = sorted(tensors, key=lambda key: (-tensors[key].itemsize, key))
    header = checkpoint_file._build_header({key: tensors[key] for key in names}, text)
    digests, contents = {}, []
    for key in names:
        contents.append(bytes(checkpoint_file._view_bytes(tensors[key])))
        digests[key] = checkpoint_file._hash_tensor(tensors[key], memoryview(contents[-1]))
    hashed = checkpoint_file._combine_hashes(text, digests).encode()
    header = header.replace(checkpoint_file.HASH_PLACEHOLDER.encode(), hashed, 1)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(contents))


def _damage_tensor(tensors: dict[str, Any], name: str, rng: Rng) -> dict[str, Any]:
    tensor, kind = tensors[name], int(rng.integers(6))
    rest = {key: value for key, value in tensors.items() if key != name}
    if kind == 0:
        return rest
    if kind == 1:
        return {**rest, NAMES[int(rng.integers(len(NAMES)))]: tensor}
    if kind == 2 and tensor.size:
        flat = tensor.astype(np.float32).reshape(-1)
        flat[int(rng.integers(flat.size))] = (np.nan, np.inf)[int(rng.integers(2))]
        return {**rest, name: flat.reshape(tensor.shape)}
    if kind == 3:
        with np.errstate(all="ignore"):
            return {**rest, name: np.asarray(np.nan_to_num(tensor)).astype(DTYPES[int(rng.integers(len(DTYPES)))])}
    if kind == 4:
        return {**rest, name: tensor.reshape(-1)[: int(rng.integers(tensor.size + 1))]}
    return {**rest, name: tensor[None]}
