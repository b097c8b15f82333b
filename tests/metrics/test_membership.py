"""``membership``: closed forms of the attack, lists against searches, planted copies, and the command line as typed."""

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
from tests.helpers.drawn_eyes import WAVELENGTHS, eyes, maps_of
from tests.helpers.sets import saved, texture_set

Array = NDArray[Any]
TRAIN, HELD, FRESH = maps_of(eyes(40, 11)), maps_of(eyes(60, 12)), maps_of(eyes(50, 13))
PLACES = list_placements((1.0, 1.0))


def rows_of(maps: Array, name: str = "cube", groups: Any = None) -> FeatureTable:
    ids = np.array([f"{name}-{i:02d}" for i in range(len(maps))])
    columns = {"maps": maps, "maps/pixels": np.full((len(maps), 2), 64)}
    return FeatureTable(columns, ids, ids, ids if groups is None else np.asarray(groups), WAVELENGTHS)


def related(
    generated: Array, held: Array = HELD, train: Array = TRAIN, groups: Any = None
) -> tuple[FeatureTable, FeatureTable, FeatureTable]:
    real, samples, members = Membership().relate(
        real=rows_of(held, "real", groups), generated=rows_of(generated, "sample"), train=rows_of(train, "training")
    )
    assert members is not None
    return real, samples, members


