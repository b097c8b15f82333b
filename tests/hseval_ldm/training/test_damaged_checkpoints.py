"""Damaged checkpoints and files of runs load, or are refused in one line; benchmarks/reliability tries more of them."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hseval_pca.generator import Pca

from hseval import open_set
from hseval.extractors.encoder.extractor import Encoder, EncoderOptions, FitOptions, Fitter
from hseval.testing import make_example_set
from hseval_ldm.generator import Ldm, LdmOptions
from tests.generator_kit.test_network_generator import TINY, Mixer
from tests.helpers.damaged_checkpoints import find_problem

COUNT = 30


def load_pca(run: Path) -> None:
    pca = Pca()
    pca.load(run)
    next(pca.sample(1, seed=0))


def load_mixer(run: Path) -> None:
    mixer = Mixer()
    mixer.load(run, device="cpu")
    next(mixer.sample(1, seed=0))


def load_encoder(run: Path) -> None:
    data = make_example_set(1, size=16)
    encoder = Encoder(EncoderOptions(weights=str(run / "encoder.safetensors")))
    encoder(data.cubes, wavelengths=data.wavelengths, masks={"fov": np.ones((1, 16, 16), dtype=bool)})


def load_ldm(run: Path) -> None:
    ldm = Ldm()
    ldm.load(run, device="cpu")
    next(ldm.sample(1, seed=0))


def resume_mixer(run: Path) -> None:
    import dataclasses

    options = dataclasses.replace(TINY, resume=True, steps=5)
    with contextlib.redirect_stderr(io.StringIO()):
        Mixer(options).fit(make_example_set(6, size=17), run, device="cpu")


def make_pca(run: Path) -> None:
    Pca().fit(make_example_set(6, size=16), run)


def make_mixer(run: Path) -> None:
    Mixer(TINY).fit(make_example_set(6, size=17), run, device="cpu")


def make_encoder(run: Path) -> None:
    options = FitOptions(steps=2, batch=2, width=4, crop=8, nodes=4)
    Fitter(options).fit(make_example_set(8, size=16), run / "encoder.safetensors")


@pytest.mark.parametrize(
    ("make", "files", "load"),
    [
        (make_pca, ["pca.safetensors"], load_pca),
        (make_mixer, ["mixer.safetensors"], load_mixer),
        (make_mixer, ["mixer/last.safetensors", "training-set-mixer.json", "metrics.jsonl"], resume_mixer),
        (make_encoder, ["encoder.safetensors"], load_encoder),
    ],
)
def test_damaged_checkpoints_load_or_are_refused(
    tmp_path: Path, make: Callable[[Path], None], files: list[str], load: Callable[[Path], None]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    make(run)
    check(tmp_path, run, files, load, seed=1)


def test_damaged_runs_of_ldm_load_or_are_refused(tmp_path: Path, trained: Path) -> None:
    files = ["config.json", "diffusion/best.safetensors", "autoencoder/best.safetensors", "diffusion/autoencoder.json"]
    check(tmp_path, trained, files, load_ldm, seed=2)


def test_damaged_runs_of_ldm_are_resumed_or_refused(tmp_path: Path, trained: Path, data: Path) -> None:
    def resume(run: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            Ldm(LdmOptions(resume=True, ldm_steps=7)).fit(open_set(data), run, device="cpu")

    files = ["config.json", "diffusion/last.safetensors", "latents.json", "metrics.jsonl", "training-set-ldm.json"]
    check(tmp_path, trained, files, resume, seed=3, count=12)


def check(
    folder: Path, run: Path, files: list[str], load: Callable[[Path], None], *, seed: int, count: int = COUNT
) -> None:
    """Damage the files in turn and load the run; report all faults at once."""
    outcomes = set()
    problems = []
    work = folder / "work"
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        work.mkdir()
        outcome, problem = find_problem(run / files[number % len(files)], load, work, rng, run=run)
        shutil.rmtree(work)
        outcomes.add(outcome)
        problems += [f"{files[number % len(files)]}, {number}: {problem}"] if problem else []
    assert not problems, "\n".join(problems)
    assert "refused" in outcomes
