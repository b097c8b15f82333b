"""A folder with ``pca.safetensors`` and ``pca.json``; the second holds the hash of the first and is written last."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hseval.utils.atomic_files import write_atomically, write_text
from hseval.utils.errors import HsevalError

FORMAT = "hseval-pca-1"
REQUIRED_FIELDS: dict[str, type | tuple[type, ...]] = {
    "sha256": str,
    "options": dict,
    "wavelengths": (list, type(None)),
    "units": (str, type(None)),
    "structures": list,
}


def save(folder: Path, tensors: dict[str, NDArray[Any]], record: dict[str, Any]) -> None:
    """Write both files, each atomically."""
    from safetensors.numpy import save_file

    with write_atomically(folder / "pca.safetensors") as temporary:
        save_file(tensors, temporary)
        digest = _compute_sha256(temporary)
    write_text(folder / "pca.json", json.dumps({"format": FORMAT, "sha256": digest, **record}, indent=1) + "\n")


def load(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read both files.

    Raises:
        HsevalError: a file is missing, truncated or changed, or the record is incomplete.
    """
    from safetensors.numpy import load_file

    weights, record_file = folder / "pca.safetensors", folder / "pca.json"
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
        digest = _compute_sha256(weights)
    except (OSError, ValueError) as error:
        message = f"{folder}: no complete checkpoint of pca ({_describe_error(error)}); create one by: hseval train pca"
        raise HsevalError(message) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise HsevalError(f"{record_file}: no checkpoint of pca in the format of this version, {FORMAT!r}; train again")
    for key, kind in REQUIRED_FIELDS.items():
        if key not in record or not isinstance(record[key], kind):
            raise HsevalError(f"{record_file}: {key!r} is missing or of another type; train again")
    if record["sha256"] != digest:
        raise HsevalError(f"{weights}: truncated or changed (its sha256 does not match pca.json); train again")
    return load_file(weights), record


def _describe_error(error: OSError | ValueError) -> str:
    if isinstance(error, NotADirectoryError):
        return "it is a file, not a folder"
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    return f"pca.json is no JSON: {error}"


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
