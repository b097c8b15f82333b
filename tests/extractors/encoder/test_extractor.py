"""The fitted encoder as an extractor: what it has to detect, what must not change it, and files of other formats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from hseval.core.cubes import ArraySet
from hseval.data.field_of_view import erode_fov
from hseval.extractors.encoder.extractor import FILE_FORMAT, Encoder, Fitter
from hseval.extractors.encoder.options import EncoderOptions, FitOptions
from hseval.extractors.encoder.preprocessing import compute_node_wavelengths, compute_node_weights
from hseval.metrics.frechet import frechet_distance
from hseval.metrics.standardized_features import fit_scale, standardize
from hseval.testing import check_extractor, make_example_set
from hseval.training.checkpoint_file import read_checkpoint, write_checkpoint
from hseval.utils.errors import HsevalError
from tests.helpers.commands import Outcome
from tests.helpers.sets import make_texture_set, save_set

BANDS = 12
NM = np.linspace(450.0, 905.0, BANDS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a short fit on textures: enough to respond as a long one does."""
    path = tmp_path_factory.mktemp("encoder") / "weights.safetensors"
    options = FitOptions(steps=120, width=8, nodes=8, batch=8, crop=24)
    Fitter(options).fit(make_texture_set(24, bands=BANDS, seed=1), path, seed=0)
    return path


def build_extractor(weights: Path) -> Encoder:
    return Encoder(EncoderOptions(weights=str(weights)))


def compute_features(
    weights: Path, cubes: np.ndarray, valid: np.ndarray | None = None, nm: np.ndarray = NM
) -> np.ndarray:
    valid = np.ones((len(cubes), *cubes.shape[2:]), dtype=bool) if valid is None else valid
    visible = np.where(valid[:, None], cubes, np.nan).astype(np.float32)
    return build_extractor(weights)(visible, wavelengths=nm, masks={"fov": valid})


def make_textures(count: int, *, seed: int = 2, **options: object) -> tuple[np.ndarray, np.ndarray]:
    data = make_texture_set(count, bands=BANDS, seed=seed, **options)  # type: ignore[arg-type]
    return data.cubes, np.stack([data.read_masks(i)["fov"] for i in range(count)])


def test_extractor_fulfills_contract(weights: Path) -> None:
    check_extractor(build_extractor(weights))
    check_extractor(build_extractor(weights), data=make_texture_set(4, bands=BANDS))


def test_features_are_finite_and_vary(weights: Path) -> None:
    features = compute_features(weights, *make_textures(6))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert features.shape[1] == 14 * 8 - 2  # 14 groups with a column a node, two of them a column a pair of nodes
    assert (features.std(axis=0) > 0).mean() > 0.95


# ---------------------------------------------------------------- what must not change it


def test_the_surround_changes_nothing_whatever_its_values_and_size(weights: Path) -> None:
    cubes, valid = make_textures(3)
    features = compute_features(weights, cubes, valid)
    pad = ((0, 0), (6, 1), (3, 8))
    wide = np.pad(cubes, ((0, 0), *pad), constant_values=7e3)
    assert np.array_equal(compute_features(weights, wide, np.pad(valid, pad)), features)
    changed = np.where(valid[:, None], cubes, np.float32(1e6))
    assert np.array_equal(build_extractor(weights)(changed, wavelengths=NM, masks={"fov": valid}), features)


def test_values_on_the_rim_of_a_field_change_nothing(weights: Path) -> None:
    """The outermost pixels of a field are partly surround: eroded, filled from inside, and not pooled."""
    cubes, valid = make_textures(8, field=True)
    rim_mask = valid & ~erode_fov(valid)
    assert rim_mask.any()
    plain = compute_features(weights, cubes, valid)
    changed = compute_features(weights, np.where(rim_mask[:, None], np.float32(0), cubes), valid)
    assert np.array_equal(changed, plain)


def test_the_batch_and_its_order_change_nothing(weights: Path) -> None:
    cubes, valid = make_textures(5)
    valid[1, :4] = False  # boxes of two shapes
    whole = compute_features(weights, cubes, valid)
    alone = np.concatenate([compute_features(weights, cubes[i : i + 1], valid[i : i + 1]) for i in range(5)])
    order = np.array([3, 0, 4, 1, 2])
    scale = np.abs(whole).max(axis=0) + 1e-3
    assert (np.abs(alone - whole) / scale).max() < 1e-4
    assert (np.abs(compute_features(weights, cubes[order], valid[order]) - whole[order]) / scale).max() < 1e-4


def test_no_valid_pixel_gives_nan_and_tiny_cubes_give_finite_features(weights: Path) -> None:
    cubes, valid = make_textures(2)
    valid[1] = False
    features = compute_features(weights, cubes, valid)
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1]).all()
    for height, width in ((1, 1), (3, 9), (12, 12)):
        assert np.isfinite(compute_features(weights, cubes[:1, :, :height, :width])).all()


