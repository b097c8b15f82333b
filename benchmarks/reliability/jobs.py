"""Commands that are disturbed, on the smallest sets that they take, and how their results are read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.reliability.cache_inputs import SWEEP, read_result, read_set, read_sweep
from tests.helpers.sets import make_texture_set, save_set

LDM = {
    "held_out": 0.25, "compression": 4, "latent_channels": 4, "codes": 16, "width": 8, "blocks": 1,
    "kmeans_iterations": 2, "features_steps": 2, "features_width": 4, "ae_steps": 12, "ae_batch": 4, "disc_width": 8,
    "base": 8, "multipliers": [1, 2], "unet_blocks": 1, "timesteps": 100, "ldm_steps": 12, "ldm_batch": 4, "steps": 2,
    "checkpoint_every": 3, "score_every": 12, "score_cubes": 4, "precision": "float32",
}  # fmt: skip
# A cube takes long to read, so that something can happen to its file meanwhile; the file "reads" has a byte for each.
READ_SLOWLY = """
import time
from pathlib import Path
from hseval.readers import hdf5_hseval
original = hdf5_hseval.HsevalHdf5Set.read
def read(self, index):
    with Path("reads").open("a") as reads:
        reads.write(".")
    time.sleep(0.02)
    return original(self, index)
hdf5_hseval.HsevalHdf5Set.read = read
"""
MANY_CHUNKS = "import hseval.sampling.chunks as chunks; chunks.CHUNK_SECONDS = 0.05"


@dataclasses.dataclass(frozen=True)
class Job:
    """A command in a folder with the sets of :func:`write_sets`.

    Attributes:
        command: its arguments.
        read: the result in the folder, without what may differ from run to run; raises where there is none.
        writes: the files or folders that it makes.
        again: the command that goes on after an interruption, if it is another one.
        prelude: Python code that runs before hseval.
    """

    command: tuple[str, ...]
    read: Callable[[Path], Any]
    writes: tuple[str, ...]
    again: tuple[str, ...] | None = None
    prelude: str = ""


def write_sets(folder: Path) -> None:
    """Write samples, other samples, reference and training set, and the files of settings."""
    for seed, name in enumerate(("samples", "ref", "train", "other")):
        save_set(folder / f"{name}.h5", make_texture_set(12, size=16, bands=4, seed=seed))
    save_set(folder / "many.h5", make_texture_set(16, size=16, bands=4, seed=9))
    (folder / "ldm.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in LDM.items()))
    (folder / "sweep.toml").write_text(SWEEP)


def _read_report(name: str) -> Callable[[Path], Any]:
    return lambda folder: read_result((folder / name).read_text())


def _read_page(folder: Path) -> Any:
    assert (folder / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>"), "the page is not complete"
    return read_result((folder / "page.json").read_text())


def _hash_files(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def read_weights(path: str) -> Callable[[Path], Any]:
    """Return a function that reads the tensors of a file: its record holds times."""

    def read(folder: Path) -> Any:
        from safetensors.numpy import load_file

        tensors = load_file(folder / path)
        return {name: hashlib.sha256(tensors[name].tobytes()).hexdigest() for name in sorted(tensors)}

    return read


SETS = ("samples.h5", "--ref", "ref.h5", "--segmenter", "none", "-q")
SCORE = ("score", *SETS, "--metrics", "fid,spectral-kl,ms-ssim", "--extractor", "statistics", "--json", "score.json")
PAGE = ("score", *SETS, "--metrics", "fid,kid", "--json", "page.json", "--html", "page.html")
QUALIFY = ("qualify", "many.h5", "--metrics", "fid,spectral-kl", "--extractors", "statistics", "-q", "--json", "q.json")
SAMPLE = ("sample", "phantom", "-n", "24", "--set", "size=16", "--out", "sampled.h5", "-q")
SWEEP_COMMAND = ("sweep", "sweep.toml", "--out", "sweep.sweep", "--jobs", "2", "-q")
TRAIN_LDM = ("train-ldm", "train.h5", "--out", "ldm", "--preset", "ldm.toml", "-q")
FIT = ("fit-extractor", "train.h5", "--out", "encoder.safetensors", "--set", "steps=20", "--set", "batch=4", "-q")
JOBS: Mapping[str, Job] = {
    "score": Job(SCORE, _read_report("score.json"), ("score.json",)),
    "score slowly": Job((*SCORE, "--workers", "0"), _read_report("score.json"), ("score.json",), prelude=READ_SLOWLY),
    "score by workers": Job((*SCORE, "--workers", "2"), _read_report("score.json"), ("score.json",)),
    "score to a page": Job(PAGE, _read_page, ("page.json", "page.html")),
    "sample": Job(
        SAMPLE, lambda folder: read_set(folder / "sampled.h5"), ("sampled.h5",), again=(*SAMPLE, "--force"),
        prelude=MANY_CHUNKS,
    ),
    "qualify": Job(QUALIFY, _read_report("q.json"), ("q.json",)),
    "sweep": Job(
        SWEEP_COMMAND, lambda folder: read_sweep(folder / "sweep.sweep"),
        ("sweep.sweep",), again=(*SWEEP_COMMAND, "--retry"),
    ),
    "train pca": Job(
        ("train", "pca", "train.h5", "--out", "pca", "-q"), read_weights("pca/pca.safetensors"), ("pca",),
        again=("train", "pca", "train.h5", "--out", "pca", "-q", "--force"),
    ),
    "train-ldm": Job(
        TRAIN_LDM, read_weights("ldm/diffusion/last.safetensors"), ("ldm",), again=(*TRAIN_LDM, "--resume"),
    ),
    "fit-extractor": Job(FIT, read_weights("encoder.safetensors"), ("encoder.safetensors",), again=(*FIT, "--force")),
}  # fmt: skip
