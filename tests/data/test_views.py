"""Views: what shuffling pixels and averaging bands keep, what they lose, and what decides the rows in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hseval.core.cubes import ArraySet
from hseval.core.feature_table import FeatureTable
from hseval.data.views import SpatialView, SpectralView, ViewOptions, resolve_nested_options, shuffle_pixels
from hseval.metrics.fid_views import FidSpatial, FidSpectral
from hseval.scoring.score import score
from hseval.testing import check_extractor, check_metric, make_example_set
from hseval.utils.errors import HsevalError, NotComputable
from tests.helpers.commands import Outcome
from tests.helpers.described_sets import changed, compared, described
from tests.helpers.sets import saved, texture_set

Array = NDArray[Any]


class Witness:
    """An extractor that gives back what it is shown."""

    name, version, summary = "witness", "1", "the pixels themselves"
    device = "cpu"

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def __call__(self, cubes: Array, *, wavelengths: Array, masks: Mapping[str, Array]) -> Array:
        self.seen = {"cubes": cubes, "wavelengths": wavelengths, "masks": masks}
        return cubes.reshape(len(cubes), -1)


def shown(view: Any, cubes: Array, field: Array) -> dict[str, Any]:
    view.inner = Witness()
    masks = {"fov": field, "vein": field & False}
    view(cubes, wavelengths=np.linspace(500, 700, cubes.shape[1]), masks=masks)
    seen: dict[str, Any] = view.inner.seen
    return seen


def a_batch() -> tuple[Array, Array]:
    cubes = np.random.default_rng(0).random((3, 4, 12, 12)).astype(np.float32)
    field = np.broadcast_to(np.hypot(*(np.mgrid[:12, :12] - 5.5)) < 5, (3, 12, 12))
    return np.where(field[:, None], cubes, np.float32(np.nan)), field


def test_the_contracts_hold() -> None:
    data = make_example_set(3, size=32)
    check_extractor(SpectralView, data=data)
    check_extractor(SpatialView, data=data)
    check_extractor(SpatialView(SpatialView.Options(repeat=True)), data=data)
    sets = {
        "real": make_example_set(5, size=32),
        "generated": make_example_set(5, size=32, seed=1),
        "train": make_example_set(2, size=32),
    }
    check_metric(FidSpectral, **sets)
    check_metric(FidSpatial, **sets)


def test_the_spectral_view_keeps_every_spectrum_and_moves_it_elsewhere() -> None:
    cubes, field = a_batch()
    seen = shown(SpectralView(), cubes, field)["cubes"]
    for before, after, valid in zip(cubes, seen, field, strict=True):
        assert np.isnan(after[:, ~valid]).all()
        one, other = before[:, valid], after[:, valid]
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(one[:, np.lexsort(one)], other[:, np.lexsort(other)])


def test_the_order_follows_from_the_pixels_alone() -> None:
    pixels = np.random.default_rng(1).random((3, 50))
    np.testing.assert_array_equal(shuffle_pixels(pixels), shuffle_pixels(pixels.copy()))
    assert not np.array_equal(shuffle_pixels(pixels)[:, :5], shuffle_pixels(pixels + 1e-3)[:, :5] - 1e-3)


def test_the_spatial_view_shows_the_mean_as_one_band_or_as_all() -> None:
    cubes, field = a_batch()
    mean = cubes.mean(axis=1, keepdims=True)
    one = shown(SpatialView(), cubes, field)
    np.testing.assert_allclose(one["cubes"], mean, rtol=1e-6)
    assert one["wavelengths"] == pytest.approx([600])
    every = shown(SpatialView(SpatialView.Options(repeat=True)), cubes, field)
    np.testing.assert_allclose(every["cubes"], np.broadcast_to(mean, cubes.shape), rtol=1e-6)
    assert len(every["wavelengths"]) == 4


def test_only_the_field_is_passed_on() -> None:
    cubes, field = a_batch()
    for view in (SpectralView(), SpatialView()):
        assert set(shown(view, cubes, field)["masks"]) == {"fov"}


def test_the_device_is_the_inner_ones() -> None:
    view = SpectralView()
    view.device = "meta"
    assert view.inner.device == view.device == "meta"  # type: ignore[attr-defined]


def test_the_fingerprint_follows_whatever_decides_the_inner_rows() -> None:
    plain = SpectralView()
    coarse = SpectralView(ViewOptions(settings='{"scales": 2}'))
    other = SpectralView(ViewOptions(extractor="noise-level"))
    prints = {view.fingerprint() for view in (plain, coarse, other)}
    assert len(prints) == 3
    assert SpectralView(ViewOptions(settings='{"scales": 4}')).fingerprint() == plain.fingerprint()


def test_settings_of_the_inner_extractor_reach_the_view() -> None:
    assert resolve_nested_options("scattering", {"scattering": {"scales": 2}}) == {"scales": 2}
    assert resolve_nested_options("spectral-view", {}) == {}
    given = resolve_nested_options("spectral-view", {"scattering": {"scales": 2}, "spatial-view": {"repeat": True}})
    assert SpectralView(ViewOptions(**given)).inner.options.scales == 2  # type: ignore[attr-defined]
    assert resolve_nested_options("spectral-view", {}, extractor="noise-level") == {"extractor": "noise-level"}
    own = {"spectral-view": {"extractor": "power"}}
    assert resolve_nested_options("spectral-view", own, extractor="noise-level") == {"extractor": "power"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"extractor": "scatering"}, "did you mean 'scattering'"),
        ({"extractor": "spatial-view"}, "no view itself"),
        ({"settings": "{"}, "expected a JSON object"),
        ({"settings": "[1]"}, "expected a JSON object"),
        ({"settings": '{"scale": 2}'}, "did you mean 'scales'"),
    ],
)
def test_what_can_not_be_wrapped_is_refused(options: dict[str, str], told: str) -> None:
    from hseval.core.plugin_manager import get_plugins

    with pytest.raises(HsevalError, match=told):
        get_plugins().build("extractor", "spectral-view", options)


def test_an_inner_extractor_of_several_columns_is_not_computable() -> None:
    names = np.array(["a", "b"])
    rows = FeatureTable({"spectral-view/db": np.ones((2, 3))}, names, names, names, np.arange(3.0))
    with pytest.raises(NotComputable, match="several columns"):
        FidSpectral().compare(real=rows, generated=rows, rng=np.random.default_rng(0))


def test_moving_pixels_is_seen_in_space_and_swapping_bands_in_spectra() -> None:
    real, base = (texture_set(12, size=32, seed=seed, field=False) for seed in (1, 2))
    order = np.random.default_rng(3).permutation(32 * 32)
    moved = base.cubes.reshape(12, 6, -1)[..., order].reshape(base.cubes.shape)
    swapped = base.cubes[:, [0, 2, 1, 3, 4, 5]]
    rows = {"real": real, "base": base, "moved": changed(base, moved), "swapped": changed(base, swapped)}
    found = {
        (metric.name, name): compared(metric, real, rows[name]).value
        for metric in (FidSpectral(), FidSpatial())
        for name in ("base", "moved", "swapped")
    }
    assert found["fid-spatial", "moved"] > 5 * found["fid-spatial", "base"]
    assert found["fid-spectral", "moved"] < 1.2 * found["fid-spectral", "base"]
    assert found["fid-spectral", "swapped"] > 5 * found["fid-spectral", "base"]
    assert found["fid-spatial", "swapped"] == pytest.approx(found["fid-spatial", "base"], rel=1e-3)


def test_the_spatial_view_grows_with_a_blur() -> None:
    real = texture_set(10, size=32, seed=4)
    values = [
        compared(FidSpatial(), real, changed(real, gaussian_filter(real.cubes, (0, 0, severity, severity)))).value
        for severity in (0.2, 0.4, 0.7, 1.2)
    ]
    assert values == sorted(values)


def test_a_surround_changes_neither_view() -> None:
    base = texture_set(3, size=32, seed=5)
    room = ((0, 0), (6, 2), (1, 8))
    padded = changed(base, np.pad(base.cubes, ((0, 0), *room)), **{k: np.pad(m, room) for k, m in base.masks.items()})
    for name in ("spectral-view", "spatial-view"):
        one, other = (described(cubes, name)[name] for cubes in (base, padded))
        np.testing.assert_array_equal(one, other)


def test_extractor_names_the_inner_one_of_both_views() -> None:
    real, generated = (texture_set(8, size=24, seed=seed) for seed in (6, 7))
    report = score(generated, ref=real, metrics=["fid-spectral"], extractor="noise-level", cache=False)
    told = report.provenance["extractors"]["spectral-view"]
    assert told["options"]["extractor"] == "noise-level"
    assert "noise-level" in told["fingerprint"]
    assert report["fid-spectral"].details["dimension"] == 6
    with pytest.raises(HsevalError, match="none of the metrics asked for uses a feature extractor"):
        score(generated, ref=real, metrics=["spectral-angle"], extractor="noise-level", cache=False)


def test_the_cache_tells_inner_extractors_apart(hseval: Callable[..., Outcome], tmp_path: Any) -> None:
    paths = [saved(tmp_path / f"{seed}.h5", texture_set(8, size=24, seed=seed)) for seed in (8, 9)]
    lines = []
    for inner in ("noise-level", "scattering", "noise-level"):
        asked = ("--metrics", "fid-spatial", "--set", f"spatial-view.extractor={inner}", "--workers", "0")
        found = hseval("score", paths[0], "--ref", paths[1], *asked)
        assert found.status == 0, found.err
        lines.append(next(line for line in found.out.splitlines() if line.startswith("fid-spatial")))
    assert lines[0] == lines[2] != lines[1]


def test_a_set_without_wavelengths_has_views_too() -> None:
    cubes = ArraySet(texture_set(2, size=24).cubes)
    assert np.isfinite(described(cubes, "spatial-view")["spatial-view"]).all()
