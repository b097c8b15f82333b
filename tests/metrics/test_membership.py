"""``membership``: closed forms of the attack, lists against searches, planted copies, and the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.metrics import membership
from hseval.metrics.copy_search import (
    compute_common_details,
    compute_list_length,
    compute_residual_details,
    find_k_nearest,
    find_nearest,
    list_placements,
    to_unit_vectors,
)
from hseval.metrics.membership import Membership, attack_auc, tpr_at_low_fpr
from hseval.testing import check_metric
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors
from tests.helpers.commands import Outcome
from tests.helpers.drawn_eyes import WAVELENGTHS, compute_maps, make_eyes
from tests.helpers.sets import make_texture_set, save_set

Array = NDArray[Any]
TRAIN, HOLDOUT, FRESH = (compute_maps(make_eyes(count, seed)) for count, seed in ((40, 11), (60, 12), (50, 13)))
PLACEMENTS = list_placements((1.0, 1.0))


def make_table(maps: Array, name: str = "cube", groups: Any = None) -> FeatureTable:
    ids = np.array([f"{name}-{i:02d}" for i in range(len(maps))])
    columns = {"maps": maps, "maps/pixels": np.full((len(maps), 2), 64)}
    return FeatureTable(columns, ids, ids, ids if groups is None else np.asarray(groups), WAVELENGTHS)


def relate_maps(
    generated: Array, holdout: Array = HOLDOUT, train: Array = TRAIN, groups: Any = None
) -> tuple[FeatureTable, FeatureTable, FeatureTable]:
    real, samples, members = Membership().relate(
        real=make_table(holdout, "real", groups),
        generated=make_table(generated, "sample"),
        train=make_table(train, "training"),
    )
    assert members is not None
    return real, samples, members


def compare(real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> Any:
    return Membership().compare(real=real, generated=generated, train=train, rng=np.random.default_rng(0))


def search_exhaustively(queries: FeatureTable, candidates: FeatureTable) -> Array:
    """Return the distances found by an exhaustive search."""
    base = NearestNeighbors(to_unit_vectors(candidates[membership.RESIDUAL_DETAILS]))
    return find_nearest(queries[membership.RESIDUAL_DETAILS], base, PLACEMENTS).distance


def test_membership_fulfills_the_contract_of_metrics() -> None:
    check_metric(Membership)


def test_the_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    members, nonmembers = rng.integers(0, 9, 30).astype(float), rng.integers(2, 12, 20).astype(float)
    pairs = (members[:, None] < nonmembers).mean() + 0.5 * (members[:, None] == nonmembers).mean()
    assert attack_auc(members=members, nonmembers=nonmembers) == pytest.approx(pairs)
    assert attack_auc(members=np.zeros(5), nonmembers=np.ones(4)) == 1
    assert attack_auc(members=np.ones(5), nonmembers=np.ones(4)) == 0.5
    assert attack_auc(members=members, nonmembers=nonmembers) == pytest.approx(
        1 - attack_auc(members=nonmembers, nonmembers=members)
    )


def test_true_positives_are_those_nearer_than_one_percent_of_non_members() -> None:
    assert tpr_at_low_fpr(members=np.array([0.1, 0.5, 2.0, 3.0]), nonmembers=np.arange(1.0, 51.0)) == 0.5
    assert (
        tpr_at_low_fpr(members=np.arange(10.0), nonmembers=np.arange(0.5, 400.0)) == 0.4
    )  # 4 of 400 may be wrong: 3.5


@pytest.mark.parametrize(("count", "share", "length"), [(100, 0.5, 10), (100, 1.0, 1), (5, 0.5, 5), (1000, 0.1, 66)])
def test_lists_are_as_long_as_a_random_share_needs(count: int, share: float, length: int) -> None:
    assert compute_list_length(count, share) == length
    assert (1 - share) ** length <= 1e-3 or length == count


def test_lists_hold_the_nearest_in_order_as_an_exhaustive_search_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hseval.metrics.copy_search.CHUNK", 16)
    common = compute_common_details(TRAIN)
    queries, base = compute_residual_details(HOLDOUT[:6], common), compute_residual_details(TRAIN, common)
    lists = find_k_nearest(queries, to_unit_vectors(base), PLACEMENTS, k=5)
    for i in range(6):
        bases = [NearestNeighbors(to_unit_vectors(base[j : j + 1])) for j in range(len(base))]
        distances = [find_nearest(queries[i : i + 1], single, PLACEMENTS).distance[0] for single in bases]
        expected = np.argsort(distances)[:5]
        assert lists.row[i].tolist() == expected.tolist()
        assert lists.distance[i] == pytest.approx(np.array(distances)[expected], rel=1e-6)


def test_a_cubes_own_group_is_in_no_list() -> None:
    common = compute_common_details(TRAIN)
    maps = compute_residual_details(HOLDOUT[:6], common)
    groups = np.array(["a", "a", "b", "b", "b", "c"])
    lists = find_k_nearest(maps, to_unit_vectors(maps), PLACEMENTS, k=6, groups=groups, base_groups=groups)
    for i in range(6):
        listed = lists.row[i][lists.row[i] >= 0]
        assert sorted(listed) == np.flatnonzero(groups != groups[i]).tolist()
        assert np.isinf(lists.distance[i][len(listed) :]).all()


def test_a_look_up_in_any_subset_agrees_with_a_search_of_it() -> None:
    real, generated, train = relate_maps(FRESH)
    rng = np.random.default_rng(1)
    for size in (25, 4, 1):  # 25: half; the others are rarer than the lists were made for, and are searched
        subset, order = generated.select(rng.permutation(len(generated))[:size]), rng.permutation(len(real))
        matches = membership._look_up_nearest(train, subset)
        assert matches.distance == pytest.approx(search_exhaustively(train, subset), rel=1e-6)
        holdout, rest = real.select(order[:size]), real.select(order[size:])
        matches = membership._look_up_nearest(rest, holdout)
        assert matches.distance == pytest.approx(search_exhaustively(rest, holdout), rel=1e-6)


def test_unseen_eyes_reveal_nothing() -> None:
    parts = compare(*relate_maps(FRESH))
    assert parts.value == pytest.approx(0.5, abs=0.12)
    assert parts.details["p"] > 0.01
    assert parts.details["p_nearer_than_all"] > 0.01
    assert parts.details["true_positives"] <= 0.05


def test_copies_of_a_twentieth_are_detected_at_one_percent_false_positives_and_named() -> None:
    generated = np.concatenate([FRESH, np.rot90(TRAIN[[7]], axes=(2, 3)), TRAIN[[30]]])
    details = compare(*relate_maps(generated)).details
    assert details["true_positives"] >= 0.05
    pairs = {(pair["training"], pair["sample"]): pair for pair in details["nearest_pairs"][:2]}
    assert set(pairs) == {("training-07", "sample-50"), ("training-30", "sample-51")}
    assert pairs["training-07", "sample-50"]["placement"].startswith("turned")
    assert max(pair["distance"] for pair in pairs.values()) < 1e-3


def test_the_score_grows_with_the_number_of_copies() -> None:
    scores = [compare(*relate_maps(np.concatenate([FRESH[count:], TRAIN[:count]]))) for count in (0, 4, 12, 40)]
    values = [parts.value for parts in scores]
    assert values == sorted(values)
    assert values[-1] == 1
    assert [parts.details["true_positives"] for parts in scores[1:]] == pytest.approx([0.1, 0.3, 1], abs=0.06)
    assert scores[-1].details["p"] < 1e-6


def test_held_out_cubes_in_place_of_samples_are_the_floor() -> None:
    real, _, train = relate_maps(FRESH)
    first_half, second_half = real.select(np.arange(30)), real.select(np.arange(30, 60))
    parts = compare(first_half, second_half, train)
    assert parts.value == pytest.approx(0.5, abs=0.15)
    assert {pair["sample"] for pair in parts.details["nearest_pairs"]} <= set(second_half.ids)


def test_one_cube_a_group_is_tested() -> None:
    real, generated, train = relate_maps(np.concatenate([FRESH, TRAIN[:10]]), groups=[str(i // 30) for i in range(60)])
    details = compare(real, generated, train).details
    assert details["held_out"] == 60
    # 40 training cubes, two independent held-out ones: 10 nearer than both are likely by chance.
    below = details["nearer_than_all"]
    assert below >= 10
    assert details["p_nearer_than_all"] == pytest.approx(math.comb(40, below) / math.comb(42, below))


def test_few_held_out_cubes_add_a_caveat() -> None:
    assert "1 training cube in 61 is identified by chance" in compare(*relate_maps(FRESH)).details["caveat"]


def test_flat_cubes_and_single_ones_have_a_value() -> None:
    flat = compute_maps([np.ones((5, 64, 64), dtype=np.float32)] * 3)
    assert np.isfinite(compare(*relate_maps(flat)).value)
    assert np.isfinite(compare(*relate_maps(FRESH[:1], HOLDOUT[:1], TRAIN[:1])).value)


def test_without_a_training_set_or_a_side_there_is_no_value() -> None:
    with pytest.raises(NotComputable, match="--train"):
        compare(make_table(HOLDOUT), make_table(FRESH), None)
    with pytest.raises(NotComputable, match="0 samples"):
        compare(make_table(HOLDOUT), make_table(FRESH[:0]), make_table(TRAIN))


def test_feature_metrics_and_membership_on_the_command_line(hseval: Callable[..., Outcome], tmp_path: Path) -> None:
    sets = [save_set(tmp_path / f"{name}.h5", make_texture_set(16, size=24, seed=i)) for i, name in enumerate("srt")]
    options = ("--metrics", "kid,prdc,vendi,membership", "--extractor", "statistics", "--details", "--json")
    outcome = hseval("score", sets[0], "--ref", sets[1], "--train", sets[2], *options, tmp_path / "r.json")
    assert outcome.status == 0, outcome.err
    for word in ("kid", "prdc", "coverage", "vendi", "membership", "Mann-Whitney test p", "nearest: training"):
        assert word in outcome.out
    scores = {score["name"]: score for score in json.loads((tmp_path / "r.json").read_text())["scores"]}
    assert [scores[name]["details"]["extractor"] for name in ("kid", "prdc", "vendi")] == ["statistics"] * 3
    assert len(scores["membership"]["details"]["nearest_pairs"]) == 10
    without = hseval("score", sets[0], "--ref", sets[1], "--metrics", "membership")
    assert without.status == 1
    assert "not computed: needs --train" in without.out


def test_all_requests_every_metric_and_requires_none(hseval: Callable[..., Outcome], tmp_path: Path) -> None:
    from hseval.core.plugin_manager import get_plugins

    sets = [save_set(tmp_path / f"{name}.h5", make_texture_set(6, size=24, seed=i)) for i, name in enumerate("sr")]
    outcome = hseval("score", sets[0], "--ref", sets[1], "--metrics", "all,fid")
    assert outcome.status == 0, outcome.err
    assert "not computed: needs --train" in outcome.out
    assert all(name in outcome.out for name in get_plugins().get_names("metric"))
    assert hseval("score", sets[0], "--ref", sets[1], "--metrics", "fid,all,authenticity").status == 1
