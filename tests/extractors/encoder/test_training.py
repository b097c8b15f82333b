"""``hseval fit-extractor``: reproducible to the byte, atomic, and refused in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hseval.core.cubes import ArraySet
from hseval.extractors.encoder.extractor import FILE_FORMAT, Fitter
from hseval.extractors.encoder.network import Network, build_hidden_mask, initialize_weights
from hseval.extractors.encoder.options import FitOptions
from hseval.extractors.encoder.preprocessing import compute_node_wavelengths
from hseval.extractors.encoder.training import (
    PATCH_SIZE,
    TrainingPatches,
    compute_loss,
    draw_masks,
    draw_patch_boxes,
    measure_residual_rms,
)
from hseval.training import checkpoint_file
from hseval.training.checkpoint_file import read_checkpoint
from hseval.utils.errors import HsevalError
from tests.helpers.commands import Command, assert_refused
from tests.helpers.sets import make_texture_set, save_set

SHORT = FitOptions(steps=6, width=4, nodes=6, batch=4, crop=16)
TYPED = ("--set", "steps=4", "--set", "width=4", "--set", "batch=4", "--set", "crop=16", "--device", "cpu")


def ignore_progress(label: str, done: int, total: int) -> None:
    """Ignore progress."""


def fit(path: Path, data: ArraySet, *, seed: int = 0, options: FitOptions = SHORT) -> bytes:
    Fitter(options).fit(data, path, seed=seed)
    return path.read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    path, data = tmp_path / "w.safetensors", make_texture_set(9)
    torch.manual_seed(1)
    first = fit(path, data)
    torch.manual_seed(2)
    assert fit(path, data) == first
    assert fit(path, data, seed=1) != first


def test_order_and_names_of_cubes_do_not_matter(tmp_path: Path) -> None:
    data, order = make_texture_set(9), np.random.default_rng(0).permutation(9)
    permuted = ArraySet(
        data.cubes[order], wavelengths=data.wavelengths, masks={k: v[order] for k, v in data.masks.items()}
    )
    assert fit(tmp_path / "a.safetensors", data) == fit(tmp_path / "b.safetensors", permuted)


def test_a_fit_draws_nothing_from_the_global_stream(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(tmp_path / "w.safetensors", make_texture_set(9))
    assert torch.equal(torch.rand(3), expected)


def test_values_of_the_surround_do_not_matter(tmp_path: Path) -> None:
    data = make_texture_set(9)
    cubes = np.where(data.masks["fov"][:, None], data.cubes, np.float32(50))
    other = ArraySet(cubes, wavelengths=data.wavelengths, masks=data.masks)
    assert fit(tmp_path / "a.safetensors", data) == fit(tmp_path / "b.safetensors", other)


def test_a_fit_predicts_holdout_cubes(tmp_path: Path) -> None:
    """The residual rms of hidden values is less than half of that of predicting the mean."""
    options = FitOptions(steps=150, width=8, nodes=6, batch=8, crop=24)
    path = tmp_path / "w.safetensors"
    fit(path, make_texture_set(24, seed=1), options=options)
    tensors, record = read_checkpoint(path, format=FILE_FORMAT)
    network = Network(6, 8)
    network.load_state_dict(tensors)
    holdout = TrainingPatches(
        make_texture_set(8, seed=2), np.asarray(record["nodes"]), seed=0, on_progress=ignore_progress
    )
    measure_residual_rms(network, holdout, options, seed=0, device="cpu")
    assert (network.residual_rms < 0.5).all()


def test_hidden_lattices_cover_every_value_once_over_their_phases() -> None:
    for lattice in ("nodes", "pixels"):
        shape = (5, 8, 12)
        covered = sum(build_hidden_mask(lattice, phase, 5, (8, 12)).expand(shape).int() for phase in range(4))
        assert (covered == 1).all()


def test_targets_are_never_visible() -> None:
    shape = torch.Size((16, 8, 16, 16))
    rng = np.random.default_rng(0)
    for lattice in ("nodes", "pixels"):
        target, visible = draw_masks(lattice, shape, rng, "cpu")
        assert ((target + visible) <= 1).all()
        assert target.mean() == pytest.approx(0.23, abs=0.03)
        assert (target.sum(dim=(1, 2, 3)) > 0).all()


def test_a_prediction_depends_on_no_hidden_value() -> None:
    network = Network(6, 4)
    initialize_weights(network, 0)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 6, 16, 16), dtype="float32"))
    for lattice in ("nodes", "pixels"):
        hidden = build_hidden_mask(lattice, 2, 6, (16, 16)).expand(images.shape)
        visible = (~hidden).float()
        prediction = network(images, visible)
        other_prediction = network(torch.where(hidden, 9.0, images), visible)
        assert torch.equal(prediction, other_prediction)
        field = torch.ones(2, 16, 16, dtype=torch.bool)
        changed = torch.where(hidden, images + 1, images)
        assert not torch.equal(
            *(compute_loss(network, values, field, hidden.float(), visible) for values in (images, changed))
        )


def test_patches_cover_large_cubes_and_leave_small_ones_whole() -> None:
    rng = np.random.default_rng(0)
    small = np.zeros((40, 50), dtype=bool)
    small[5:30, 10:42] = True
    assert draw_patch_boxes(small, 8, rng) == [(slice(5, 30), slice(10, 42))]
    y, x = np.mgrid[:200, :200] - 99.5
    boxes = draw_patch_boxes(np.hypot(y, x) < 98, 100, rng)
    assert len(boxes) == 16
    for rows, columns in boxes:
        assert (rows.stop - rows.start, columns.stop - columns.start) == (PATCH_SIZE, PATCH_SIZE)
    assert draw_patch_boxes(np.zeros((9, 9), dtype=bool), 8, rng) == []


def test_cubes_of_several_sizes_with_empty_ones_among_them_are_fitted(tmp_path: Path) -> None:
    data = make_texture_set(10, size=80)
    data.masks["fov"][3] = False
    data.cubes[4, :, 30:50, 30:50] = np.nan
    fit(tmp_path / "w.safetensors", data)
    tensors, record = read_checkpoint(tmp_path / "w.safetensors", format=FILE_FORMAT)
    assert record["fitted_on"]["cubes"] == 9
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_dead_band_is_accepted_and_a_dead_set_is_refused(tmp_path: Path) -> None:
    data = make_texture_set(9)
    data.cubes[:, 2] = 0.25
    fit(tmp_path / "w.safetensors", data)
    data.cubes[:] = 0.25
    with pytest.raises(HsevalError, match="all valid pixels are the same"):
        fit(tmp_path / "w.safetensors", data)


# ---------------------------------------------------------------- command line


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_set(tmp_path / "real.h5", make_texture_set(9))


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_fit_from_the_command_line_prints_how_to_use_its_weights(tmp_path: Path, data: Path, hseval: Command) -> None:
    out = tmp_path / "w.safetensors"
    outcome = hseval("fit-extractor", data, "--out", out, "--seed", 3, *TYPED)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"encoder fitted on 9 cubes of {data}; use it with --set encoder.weights={out}" in outcome.out
    assert read_checkpoint(out, format=FILE_FORMAT)[1]["seed"] == 3
    first = out.read_bytes()
    assert_refused(hseval("fit-extractor", data, "--out", out, *TYPED), "exists already", "--force")
    assert hseval("fit-extractor", data, "--out", out, "--seed", 3, *TYPED, "--force").status == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("--set", "stepps=3"), ["no option 'stepps'", "did you mean 'steps'"]),
        (("--set", "steps=0"), ["steps = 0, expected 1 to"]),
        (("--set", "crop=20"), ["crop = 20, expected a multiple of 8"]),
        (("--set", "rate=2"), ["rate = 2, expected above 0"]),
        (("--set", "encoders.steps=3"), ["this command takes options of 'encoder' only"]),
        (("--extractor", "scattering"), ["'scattering' needs no fitting", "encoder"]),
        (("--extractor", "enkoder"), ["no extractor is called 'enkoder'", "did you mean 'encoder'"]),
        (("--device", "abacus"), ["--device abacus"]),
        (("--out", "w.pth"), ["expected a name ending in .safetensors"]),
        (("--out", "no/such/w.safetensors"), ["does not exist"]),
    ],
)
def test_invalid_arguments_are_refused_in_one_line_and_leave_no_file(
    data: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...], words: list[str]
) -> None:
    monkeypatch.chdir(data.parent)
    assert_refused(hseval("fit-extractor", data, "--out", "w.safetensors", *typed), *words)
    assert list_names(data.parent) == ["real.h5"]


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"n": 4}, "4 cubes, expected at least 8"),
        ({"n": 9, "bands": 3}, "3 bands, expected at least 4"),
        ({"n": 9, "wavelengths": None}, "needs wavelengths in nm"),
    ],
)
def test_sets_with_too_little_data_are_refused(
    tmp_path: Path, hseval: Command, properties: dict[str, int | None], message: str
) -> None:
    arguments = {name: int(value) for name, value in properties.items() if value is not None}
    changes = {name: value for name, value in properties.items() if value is None}
    path = save_set(tmp_path / "few.h5", make_texture_set(**arguments), **changes)
    outcome = hseval("fit-extractor", path, "--out", tmp_path / "w.safetensors", *TYPED)
    assert outcome.status == 2
    assert message in outcome.err
    assert not (tmp_path / "w.safetensors").exists()


def test_a_killed_fit_leaves_no_file(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "w.safetensors"
    typed = ["fit-extractor", str(data), "--out", str(out), *TYPED, "--set", "steps=1000000"]
    command = [sys.executable, "-m", "hseval", *typed]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()  # the fit is running
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert "fitting: 1000000 in total" in line
    assert list_names(tmp_path) == ["real.h5"]


def test_an_interrupted_write_preserves_the_old_file(
    tmp_path: Path, data: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"older weights")

    def raise_disk_full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file, "write_content", raise_disk_full)
    outcome = hseval("fit-extractor", data, "--out", out, *TYPED, "--force")
    assert outcome.status == 2
    assert "No space left on device" in outcome.err
    assert out.read_bytes() == b"older weights"
    assert list_names(tmp_path) == ["real.h5", "w.safetensors"]


def test_nodes_are_evenly_spaced_from_the_first_band_to_the_last() -> None:
    np.testing.assert_allclose(compute_node_wavelengths(np.array([500.0, 510, 700]), 16), [500, 600, 700])
    np.testing.assert_allclose(compute_node_wavelengths(np.linspace(400, 800, 99), 5), [400, 500, 600, 700, 800])
