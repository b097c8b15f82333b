"""The built-in segmenters: their numerics compared with other implementations, and the contract."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score

from hseval.core.cubes import FOV, ArraySet
from hseval.scoring.segmentation.segmented_set import PreparedSet, count_agreement, dice
from hseval.segmenters.dice import PROBABILITY_BINS, ProbabilityHistogram
from hseval.segmenters.inputs import MAX_WINDOWS, SpectralScaler, average_windows
from hseval.segmenters.line_filters import FourierImage
from hseval.segmenters.pixel_features import compute_directions
from hseval.segmenters.pixel_sampling import MAX_WEIGHT, draw_pixels
from hseval.segmenters.pixel_trees import PixelTreeSegmenter, _fit_trees, bin_features
from hseval.segmenters.unet import UNetSegmenter
from hseval.testing import check_segmenter, make_example_set
from hseval.utils.errors import HsevalError

QUICK = {
    "pixels": PixelTreeSegmenter(PixelTreeSegmenter.Options(trees=5, pixels=2000)),
    "unet": UNetSegmenter(UNetSegmenter.Options(steps=5)),
}


def fit(segmenter: PixelTreeSegmenter | UNetSegmenter, data: ArraySet) -> PixelTreeSegmenter | UNetSegmenter:
    fresh = type(segmenter)(segmenter.options)
    fresh.fit(PreparedSet(data, data.structures, None))
    return fresh


def compute_dice(segmenter: PixelTreeSegmenter | UNetSegmenter, data: ArraySet) -> dict[str, float]:
    """Return the Dice of each structure over a set that the segmenter was not fitted on."""
    names = sorted(set(data.structures) - {FOV})
    counts = np.zeros((len(names), 3), dtype=int)
    for cube in PreparedSet(data, data.structures, None):
        predicted = segmenter.segment(cube.data[None], wavelengths=data.wavelengths)
        counts += count_agreement(np.stack([predicted[n][0] for n in names]), np.stack([cube.masks[n] for n in names]))
    return dict(zip(names, dice(counts).tolist(), strict=True))


@pytest.mark.parametrize("name", QUICK)
def test_the_contract_holds(name: str) -> None:
    check_segmenter(QUICK[name], data=make_example_set(6, size=24))


def test_classes_of_small_patches_are_distinguished_by_their_spectra() -> None:
    # As in a land-cover scene: patches of 12 px, some of one class throughout, five classes, some in few patches.
    rng = np.random.default_rng(0)
    spectra = rng.uniform(0.5, 1.5, (5, 20)).astype(np.float32)
    patches = np.where(rng.random((24, 1, 1)) < 0.5, rng.integers(5, size=(24, 1, 1)), 0)
    patches = np.broadcast_to(patches, (24, 12, 12)).copy()
    patches[:, 6:] = rng.integers(5, size=(24, 1, 1))
    cubes = np.moveaxis(spectra[patches], -1, 1) * rng.normal(1, 0.02, (24, 1, 12, 12))
    masks = {f"class-{i}": patches == i for i in range(1, 5)}
    halves = [
        ArraySet(cubes[part], wavelengths=np.arange(400.0, 420), masks={n: m[part] for n, m in masks.items()})
        for part in (slice(12), slice(12, None))
    ]
    dices = compute_dice(fit(QUICK["pixels"], halves[0]), halves[1])
    assert min(dices.values()) > 0.9, dices


def test_structures_that_overlap_are_both_found() -> None:
    rng = np.random.default_rng(0)
    cubes = rng.normal(1, 0.02, (12, 3, 24, 24)).astype(np.float32)
    masks = {name: np.zeros((12, 24, 24), bool) for name in ("first", "second")}
    for i, (y, x) in enumerate(rng.integers(3, 9, (12, 2))):
        masks["first"][i, y : y + 8, x : x + 8] = True
        masks["second"][i, y + 4 : y + 12, x + 4 : x + 12] = True
    cubes[:, 0] += 0.2 * masks["first"]
    cubes[:, 1] += 0.2 * masks["second"]
    sets = [
        ArraySet(cubes[part], wavelengths=np.arange(3.0), masks={name: mask[part] for name, mask in masks.items()})
        for part in (slice(6), slice(6, None))
    ]
    assert min(compute_dice(fit(QUICK["pixels"], sets[0]), sets[1]).values()) > 0.9


def test_a_structure_that_no_cube_has_is_found_nowhere() -> None:
    data = make_example_set(6, size=32)
    masks = {**data.masks, "nothing": np.zeros_like(data.masks["disc"])}
    segmenter = fit(QUICK["pixels"], ArraySet(data.cubes, wavelengths=data.wavelengths, masks=masks))
    cube = PreparedSet(data, data.structures, None)[0]
    assert not segmenter.segment(cube.data[None], wavelengths=data.wavelengths)["nothing"].any()


@pytest.mark.parametrize("options", [{"trees": 0}, {"pixels": 1}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PixelTreeSegmenter(PixelTreeSegmenter.Options(**options))


def test_segmenting_before_fitting_is_refused() -> None:
    for segmenter in (PixelTreeSegmenter(), UNetSegmenter()):
        with pytest.raises(HsevalError, match="has not been fitted"):
            segmenter.segment(np.ones((1, 4, 8, 8), np.float32), wavelengths=np.arange(4))


def test_dice_is_the_f1_score() -> None:
    rng = np.random.default_rng(0)
    predicted, labels = rng.random((2, 3, 20, 20)) < np.array([0.1, 0.5, 0.9])[:, None, None]
    expected = [f1_score(b.ravel(), a.ravel()) for a, b in zip(predicted, labels, strict=True)]
    assert dice(count_agreement(predicted, labels)) == pytest.approx(expected)
    assert np.isnan(dice(np.zeros(3)))


def test_the_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((2, 4000)) < np.array([[0.03], [0.4]])
    scores = np.clip(0.3 + 0.25 * labels + rng.normal(0, 0.15, labels.shape), 0, 0.999)
    histogram = ProbabilityHistogram(2)
    for part in range(4):
        histogram.add_cube(scores[:, part::4], labels[:, part::4])
    for structure, threshold in enumerate(histogram.find_best_thresholds()):
        predicted = scores[structure] >= np.arange(PROBABILITY_BINS)[:, None] / PROBABILITY_BINS
        best = (
            2 * (predicted & labels[structure]).sum(axis=1) / (predicted.sum(axis=1) + labels[structure].sum())
        ).max()
        assert f1_score(labels[structure], scores[structure] >= threshold) == pytest.approx(best)


def test_weights_of_sampled_pixels_add_up_to_all_and_rare_ones_are_sampled() -> None:
    labels = np.zeros((2, 60, 60), bool)
    labels[0, 10:12, 10:50], labels[1, 30:50, 30:50], labels[:, 40:42, 40:42] = True, True, True
    valid = np.ones((60, 60), bool)
    valid[:5] = False
    indices, weights = draw_pixels(labels, valid, 200, np.random.default_rng(0))
    assert (np.diff(indices) > 0).all()
    assert weights.sum() == pytest.approx(valid.sum())
    assert weights.max() <= MAX_WEIGHT
    sampled = labels[:, valid][:, indices]
    assert sampled[0].sum() == labels[0].sum()  # all pixels of the thin structure
    assert (sampled.all(axis=0)).sum() == 4  # and of the overlap of both


def test_trees_grown_on_binned_features_classify_the_original_features_equally() -> None:
    rng = np.random.default_rng(0)
    features = np.stack([rng.normal(size=3000), rng.exponential(size=3000), rng.integers(3, size=3000)], axis=1)
    features = features.astype(np.float32)
    labels = features.sum(axis=1) + rng.normal(0, 0.5, 3000) > 2
    binned = bin_features(features, 63)
    assert [len(np.unique(column)) for column in binned.T] == [63, 63, 3]
    assert np.array_equal(binned[:, 2], features[:, 2])
    model = _fit_trees(binned, labels, np.ones(3000, np.float32), rounds=20)
    assert np.array_equal(model.predict_proba(binned), model.predict_proba(features))
    assert (model.predict(features) == labels).mean() > 0.85


def test_the_scaler_makes_a_gain_an_offset_that_relative_spectra_do_not_have() -> None:
    rng = np.random.default_rng(0)
    cube = rng.uniform(0.5, 1.0, (5, 16, 16)).astype(np.float32)
    cube[:, :4] = np.nan
    scaler = SpectralScaler.fit(cube[:, 4:].reshape(5, -1))
    absolute, relative = scaler(cube)
    brighter = scaler(np.float32(1.3) * cube)
    assert scaler.is_logarithmic
    assert np.allclose(relative, brighter[1], atol=1e-4)
    assert np.allclose((brighter[0] - absolute)[:, 4:], (np.log(1.3) / scaler.std)[:, None, None], atol=1e-3)
    assert not relative[:, :4].any()
    assert absolute[:, 4:].std() == pytest.approx(1, abs=0.02)


def test_values_on_both_sides_of_zero_are_not_taken_by_logarithm() -> None:
    spectra = np.random.default_rng(0).normal(0, 1, (3, 500)).astype(np.float32)
    assert not SpectralScaler.fit(spectra).is_logarithmic
    assert SpectralScaler.fit(np.ones((3, 10), np.float32)).transform(np.ones((3, 10), np.float32)).any() == False  # noqa: E712


def test_many_bands_are_averaged_to_few_windows() -> None:
    cube = np.arange(200, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    assert average_windows(cube).shape == (MAX_WINDOWS, 2, 2)
    assert average_windows(cube).mean() == pytest.approx(cube.mean(), rel=0.03)
    assert np.array_equal(average_windows(cube[:7]), cube[:7])


def test_the_first_direction_separates_structures_best() -> None:
    rng = np.random.default_rng(0)
    spectra = rng.normal(0, 1, (4, 3000)) * np.array([[5.0], [1.0], [1.0], [0.2]])
    labels = np.zeros((1, 3000), bool)
    labels[0, :300] = True
    spectra[3, :300] += 1.0  # small compared with the first band's variance, but five standard deviations of its own
    directions = compute_directions(spectra.astype(np.float32), labels)
    assert directions.shape == (4, 4)
    strength = np.abs(directions[0] * spectra.std(axis=1))
    assert strength.argmax() == 3


def test_smoothing_is_the_gaussian_filter_away_from_edges() -> None:
    image = np.random.default_rng(0).normal(size=(2, 60, 50)).astype(np.float32)
    canvas = FourierImage(image, np.ones((60, 50), bool), max_sigma=4)
    expected = ndimage.gaussian_filter(image, (0, 2, 2), truncate=6)
    assert np.allclose(canvas.smooth(2.0)[:, 14:-14, 14:-14], expected[:, 14:-14, 14:-14], atol=1e-4)


def test_ridges_are_the_eigenvalues_of_the_hessian() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(64, 64)), 2).astype(np.float32)
    ridges = FourierImage(image[None], np.ones((64, 64), bool), max_sigma=4).compute_ridges(2.0, 1)
    image64, orders = image.astype(float), ((2, 0), (0, 2), (1, 1))
    yy, xx, yx = (4 * ndimage.gaussian_filter(image64, 2, order=order, truncate=6) for order in orders)
    hessian = np.stack([np.stack([yy, yx], -1), np.stack([yx, xx], -1)], -1)
    expected = np.moveaxis(np.linalg.eigvalsh(hessian)[..., ::-1], -1, 0)
    inner = (slice(None), slice(16, -16), slice(16, -16))
    assert np.allclose(ridges[inner], expected[inner], atol=1e-2 * np.abs(expected[inner]).max())


def test_pixels_outside_the_field_make_no_ridge() -> None:
    y, x = np.mgrid[:48, :48] - 24
    valid = np.hypot(y, x) < 20
    flat = np.where(valid, 1.0, 0.0).astype(np.float32)[None]
    assert np.abs(FourierImage(flat, valid, max_sigma=4).compute_ridges(2.0, 1)[:, valid]).max() < 1e-4
