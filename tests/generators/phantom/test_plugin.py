"""The phantom as a generator: its contract, and eyes whose appearance agrees with the literature."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from hseval.core.plugin_manager import get_plugins
from hseval.core.protocols import Sample
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.camera import CameraView
from hseval.generators.phantom.plugin import PhantomOptions
from hseval.utils.errors import HsevalError

WAVELENGTHS = (465.0, 500.0, 555.0, 570.2, 600.0, 620.0, 640.0, 680.0, 730.0, 797.0, 900.0)
EYES = 5


def make_phantom(**options: object) -> Phantom:
    wavelengths = ",".join(map(str, WAVELENGTHS))
    return Phantom(PhantomOptions(**{"size": 64, "noise": 0.0, "wavelengths": wavelengths, **options}))  # type: ignore[arg-type]


def get_band_index(nm: float) -> int:
    return WAVELENGTHS.index(nm)


def compute_contrast(sample: Sample, structure: str) -> NDArray[np.float64]:
    """Return the share of light that a vessel absorbs, by band, relative to the vessel-free fundus around it."""
    masks = sample.masks
    vessels, disc = masks["artery"] | masks["vein"], ndimage.binary_dilation(masks["onh"], iterations=2)
    surroundings = ndimage.binary_dilation(masks[structure], iterations=3) & ~ndimage.binary_dilation(vessels)
    inside, outside = masks[structure] & ~disc, surroundings & ~disc & masks["fov"]
    return 1.0 - np.median(sample.cube[:, inside], axis=1) / np.median(sample.cube[:, outside], axis=1)


@pytest.fixture(scope="module")
def eyes() -> list[Sample]:
    return list(make_phantom().sample(EYES, seed=1))


def is_same_sample(first: Sample, second: Sample) -> bool:
    equal = np.array_equal(first.cube, second.cube) and first.id == second.id
    return equal and all(np.array_equal(first.masks[name], second.masks[name]) for name in first.masks)


def test_generator_is_built_by_name_with_options_as_typed() -> None:
    built = get_plugins().build("generator", "phantom", {"size": "32", "wavelengths": "500:600:3"})
    built.load(None, None)
    (sample,) = built.sample(1, seed=0)
    assert sample.cube.shape == (3, 32, 32)
    np.testing.assert_allclose(built.wavelengths, [500.0, 550.0, 600.0])


def test_the_default_is_sixteen_bands_over_450_to_905_nm_at_224_pixels() -> None:
    built = Phantom()
    np.testing.assert_allclose(built.wavelengths, np.linspace(450.0, 905.0, 16))
    (sample,) = built.sample(1, seed=0)
    assert sample.cube.shape == (16, 224, 224)
    assert sample.cube.dtype == np.float32


def test_a_sample_has_four_bool_masks_inside_the_field_and_a_plain_id(eyes: list[Sample]) -> None:
    assert [eye.id for eye in eyes] == [f"phantom-1-{index:06d}" for index in range(EYES)]
    for eye in eyes:
        assert set(eye.masks) == {"artery", "vein", "onh", "fov"}
        for mask in eye.masks.values():
            assert mask.dtype == bool
            assert mask.shape == eye.cube.shape[1:]
            assert not (mask & ~eye.masks["fov"]).any()
        assert not (eye.masks["artery"] & eye.masks["vein"]).any()


def test_values_are_reflectances_inside_the_field_and_zero_outside(eyes: list[Sample]) -> None:
    for eye in eyes:
        inside = eye.cube[:, eye.masks["fov"]]
        assert np.isfinite(eye.cube).all()
        assert inside.min() > 0.0
        assert inside.max() < 1.0
        assert not eye.cube[:, ~eye.masks["fov"]].any()


def test_eye_i_does_not_depend_on_n_and_start(eyes: list[Sample]) -> None:
    noisy = make_phantom(noise=1.0)
    alone, longer = list(noisy.sample(3, seed=1, start=2)), list(noisy.sample(4, seed=1))
    assert [sample.id for sample in alone] == ["phantom-1-000002"]
    assert is_same_sample(alone[0], longer[2])
    assert is_same_sample(next(make_phantom().sample(3, seed=1, start=2)), eyes[2])
    assert list(noisy.sample(2, seed=1, start=5)) == []


def test_other_seeds_and_indices_give_other_eyes(eyes: list[Sample]) -> None:
    other = next(make_phantom().sample(1, seed=2))
    cubes = [eye.cube for eye in eyes] + [other.cube]
    assert all(not np.allclose(a, b, rtol=0.05) for i, a in enumerate(cubes) for b in cubes[:i])


def test_eyes_differ_in_laterality_pigment_lens_saturation_and_disc() -> None:
    anatomies = [make_phantom().draw_anatomy(0, index) for index in range(40)]
    assert 5 < sum(eye.is_right for eye in anatomies) < 35
    varied = ["age", "rpe_melanin_thickness", "choroid_melanin_fraction", "artery_saturation", "vein_saturation"]
    for name in (*varied, "hemoglobin", "cup_to_disc_ratio"):
        values = [getattr(eye, name) for eye in anatomies]
        assert len(set(values)) == len(anatomies), name
    assert all(eye.artery_saturation > eye.vein_saturation + 0.1 for eye in anatomies)


def test_the_disc_is_on_the_right_of_a_right_eye_and_on_the_left_of_a_left_one() -> None:
    drawing = make_phantom(size=32)
    rights = [drawing.draw_anatomy(0, index).is_right for index in range(20)]
    for right in (True, False):
        disc = drawing.draw_sample(0, rights.index(right)).masks["onh"]
        assert (np.nonzero(disc)[1].mean() > 16.0) == right


def test_the_field_is_round_and_leaves_out_the_central_stop(eyes: list[Sample]) -> None:
    field = eyes[0].masks["fov"]
    radius = np.hypot(*(np.indices(field.shape) - 31.5))
    assert field[(radius > 4.0) & (radius < 30.0)].all()
    assert not field[(radius < 1.5) | (radius > 32.0)].any()
    np.testing.assert_array_equal(field, field[::-1].T)


def test_vessels_are_dark_at_555_nm_and_nearly_gone_at_900(eyes: list[Sample]) -> None:
    veins = np.array([compute_contrast(eye, "vein") for eye in eyes])
    arteries = np.array([compute_contrast(eye, "artery") for eye in eyes])
    assert veins[:, get_band_index(555.0)].min() > 0.25
    assert arteries[:, get_band_index(555.0)].min() > 0.12
    assert np.abs(veins[:, get_band_index(900.0)]).max() < 0.1
    assert np.abs(np.mean(veins, axis=0))[get_band_index(900.0)] < 0.15 * np.mean(veins, axis=0)[get_band_index(555.0)]


def test_veins_stay_darker_than_arteries_at_600_to_620_nm(eyes: list[Sample]) -> None:
    difference = np.mean([compute_contrast(eye, "vein") - compute_contrast(eye, "artery") for eye in eyes], axis=0)
    assert difference[get_band_index(600.0)] > 0.03
    assert difference[get_band_index(620.0)] > 0.01


def test_saturation_changes_arteries_alone_most_near_600_nm_and_not_at_isosbestic_points(eyes: list[Sample]) -> None:
    deoxygenated = list(make_phantom(artery_saturation_shift=-0.2).sample(2, seed=1))
    for before, after in zip(eyes, deoxygenated, strict=False):
        assert all(np.array_equal(before.masks[name], after.masks[name]) for name in before.masks)
        arteries, field = before.masks["artery"], before.masks["fov"]
        change = np.log(after.cube[:, field] / before.cube[:, field])
        inside = np.abs(change[:, arteries[field]].mean(axis=1))
        assert np.argmax(inside) in (get_band_index(600.0), get_band_index(620.0))
        assert inside[[get_band_index(500.0), get_band_index(570.2), get_band_index(797.0)]].max() < 0.1 * inside.max()
        away = ~ndimage.binary_dilation(arteries, iterations=2)[field]
        # Capillary blood is half arterial: the rest of the fundus changes, but by far less.
        assert np.median(np.abs(change[:, away])) < 0.1 * inside.max()


def test_veins_respond_to_their_own_shift() -> None:
    before, after = make_phantom().draw_sample(1, 0), make_phantom(vein_saturation_shift=-0.2).draw_sample(1, 0)
    change = (after.cube / np.maximum(before.cube, 1e-9))[get_band_index(620.0)]
    assert change[before.masks["vein"]].mean() < change[before.masks["artery"]].mean() < 1.0


def test_choroidal_texture_is_strongest_between_640_and_730_nm(eyes: list[Sample]) -> None:
    def compute_texture(eye: Sample) -> NDArray[np.float64]:
        vessels = ndimage.binary_dilation(eye.masks["artery"] | eye.masks["vein"] | eye.masks["onh"], iterations=2)
        clear = ndimage.binary_erosion(eye.masks["fov"], iterations=5) & ~vessels
        logs = [np.log(np.where(eye.masks["fov"], layer, np.median(layer[clear]))) for layer in eye.cube]
        return np.array([(layer - ndimage.gaussian_filter(layer, 3.0))[clear].std() for layer in logs])

    mean = np.mean([compute_texture(eye) for eye in eyes], axis=0)
    assert (
        mean[[get_band_index(640.0), get_band_index(680.0), get_band_index(730.0)]].min()
        > 1.3 * mean[get_band_index(900.0)]
    )


def test_the_disc_is_brighter_and_the_macula_darker_than_the_fundus(eyes: list[Sample]) -> None:
    for index, eye in enumerate(eyes):
        vessels = eye.masks["artery"] | eye.masks["vein"]
        disc = eye.masks["onh"] & ~vessels
        around = ndimage.binary_dilation(disc, iterations=8) & ~ndimage.binary_dilation(disc, iterations=3)
        around &= eye.masks["fov"] & ~vessels
        assert (eye.cube[:, disc].mean(axis=1) > eye.cube[:, around].mean(axis=1)).all()
        distance = compute_distance_from_fovea(index)
        fovea, surroundings = (distance < 0.5), (distance > 1.5) & (distance < 2.0) & ~vessels & ~eye.masks["onh"]
        center, ring = (np.median(eye.cube[:, part & eye.masks["fov"]], axis=1) for part in (fovea, surroundings))
        dark = center / ring
        assert dark[get_band_index(465.0)] < 0.85
        assert dark[get_band_index(555.0)] < 1.0


def compute_distance_from_fovea(index: int) -> NDArray[np.floating]:
    anatomy = make_phantom().draw_anatomy(1, index)
    x, y = CameraView(anatomy, 64).to_retina()
    return np.hypot(x - anatomy.fovea[0], y - anatomy.fovea[1])


def test_structures_have_plausible_areas_and_a_main_vein_runs_from_the_disc_at_64_pixels(eyes: list[Sample]) -> None:
    for eye in eyes:
        share = {name: mask.sum() / eye.masks["fov"].sum() for name, mask in eye.masks.items()}
        assert 0.02 < share["onh"] < 0.08
        assert 0.02 < share["vein"] < 0.12
        assert 0.003 < share["artery"] < share["vein"]
        # Crossing arteries cut the vein into pieces; dilation by a pixel joins them.
        labels, count = ndimage.label(ndimage.binary_dilation(eye.masks["vein"], np.ones((3, 3))), np.ones((3, 3)))
        main = labels == 1 + np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:])
        assert (main & eye.masks["onh"]).any()
        assert np.ptp(np.nonzero(main), axis=1).max() > 20


def test_any_wavelengths_give_the_same_eye_band_by_band(eyes: list[Sample]) -> None:
    few = next(make_phantom(wavelengths="555,640").sample(1, seed=1))
    np.testing.assert_allclose(few.cube, eyes[0].cube[[get_band_index(555.0), get_band_index(640.0)]], rtol=1e-5)
    assert make_phantom(wavelengths="400:1000:7").draw_sample(0, 0).cube.shape[0] == 7


def test_a_larger_image_shows_the_same_eye(eyes: list[Sample]) -> None:
    large = next(make_phantom(size=128, small_vessels=False).sample(1, seed=1))
    small = next(make_phantom(small_vessels=False).sample(1, seed=1))
    halved = large.cube.reshape(len(WAVELENGTHS), 64, 2, 64, 2).mean(axis=(2, 4))
    inside = ndimage.binary_erosion(small.masks["fov"], iterations=2)
    for large_band, small_band in zip(halved[:, inside], small.cube[:, inside], strict=True):
        assert np.corrcoef(large_band, small_band)[0, 1] > 0.98
    assert abs(large.masks["onh"].mean() / small.masks["onh"].mean() - 1.0) < 0.05


def test_small_vessels_can_be_left_out_without_moving_the_others(eyes: list[Sample]) -> None:
    reduced = next(make_phantom(small_vessels=False).sample(1, seed=1))
    assert not (reduced.masks["vein"] & ~(eyes[0].masks["vein"] | eyes[0].masks["artery"])).any()
    green = reduced.cube[get_band_index(555.0)] - eyes[0].cube[get_band_index(555.0)]
    assert green.min() > -1e-6
    assert (green > 1e-4).mean() > 0.02


def test_noise_is_unbiased_scales_with_its_option_and_changes_nothing_else(eyes: list[Sample]) -> None:
    once, twice = make_phantom(noise=1.0).draw_sample(1, 0), make_phantom(noise=2.0).draw_sample(1, 0)
    field = eyes[0].masks["fov"]
    first, second = (sample.cube[:, field] / eyes[0].cube[:, field] - 1.0 for sample in (once, twice))
    np.testing.assert_allclose(second.std(axis=1), 2.0 * first.std(axis=1), rtol=0.02)
    assert np.abs(first.mean(axis=1)).max() < 5.0 * (first.std(axis=1) / np.sqrt(field.sum())).max()
    assert 0.005 < first.std() < 0.05
    assert all(np.array_equal(once.masks[name], eyes[0].masks[name]) for name in once.masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "phantom: size = 4"),
        ({"oversampling": 0}, "phantom: oversampling = 0"),
        ({"noise": -1.0}, "phantom: noise = -1"),
        ({"noise": float("nan")}, "phantom: noise = nan"),
        ({"wavelengths": "nan"}, "nan nm"),
        ({"wavelengths": "300:900:4"}, "300 nm"),
        ({"wavelengths": "900,500"}, "ascending"),
        ({"wavelengths": "green"}, "green"),
    ],
)
def test_invalid_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(HsevalError, match=message) as caught:
        make_phantom(**options)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_refused(tmp_path: object) -> None:
    with pytest.raises(HsevalError, match="reads no checkpoint"):
        make_phantom().load(tmp_path)  # type: ignore[arg-type]


def test_every_option_is_declared_with_help() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(PhantomOptions))
