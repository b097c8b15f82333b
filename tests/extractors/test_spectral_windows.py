"""Spectral windows: averages over wavelength, wherever the bands lie."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.extractors.spectral_windows import compute_interpolation_weights, compute_window_weights


@pytest.mark.parametrize("shape", ["hat", "cosine"])
@pytest.mark.parametrize(("bands", "count"), [(1, 5), (2, 5), (3, 2), (16, 5), (100, 16)])
def test_windows_are_averages_and_cover_all_bands(shape: str, bands: int, count: int) -> None:
    weights = compute_window_weights(np.linspace(400, 900, bands), count, shape=shape)  # type: ignore[arg-type]
    assert weights.shape == (min(bands, count), bands)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.sum(axis=0).min() > 0


def test_two_bands_that_nearly_coincide_share_one_bands_weight() -> None:
    bands = np.linspace(450, 900, 10)
    split = np.sort(np.append(bands, bands[4] + 0.01))
    once, twice = compute_window_weights(bands, 5), compute_window_weights(split, 5)
    np.testing.assert_allclose(twice[:, 4] + twice[:, 5], once[:, 4], atol=1e-3)


def test_interpolation_weights_equal_numpys() -> None:
    bands, targets = np.array([400.0, 450, 470, 600]), np.array([390.0, 400, 441, 470, 599, 600, 700])
    spectrum = np.array([1.0, 3, 2, 7])
    np.testing.assert_allclose(
        compute_interpolation_weights(bands, targets) @ spectrum, np.interp(targets, bands, spectrum), rtol=1e-12
    )
