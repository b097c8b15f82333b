"""The generator ``ldm`` fulfills the contract, and its cubes depend on seed and index alone."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from hseval import Cube, HsevalError, Sample, open_set
from hseval.core.plugin_manager import get_plugins
from hseval.testing import check_generator
from hseval.utils.plural import format_count
from hseval_ldm.generator import Ldm
from hseval_ldm.options import LdmOptions
from tests.helpers.commands import Command
from tests.helpers.ldm_processes import run_hseval_forked
from tests.helpers.sets import make_texture_set

RELATIVE = 1e-5


def sample(run: Path, n: int = 6, *, seed: int = 4, start: int = 0, **options: Any) -> list[Sample]:
    generator = Ldm(LdmOptions(**options))
    generator.load(run, device="cpu")
    return list(generator.sample(n, seed=seed, start=start))


def assert_same(samples: list[Sample], expected: list[Sample]) -> None:
    assert [each.id for each in samples] == [each.id for each in expected]
    for actual, reference in zip(samples, expected, strict=True):
        np.testing.assert_allclose(actual.cube, reference.cube, rtol=0, atol=RELATIVE * np.abs(reference.cube).max())
        for name, mask in reference.masks.items():
            np.testing.assert_array_equal(actual.masks[name], mask)


def read_cubes(path: Path, count: int = 6) -> list[Cube]:
    data = open_set(path)
    return [data[index] for index in range(count)]


# The contract, and the two commands.


def test_ldm_pca_and_phantom_fulfill_the_same_contract(tiny: Path, tmp_path: Path) -> None:
    one_step = {"features_steps": 1, "ae_steps": 1, "ldm_steps": 1}
    options_by_name = {
        "ldm": {"preset": str(tiny), **one_step},
        "pca": {"components": 2},
        "phantom": {"size": 24, "oversampling": 1},
    }
    for name, options in options_by_name.items():
        folder = tmp_path / name
        folder.mkdir()
        data = make_texture_set(6, size=16, bands=3)
        check_generator(get_plugins().build("generator", name, options), tmp_path=folder, data=data)


def test_both_commands_train_the_same_weights(
    data: Path, tiny: Path, trained: Path, tmp_path: Path, hseval: Command
) -> None:
    done = hseval("train", "ldm", data, "--out", tmp_path / "run", "--set", f"preset={tiny}", "--seed", 0)
    assert done.status == 0
    assert done.out == f"{tmp_path / 'run'}: ldm fitted on 16 cubes of {data}\n"
    for stage in ("features", "autoencoder", "diffusion"):
        for which in ("last", "best"):
            path = f"{stage}/{which}.safetensors"
            assert (tmp_path / "run" / path).read_bytes() == (trained / path).read_bytes(), path
    resumed = hseval("train", "ldm", data, "--out", tmp_path / "run", "--force", "--set", "resume=true")
    assert resumed.status == 0 and "diffusion: finished at step 6, skipped" in resumed.err


# Sampling.


@pytest.fixture(scope="module")
def expected(trained: Path) -> list[Sample]:
    return sample(trained)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"tile": 1}, {"tile": 3, "batch_size": 16}])
def test_a_cube_does_not_depend_on_batches_or_tiles(
    trained: Path, expected: list[Sample], options: dict[str, int]
) -> None:
    assert_same(sample(trained, **options), expected)


def test_a_cube_does_not_depend_on_the_number_of_samples(trained: Path, expected: list[Sample]) -> None:
    assert_same(sample(trained, 1), expected[:1])
    assert_same(sample(trained, start=3), expected[3:])
    assert_same(sample(trained, 5, start=4), expected[4:5])
    assert sample(trained, 2, start=2) == []


def test_a_cube_does_not_depend_on_the_process(trained: Path, expected: list[Sample], tmp_path: Path) -> None:
    out = tmp_path / "s.h5"
    done = run_hseval_forked("sample", "ldm", "--checkpoint", trained, "-n", 6, "--seed", 4, "--out", out)
    assert done.status == 0, done.err
    assert_same([Sample(cube.data, cube.masks, cube.id) for cube in read_cubes(out)], expected)


def test_torchs_own_generator_is_neither_used_nor_changed(trained: Path, expected: list[Sample]) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert_same(sample(trained, 2), expected[:2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_each_sampler_yields_other_cubes(trained: Path, expected: list[Sample], sampler: str) -> None:
    samples = sample(trained, 2, sampler=sampler, steps=3, noise=0.0)
    assert all(np.isfinite(each.cube).all() for each in samples)
    assert not np.allclose(samples[0].cube, samples[1].cube)
    assert not np.allclose(samples[0].cube, expected[0].cube)


def test_the_noise_option_scales_the_sensor_noise(trained: Path) -> None:
    clean, noisy, noisier = (sample(trained, 4, noise=level) for level in (0.0, 1.0, 3.0))
    noise = [
        np.concatenate(
            [(a.cube - b.cube)[:, a.masks["fov"] & b.masks["fov"]] for a, b in zip(other, clean, strict=True)], axis=1
        )
        for other in (noisy, noisier)
    ]
    assert 0 < noise[0].std() < noise[1].std()


def test_samples_are_cubes_with_masks_inside_the_field(expected: list[Sample], data: Path, trained: Path) -> None:
    real = open_set(data)
    cubes = np.stack([real[index].data for index in range(len(real))])
    low, high = cubes.min(axis=(0, 2, 3)), cubes.max(axis=(0, 2, 3))
    for generated in expected:
        assert generated.cube.dtype == np.float32 and generated.cube.shape == (3, 16, 16)
        assert set(generated.masks) == {"bright", "dark", "fov"}
        field = generated.masks["fov"]
        assert field.any() and not generated.cube[:, ~field].any()
        for mask in generated.masks.values():
            assert mask.dtype == bool and not (mask & ~field).any()
        margin = 0.05 * (high - low) + 1e-6
        assert (generated.cube.max(axis=(1, 2)) <= high + margin).all() and (generated.cube >= 0).all()
    generator = Ldm()
    generator.load(trained)
    np.testing.assert_allclose(generator.wavelengths, real.wavelengths)
    assert generator.units == real.info.units == "reflectance"


def test_the_written_set_has_wavelengths_units_and_provenance(
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


def test_sampling_resumes_after_kill_9(trained: Path, expected: list[Sample], tmp_path: Path, hseval: Command) -> None:
    out, manifest = tmp_path / "s.h5", tmp_path / ".s.h5.parts" / "parts.json"
    command = ("sample", "ldm", "--checkpoint", trained, "--seed", 4, "--out", out, "-n")
    assert run_hseval_forked(*command, 10**6, until=manifest).status == -signal.SIGKILL
    stored = sum(chunk["cubes"] for chunk in json.loads(manifest.read_text())["parts"])
    assert stored > 0 and not out.exists()
    done = hseval(*command, max(stored, 6))
    assert (done.status, done.err.split(" (")[0]) == (0, f"{out}: resuming after {format_count(stored, 'cube')}")
    assert_same([Sample(cube.data, cube.masks, cube.id) for cube in read_cubes(out)], expected)


# Runs that are refused.


def test_only_options_of_sampling_may_change(trained: Path) -> None:
    message = "run: was trained with width=8, not 16; for sampling, only sampler, steps, batch_size, tile, noise"
    with pytest.raises(HsevalError, match=message):
        sample(trained, width=16)
    assert len(sample(trained, 1, width=8, steps=3)) == 1


def test_an_unfinished_run_is_refused_with_the_missing_part(run: Path, tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match="ldm must be trained first: hseval train-ldm DATA --out RUN"):
        Ldm().load(None)
    with pytest.raises(HsevalError, match="nothing is loaded"):
        next(Ldm().sample(1, seed=0))
    with pytest.raises(
        HsevalError, match=r"holds no config\.json, so it is not a run of ldm; create one with hseval train-ldm"
    ):
        sample(tmp_path)
    shutil.rmtree(run / "diffusion")
    with pytest.raises(
        HsevalError, match=r"diffusion/best.safetensors: no such checkpoint; create it with hseval train-ldm"
    ):
        sample(run)


def test_a_file_of_a_run_is_refused(trained: Path, tmp_path: Path, hseval: Command) -> None:
    file = trained / "diffusion" / "best.safetensors"
    done = hseval("sample", "ldm", "--checkpoint", file, "-n", 1, "--out", tmp_path / "s.h5")
    message = f"hseval: {file}: is a file; expected the folder of a run of hseval train-ldm\n"
    assert (done.status, done.err) == (2, message) and not (tmp_path / "s.h5").exists()


def test_after_fitting_one_stage_nothing_can_be_sampled(data: Path, tiny: Path, tmp_path: Path) -> None:
    generator = Ldm(LdmOptions(preset=str(tiny), stage="autoencoder", features_steps=0, ae_steps=1))
    generator.fit(open_set(data), tmp_path, device="cpu")
    assert (tmp_path / "autoencoder" / "last.safetensors").exists()
    assert not (tmp_path / "features").exists() and not (tmp_path / "diffusion").exists()
    with pytest.raises(HsevalError, match="nothing is loaded"):
        next(generator.sample(1, seed=0))


def test_after_fitting_samples_can_be_drawn(
    data: Path, tiny: Path, trained: Path, expected: list[Sample], tmp_path: Path
) -> None:
    generator = Ldm(LdmOptions(preset=str(tiny)))
    generator.fit(open_set(data), tmp_path, device="cpu")
    assert_same(list(generator.sample(2, seed=4)), expected[:2])
