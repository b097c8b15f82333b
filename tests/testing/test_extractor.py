"""The contract checks of extractors: each broken extractor gets its own message."""

# ruff: noqa: ANN001, ANN201, ANN204 - plugins as third parties write them, most of them broken on purpose

from __future__ import annotations

import numpy as np
import pytest

from hseval.testing import ContractError, check_extractor


class MeanSpectrum:
    name, version, summary = "mean-spectrum", "1", "mean of the valid pixels, band by band"

    def __call__(self, cubes, *, wavelengths, masks):
        return np.nanmean(cubes, axis=(2, 3))


class NoVersion(MeanSpectrum):
    version = None


class ZerosCounted(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return np.nan_to_num(cubes).mean(axis=(2, 3))


class PropagatesNan(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return cubes.mean(axis=(2, 3))


class BatchStatistics(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        features = np.nanmean(cubes, axis=(2, 3))
        return features - features.mean(axis=0)


class BandsFirst(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return super().__call__(cubes, wavelengths=wavelengths, masks=masks).T


class Integers(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return np.isfinite(cubes).sum(axis=(1, 2, 3))


class Noisy(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return np.nanmean(cubes, axis=(2, 3)) + np.random.default_rng().normal()


class WritesToCubes(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        np.nan_to_num(cubes, copy=False)
        return cubes.mean(axis=(2, 3))


class PositionalMasks(MeanSpectrum):
    def __call__(self, cubes, wavelengths, masks):
        return np.nanmean(cubes, axis=(2, 3))


class NothingAtAll(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return {}


class HoleInAFullFrame(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        features = np.nanmean(cubes, axis=(2, 3))
        return np.column_stack([features, np.full(len(features), np.nan)])


class OnlyFieldOfView(MeanSpectrum):
    reads_structures, needs_nm = False, True


class BrightInDisc(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        selected = masks.get("disc", masks["fov"])
        return np.concatenate([super().__call__(cubes, wavelengths=wavelengths, masks=masks),
                               selected.sum(axis=(1, 2))[:, None]], axis=1)  # fmt: skip


class SecretlyReadsStructures(BrightInDisc):
    reads_structures = False


class CountsStructures(MeanSpectrum):
    reads_structures = False

    def __call__(self, cubes, *, wavelengths, masks):
        return np.full((len(cubes), 1), float(len(masks)))


class InvalidReadsStructures(MeanSpectrum):
    reads_structures = "no"


class InvalidNeedsNm(MeanSpectrum):
    needs_nm = None


@pytest.mark.parametrize("extractor", [MeanSpectrum, OnlyFieldOfView, BrightInDisc])
def test_a_correct_extractor_passes(extractor):
    check_extractor(extractor)


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (NoVersion, "version is None; it has to be one line"),
        (ZerosCounted, "NaN pixels are counted, perhaps as zeros"),
        (PropagatesNan, "holds Inf, or only NaN"),
        (BatchStatistics, "change with the other cubes in its batch"),
        (BandsFirst, r"has shape \(6, 4\) for 4 cubes; the first axis has to be the cube"),
        (Integers, "not a float array"),
        (Noisy, "has to be deterministic"),
        (WritesToCubes, "writes to its input cubes"),
        (PositionalMasks, "takes 'wavelengths' by position"),
        (NothingAtAll, "returns no features"),
        (SecretlyReadsStructures, "its features change with masks other than 'fov'"),
        (CountsStructures, "its features change with masks other than 'fov'"),
        (InvalidReadsStructures, "reads_structures is 'no'; it has to be True or False"),
        (InvalidNeedsNm, "needs_nm is None; it has to be True or False"),
        (HoleInAFullFrame, "holds NaN although every pixel is valid"),
    ],
)
def test_the_error_for_a_broken_extractor_names_the_fault(extractor, message):
    with pytest.raises(ContractError, match=message):
        check_extractor(extractor)
