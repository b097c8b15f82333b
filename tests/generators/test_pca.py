"""The baseline generator: its numerics against closed forms, its checkpoint, and sets that are hard to fit."""

from __future__ import annotations

import logging
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hseval_pca.gaussian import compute_principal_axes, find_area_threshold, fit_gaussian
from hseval_pca.generator import FORMAT, Pca

from hseval import ArraySet, CubeSet, HsevalError
from hseval.generator_kit import load_checkpoint, save_checkpoint
from hseval.testing import check_generator, make_example_set


def fit_pca(data: CubeSet, folder: Path, **options: Any) -> Pca:
    folder.mkdir(exist_ok=True)
    generator = Pca(Pca.Options(**options))
    generator.fit(data, folder)
    return generator


@pytest.fixture
def data() -> ArraySet:
    return make_example_set(10, size=32, bands=4)


def make_centered_vectors(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
    vectors = rng.normal(size=(n, p)) * np.geomspace(10, 0.1, p)
    return (vectors - vectors.mean(axis=0)).astype(np.float32)


@pytest.mark.parametrize("p", [50, 20_000])  # within one block of columns, and over two
def test_axes_have_the_covariance_of_the_vectors(p: int) -> None:
    vectors = make_centered_vectors(np.random.default_rng(0), 12, p)
    axes, share = compute_principal_axes(vectors.copy(), variance=1.0, components=None)
    columns = slice(0, 50)
    assert len(axes) == 11
    assert share == pytest.approx(1.0)
    np.testing.assert_allclose(
        axes[:, columns].T @ axes[:, columns], vectors[:, columns].T @ vectors[:, columns] / 11, atol=1e-3
    )


def test_axes_equal_scikit_learns_up_to_sign() -> None:
    from sklearn.decomposition import PCA

    vectors = make_centered_vectors(np.random.default_rng(1), 15, 40)
    axes, share = compute_principal_axes(vectors.copy(), variance=0.9, components=None)
    oracle = PCA(n_components=len(axes), svd_solver="full").fit(vectors.astype(np.float64))
    expected = oracle.components_ * np.sqrt(oracle.explained_variance_)[:, None]
    np.testing.assert_allclose(np.abs(axes), np.abs(expected), atol=1e-4)
    assert share == pytest.approx(oracle.explained_variance_ratio_.sum(), rel=1e-6)


@pytest.mark.parametrize("variance", [0.3, 0.9, 0.99])
def test_the_fewest_components_that_explain_the_variance_are_retained(variance: float) -> None:
    vectors = make_centered_vectors(np.random.default_rng(2), 30, 60)
    axes, share = compute_principal_axes(vectors.copy(), variance=variance, components=None)
    _, one_fewer = compute_principal_axes(vectors.copy(), variance=variance, components=len(axes) - 1 or 1)
    assert share >= variance
    assert one_fewer < variance or len(axes) == 1


def test_a_threshold_preserves_the_mean_area_of_gaussian_pixels() -> None:
    rng = np.random.default_rng(3)
    mean, std = rng.normal(size=400), rng.uniform(0.1, 1, 400)
    level = find_area_threshold(mean, std, 60)
    samples = mean + std * rng.standard_normal((4000, 400))
    assert (samples > level).sum(axis=1).mean() == pytest.approx(60, rel=0.01)


@pytest.mark.parametrize(("area", "level"), [(0, np.inf), (400, -np.inf)])
def test_empty_and_full_masks_stay_empty_and_full(area: int, level: float) -> None:
    assert find_area_threshold(np.zeros(400), np.ones(400), area) == level


def test_unknown_pixels_add_no_variance() -> None:
    rng = np.random.default_rng(4)
    layers = rng.normal(size=(8, 3, 50)).astype(np.float32)
    unknown = layers.copy()
    unknown[2, :, :10] = np.nan
    filled = unknown.copy()
    filled[2, :, :10] = np.delete(layers, 2, axis=0)[:, :, :10].mean(axis=0)
    with_unknown, _ = fit_gaussian(unknown, bands=3, variance=1.0, components=None)
    with_filled, _ = fit_gaussian(filled, bands=3, variance=1.0, components=None)
    np.testing.assert_allclose(with_unknown["mean"], with_filled["mean"], atol=1e-6)
    np.testing.assert_allclose(np.abs(with_unknown["axes"]), np.abs(with_filled["axes"]), atol=1e-4)


def test_samples_have_the_mean_and_the_variance_of_the_training_set(tmp_path: Path, data: ArraySet) -> None:
    generator = fit_pca(data, tmp_path / "run", variance=1.0)
    samples = np.stack([cube for cube, _, _ in generator.sample(600, seed=0)])
    inside = data.masks["fov"][0]
    real, generated = data.cubes[:, :, inside].astype(np.float64), samples[:, :, inside].astype(np.float64)
    error = np.abs(generated.mean(axis=0) - real.mean(axis=0)) / real.std(axis=0, ddof=1)
    assert error.max() < 5 / np.sqrt(600)
    assert generated.var(axis=0).sum() == pytest.approx(real.var(axis=0, ddof=1).sum(), rel=0.05)


def test_samples_have_the_mask_area_of_the_training_set(tmp_path: Path, data: ArraySet) -> None:
    generator = fit_pca(data, tmp_path / "run")
    areas = [masks["disc"].sum() for _, masks, _ in generator.sample(300, seed=0)]
    assert np.mean(areas) == pytest.approx(data.masks["disc"].sum(axis=(1, 2)).mean(), rel=0.1)


def test_a_constant_field_of_view_comes_back_and_everything_outside_is_zero(tmp_path: Path, data: ArraySet) -> None:
    generator = fit_pca(data, tmp_path / "run")
    for cube, masks, _ in generator.sample(5, seed=1):
        np.testing.assert_array_equal(masks["fov"], data.masks["fov"][0])
        assert not cube[:, ~masks["fov"]].any()


def test_fields_of_view_that_differ_are_modeled(tmp_path: Path) -> None:
    y, x = np.mgrid[:24, :24] - 11.5
    fields = np.stack([np.hypot(y, x) < radius for radius in range(6, 12)])
    cubes = np.random.default_rng(5).normal(1, 0.1, (6, 3, 24, 24))
    generator = fit_pca(ArraySet(cubes, masks={"fov": fields}), tmp_path / "run")
    areas = [masks["fov"].sum() for _, masks, _ in generator.sample(200, seed=0)]
    assert np.mean(areas) == pytest.approx(fields.sum(axis=(1, 2)).mean(), rel=0.1)
    assert np.std(areas) > 10


def test_values_outside_the_field_of_view_change_no_sample(tmp_path: Path, data: ArraySet) -> None:
    noisy = data.cubes + np.where(data.masks["fov"][:, None], 0, 99).astype(np.float32)
    other = ArraySet(noisy, wavelengths=data.wavelengths, masks=data.masks)
    first = next(fit_pca(data, tmp_path / "one").sample(1, seed=0))
    second = next(fit_pca(other, tmp_path / "two").sample(1, seed=0))
    np.testing.assert_array_equal(first.cube, second.cube)


def test_nan_pixels_do_not_count_as_zeros(tmp_path: Path, data: ArraySet) -> None:
    data.cubes[3, 1, 16, 20] = np.nan
    samples = np.stack([sample.cube for sample in fit_pca(data, tmp_path / "run").sample(1000, seed=0)])
    known = np.delete(data.cubes[:, 1, 16, 20], 3)
    assert np.isfinite(samples).all()
    assert samples[:, 1, 16, 20].mean() == pytest.approx(known.mean(), abs=4 * known.std() / np.sqrt(1000))


def test_a_set_without_masks_yields_cubes_without_masks(tmp_path: Path) -> None:
    data = ArraySet(np.random.default_rng(6).normal(size=(5, 3, 8, 8)))
    generator = fit_pca(data, tmp_path / "run")
    sample = next(generator.sample(1, seed=0))
    assert sample.masks == {}
    assert generator.wavelengths is None  # band indices are no wavelengths


def test_generator_fulfills_contract_with_other_options(tmp_path: Path) -> None:
    check_generator(Pca(Pca.Options(components=3)), tmp_path=tmp_path)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_cubes_are_refused(tmp_path: Path, data: ArraySet, count: int) -> None:
    with pytest.raises(HsevalError, match=f"has {count} cube.*expected 2 or more"):
        fit_pca(data.subset(range(count)), tmp_path)


def test_cubes_of_two_shapes_are_refused_by_name(tmp_path: Path, data: ArraySet) -> None:
    data.shape = lambda index: (4, 32, 32) if index < 6 else (4, 32, 30)
    with pytest.raises(HsevalError, match=r"cube '000006' has shape \(4, 32, 30\), cube '000000' has \(4, 32, 32\)"):
        fit_pca(data, tmp_path)


def test_cubes_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match="the same in all cubes"):
        fit_pca(ArraySet(np.ones((4, 2, 8, 8))), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_set_with_empty_fields_of_view_is_refused(tmp_path: Path, data: ArraySet) -> None:
    data.masks["fov"] = np.zeros_like(data.masks["fov"])
    with pytest.raises(HsevalError, match="'fov' masks of all 10 cubes are empty"):
        fit_pca(data, tmp_path)


def read_checkpoint(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return load_checkpoint(folder, "pca", format=FORMAT)


def test_a_set_too_large_for_the_memory_is_fitted_on_a_random_subset(
    tmp_path: Path, data: ArraySet, caplog: pytest.LogCaptureFixture
) -> None:
    value_count = (4 + 2) * data.masks["fov"][0].sum()
    with caplog.at_level(logging.WARNING):
        fit_pca(data, tmp_path, memory=7.5 * 4 * value_count / 2**30)
    assert read_checkpoint(tmp_path)[1]["fit"]["cubes"] == 7
    assert "fitted on 7 of 10 cubes" in caplog.text


def test_a_missing_or_changed_checkpoint_is_refused_with_the_command_that_makes_one(
    tmp_path: Path, data: ArraySet
) -> None:
    fit_pca(data, tmp_path)
    path = tmp_path / "pca.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HsevalError, match=r"pca.safetensors: truncated.*; create one by: hseval train pca"):
        Pca().load(tmp_path)
    path.unlink()
    with pytest.raises(HsevalError, match=r"pca.safetensors: no such checkpoint; create one by: hseval train pca"):
        Pca().load(tmp_path)


def test_options_that_the_checkpoint_was_not_fitted_with_are_refused(tmp_path: Path, data: ArraySet) -> None:
    fit_pca(data, tmp_path, variance=0.9)
    Pca().load(tmp_path)
    with pytest.raises(HsevalError, match=r"was fitted with variance=0\.9 components=none memory=4\.0;"):
        Pca(Pca.Options(variance=0.5)).load(tmp_path)


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"variance": 0.0}, "variance is 0, expected above 0 and up to 1"),
        ({"variance": 1.5}, "variance is 1.5, expected above 0 and up to 1"),
        ({"variance": float("nan")}, "variance is nan, expected above 0 and up to 1"),
        ({"components": 0}, "components is 0, expected 1 or more, or none"),
        ({"memory": 0.0}, "memory is 0 GiB, expected more than 0"),
    ],
)
def test_invalid_options_are_refused_with_the_valid_range(invalid: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Pca.Options(**invalid)


@pytest.mark.parametrize("key", ["options", "wavelengths", "units", "structures"])
def test_an_incomplete_checkpoint_record_is_refused(tmp_path: Path, data: ArraySet, key: str) -> None:
    fit_pca(data, tmp_path)
    tensors, record = read_checkpoint(tmp_path)
    del record[key]
    save_checkpoint(tmp_path, "pca", tensors, record, format=FORMAT)
    with pytest.raises(HsevalError, match=rf"pca.safetensors: its record lacks '{key}'; create one by"):
        Pca().load(tmp_path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"varianze": 0.9}, r"no option 'varianze' \(did you mean 'variance'"),
        ({"variance": "much"}, "variance: 'much' is not of type float"),
        ({"variance": 0}, "variance is 0, expected above 0"),
    ],
)
def test_invalid_options_in_a_checkpoint_are_refused(
    tmp_path: Path, data: ArraySet, option: dict[str, Any], message: str
) -> None:
    fit_pca(data, tmp_path)
    tensors, record = read_checkpoint(tmp_path)
    record["options"] |= option
    save_checkpoint(tmp_path, "pca", tensors, record, format=FORMAT)
    with pytest.raises(HsevalError, match=rf"pca.safetensors.*{message}") as caught:
        Pca().load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_in_place_of_the_checkpoint_folder_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "set.h5").touch()
    with pytest.raises(HsevalError, match=r"set\.h5: is a file, expected the folder of a checkpoint"):
        Pca().load(tmp_path / "set.h5")


def test_the_distribution_declares_what_it_imports() -> None:
    folder = Path(__file__).parents[2] / "plugins" / "pca"
    dependencies = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    source = "\n".join(path.read_text() for path in (folder / "hseval_pca").glob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE)) - set(sys.stdlib_module_names)
    assert {re.split(r"\W", name)[0] for name in dependencies} == imported - {"hseval_pca"}


def test_values_whose_squares_overflow_are_refused(data: ArraySet, tmp_path: Path) -> None:
    huge = ArraySet(data.cubes * np.float32(1e30), wavelengths=data.wavelengths, masks=data.masks)
    with pytest.raises(HsevalError, match=r"array: cube 000000 has values of \S+e\+\d+; at most 1e\+18 expected"):
        fit_pca(huge, tmp_path / "run")
