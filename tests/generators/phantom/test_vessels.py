"""The phantom's vessel trees: Murray's laws, no self-crossing, anatomy, and rasterization."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.generators.phantom.anatomy import Eye, draw_eye
from hseval.generators.phantom.growth import has_intersection
from hseval.generators.phantom.plugin import grow_trees
from hseval.generators.phantom.raster import compute_path_lengths
from hseval.generators.phantom.vessels import VesselTree, branching_angle, sibling_radius
from hseval.utils.arrays import FloatArray
from hseval.utils.random_streams import create_rng

EYES = range(5)
GrownEyes = list[tuple[Eye, VesselTree, VesselTree]]


@pytest.fixture(scope="module")
def grown_eyes() -> GrownEyes:
    eyes = [draw_eye(create_rng(11, "phantom", index, 0)) for index in EYES]
    return [(eye, *grow_trees(eye, 11, index)) for index, eye in enumerate(eyes)]


def list_children(tree: VesselTree) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in tree.points]
    for node, parent in enumerate(tree.parents[1:].tolist(), start=1):
        children[parent].append(node)
    return children


def count_crossings(tree: VesselTree) -> int:
    """Return the number of crossing pairs of segments, by signs of cross products; a shared node does not count."""
    starts, ends, _ = tree.select_segments(0.0, np.inf)
    course = ends - starts

    def compute_side(of: FloatArray, point: FloatArray) -> FloatArray:
        offset = point[None, :] - starts[:, None]
        return np.asarray(of[:, None, 0] * offset[..., 1] - of[:, None, 1] * offset[..., 0])

    splits = compute_side(course, starts) * compute_side(course, ends) < 0.0
    return int((splits & splits.T).sum()) // 2


def test_a_crossing_is_counted() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert count_crossings(VesselTree(points, np.array([-1, 0, 1, 2]), np.ones(4))) == 1
    assert has_intersection((0.0, 0.0, 1.0, 1.0), (1.0, 0.0, 0.0, 1.0))
    assert not has_intersection((0.0, 0.0, 1.0, 1.0), (1.0, 0.0, 2.0, 1.0))


def test_murray_s_law_holds_at_every_branching_and_radii_are_constant_between(grown_eyes: GrownEyes) -> None:
    branchings = 0
    for _, *trees in grown_eyes:
        for tree in trees:
            for node, daughters in enumerate(list_children(tree)):
                if daughters:
                    assert np.sum(tree.radii[daughters] ** 3) == pytest.approx(tree.radii[node] ** 3, rel=1e-9)
                branchings += len(daughters) == 2
                assert len(daughters) <= 2
    assert branchings > 100 * len(grown_eyes) / 2


def test_no_vessel_crosses_its_own_tree(grown_eyes: GrownEyes) -> None:
    assert [count_crossings(tree) for _, *trees in grown_eyes for tree in trees] == [0] * 2 * len(grown_eyes)


def test_arteries_are_about_two_thirds_as_wide_as_veins(grown_eyes: GrownEyes) -> None:
    for _, artery, vein in grown_eyes:
        assert 0.6 <= artery.radii[0] / vein.radii[0] <= 0.76
        assert np.sort(artery.radii)[-100:].mean() < 0.85 * np.sort(vein.radii)[-100:].mean()


def test_both_trees_have_an_upper_a_lower_and_a_nasal_branch(grown_eyes: GrownEyes) -> None:
    for eye, *trees in grown_eyes:
        for tree in trees:
            wide = tree.radii > 0.4 * tree.radii[0]
            x, y = tree.points[:, 0], tree.points[:, 1]
            assert np.hypot(*tree.points[0]) < min(eye.disc_semi_axes)
            assert (wide & (x > 1.5) & (y > 1.0)).any()
            assert (wide & (x > 1.5) & (y < -1.0)).any()
            assert (wide & (x < -0.8)).any()


def test_the_fovea_is_free_of_vessels(grown_eyes: GrownEyes) -> None:
    for eye, *trees in grown_eyes:
        for tree in trees:
            assert np.hypot(*(tree.points - eye.fovea).T).min() > 0.7 * eye.avascular_radius


def test_equal_daughters_leave_at_37_5_degrees_and_a_thin_one_at_almost_a_right_angle() -> None:
    # Murray 1926: 74.9 degrees between equal daughters.
    daughter = sibling_radius(1.0, 0.5 ** (1.0 / 3.0))
    assert daughter == pytest.approx(0.5 ** (1.0 / 3.0))
    assert np.degrees(branching_angle(1.0, daughter, daughter)) == pytest.approx(37.5, abs=0.05)
    assert np.degrees(branching_angle(1.0, 0.1, sibling_radius(1.0, 0.1))) > 80.0


def test_a_path_through_a_cylinder_is_its_chord() -> None:
    paths = compute_path_lengths(np.array([[10.0, 30.0]]), np.array([[50.0, 30.0]]), np.array([5.0]), grid_size=64)
    np.testing.assert_allclose(paths[[30, 27, 34, 35], 30], [10.0, 8.0, 6.0, 0.0], rtol=1e-6)
    assert paths[30, 57] == 0.0


@pytest.mark.parametrize("radius", [0.2, 0.6, 2.0, 6.0])
def test_rasterization_preserves_the_volume_of_thin_vessels(radius: float) -> None:
    angle = 0.3
    start, end = np.array([[20.0, 30.0]]), np.array([[20.0 + 60.0 * np.cos(angle), 30.0 + 60.0 * np.sin(angle)]])
    paths = compute_path_lengths(start, end, np.array([radius]), grid_size=100)
    caps = 4.0 / 3.0 * np.pi * radius**2 * max(radius, 0.75)
    assert paths.sum() == pytest.approx(np.pi * radius**2 * 60.0 + caps, rel=0.03)


def test_segments_off_the_grid_leave_no_trace() -> None:
    starts, ends = np.array([[-40.0, 5.0], [30.0, 90.0]]), np.array([[-30.0, 5.0], [31.0, 99.0]])
    paths = compute_path_lengths(starts, ends, np.ones(2), grid_size=32)
    assert paths.max() == 0.0
