"""The file format: the same bytes from torch and numpy, read by both, and old or foreign files refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hseval.training.checkpoint_file import read_checkpoint, read_record, write_checkpoint
from hseval.utils.errors import HsevalError

ARRAYS = {
    "wide": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "flags": np.array([True, False, True]),
    "scalar": np.array(2.5, dtype=np.float32),
    "empty": np.zeros((0, 3), dtype=np.uint8),
}


def test_torch_and_numpy_write_the_same_bytes_and_read_each_others_files(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}

    for name, values in (("numpy", ARRAYS), ("torch", tensors)):
        write_checkpoint(tmp_path / name, values, {"step": 3}, format="f-1")
    assert (tmp_path / "numpy").read_bytes() == (tmp_path / "torch").read_bytes()
    arrays, record = read_checkpoint(tmp_path / "torch", format="f-1", device=None)
    assert record == {"format": "f-1", "step": 3}
    assert record == read_record(tmp_path / "torch", format="f-1")
    restored, _ = read_checkpoint(tmp_path / "numpy", format="f-1")
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(arrays[name], array)
        assert torch.equal(restored[name], tensors[name])
        assert arrays[name].flags.writeable


def test_arrays_are_written_and_read_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from hseval.generator_kit import load_checkpoint, save_checkpoint\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "save_checkpoint(folder, 'it', {'a': np.ones(3)}, {}, format='f-1')\n"
        "assert load_checkpoint(folder, 'it', format='f-1')[0]['a'].tolist() == [1, 1, 1]\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "has no format that this version knows, expected 'f-1'; make one"),
        ({"format": "hseval-encoder", "version": "1", "record": "{}"}, "has no format that this version knows"),
        ({"record": "[1]"}, "has no format that this version knows"),
        ({"record": '{"format": "f-2"}'}, "has the format 'f-2', expected 'f-1'; make one"),
        ({"record": '{"format": "f-1", "step": 1}'}, "changed since it was written"),  # it has no sha256
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": np.ones(3)}, path, metadata)
    with pytest.raises(HsevalError, match=message) as refusal:
        read_checkpoint(path, format="f-1", hint="make one")
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match="is a folder; a regular file expected"):
        read_checkpoint(tmp_path, format="f-1")
