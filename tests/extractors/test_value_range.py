import numpy as np

from hseval.extractors.value_range import PROBABILITIES, ValueRange, compute_quantiles

WAVELENGTHS = np.array([500.0, 600.0])


def test_the_quantiles_of_the_numbers_1_to_1000_are_those_numbers() -> None:
    pixels = np.random.default_rng(0).permutation(np.arange(1, 1001, dtype=np.float32))
    assert compute_quantiles(pixels[None]).tolist() == [[1, 1, 10, 500, 990, 999, 1000]]


def test_quantiles_agree_with_numpy_and_are_never_interpolated() -> None:
    pixels = np.random.default_rng(1).normal(size=(3, 777)).astype(np.float32)
    expected = np.quantile(pixels, PROBABILITIES, axis=1, method="inverted_cdf").T
    assert np.array_equal(compute_quantiles(pixels), expected)


def test_only_valid_pixels_count() -> None:
    cubes = np.full((1, 2, 4, 4), np.nan, dtype=np.float32)
    field = np.zeros((1, 4, 4), dtype=bool)
    field[0, 1, :2] = True
    cubes[0, :, 1, :2] = [[3.0, 5.0], [7.0, 9.0]]
    values = ValueRange()(cubes, wavelengths=WAVELENGTHS, masks={"fov": field})
    assert values["quantiles"][0, :, 0].tolist() == [3.0, 7.0]
    assert values["quantiles"][0, :, -1].tolist() == [5.0, 9.0]
    assert values["valid"].tolist() == [0.125]


def test_a_cube_without_a_valid_pixel_has_no_quantiles() -> None:
    cubes = np.full((1, 2, 3, 3), np.nan, dtype=np.float32)
    values = ValueRange()(cubes, wavelengths=WAVELENGTHS, masks={"fov": np.zeros((1, 3, 3), dtype=bool)})
    assert np.isnan(values["quantiles"]).all()
    assert values["valid"].tolist() == [0.0]


def test_values_depend_on_their_own_cube_alone() -> None:
    rng = np.random.default_rng(2)
    cubes = rng.normal(size=(3, 2, 8, 8)).astype(np.float32)
    field = rng.random((3, 8, 8)) < 0.7
    together = ValueRange()(cubes, wavelengths=WAVELENGTHS, masks={"fov": field})
    alone = ValueRange()(cubes[1:2], wavelengths=WAVELENGTHS, masks={"fov": field[1:2]})
    assert all(np.array_equal(together[name][1:2], alone[name]) for name in together)