# ---------------------------------------------------------------- other bands


def make_scene(nm: np.ndarray, count: int = 6) -> np.ndarray:
    """Return cubes with smooth spectra: two pigments in random maps, sampled at any wavelengths."""
    rng = np.random.default_rng(5)
    maps = ndimage.gaussian_filter(rng.standard_normal((count, 2, 32, 32)), (0, 0, 2, 2))
    amount = 1 + 0.3 * maps / maps.std() * rng.uniform(0.5, 1.5, (count, 2, 1, 1))
    pigments = np.stack([np.exp(-(nm - 450) / 400), 0.5 * np.exp(-(((nm - 620) / 120) ** 2))])
    return np.einsum("pb,npyx->nbyx", pigments, amount).astype(np.float32)


def test_a_scene_at_other_bands_is_nearer_than_another_scene(weights: Path) -> None:
    """One scene sampled at other bands: the bands change features far less than the scene does."""
    few = compute_features(weights, make_scene(NM))
    std = few.std(axis=0) + 1e-3
    for nm in (np.linspace(450, 905, 31), np.linspace(445, 910, 19), np.sort(np.r_[NM, NM[3:6] + 1.0])):
        many = compute_features(weights, make_scene(nm), nm=nm)
        own_distance = np.median(np.abs(many - few) / std)
        other_distance = np.median(np.abs(np.roll(many, 1, axis=0) - few) / std)
        assert own_distance < 0.35 * other_distance


def test_features_of_nodes_that_the_bands_do_not_cover_are_0(weights: Path) -> None:
    features = compute_features(weights, make_scene(NM)[:, 3:], nm=NM[3:])
    whole = compute_features(weights, make_scene(NM))
    assert np.isfinite(features).all()
    assert features.shape == whole.shape
    missing = ~compute_node_weights(NM[3:], compute_node_wavelengths(NM, 8)).any(axis=1)
    assert missing.sum() == 2
    assert (features[:, :8][:, missing] == 0).all()
    assert (whole[:, :8] != 0).all()


@pytest.mark.parametrize(
    ("nm", "message"),
    [
        (np.linspace(450, 1000, 12), "450 to 1000 nm.* fitted on 450 to 905 nm; bands beyond would be ignored"),
        (np.linspace(300, 905, 12), "bands beyond would be ignored"),
        (np.linspace(600, 700, 5), "less than half is covered"),
    ],
)
def test_bands_that_the_weights_were_not_fitted_for_are_refused(weights: Path, nm: np.ndarray, message: str) -> None:
    with pytest.raises(HsevalError, match=message) as caught:
        compute_features(weights, np.ones((1, len(nm), 8, 8), dtype=np.float32), nm=nm)
    assert "hseval fit-extractor" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_node_weights_average_a_linear_spectrum_to_its_value_at_each_inner_node() -> None:
    nodes = np.linspace(500, 800, 7)
    for nm in (np.linspace(500, 800, 7), np.linspace(490, 815, 40), np.array([480.0, 620, 640, 641, 820])):
        weights = compute_node_weights(nm, nodes)
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        np.testing.assert_allclose((weights @ nm)[1:-1], nodes[1:-1], atol=1e-6)


# ---------------------------------------------------------------- what it has to detect


def blur(cubes: np.ndarray, severity: float) -> np.ndarray:
    return ndimage.gaussian_filter(cubes, (0, 0, severity, severity))


def add_noise(cubes: np.ndarray, severity: float) -> np.ndarray:
    return cubes + severity * cubes.std() * np.random.default_rng(0).standard_normal(cubes.shape)


def shift_spectra(cubes: np.ndarray, severity: float) -> np.ndarray:
    return np.stack([np.apply_along_axis(lambda s: np.interp(NM + severity, NM, s), 0, cube) for cube in cubes])


