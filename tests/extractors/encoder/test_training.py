"""``hseval fit-extractor``: repeatable to the byte, whole or not at all, and in one line where it can't be done."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hseval.core.cubes import ArraySet
from hseval.extractors.encoder.checkpoint import FitOptions, read
from hseval.extractors.encoder.extractor import Fitter
from hseval.extractors.encoder.network import Network, build_hidden_mask, initialize_weights
from hseval.extractors.encoder.preprocessing import compute_node_wavelengths
from hseval.extractors.encoder.training import (
    PATCH_SIZE,
    TrainingPatches,
    compute_loss,
    draw_masks,
    draw_patch_boxes,
    measure_residual_rms,
)
from hseval.utils.errors import HsevalError
from tests.helpers.commands import Outcome
from tests.helpers.sets import saved, texture_set

Command = Callable[..., Outcome]
SHORT = FitOptions(steps=6, width=4, nodes=6, batch=4, crop=16)
TYPED = ("--set", "steps=4", "--set", "width=4", "--set", "batch=4", "--set", "crop=16", "--device", "cpu")


def silent(what: str, done: int, total: int) -> None:
    """Be told of progress."""


def fit(path: Path, data: ArraySet, *, seed: int = 0, options: FitOptions = SHORT) -> bytes:
    Fitter(options).fit(data, path, seed=seed)
    return path.read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    path, data = tmp_path / "w.safetensors", texture_set(9)
    torch.manual_seed(1)
    first = fit(path, data)
    torch.manual_seed(2)
    assert fit(path, data) == first
    assert fit(path, data, seed=1) != first


def test_neither_the_order_of_cubes_nor_their_names_decide_anything(tmp_path: Path) -> None:
    data, order = texture_set(9), np.random.default_rng(0).permutation(9)
    turned = ArraySet(
        data.cubes[order], wavelengths=data.wavelengths, masks={k: v[order] for k, v in data.masks.items()}
    )
    assert fit(tmp_path / "a.safetensors", data) == fit(tmp_path / "b.safetensors", turned)


def test_nothing_is_drawn_from_the_global_stream(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(tmp_path / "w.safetensors", texture_set(9))
    assert torch.equal(torch.rand(3), expected)


def test_what_the_surround_holds_decides_nothing(tmp_path: Path) -> None:
    data = texture_set(9)
    spoilt = np.where(data.masks["fov"][:, None], data.cubes, np.float32(50))
    other = ArraySet(spoilt, wavelengths=data.wavelengths, masks=data.masks)
    assert fit(tmp_path / "a.safetensors", data) == fit(tmp_path / "b.safetensors", other)


def test_a_fit_predicts_cubes_that_it_has_not_seen(tmp_path: Path) -> None:
    """Hidden values of held-out cubes are found again to less than half of what no fit (the mean) would leave."""
    options = FitOptions(steps=150, width=8, nodes=6, batch=8, crop=24)
    path = tmp_path / "w.safetensors"
    fit(path, texture_set(24, seed=1), options=options)
    tensors, record = read(path)
    network = Network(6, 8)
    network.load_state_dict(tensors)
    held = TrainingPatches(texture_set(8, seed=2), np.asarray(record["nodes"]), seed=0, on_progress=silent)
    measure_residual_rms(network, held, options, seed=0, device="cpu")
    assert (network.expected < 0.5).all()


def test_hidden_lattices_cover_every_value_once_over_their_phases() -> None:
    for lattice in ("nodes", "pixels"):
        shape = (5, 8, 12)
        covered = sum(build_hidden_mask(lattice, phase, 5, (8, 12)).expand(shape).int() for phase in range(4))
        assert (covered == 1).all()


def test_what_is_asked_for_is_never_shown() -> None:
    shape = torch.Size((16, 8, 16, 16))
    rng = np.random.default_rng(0)
    for lattice in ("nodes", "pixels"):
        asked, shown = draw_masks(lattice, shape, rng, "cpu")
        assert ((asked + shown) <= 1).all()
        assert asked.mean() == pytest.approx(0.23, abs=0.03)
        assert (asked.sum(dim=(1, 2, 3)) > 0).all()


def test_a_prediction_depends_on_no_hidden_value() -> None:
    network = Network(6, 4)
    initialize_weights(network, 0)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 6, 16, 16), dtype="float32"))
    for lattice in ("nodes", "pixels"):
        out = build_hidden_mask(lattice, 2, 6, (16, 16)).expand(images.shape)
        shown = (~out).float()
        guess = network(images, shown)
        other = network(torch.where(out, 9.0, images), shown)
        assert torch.equal(guess, other)
        field = torch.ones(2, 16, 16, dtype=torch.bool)
        changed = torch.where(out, images + 1, images)
        assert not torch.equal(*(compute_loss(network, each, field, out.float(), shown) for each in (images, changed)))


def test_pieces_cover_large_cubes_and_leave_small_ones_whole() -> None:
    rng = np.random.default_rng(0)
    small = np.zeros((40, 50), dtype=bool)
    small[5:30, 10:42] = True
    assert draw_patch_boxes(small, 8, rng) == [(slice(5, 30), slice(10, 42))]
    y, x = np.mgrid[:200, :200] - 99.5
    found = draw_patch_boxes(np.hypot(y, x) < 98, 100, rng)
    assert len(found) == 16
    for rows, columns in found:
        assert (rows.stop - rows.start, columns.stop - columns.start) == (PATCH_SIZE, PATCH_SIZE)
    assert draw_patch_boxes(np.zeros((9, 9), dtype=bool), 8, rng) == []


def test_cubes_of_several_sizes_with_empty_ones_among_them_are_fitted(tmp_path: Path) -> None:
    data = texture_set(10, size=80)
    data.masks["fov"][3] = False
    data.cubes[4, :, 30:50, 30:50] = np.nan
    fit(tmp_path / "w.safetensors", data)
    tensors, record = read(tmp_path / "w.safetensors")
    assert record["fitted_on"]["cubes"] == 9
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_dead_band_is_no_obstacle_and_a_dead_set_is(tmp_path: Path) -> None:
    data = texture_set(9)
    data.cubes[:, 2] = 0.25
    fit(tmp_path / "w.safetensors", data)
    data.cubes[:] = 0.25
    with pytest.raises(HsevalError, match="all valid pixels are the same"):
        fit(tmp_path / "w.safetensors", data)


# ---------------------------------------------------------------- as typed


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return saved(tmp_path / "real.h5", texture_set(9))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2
    assert outcome.err.startswith("hseval: ")
    assert len(outcome.err.splitlines()) == 1
    for word in words:
        assert word in outcome.err


def test_a_fit_as_typed_says_how_to_use_what_it_left(tmp_path: Path, data: Path, hseval: Command) -> None:
    out = tmp_path / "w.safetensors"
    done = hseval("fit-extractor", data, "--out", out, "--seed", 3, *TYPED)
    assert (done.status, done.err) == (0, "")
    assert f"encoder fitted on 9 cubes of {data}; use it by --set encoder.weights={out}" in done.out
    assert read(out)[1]["seed"] == 3
    first = out.read_bytes()
    refused(hseval("fit-extractor", data, "--out", out, *TYPED), "exists already", "--force")
    assert hseval("fit-extractor", data, "--out", out, "--seed", 3, *TYPED, "--force").status == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("--set", "stepps=3"), ["no option 'stepps'", "did you mean 'steps'"]),
        (("--set", "steps=0"), ["steps = 0, expected 1 to"]),
        (("--set", "crop=20"), ["crop = 20, expected a multiple of 8"]),
        (("--set", "rate=2"), ["rate = 2, expected above 0"]),
        (("--set", "encoders.steps=3"), ["this command is about 'encoder'"]),
        (("--extractor", "scattering"), ["'scattering' needs no fitting", "encoder"]),
        (("--extractor", "enkoder"), ["no extractor is called 'enkoder'", "did you mean 'encoder'"]),
        (("--device", "abacus"), ["--device abacus"]),
        (("--out", "w.pth"), ["expected a name ending in .safetensors"]),
        (("--out", "no/such/w.safetensors"), ["does not exist"]),
    ],
)
def test_what_can_not_be_fitted_is_refused_in_one_line_and_leaves_nothing(
    data: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...], words: list[str]
) -> None:
    monkeypatch.chdir(data.parent)
    refused(hseval("fit-extractor", data, "--out", "w.safetensors", *typed), *words)
    assert names(data.parent) == ["real.h5"]


@pytest.mark.parametrize(
    ("few", "word"),
    [
        ({"n": 4}, "4 cubes, expected at least 8"),
        ({"n": 9, "bands": 3}, "3 bands, expected at least 4"),
        ({"n": 9, "wavelengths": None}, "needs wavelengths in nm"),
    ],
)
def test_sets_that_teach_too_little_are_refused(
    tmp_path: Path, hseval: Command, few: dict[str, int | None], word: str
) -> None:
    made = {name: int(value) for name, value in few.items() if value is not None}
    changes = {name: value for name, value in few.items() if value is None}
    path = saved(tmp_path / "few.h5", texture_set(**made), **changes)
    done = hseval("fit-extractor", path, "--out", tmp_path / "w.safetensors", *TYPED)
    assert done.status == 2
    assert word in done.err
    assert not (tmp_path / "w.safetensors").exists()


def test_a_fit_that_is_killed_leaves_nothing(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "w.safetensors"
    typed = ["fit-extractor", str(data), "--out", str(out), *TYPED, "--set", "steps=1000000"]
    command = [sys.executable, "-m", "hseval", *typed]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "fitting: 1000000 in all" in process.stderr.readline()  # it is in the middle of it
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert names(tmp_path) == ["real.h5"]


def test_a_write_that_is_cut_off_keeps_what_was_there(
    tmp_path: Path, data: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"older weights")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as handle:
            handle.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = hseval("fit-extractor", data, "--out", out, *TYPED, "--force")
    assert done.status == 2
    assert "No space left on device" in done.err
    assert out.read_bytes() == b"older weights"
    assert names(tmp_path) == ["real.h5", "w.safetensors"]


def test_nodes_are_spread_from_the_first_band_to_the_last() -> None:
    np.testing.assert_allclose(compute_node_wavelengths(np.array([500.0, 510, 700]), 16), [500, 600, 700])
    np.testing.assert_allclose(compute_node_wavelengths(np.linspace(400, 800, 99), 5), [400, 500, 600, 700, 800])
