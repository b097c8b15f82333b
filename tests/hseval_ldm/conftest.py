"""A training set and a run of a second, which the tests of whole runs share."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.sets import saved, texture_set

TINY = """
held_out = 0.25
compression = 4
latent_channels = 4
codes = 16
width = 8
blocks = 1
kmeans_iterations = 2
features_steps = 2
features_width = 4
ae_steps = 6
ae_batch = 4
ae_lr = 2e-3
disc_width = 8
disc_start = 0.34
base = 8
multipliers = [1, 2]
unet_blocks = 1
timesteps = 100
ldm_steps = 6
ldm_batch = 4
ldm_lr = 1e-3
ema = 0.9
steps = 2
log_every = 1
checkpoint_every = 3
score_every = 6
score_cubes = 4
precision = "float32"
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with ``data.h5``, ``tiny.toml`` and ``run``, made once for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ldm"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "run" / "diffusion" / "best.safetensors").exists():
            _make(folder)
    yield folder


def _make(folder: Path) -> None:
    from hseval import open_set
    from hseval_ldm.options import LdmOptions
    from hseval_ldm.training.run import train

    (folder / "tiny.toml").write_text(TINY)
    data = open_set(saved(folder / "data.h5", texture_set(16, size=16, bands=3), units="reflectance"))
    (folder / "run").mkdir()
    train(LdmOptions(preset=str(folder / "tiny.toml")), data, folder / "run", device="cpu")


@pytest.fixture
def data(shared: Path) -> Path:
    """Return a set of 16 cubes of 16 x 16 px and 3 bands, with masks."""
    return shared / "data.h5"


@pytest.fixture
def tiny(shared: Path) -> Path:
    """Return a preset for it, of a second."""
    return shared / "tiny.toml"


@pytest.fixture(scope="session")
def trained(shared: Path) -> Path:
    """Return the finished run of that preset on that set, to be left as it is."""
    return shared / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """Return what lists the prefetching threads that this test began.

    Those of earlier tests, whose stages nobody has thrown away yet, are left out.
    """
    others = _prefetching()
    return lambda: [thread.name for thread in _prefetching() - others]


def _prefetching() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("hseval-prefetch")}
