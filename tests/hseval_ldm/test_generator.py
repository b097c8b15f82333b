"""The generator ``ldm`` keeps the contract, and its cubes depend on seed and index alone."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from hseval import Cube, HsevalError, Sample, open_set
from hseval.core.plugin_manager import get_plugins
from hseval.testing import check_generator
from hseval_ldm.generator import Ldm
from hseval_ldm.options import LdmOptions
from tests.helpers.commands import Outcome
from tests.helpers.ldm_processes import hseval_forked
from tests.helpers.sets import texture_set

Command = Callable[..., Outcome]
RELATIVE = 1e-5


def sampled(run: Path, n: int = 6, *, seed: int = 4, start: int = 0, **options: Any) -> list[Sample]:
    generator = Ldm(LdmOptions(**options))
    generator.load(run, device="cpu")
    return list(generator.sample(n, seed=seed, start=start))


def assert_same(found: list[Sample], expected: list[Sample]) -> None:
    assert [sample.id for sample in found] == [sample.id for sample in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.cube, other.cube, rtol=0, atol=RELATIVE * np.abs(other.cube).max())
        for name, mask in other.masks.items():
            np.testing.assert_array_equal(one.masks[name], mask)


def cubes_of(path: Path, count: int = 6) -> list[Cube]:
    found = open_set(path)
    return [found[index] for index in range(count)]


# The contract, and the two commands.


def test_ldm_pca_and_phantom_keep_the_same_contract(tiny: Path, tmp_path: Path) -> None:
    one_step = {"features_steps": 1, "ae_steps": 1, "ldm_steps": 1}
    small = {
        "ldm": {"preset": str(tiny), **one_step},
        "pca": {"components": 2},
        "phantom": {"size": 24, "oversampling": 1},
    }
    for name, options in small.items():
        folder = tmp_path / name
        folder.mkdir()
        data = texture_set(6, size=16, bands=3)
        check_generator(get_plugins().build("generator", name, options), tmp_path=folder, data=data)


def test_both_commands_train_the_same(data: Path, tiny: Path, trained: Path, tmp_path: Path, hseval: Command) -> None:
    done = hseval("train", "ldm", data, "--out", tmp_path / "run", "--set", f"preset={tiny}", "--seed", 0)
    assert done.status == 0
    assert done.out == f"{tmp_path / 'run'}: ldm fitted on 16 cubes of {data}\n"
    for stage in ("features", "autoencoder", "diffusion"):
        for which in ("last", "best"):
            path = f"{stage}/{which}.safetensors"
            assert (tmp_path / "run" / path).read_bytes() == (trained / path).read_bytes(), path
    again = hseval("train", "ldm", data, "--out", tmp_path / "run", "--force", "--set", "resume=true")
    assert again.status == 0 and "diffusion: finished at step 6, skipped" in again.err


# What is sampled.


@pytest.fixture(scope="module")
def expected(trained: Path) -> list[Sample]:
    return sampled(trained)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"tile": 1}, {"tile": 3, "batch_size": 16}])
def test_a_cube_does_not_depend_on_batches_or_tiles(
    trained: Path, expected: list[Sample], options: dict[str, int]
) -> None:
    assert_same(sampled(trained, **options), expected)


def test_a_cube_does_not_depend_on_how_many_are_drawn(trained: Path, expected: list[Sample]) -> None:
    assert_same(sampled(trained, 1), expected[:1])
    assert_same(sampled(trained, start=3), expected[3:])
    assert_same(sampled(trained, 5, start=4), expected[4:5])
    assert sampled(trained, 2, start=2) == []


def test_a_cube_does_not_depend_on_the_process(trained: Path, expected: list[Sample], tmp_path: Path) -> None:
    out = tmp_path / "s.h5"
    done = hseval_forked("sample", "ldm", "--checkpoint", trained, "-n", 6, "--seed", 4, "--out", out)
    assert done.status == 0, done.err
    assert_same([Sample(cube.data, cube.masks, cube.id) for cube in cubes_of(out)], expected)


def test_torchs_own_generator_changes_nothing_and_is_left_as_it_is(trained: Path, expected: list[Sample]) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert_same(sampled(trained, 2), expected[:2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_each_sampler_draws_other_cubes(trained: Path, expected: list[Sample], sampler: str) -> None:
    drawn = sampled(trained, 2, sampler=sampler, steps=3, noise=0.0)
    assert all(np.isfinite(sample.cube).all() for sample in drawn)
    assert not np.allclose(drawn[0].cube, drawn[1].cube)
    assert not np.allclose(drawn[0].cube, expected[0].cube)


def test_noise_is_added_on_top(trained: Path) -> None:
    clean, noisy, louder = (sampled(trained, 4, noise=level) for level in (0.0, 1.0, 3.0))
    spread = [
        np.concatenate(
            [(a.cube - b.cube)[:, a.masks["fov"] & b.masks["fov"]] for a, b in zip(other, clean, strict=True)], axis=1
        )
        for other in (noisy, louder)
    ]
    assert 0 < spread[0].std() < spread[1].std()


def test_samples_are_cubes_with_masks_inside_the_field(expected: list[Sample], data: Path, trained: Path) -> None:
    real = open_set(data)
    cubes = np.stack([real[index].data for index in range(len(real))])
    low, high = cubes.min(axis=(0, 2, 3)), cubes.max(axis=(0, 2, 3))
    for sample in expected:
        assert sample.cube.dtype == np.float32 and sample.cube.shape == (3, 16, 16)
        assert set(sample.masks) == {"bright", "dark", "fov"}
        field = sample.masks["fov"]
        assert field.any() and not sample.cube[:, ~field].any()
        for mask in sample.masks.values():
            assert mask.dtype == bool and not (mask & ~field).any()
        room = 0.05 * (high - low) + 1e-6
        assert (sample.cube.max(axis=(1, 2)) <= high + room).all() and (sample.cube >= 0).all()
    generator = Ldm()
    generator.load(trained)
    np.testing.assert_allclose(generator.wavelengths, real.wavelengths)
    assert generator.units == real.info.units == "reflectance"


def test_the_set_that_is_written_has_wavelengths_units_and_provenance(
    trained: Path, data: Path, tmp_path: Path, hseval: Command
) -> None:
    out = tmp_path / "s.h5"
    assert hseval("sample", "ldm", "--checkpoint", trained, "-n", 3, "--set", "steps=3", "--out", out).status == 0
    written, real = open_set(out), open_set(data)
    np.testing.assert_allclose(written.wavelengths, real.wavelengths)
    assert written.info.units == "reflectance" and written.structures == ("bright", "dark", "fov")
    with h5py.File(out) as file:
        provenance = json.loads(file.attrs["provenance"])
    assert (provenance["generator"], provenance["options"]["steps"]) == ("ldm", 3)
    assert provenance["options"]["latent_channels"] == 4


def test_sampling_goes_on_after_kill_9(trained: Path, expected: list[Sample], tmp_path: Path, hseval: Command) -> None:
    out, parts = tmp_path / "s.h5", tmp_path / ".s.h5.parts" / "parts.json"
    typed = ("sample", "ldm", "--checkpoint", trained, "--seed", 4, "--out", out, "-n")
    assert hseval_forked(*typed, 10**6, until=parts).status == -signal.SIGKILL
    kept = sum(part["cubes"] for part in json.loads(parts.read_text())["parts"])
    assert kept > 0 and not out.exists()
    done = hseval(*typed, max(kept, 6))
    assert (done.status, done.err.split(" (")[0]) == (0, f"{out}: going on after {kept} cube{'s' * (kept != 1)}")
    assert_same([Sample(cube.data, cube.masks, cube.id) for cube in cubes_of(out)], expected)


# What can't be loaded.


def test_only_options_of_sampling_may_be_others(trained: Path) -> None:
    told = r"run: was trained with width=8, not 16; when sampling, set sampler, steps, batch_size, tile, noise"
    with pytest.raises(HsevalError, match=told):
        sampled(trained, width=16)
    assert len(sampled(trained, 1, width=8, steps=3)) == 1


def test_a_run_that_is_not_finished_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match="ldm has to be trained first: hseval train-ldm DATA --out RUN"):
        Ldm().load(None)
    with pytest.raises(HsevalError, match="nothing is loaded"):
        next(Ldm().sample(1, seed=0))
    with pytest.raises(HsevalError, match=r"holds no config\.json, so it is no run of ldm; hseval train-ldm makes one"):
        sampled(tmp_path)
    shutil.rmtree(run / "diffusion")
    with pytest.raises(HsevalError, match=r"diffusion/best.safetensors: there is no such checkpoint; hseval train-ldm"):
        sampled(run)


def test_a_file_of_a_run_is_no_run(trained: Path, tmp_path: Path, hseval: Command) -> None:
    file = trained / "diffusion" / "best.safetensors"
    done = hseval("sample", "ldm", "--checkpoint", file, "-n", 1, "--out", tmp_path / "s.h5")
    told = f"hseval: {file}: is a file; expected the folder of a run, as hseval train-ldm makes it\n"
    assert (done.status, done.err) == (2, told) and not (tmp_path / "s.h5").exists()


def test_fitting_one_stage_leaves_nothing_to_sample_from_yet(data: Path, tiny: Path, tmp_path: Path) -> None:
    generator = Ldm(LdmOptions(preset=str(tiny), stage="autoencoder", features_steps=0, ae_steps=1))
    generator.fit(open_set(data), tmp_path, device="cpu")
    assert (tmp_path / "autoencoder" / "last.safetensors").exists()
    assert not (tmp_path / "features").exists() and not (tmp_path / "diffusion").exists()
    with pytest.raises(HsevalError, match="nothing is loaded"):
        next(generator.sample(1, seed=0))


def test_fitting_makes_ready_to_sample(
    data: Path, tiny: Path, trained: Path, expected: list[Sample], tmp_path: Path
) -> None:
    generator = Ldm(LdmOptions(preset=str(tiny)))
    generator.fit(open_set(data), tmp_path, device="cpu")
    assert_same(list(generator.sample(2, seed=4)), expected[:2])
