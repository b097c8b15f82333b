"""Built-in plugins fulfill the published contracts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hseval.core.plugin_manager import get_plugins
from hseval.testing import check_extractor, check_generator, check_metric, check_reader, make_example_set
from tests.helpers.sets import save_set

WITHOUT_WEIGHTS = [name for name in get_plugins().get_names("extractor") if name not in ("encoder", "torchvision")]
SMALL = {"phantom": {"size": 48}}


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_every_extractor_fulfills_the_contract(name: str) -> None:
    check_extractor(get_plugins().find("extractor", name))


@pytest.mark.parametrize("name", get_plugins().get_names("metric"))
def test_every_metric_fulfills_the_contract(name: str) -> None:
    check_metric(get_plugins().find("metric", name))


@pytest.mark.parametrize("name", [name for name in get_plugins().get_names("generator") if name in ("pca", "phantom")])
def test_every_generator_fulfills_the_contract(name: str, tmp_path: Path) -> None:
    check_generator(get_plugins().build("generator", name, SMALL.get(name)), tmp_path=tmp_path)


def test_the_built_in_plugins_are_among_those_checked() -> None:
    assert {"scattering", "spectra", "maps", "values"} <= set(WITHOUT_WEIGHTS)
    assert {"fid", "spectral-kl", "ms-ssim", "authenticity"} <= set(get_plugins().get_names("metric"))
    assert {"pca", "phantom"} <= set(get_plugins().get_names("generator"))


def test_the_readers_fulfill_the_contract(tmp_path: Path) -> None:
    data = make_example_set(3)
    check_reader(get_plugins().find("reader", "hdf5"), save_set(tmp_path / "set.h5", data))
    (tmp_path / "folder").mkdir()
    for name, cube in zip(data.ids, data.cubes, strict=True):
        np.save(tmp_path / "folder" / f"{name}.npy", cube)
    check_reader(get_plugins().find("reader", "folder"), tmp_path / "folder")
