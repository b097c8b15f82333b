"""The filter bank: its passbands, and that filtering on coarse grids is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hseval.extractors.scattering import compute_scale_weights, pool
from hseval.extractors.wavelets import CENTER_FREQUENCY, apply_wavelets, build_filter_bank, compute_angles, modulus


def make_sinusoid(size: int, v: float, u: float) -> torch.Tensor:
    y, x = np.mgrid[:size, :size]
    return torch.from_numpy(np.cos(v * y + u * x).astype(np.float32))


def test_energy_of_any_wave_in_the_covered_band_is_preserved_within_bounds() -> None:
    size, bank = 64, build_filter_bank((64, 64), 4, 4)
    index = np.fft.fftfreq(size, 1 / size)
    v, u = (2 * np.pi * component.ravel() / size for component in np.meshgrid(index, index, indexing="ij"))
    covered = (np.hypot(v, u) > CENTER_FREQUENCY / 8) & (np.hypot(v, u) < CENTER_FREQUENCY) & (u >= 0)
    waves = torch.stack([make_sinusoid(size, *frequency) for frequency in zip(v[covered], u[covered], strict=True)])[
        ::3
    ]
    spectra = torch.fft.fft2(waves)
    energy = sum(modulus(apply_wavelets(spectra, scale)).square().mean(dim=(1, 2, 3)) for scale in bank)
    share = 2 * energy / waves.square().mean(dim=(1, 2))  # only one of a real wave's two halves meets a wavelet
    assert 0.25 < share.min() <= share.max() < 1.1


@pytest.mark.parametrize("j", range(4))
@pytest.mark.parametrize("orientation", range(4))
def test_an_oriented_wave_excites_its_own_scale_and_orientation_most(j: int, orientation: int) -> None:
    angle, step = compute_angles(4)[orientation], 2 * np.pi / 128
    frequency = [CENTER_FREQUENCY / 2**j * component for component in (np.sin(angle), np.cos(angle))]
    wave = make_sinusoid(
        128, *(step * round(component / step) for component in frequency)
    )  # whole periods on the canvas
    spectrum = torch.fft.fft2(wave[None])
    means = torch.stack(
        [modulus(apply_wavelets(spectrum, s))[0].mean(dim=(1, 2)) for s in build_filter_bank((128, 128), 4, 4)]
    )
    assert divmod(int(means.argmax()), 4) == (j, orientation)
    assert means.max() == pytest.approx(0.5, abs=0.03)  # half of a real wave is the analytic part


def test_a_constant_gives_nothing() -> None:
    spectrum = torch.fft.fft2(torch.full((1, 64, 64), 3.0))
    assert max(float(modulus(apply_wavelets(spectrum, s)).max()) for s in build_filter_bank((64, 64), 4, 4)) < 1e-5


def test_a_quarter_rotation_permutes_orientations() -> None:
    image = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    for scale in build_filter_bank((64, 64), 3, 4):
        upright, turned = (
            modulus(apply_wavelets(torch.fft.fft2(component[None]), scale))[0].mean(dim=(1, 2))
            for component in (image, torch.rot90(image))
        )
        torch.testing.assert_close(turned, upright.roll(2), rtol=0.02, atol=0)


@pytest.mark.parametrize("j", range(4))
def test_subsampled_filtering_equals_filtering_and_then_subsampling(j: int) -> None:
    """The oracle multiplies the whole spectrum in float64 and takes every 2^j-th position."""
    height, width = 64, 96
    image = np.random.default_rng(3).normal(size=(height, width))
    scale = build_filter_bank((height, width), 4, 4)[j]
    waves = apply_wavelets(torch.fft.fft2(torch.from_numpy(image.astype(np.float32))[None]), scale)[0].numpy()
    for index in range(4):
        small = scale.response[index].numpy()
        k, m = (
            (scale.first_rows[index] + np.arange(len(small))),
            (scale.first_columns[index] + np.arange(small.shape[1])),
        )
        full = np.zeros((height, width))
        full[np.ix_(k % height, m % width)] = small[np.ix_(k % len(small), m % small.shape[1])]
        expected = np.fft.ifft2(np.fft.fft2(image) * full)[:: 2**j, :: 2**j]
        np.testing.assert_allclose(waves[index], expected, atol=2e-5)


def test_filtering_a_coarse_grid_equals_filtering_the_fine_grid() -> None:
    """Order 2 relies on it: a band-limited signal may be sampled coarsely before it is filtered again."""
    spectrum = torch.fft.fft2(torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0)))
    low = torch.fft.fftfreq(64).abs() < 0.24
    fine = torch.fft.ifft2(spectrum * low[:, None] * low[None]).real
    for scale in build_filter_bank((64, 64), 4, 4)[2:]:
        expected, waves = (apply_wavelets(torch.fft.fft2(component), scale) for component in (fine, fine[:, ::2, ::2]))
        torch.testing.assert_close(waves, expected, atol=2e-5, rtol=1e-4)


def make_round_field(size: int, *, stop: float = 1.5) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return (np.hypot(y, x) < size / 2) & (np.hypot(y, x) > stop)


@pytest.mark.parametrize("size", [16, 64])
def test_every_scale_pools_something_inside_a_round_field_with_a_stop(size: int) -> None:
    field = torch.from_numpy(make_round_field(size)[None])
    canvas = (64, 64) if size == 16 else (96, 96)
    bank = build_filter_bank(canvas, 4, 4)
    for scale, weight in zip(bank, compute_scale_weights(field, canvas, bank), strict=True):
        assert weight.sum() == pytest.approx(1, abs=1e-5)
        assert (torch.nonzero(weight[0]) * scale.step).max() < size  # nothing from the margin


def test_pooling_is_a_weighted_mean() -> None:
    values = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert pool(values, torch.tensor([[[0.5, 0.0], [0.0, 0.5]]])).tolist() == [[1.5, 5.5]]
