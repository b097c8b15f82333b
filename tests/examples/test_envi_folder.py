"""The folder of ENVI files of the tutorial in the docs reads back as the phantom."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import hseval
from hseval.core.plugin_manager import get_plugins

EXAMPLE = Path(__file__).parents[2] / "examples" / "envi_folder.py"


def test_the_folder_reads_back_as_the_phantoms_cubes_and_masks(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    folder = main([str(tmp_path / "eyes"), "-n", "3", "--size", "32", "--seed", "5", "--set", "small_vessels=false"])
    read = hseval.open_set(folder)
    phantom = get_plugins().build("generator", "phantom", {"size": 32, "small_vessels": False})
    phantom.load(None)
    assert read.info.wavelengths_known
    assert read.wavelengths == pytest.approx(phantom.wavelengths, abs=0.01)
    for cube, (data, masks, _) in zip(read, phantom.sample(3, seed=5), strict=True):
        assert np.array_equal(cube.data, np.asarray(data, dtype=np.float32))
        assert set(cube.masks) == set(masks)
        assert all(np.array_equal(cube.masks[name], mask) for name, mask in masks.items())


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE))["main"]([str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
