"""Views: what shuffling pixels and averaging bands preserve, and what decides their features in the cache."""

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
from hseval.metrics.fid import FidSpatial, FidSpectral
from hseval.scoring.score import score
from hseval.testing import check_extractor, check_metric, make_example_set
from hseval.utils.errors import HsevalError, NotComputable
from tests.helpers.commands import Outcome
from tests.helpers.described_sets import compare_sets, extract_table, replace_cubes
from tests.helpers.sets import make_texture_set, save_set

Array = NDArray[Any]


class RecordingExtractor:
    """An extractor that records its arguments and returns the pixels."""

    name, version, summary = "recording", "1", "the pixels themselves"
    device = "cpu"

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    def __call__(self, cubes: Array, *, wavelengths: Array, masks: Mapping[str, Array]) -> Array:
        self.arguments = {"cubes": cubes, "wavelengths": wavelengths, "masks": masks}
        return cubes.reshape(len(cubes), -1)


def record_arguments(view: Any, cubes: Array, field: Array) -> dict[str, Any]:
    view.inner = RecordingExtractor()
    masks = {"fov": field, "vein": field & False}
    view(cubes, wavelengths=np.linspace(500, 700, cubes.shape[1]), masks=masks)
    arguments: dict[str, Any] = view.inner.arguments
    return arguments


def make_batch() -> tuple[Array, Array]:
    cubes = np.random.default_rng(0).random((3, 4, 12, 12)).astype(np.float32)
    field = np.broadcast_to(np.hypot(*(np.mgrid[:12, :12] - 5.5)) < 5, (3, 12, 12))
    return np.where(field[:, None], cubes, np.float32(np.nan)), field


def test_views_and_their_metrics_pass_the_contract_checks() -> None:
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


def test_the_spectral_view_preserves_every_spectrum_and_shuffles_positions() -> None:
    cubes, field = make_batch()
    shuffled = record_arguments(SpectralView(), cubes, field)["cubes"]
    for before, after, valid in zip(cubes, shuffled, field, strict=True):
        assert np.isnan(after[:, ~valid]).all()
        original, moved = before[:, valid], after[:, valid]
        assert not np.array_equal(original, moved)
        np.testing.assert_array_equal(original[:, np.lexsort(original)], moved[:, np.lexsort(moved)])


def test_the_order_depends_only_on_the_pixels() -> None:
    pixels = np.random.default_rng(1).random((3, 50))
    np.testing.assert_array_equal(shuffle_pixels(pixels), shuffle_pixels(pixels.copy()))
    assert not np.array_equal(shuffle_pixels(pixels)[:, :5], shuffle_pixels(pixels + 1e-3)[:, :5] - 1e-3)


def test_the_spatial_view_returns_the_mean_as_one_band_or_as_all() -> None:
    cubes, field = make_batch()
    mean = cubes.mean(axis=1, keepdims=True)
    single = record_arguments(SpatialView(), cubes, field)
    np.testing.assert_allclose(single["cubes"], mean, rtol=1e-6)
    assert single["wavelengths"] == pytest.approx([600])
    repeated = record_arguments(SpatialView(SpatialView.Options(repeat=True)), cubes, field)
    np.testing.assert_allclose(repeated["cubes"], np.broadcast_to(mean, cubes.shape), rtol=1e-6)
    assert len(repeated["wavelengths"]) == 4


def test_only_the_field_of_view_is_passed_to_the_inner_extractor() -> None:
    cubes, field = make_batch()
    for view in (SpectralView(), SpatialView()):
        assert set(record_arguments(view, cubes, field)["masks"]) == {"fov"}


def test_the_device_is_that_of_the_inner_extractor() -> None:
    view = SpectralView()
    view.device = "meta"
    assert view.inner.device == view.device == "meta"  # type: ignore[attr-defined]


def test_the_fingerprint_depends_on_whatever_decides_the_inner_features() -> None:
    plain = SpectralView()
    coarse = SpectralView(ViewOptions(settings='{"scales": 2}'))
    other = SpectralView(ViewOptions(extractor="noise-level"))
    fingerprints = {view.fingerprint() for view in (plain, coarse, other)}
    assert len(fingerprints) == 3
    assert SpectralView(ViewOptions(settings='{"scales": 4}')).fingerprint() == plain.fingerprint()


