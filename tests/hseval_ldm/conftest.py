"""A training set and a run that takes a second, shared by the tests of whole runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.sets import make_texture_set, save_set

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
    """Return a folder with ``data.h5``, ``tiny.toml`` and ``run``, created once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ldm"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "run" / "diffusion" / "best.safetensors").exists():
            _train_run(folder)
    yield folder


def _train_run(folder: Path) -> None:
    from hseval import open_set
    from hseval_ldm.options import LdmOptions
    from hseval_ldm.training.run import train

    (folder / "tiny.toml").write_text(TINY)
    data = open_set(save_set(folder / "data.h5", make_texture_set(16, size=16, bands=3), units="reflectance"))
    (folder / "run").mkdir()
    train(LdmOptions(preset=str(folder / "tiny.toml")), data, folder / "run", device="cpu")


@pytest.fixture
def data(shared: Path) -> Path:
    """Return a set of 16 cubes of 16 x 16 px and 3 bands, with masks."""
    return shared / "data.h5"


@pytest.fixture
def tiny(shared: Path) -> Path:
    """Return a preset for it that trains in a second."""
    return shared / "tiny.toml"


@pytest.fixture(scope="session")
def trained(shared: Path) -> Path:
    """Return the finished run of that preset on that set; tests must not change it."""
    return shared / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """Return a function that lists the prefetching threads started by this test.

    Threads of earlier tests, whose stages may not be garbage-collected yet, are excluded.
    """
    earlier = _find_prefetch_threads()
    return lambda: [thread.name for thread in _find_prefetch_threads() - earlier]


def _find_prefetch_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("hseval-prefetch")}