def change_gain(cubes: np.ndarray, severity: float) -> np.ndarray:
    return cubes * (1 + severity * np.array([1, -1] * (BANDS // 2))[:, None, None])


@pytest.mark.parametrize(
    ("change", "severities"),
    [
        (blur, (0.3, 0.6, 1.2, 2.4)),
        (add_noise, (0.03, 0.1, 0.3, 1.0)),
        (shift_spectra, (3.0, 10.0, 25.0, 60.0)),
        (change_gain, (0.01, 0.03, 0.1, 0.3)),
    ],
)
def test_the_frechet_distance_grows_with_the_severity(
    weights: Path, change: Callable[[np.ndarray, float], np.ndarray], severities: tuple[float, ...]
) -> None:
    (real, field), (holdout, holdout_field) = make_textures(30, seed=3), make_textures(30, seed=4)
    reference = compute_features(weights, real, field)
    scale = fit_scale(reference)

    def compute_distance(cubes: np.ndarray) -> float:
        generated = compute_features(weights, cubes, holdout_field)
        return frechet_distance(real=standardize(reference, scale), generated=standardize(generated, scale))

    distances = [compute_distance(holdout), *(compute_distance(change(holdout, severity)) for severity in severities)]
    assert distances[1:] == sorted(distances[1:])
    assert distances[-1] > 1.5 * distances[0]


# ---------------------------------------------------------------- its file


def test_the_fingerprint_is_the_files_sha256(weights: Path) -> None:
    assert build_extractor(weights).fingerprint() == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_file_is_read_as_it_was_written(tmp_path: Path, weights: Path) -> None:
    tensors, record = read_checkpoint(weights, format=FILE_FORMAT)
    again = tmp_path / "again.safetensors"
    write_checkpoint(again, tensors, record, format=FILE_FORMAT)
    assert again.read_bytes() == weights.read_bytes()
    assert record["seed"] == 0
    assert record["options"]["width"] == 8
    assert record["fitted_on"]["cubes"] == 24
    assert record["nodes"][0] == 450.0
    assert record["nodes"][-1] == 905.0
    assert np.array_equal(compute_features(again, *make_textures(2)), compute_features(weights, *make_textures(2)))


def test_missing_weights_are_refused_with_the_option_to_set() -> None:
    with pytest.raises(HsevalError, match=r"--set encoder\.weights=FILE.* create one by: hseval fit-extractor"):
        Encoder().fingerprint()
    with pytest.raises(HsevalError, match=r"nowhere\.safetensors: no such weights file.*hseval fit-extractor"):
        Encoder(EncoderOptions(weights="nowhere.safetensors")).fingerprint()


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_bit(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


def change_record(content: bytes) -> bytes:
    return content.replace(b'"width\\": 8', b'"width\\": 9')


def raise_version(content: bytes) -> bytes:
    return content.replace(b"hseval-encoder-2", b"hseval-encoder-9")


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (truncate, "truncated, or not a safetensors file"),
        (lambda _: b"", "truncated, or not a safetensors file"),
        (lambda _: b"not weights at all", "truncated, or not a safetensors file"),
        (flip_bit, "changed since it was written"),
        (change_record, "changed since it was written"),
        (raise_version, "has the format 'hseval-encoder-9', expected 'hseval-encoder-2'"),
    ],
)
def test_a_corrupted_file_is_refused_in_one_line(
    tmp_path: Path, weights: Path, corrupt: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "corrupted.safetensors"
    content = weights.read_bytes()
    path.write_bytes(corrupt(content))
    assert path.read_bytes() != content
    with pytest.raises(HsevalError, match=message) as caught:
        compute_features(path, *make_textures(1))
    assert str(path) in str(caught.value)
    assert "hseval fit-extractor" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_of_something_else_are_refused(tmp_path: Path, weights: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(HsevalError, match="has no format that this version knows, expected 'hseval-encoder-2'; create"):
        compute_features(path, *make_textures(1))
    tensors, record = read_checkpoint(weights, format=FILE_FORMAT)
    write_checkpoint(path, {**tensors, "extra": torch.zeros(1)}, record, format=FILE_FORMAT)
    with pytest.raises(HsevalError, match=r"do not fit its record|holds another network"):
        compute_features(path, *make_textures(1))
    write_checkpoint(path, tensors, {"nodes": 3}, format=FILE_FORMAT)
    with pytest.raises(HsevalError, match=r"do not fit its record|holds another network"):
        compute_features(path, *make_textures(1))


def test_a_score_by_the_encoder_from_the_command_line(
    tmp_path: Path, weights: Path, hseval: Callable[..., Outcome]
) -> None:
    real = save_set(tmp_path / "real.h5", make_texture_set(16, bands=BANDS, seed=5))
    generated = save_set(tmp_path / "generated.h5", make_texture_set(16, bands=BANDS, seed=6))
    typed = (
        "score",
        generated,
        "--ref",
        real,
        "--metrics",
        "fid",
        "--extractor",
        "encoder",
        "--json",
        tmp_path / "r.json",
    )
    outcome = hseval(*typed, "--set", f"encoder.weights={weights}", "--device", "cpu")
    assert outcome.status == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["scores"][0]["details"]["extractor"] == "encoder"
    outcome = hseval(*typed)
    assert outcome.status == 2
    assert "create one by: hseval fit-extractor" in outcome.err


def test_an_array_without_wavelengths_has_no_score(weights: Path) -> None:
    import hseval

    cubes = make_example_set(8, size=24).cubes
    report = hseval.score(
        ArraySet(cubes[:4]), ref=ArraySet(cubes[4:]), metrics=["fid"], extractor="encoder",
        options={"encoder": {"weights": str(weights)}}, device="cpu",
    )  # fmt: skip
    assert "needs wavelengths in nm" in report.scores[0].verdict