def test_settings_of_the_inner_extractor_are_passed_to_the_view() -> None:
    assert resolve_nested_options("scattering", {"scattering": {"scales": 2}}) == {"scales": 2}
    assert resolve_nested_options("spectral-view", {}) == {}
    settings = {"scattering": {"scales": 2}, "spatial-view": {"repeat": True}}
    options = resolve_nested_options("spectral-view", settings)
    assert SpectralView(ViewOptions(**options)).inner.options.scales == 2  # type: ignore[attr-defined]
    assert resolve_nested_options("spectral-view", {}, extractor="noise-level") == {"extractor": "noise-level"}
    own = {"spectral-view": {"extractor": "power"}}
    assert resolve_nested_options("spectral-view", own, extractor="noise-level") == {"extractor": "power"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extractor": "scatering"}, "did you mean 'scattering'"),
        ({"extractor": "spatial-view"}, "not a view itself"),
        ({"settings": "{"}, "expected a JSON object"),
        ({"settings": "[1]"}, "expected a JSON object"),
        ({"settings": '{"scale": 2}'}, "did you mean 'scales'"),
    ],
)
def test_invalid_inner_extractors_and_settings_are_refused(options: dict[str, str], message: str) -> None:
    from hseval.core.plugin_manager import get_plugins

    with pytest.raises(HsevalError, match=message):
        get_plugins().build("extractor", "spectral-view", options)


def test_an_inner_extractor_of_several_columns_is_not_computable() -> None:
    names = np.array(["a", "b"])
    features = FeatureTable({"spectral-view/db": np.ones((2, 3))}, names, names, names, np.arange(3.0))
    with pytest.raises(NotComputable, match="several columns"):
        FidSpectral().compare(real=features, generated=features, rng=np.random.default_rng(0))


def test_the_spatial_view_detects_moved_pixels_and_the_spectral_view_swapped_bands() -> None:
    real, base = (make_texture_set(12, size=32, seed=seed, field=False) for seed in (1, 2))
    order = np.random.default_rng(3).permutation(32 * 32)
    moved = base.cubes.reshape(12, 6, -1)[..., order].reshape(base.cubes.shape)
    swapped = base.cubes[:, [0, 2, 1, 3, 4, 5]]
    sets = {"base": base, "moved": replace_cubes(base, moved), "swapped": replace_cubes(base, swapped)}
    scores = {
        (metric.name, name): compare_sets(metric, real, sets[name]).value
        for metric in (FidSpectral(), FidSpatial())
        for name in ("base", "moved", "swapped")
    }
    assert scores["fid-spatial", "moved"] > 5 * scores["fid-spatial", "base"]
    assert scores["fid-spectral", "moved"] < 1.2 * scores["fid-spectral", "base"]
    assert scores["fid-spectral", "swapped"] > 5 * scores["fid-spectral", "base"]
    assert scores["fid-spatial", "swapped"] == pytest.approx(scores["fid-spatial", "base"], rel=1e-3)


def test_the_spatial_score_increases_with_a_blur() -> None:
    real = make_texture_set(10, size=32, seed=4)
    values = [
        compare_sets(
            FidSpatial(), real, replace_cubes(real, gaussian_filter(real.cubes, (0, 0, severity, severity)))
        ).value
        for severity in (0.2, 0.4, 0.7, 1.2)
    ]
    assert values == sorted(values)


def test_a_black_surround_changes_neither_view() -> None:
    base = make_texture_set(3, size=32, seed=5)
    padding = ((0, 0), (6, 2), (1, 8))
    padded = replace_cubes(
        base, np.pad(base.cubes, ((0, 0), *padding)), **{k: np.pad(m, padding) for k, m in base.masks.items()}
    )
    for name in ("spectral-view", "spatial-view"):
        original, moved = (extract_table(cubes, name)[name] for cubes in (base, padded))
        np.testing.assert_array_equal(original, moved)


def test_the_extractor_argument_sets_the_inner_one_of_both_views() -> None:
    real, generated = (make_texture_set(8, size=24, seed=seed) for seed in (6, 7))
    report = score(generated, ref=real, metrics=["fid-spectral"], extractor="noise-level", cache=False)
    provenance = report.provenance["extractors"]["spectral-view"]
    assert provenance["options"]["extractor"] == "noise-level"
    assert "noise-level" in provenance["fingerprint"]
    assert report["fid-spectral"].details["dimension"] == 6
    with pytest.raises(HsevalError, match="none of the requested metrics uses a feature extractor"):
        score(generated, ref=real, metrics=["spectral-angle"], extractor="noise-level", cache=False)


def test_the_cache_distinguishes_inner_extractors(hseval: Callable[..., Outcome], tmp_path: Any) -> None:
    paths = [save_set(tmp_path / f"{seed}.h5", make_texture_set(8, size=24, seed=seed)) for seed in (8, 9)]
    lines = []
    for inner in ("noise-level", "scattering", "noise-level"):
        arguments = ("--metrics", "fid-spatial", "--set", f"spatial-view.extractor={inner}", "--workers", "0")
        outcome = hseval("score", paths[0], "--ref", paths[1], *arguments)
        assert outcome.status == 0, outcome.err
        lines.append(next(line for line in outcome.out.splitlines() if line.startswith("fid-spatial")))
    assert lines[0] == lines[2] != lines[1]


def test_a_set_without_wavelengths_has_views_too() -> None:
    cubes = ArraySet(make_texture_set(2, size=24).cubes)
    assert np.isfinite(extract_table(cubes, "spatial-view")["spatial-view"]).all()