def compare(real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> Any:
    return Membership().compare(real=real, generated=generated, train=train, rng=np.random.default_rng(0))


def searched(queries: FeatureTable, among: FeatureTable) -> Array:
    """Return the distances that an exhaustive search gives."""
    base = NearestNeighbors(to_unit_vectors(among[membership.RESIDUAL_DETAILS]))
    return find_nearest(queries[membership.RESIDUAL_DETAILS], base, PLACES).distance


def test_membership_keeps_the_contract_of_metrics() -> None:
    check_metric(Membership)


def test_the_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 9, 30).astype(float), rng.integers(2, 12, 20).astype(float)
    pairs = (members[:, None] < others).mean() + 0.5 * (members[:, None] == others).mean()
    assert attack_auc(members=members, nonmembers=others) == pytest.approx(pairs)
    assert attack_auc(members=np.zeros(5), nonmembers=np.ones(4)) == 1
    assert attack_auc(members=np.ones(5), nonmembers=np.ones(4)) == 0.5
    assert attack_auc(members=members, nonmembers=others) == pytest.approx(
        1 - attack_auc(members=others, nonmembers=members)
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
    queries, base = compute_residual_details(HELD[:6], common), compute_residual_details(TRAIN, common)
    found = find_k_nearest(queries, to_unit_vectors(base), PLACES, k=5)
    for i in range(6):
        alone = [NearestNeighbors(to_unit_vectors(base[j : j + 1])) for j in range(len(base))]
        each = [find_nearest(queries[i : i + 1], one, PLACES).distance[0] for one in alone]
        expected = np.argsort(each)[:5]
        assert found.row[i].tolist() == expected.tolist()
        assert found.distance[i] == pytest.approx(np.array(each)[expected], rel=1e-6)


def test_a_cubes_own_group_is_in_no_list() -> None:
    common = compute_common_details(TRAIN)
    maps = compute_residual_details(HELD[:6], common)
    groups = np.array(["a", "a", "b", "b", "b", "c"])
    found = find_k_nearest(maps, to_unit_vectors(maps), PLACES, k=6, groups=groups, base_groups=groups)
    for i in range(6):
        listed = found.row[i][found.row[i] >= 0]
        assert sorted(listed) == np.flatnonzero(groups != groups[i]).tolist()
        assert np.isinf(found.distance[i][len(listed) :]).all()


def test_any_subset_is_answered_as_a_search_of_it_would() -> None:
    real, generated, train = related(FRESH)
    rng = np.random.default_rng(1)
    for size in (25, 4, 1):  # 25: half; the others are rarer than the lists were made for, and are searched
        some, others = rng.permutation(len(generated))[:size], rng.permutation(len(real))
        part = generated.select(some)
        found = membership._look_up_nearest(train, part)
        assert found.distance == pytest.approx(searched(train, part), rel=1e-6)
        held, rest = real.select(others[:size]), real.select(others[size:])
        assert membership._look_up_nearest(rest, held).distance == pytest.approx(searched(rest, held), rel=1e-6)


def test_unseen_eyes_give_nothing_away() -> None:
    parts = compare(*related(FRESH))
    assert parts.value == pytest.approx(0.5, abs=0.12)
    assert parts.details["p"] > 0.01
    assert parts.details["p_nearer_than_all"] > 0.01
    assert parts.details["true_positives"] <= 0.05


def test_copies_of_a_twentieth_show_at_one_percent_false_alarms_and_are_named() -> None:
    generated = np.concatenate([FRESH, np.rot90(TRAIN[[7]], axes=(2, 3)), TRAIN[[30]]])
    details = compare(*related(generated)).details
    assert details["true_positives"] >= 0.05
    pairs = {(pair["training"], pair["sample"]): pair for pair in details["nearest_pairs"][:2]}
    assert set(pairs) == {("training-07", "sample-50"), ("training-30", "sample-51")}
    assert pairs["training-07", "sample-50"]["placement"].startswith("turned")
    assert max(pair["distance"] for pair in pairs.values()) < 1e-3


def test_the_more_is_copied_the_worse() -> None:
    found = [compare(*related(np.concatenate([FRESH[count:], TRAIN[:count]]))) for count in (0, 4, 12, 40)]
    values = [parts.value for parts in found]
    assert values == sorted(values)
    assert values[-1] == 1
    assert [parts.details["true_positives"] for parts in found[1:]] == pytest.approx([0.1, 0.3, 1], abs=0.06)
    assert found[-1].details["p"] < 1e-6


def test_held_out_cubes_in_place_of_samples_are_the_floor() -> None:
    real, _, train = related(FRESH)
    one, other = real.select(np.arange(30)), real.select(np.arange(30, 60))
    parts = compare(one, other, train)
    assert parts.value == pytest.approx(0.5, abs=0.15)
    assert {pair["sample"] for pair in parts.details["nearest_pairs"]} <= set(other.ids)


def test_one_cube_a_group_is_tested() -> None:
    real, generated, train = related(np.concatenate([FRESH, TRAIN[:10]]), groups=[str(i // 30) for i in range(60)])
    few = compare(real, generated, train).details
    assert few["held_out"] == 60
    # 40 training cubes, two independent held-out ones: 10 that are nearer than both are no wonder.
    below = few["nearer_than_all"]
    assert below >= 10
    assert few["p_nearer_than_all"] == pytest.approx(math.comb(40, below) / math.comb(42, below))


def test_few_held_out_cubes_are_told_of() -> None:
    assert "1 in 61 is told by chance" in compare(*related(FRESH)).details["caveat"]


def test_flat_cubes_and_single_ones_have_a_value() -> None:
    flat = maps_of([np.ones((5, 64, 64), dtype=np.float32)] * 3)
    assert np.isfinite(compare(*related(flat)).value)
    assert np.isfinite(compare(*related(FRESH[:1], HELD[:1], TRAIN[:1])).value)


def test_without_a_training_set_or_a_side_there_is_no_value() -> None:
    with pytest.raises(NotComputable, match="--train"):
        compare(rows_of(HELD), rows_of(FRESH), None)
    with pytest.raises(NotComputable, match="0 samples"):
        compare(rows_of(HELD), rows_of(FRESH[:0]), rows_of(TRAIN))


def test_feature_metrics_and_membership_as_typed(hseval: Callable[..., Outcome], tmp_path: Path) -> None:
    sets = [saved(tmp_path / f"{name}.h5", texture_set(16, size=24, seed=i)) for i, name in enumerate("srt")]
    four = ("--metrics", "kid,prdc,vendi,membership", "--extractor", "statistics", "--json", tmp_path / "r.json")
    told = hseval("score", sets[0], "--ref", sets[1], "--train", sets[2], *four)
    assert told.status == 0, told.err
    for word in ("kid", "prdc", "coverage", "vendi", "membership", "p of such an AUC by chance", "nearest: training"):
        assert word in told.out
    scores = {each["name"]: each for each in json.loads((tmp_path / "r.json").read_text())["scores"]}
    assert [scores[name]["details"]["extractor"] for name in ("kid", "prdc", "vendi")] == ["statistics"] * 3
    assert len(scores["membership"]["details"]["nearest_pairs"]) == 10
    without = hseval("score", sets[0], "--ref", sets[1], "--metrics", "membership")
    assert without.status == 1
    assert "not computed: needs --train" in without.out


def test_all_asks_for_every_metric_and_demands_none(hseval: Callable[..., Outcome], tmp_path: Path) -> None:
    from hseval.core.plugin_manager import get_plugins

    sets = [saved(tmp_path / f"{name}.h5", texture_set(6, size=24, seed=i)) for i, name in enumerate("sr")]
    told = hseval("score", sets[0], "--ref", sets[1], "--metrics", "all,fid")
    assert told.status == 0, told.err
    assert "not computed: needs --train" in told.out
    assert all(name in told.out for name in get_plugins().get_names("metric"))
    assert hseval("score", sets[0], "--ref", sets[1], "--metrics", "fid,all,authenticity").status == 1
