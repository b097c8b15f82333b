"""Scoring end to end through the Python API: what must change a score, and what must not."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hseval
from hseval.core.cubes import ArraySet
from hseval.plugin import HsevalError
from hseval.scoring.metric_choice import DEFAULT_METRICS
from tests.helpers.sets import make_texture_set, replace_parts, save_set


def get_values(report: hseval.Report) -> dict[str, tuple[float, float]]:
    return {score.name: (score.value, score.floor) for score in report.scores}


def get_full_value(score: hseval.Score) -> float:
    assert score.statistics is not None
    return score.statistics.full_value


def remove_provenance(report: hseval.Report) -> str:
    return json.dumps({**json.loads(report.to_json()), "provenance": None})


@pytest.fixture(scope="module")
def sets() -> dict[str, ArraySet]:
    return {
        "samples": make_texture_set(24, seed=1),
        "ref": make_texture_set(24, seed=2),
        "train": make_texture_set(24, seed=3),
    }


@pytest.fixture
def base(sets: dict[str, ArraySet]) -> hseval.Report:
    return hseval.score(**sets)


def test_all_four_scores_have_values_and_floors(base: hseval.Report) -> None:
    assert [score.name for score in base.scores] == list(DEFAULT_METRICS)
    for score in base.scores:
        assert score.value is not None
        assert score.floor is not None
        assert score.n == 12 or score.name == "ms-ssim"


def test_a_set_like_the_reference_is_not_significantly_different_from_it(base: hseval.Report) -> None:
    assert {score.verdict for score in base.scores} <= {"like real"}


@pytest.mark.parametrize(
    ("metric", "damage"),
    [
        ("fid", lambda cubes: cubes + np.random.default_rng(0).normal(0, 0.02, cubes.shape)),
        ("spectral-kl", lambda cubes: cubes * np.linspace(0.8, 1.2, cubes.shape[1])[:, None, None]),
        ("ms-ssim", lambda cubes: np.repeat(cubes[:2], 12, axis=0)),
    ],
)
def test_damage_is_detected(sets: dict[str, ArraySet], metric: str, damage: Callable[[Any], Any]) -> None:
    samples = sets["samples"]
    damaged = replace_parts(samples, cubes=damage(samples.cubes))
    score = hseval.score(damaged, ref=sets["ref"], metrics=[metric])[metric]
    assert score.verdict == "worse than real"


def test_copies_of_training_cubes_are_detected(sets: dict[str, ArraySet]) -> None:
    train, samples = sets["train"], sets["samples"]
    copied = samples.cubes.copy()
    copied[:12] = train.cubes[:12] * 1.01
    report = hseval.score(replace_parts(samples, cubes=copied), ref=sets["ref"], train=train, metrics=["authenticity"])
    assert report["authenticity"].value == pytest.approx(0.5, abs=0.15)
    assert report["authenticity"].verdict == "worse than real"


def test_the_same_seed_gives_the_same_report_to_the_last_digit(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    again = hseval.score(**sets)
    fresh = hseval.score(**sets, cache=False)
    assert remove_provenance(base) == remove_provenance(again) == remove_provenance(fresh)


def test_another_seed_draws_other_splits(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    other = hseval.score(**sets, seed=1)
    assert other["fid"].value != base["fid"].value
    assert get_full_value(other["fid"]) == get_full_value(base["fid"])


def test_adding_a_metric_changes_no_others_value(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    """Only the adjusted p depends on the number of scores in a report."""
    alone = hseval.score(**sets, metrics=["fid"])
    single, among = (dataclasses.asdict(report["fid"]) for report in (alone, base))
    for score in (single, among):
        del score["p_adjusted"]
    assert single == among


def test_order_and_names_of_cubes_change_nothing(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    def shuffle(cubes: ArraySet, seed: int) -> ArraySet:
        order = np.random.default_rng(seed).permutation(len(cubes))
        masks = {name: mask[order] for name, mask in cubes.masks.items()}
        return replace_parts(
            cubes, cubes=cubes.cubes[order], masks=masks, ids=[f"renamed-{i}" for i in range(len(order))]
        )

    other = hseval.score(**{role: shuffle(cubes, 5 + i) for i, (role, cubes) in enumerate(sets.items())})
    assert get_values(other) == get_values(base)


@pytest.mark.parametrize("arguments", [{"batch_size": 5}, {"workers": 2}], ids=str)
def test_batches_and_workers_change_nothing(
    sets: dict[str, ArraySet], base: hseval.Report, arguments: dict[str, int]
) -> None:
    other = hseval.score(**sets, cache=False, **arguments)
    for name, (value, floor) in get_values(base).items():
        assert get_values(other)[name] == pytest.approx((value, floor), rel=1e-5, abs=1e-7)


def test_more_black_around_the_field_changes_no_score(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    def pad(cubes: ArraySet) -> ArraySet:
        around = ((0, 0), (5, 12), (9, 2))
        masks = {name: np.pad(mask, around) for name, mask in cubes.masks.items()}
        return replace_parts(cubes, cubes=np.pad(cubes.cubes, ((0, 0), *around)), masks=masks)

    other = hseval.score(**{role: pad(cubes) for role, cubes in sets.items()})
    for name, (value, floor) in get_values(base).items():
        assert get_values(other)[name] == pytest.approx((value, floor), rel=1e-3)


def test_pixels_outside_the_field_change_no_score(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    def paint_surround(cubes: ArraySet, value: float) -> ArraySet:
        field = cubes.masks["fov"][:, None]
        return replace_parts(cubes, cubes=np.where(field, cubes.cubes, np.float32(value)))

    other = hseval.score(
        paint_surround(sets["samples"], 7.0),
        ref=paint_surround(sets["ref"], np.nan),
        train=paint_surround(sets["train"], -1.0),
    )
    assert get_values(other) == get_values(base)


def test_a_set_without_a_field_uses_the_reference_s(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    samples = sets["samples"]
    bare = replace_parts(samples, masks={name: mask for name, mask in samples.masks.items() if name != "fov"})
    report = hseval.score(bare, ref=sets["ref"], train=sets["train"])
    note = "no 'fov' masks in: samples; the consensus field of the reference set is used for all sets"
    assert note in report.notes
    assert get_values(report)["fid"] == pytest.approx(get_values(base)["fid"], rel=1e-6)


def test_no_group_is_divided_between_value_and_floor(sets: dict[str, ArraySet]) -> None:
    ref = replace_parts(sets["ref"], groups=["one patient"] * 24)
    report = hseval.score(sets["samples"], ref=ref, metrics=["fid"])
    assert report["fid"].floor is None
    assert "no floor" in report["fid"].verdict


def test_training_cubes_are_removed_from_the_reference_with_a_note(sets: dict[str, ArraySet]) -> None:
    ref, train = sets["ref"], sets["train"]
    mixed = replace_parts(
        ref,
        cubes=np.concatenate([ref.cubes, train.cubes[:5]]),
        masks={name: np.concatenate([mask, train.masks[name][:5]]) for name, mask in ref.masks.items()},
        ids=None,
    )
    report = hseval.score(sets["samples"], ref=mixed, train=train, metrics=["fid"])
    note = "5 reference cubes also in the training set, removed from the reference: 000024, 000025, 000026 and 2 more"
    assert note in report.notes
    assert report["fid"] == hseval.score(sets["samples"], ref=ref, train=train, metrics=["fid"])["fid"]


def test_a_reference_that_is_the_training_set_is_noted_and_authenticity_left_out(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"], ref=sets["ref"], train=sets["ref"])
    assert any(note.startswith("every reference cube is in the training set") for note in report.notes)
    assert report["authenticity"].value is None
    assert "none is held out" in report["authenticity"].verdict
    assert report["fid"].value is not None


def test_without_a_training_set_authenticity_states_what_it_needs(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"], ref=sets["ref"])
    assert report["authenticity"].verdict == "not computed: needs --train"


def test_exact_copies_are_counted_and_scored(sets: dict[str, ArraySet]) -> None:
    samples, train = sets["samples"], sets["train"]
    cubes = np.concatenate([samples.cubes[:-2], train.cubes[:1], samples.cubes[:1]])
    masks = {n: np.concatenate([m[:-2], train.masks[n][:1], m[:1]]) for n, m in samples.masks.items()}
    report = hseval.score(
        replace_parts(samples, cubes=cubes, masks=masks), ref=sets["ref"], train=train, metrics=["fid"]
    )
    assert report.notes[0].startswith("24 samples against")
    copy = f"1 sample identical to a training cube, pixel for pixel, not removed before scoring: {samples.ids[-2]}"
    assert copy in report.notes
    assert f"samples: 1 exact duplicate, for example {samples.ids[0]} = {samples.ids[-1]}" in report.notes


def test_duplicates_within_each_set_are_noted_with_their_ids(sets: dict[str, ArraySet]) -> None:
    def repeat_first(base: ArraySet) -> ArraySet:
        """Return the set with its cube 0 as cubes 4 and 7, too."""
        order = [0 if index in (4, 7) else index for index in range(24)]
        masks = {name: mask[order] for name, mask in base.masks.items()}
        return replace_parts(base, cubes=base.cubes[order], masks=masks)

    repeated = {role: repeat_first(cubes) for role, cubes in sets.items()}
    expected = [
        f"{role}: 2 exact duplicates, for example cube-{seed}-000 = cube-{seed}-004 = cube-{seed}-007"
        for seed, role in ((1, "samples"), (2, "reference"), (3, "train"))
    ]
    for quick in (False, True):
        report = hseval.score(**repeated, metrics=["fid"], extractor="statistics", quick=quick)
        assert [note for note in report.notes if "duplicate" in note] == expected
    clean = hseval.score(**sets, metrics=["fid"], extractor="statistics")
    assert not any("duplicate" in note or "differ in size" in note for note in clean.notes)


def test_sets_whose_images_differ_in_size_are_noted_with_the_sizes(tmp_path: Path) -> None:
    for name, size in (("a", 24), ("b", 16), ("c", 32), ("d", 24)):
        cube = make_texture_set(1, size=size, bands=3, seed=ord(name), field=False).cubes[0]
        np.save(tmp_path / f"{name}.npy", cube)
    ref = make_texture_set(8, size=24, bands=3, field=False)
    ref = ArraySet(ref.cubes[:, :, :20])
    report = hseval.score(tmp_path, ref=ref, metrics=["spectral-kl"])
    note = "images differ in size, on which features of texture depend: samples 16 x 16 to 32 x 32, reference 20 x 24"
    assert f"{note} pixels" in report.notes


@pytest.mark.parametrize("factor", [1e30, 1e-25])
def test_values_whose_squares_float32_lacks_are_refused(sets: dict[str, ArraySet], factor: float) -> None:
    scaled = {role: replace_parts(cubes, cubes=cubes.cubes * np.float32(factor)) for role, cubes in sets.items()}
    with pytest.raises(hseval.HsevalError, match=r"array: values of about .*; expected 1e-15 to 1e\+18"):
        hseval.score(**scaled, metrics=["band-covariance"])


def test_invalid_pixels_and_cubes_are_noted_and_left_out(sets: dict[str, ArraySet]) -> None:
    samples = sets["samples"]
    cubes = samples.cubes.copy()
    cubes[0] = np.nan
    cubes[1, 2, 14:17, 15] = np.inf
    cubes[:, 3] = 0.25
    report = hseval.score(
        replace_parts(samples, cubes=cubes), ref=sets["ref"], metrics=["fid", "spectral-kl", "ms-ssim"]
    )
    assert "1 sample without a valid pixel" in report.notes[0]
    assert samples.ids[0] in report.notes[0]
    assert any("1 cube with NaN or infinite pixels" in note for note in report.notes)
    assert any("1 band constant in every cube" in note for note in report.notes)
    assert all(score.value is not None for score in report.scores)


def test_sets_of_another_scale_are_refused_with_both_ranges(sets: dict[str, ArraySet]) -> None:
    counts = replace_parts(sets["samples"], cubes=sets["samples"].cubes * 65535)
    with pytest.raises(hseval.HsevalError, match=r"values of .* but the reference array has .*: another unit"):
        hseval.score(counts, ref=sets["ref"])


def test_other_wavelengths_are_refused_or_resampled(sets: dict[str, ArraySet]) -> None:
    shifted = replace_parts(sets["samples"], wavelengths=sets["samples"].wavelengths + 1.0)
    with pytest.raises(hseval.HsevalError, match="--resample"):
        hseval.score(shifted, ref=sets["ref"], metrics=["fid"])
    inner = replace_parts(
        sets["ref"], wavelengths=sets["ref"].wavelengths[1:-1], cubes=np.ascontiguousarray(sets["ref"].cubes[:, 1:-1])
    )
    report = hseval.score(shifted, ref=inner, metrics=["fid"], resample=True)
    assert report["fid"].value is not None


def test_a_histogram_that_fails_does_not_cost_the_score(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.metrics.ms_ssim import MsSsim

    def raise_error(self: MsSsim, **_: Any) -> dict[str, Any]:
        raise ZeroDivisionError("by zero")

    arguments: dict[str, Any] = {"metrics": ["ms-ssim"], "options": {"ms-ssim": {"pairs": 60}}, "exhibits": True}
    report = hseval.score(sets["samples"], ref=sets["ref"], **arguments)
    assert report.exhibits is not None
    assert [values.metric for values in report.exhibits.metric_values] == ["ms-ssim"]
    monkeypatch.setattr(MsSsim, "shown_values", raise_error)
    without = hseval.score(sets["samples"], ref=sets["ref"], **arguments)
    assert without.exhibits is not None
    assert without.exhibits.metric_values == ()
    assert without["ms-ssim"] == report["ms-ssim"]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("better", "smaller", "better is 'smaller', expected one of lower, higher, floor"),
        ("bounds", (1.0, 0.0), "bounds are 1.0 and 0.0, expected the smaller value first"),
        ("bounds", (0.0,), "its needs or bounds can't be read: ValueError"),
    ],
)
def test_a_metric_that_no_report_can_show_is_refused_before_any_work(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, message: str
) -> None:
    from hseval.metrics.fid import Fid

    monkeypatch.setattr(Fid, attribute, value, raising=False)
    with pytest.raises(HsevalError, match=re.escape(message)) as error:
        hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid"])
    assert "metric 'fid' (hseval " in str(error.value)


def test_of_all_metrics_one_whose_needs_can_t_be_read_is_left_out_with_a_note(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.core.plugin_manager import get_plugins
    from hseval.metrics.fid import Fid

    def raise_error(self: Fid) -> None:
        raise ZeroDivisionError("by zero")

    names = get_plugins().get_names
    monkeypatch.setattr(
        get_plugins(), "get_names", lambda kind: ("fid", "spectral-angle") if kind == "metric" else names(kind)
    )
    monkeypatch.setattr(Fid, "needs", property(raise_error))
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["all"])
    assert [score.name for score in report.scores] == ["spectral-angle"]
    fault = "its needs or bounds can't be read: ZeroDivisionError: by zero"
    assert [note for note in report.notes if note.startswith("left out: metric 'fid'") and note.endswith(fault)]
    with pytest.raises(HsevalError, match=fault):
        hseval.score(sets["samples"], ref=sets["ref"], metrics=["all", "fid"])


@pytest.mark.parametrize("details", [{"a": "\udcff", "\udcff": 1}, {"shown": {"is it": True}}, {"many": 1e400}])
def test_a_report_with_odd_details_can_be_read_again(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, details: dict[str, Any]
) -> None:
    from hseval.metrics.fid import Fid
    from hseval.plugin import ScoreParts

    monkeypatch.setattr(Fid, "compare", lambda self, **_: ScoreParts(1.0, details))
    monkeypatch.setattr(Fid, "version", 3, raising=False)  # not a text
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid"])
    report.save(tmp_path / "report.json")
    assert report["fid"].value == 1.0
    assert hseval.load_report(tmp_path / "report.json") == report


def test_details_nested_deeper_than_a_reader_takes_cost_their_score_alone(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.metrics.fid import Fid
    from hseval.plugin import ScoreParts

    deep: dict[str, Any] = {}
    for _ in range(120):
        deep = {"deeper": deep}
    monkeypatch.setattr(Fid, "compare", lambda self, **_: ScoreParts(1.0, deep))
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid"])
    assert report["fid"].verdict == "not computed: it raised RecursionError: nested deeper than 50"


@pytest.mark.parametrize("draws", [np.zeros((2000, 3)), np.full((2000, 2), np.nan)])
def test_expected_values_of_another_shape_or_not_finite_give_no_interval(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch, draws: NDArray[np.float64]
) -> None:
    from hseval.metrics.fid import Fid

    monkeypatch.setattr(Fid, "expected", lambda self, **_: draws, raising=False)
    score = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid"])["fid"]
    assert score.interval is None
    assert score.p_value is None
    assert score.statistics is not None
    assert "ValueError: expected returned" in str(score.statistics.no_interval)


def test_a_broken_metric_does_not_affect_the_others(sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch) -> None:
    from hseval.metrics.fid import Fid

    def raise_error(self: Fid, **_: Any) -> float:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Fid, "compare", raise_error)
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid", "spectral-kl"])
    assert report["fid"].verdict == "not computed: it raised ZeroDivisionError: by zero"
    assert report["spectral-kl"].value is not None


def test_a_changed_file_never_gets_stale_features(tmp_path: Path, sets: dict[str, ArraySet]) -> None:
    path = tmp_path / "samples.h5"

    save_set(path, sets["samples"])
    first = hseval.score(path, ref=sets["ref"], metrics=["fid"])
    save_set(path, make_texture_set(24, seed=9))
    second = hseval.score(path, ref=sets["ref"], metrics=["fid"])
    save_set(path, sets["samples"])
    third = hseval.score(path, ref=sets["ref"], metrics=["fid"])
    assert first["fid"] == third["fid"] != second["fid"]


def test_quick_uses_few_cubes_with_a_note() -> None:
    samples, ref = make_texture_set(80, size=16, seed=1), make_texture_set(80, size=16, seed=2)
    report = hseval.score(samples, ref=ref, metrics=["fid"], quick=True)
    assert report.notes[0].startswith("64 samples against 64 reference cubes")
    assert any("quick look" in note for note in report.notes)


def test_a_report_survives_its_file(tmp_path: Path, base: hseval.Report) -> None:
    base.save(tmp_path / "report.json")
    loaded = hseval.load_report(tmp_path / "report.json")
    assert get_values(loaded) == get_values(base)
    assert loaded.to_json() == base.to_json()
    assert json.loads(loaded.to_json()).keys() == {"format", "version", "scores", "notes", "differences", "provenance"}


@pytest.mark.parametrize("structures", [("fov", "bright"), ("fov",)], ids=["one structure", "no structure"])
def test_value_and_floor_are_of_the_same_structures(sets: dict[str, ArraySet], structures: tuple[str, ...]) -> None:
    samples = sets["samples"]
    bare = replace_parts(samples, masks={name: samples.masks[name] for name in structures})
    score = hseval.score(bare, ref=sets["ref"], metrics=["spectral-kl"], segmenter="none")["spectral-kl"]
    expected = {"bright"} if "bright" in structures else {"fov"}
    assert score.statistics is not None
    for details in (score.statistics.value_details, score.statistics.floor_details):
        assert set(details["structures"]) == expected
    assert score.verdict == "like real"


def test_a_cube_without_a_group_is_its_own_group(sets: dict[str, ArraySet]) -> None:
    ref = replace_parts(sets["ref"], groups=["", *["patient"] * 3, *[""] * 20])
    report = hseval.score(sets["samples"], ref=ref, metrics=["fid"])
    assert report["fid"].n >= 11  # one group of all empty names would leave no halves


def test_too_few_samples_are_given_as_the_reason_for_a_missing_floor(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"].subset([0]), ref=sets["ref"], metrics=["spectral-kl"])
    assert report["spectral-kl"].verdict == "no floor: too few samples"


def test_an_extractor_of_several_columns_is_no_vector_for_fid(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid"], extractor="spectra")
    assert "returns several columns" in report["fid"].verdict


def test_no_group_is_divided_by_pairs_either(sets: dict[str, ArraySet]) -> None:
    ref = replace_parts(sets["ref"], groups=[f"patient-{i % 2}" for i in range(24)])
    report = hseval.score(sets["samples"], ref=ref, metrics=["ms-ssim"])
    assert report["ms-ssim"].verdict == "no floor: too few independent real cubes to halve"


def test_a_field_that_only_the_samples_have_is_used_for_both_sets(sets: dict[str, ArraySet]) -> None:
    ref = sets["ref"]
    bare = replace_parts(ref, masks={name: mask for name, mask in ref.masks.items() if name != "fov"})
    report = hseval.score(sets["samples"], ref=bare, metrics=["fid"])
    assert any("no 'fov' masks in: reference; the consensus field of the samples set" in note for note in report.notes)
    assert get_values(report) == get_values(hseval.score(**{**sets, "train": None}, metrics=["fid"]))


def test_a_cube_without_a_field_among_others_with_one_is_refused(sets: dict[str, ArraySet]) -> None:
    class SetWithoutOneField(ArraySet):
        def read_masks(self, index: int) -> dict[str, Any]:
            masks = super().read_masks(index)
            return {name: mask for name, mask in masks.items() if index != 3 or name != "fov"}

    samples = sets["samples"]
    holes = SetWithoutOneField(samples.cubes, wavelengths=samples.wavelengths, masks=samples.masks, ids=samples.ids)
    with pytest.raises(hseval.HsevalError, match=rf"cube {samples.ids[3]} has no 'fov' mask, but others"):
        hseval.score(holes, ref=sets["ref"], metrics=["fid"])


def test_pair_features_of_shifted_content_have_different_keys() -> None:
    def make_shifted(by: int) -> ArraySet:
        base = make_texture_set(8, size=24, field=False, seed=1)
        cubes = np.full((8, 6, 40, 40), np.nan, dtype=np.float32)
        for i, cube in enumerate(base.cubes):
            start = 8 + by * (-1) ** i
            cubes[i, :, start : start + 24, start : start + 24] = cube
        return ArraySet(cubes, wavelengths=base.wavelengths)

    ref = make_texture_set(8, size=24, field=False, seed=2)
    cached = [hseval.score(make_shifted(by), ref=ref, metrics=["ms-ssim"])["ms-ssim"] for by in (0, 4)]
    fresh = hseval.score(make_shifted(4), ref=ref, metrics=["ms-ssim"], cache=False)["ms-ssim"]
    assert get_full_value(cached[1]) == get_full_value(fresh) != get_full_value(cached[0])


def test_quick_removes_shared_cubes_and_counts_failures_in_the_full_sets() -> None:
    train, fresh = make_texture_set(80, size=16, seed=1), make_texture_set(80, size=16, seed=2)
    both = {name: np.concatenate([train.masks[name], fresh.masks[name]]) for name in train.masks}
    ref = ArraySet(np.concatenate([train.cubes, fresh.cubes]), wavelengths=train.wavelengths, masks=both)
    broken = make_texture_set(80, size=16, seed=3)
    broken.cubes[:10] = np.nan
    report = hseval.score(broken, ref=ref, train=train, metrics=["fid"], quick=True)
    assert any(note.startswith("80 reference cubes also in the training set, removed from") for note in report.notes)
    assert "10 samples without a valid pixel" in report.notes[0]


def test_a_new_structure_in_the_samples_does_not_affect_the_cached_reference(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.extractors.spectra import StructureSpectra

    samples, calls = sets["samples"], []
    hseval.score(samples, ref=sets["ref"], metrics=["spectral-kl"])
    more = replace_parts(samples, masks={**samples.masks, "new": samples.masks["bright"]})
    original = StructureSpectra.__call__

    def count_calls(self: StructureSpectra, cubes: Any, **inputs: Any) -> Any:
        calls.append(len(cubes))
        return original(self, cubes, **inputs)

    monkeypatch.setattr(StructureSpectra, "__call__", count_calls)
    hseval.score(more, ref=sets["ref"], metrics=["spectral-kl"])
    assert sum(calls) == len(samples)


def test_an_extractor_that_fails_is_named(sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch) -> None:
    from hseval.extractors.spectra import StructureSpectra

    def raise_error(self: StructureSpectra, cubes: Any, **_: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(StructureSpectra, "__call__", raise_error)
    message = r"extractor 'spectra' \(hseval .*\) failed: ZeroDivisionError: by zero"
    with pytest.raises(hseval.HsevalError, match=message):
        hseval.score(sets["samples"], ref=sets["ref"], metrics=["spectral-kl"])


def test_an_extractor_that_needs_nm_affects_only_its_metric(sets: dict[str, ArraySet], tmp_path: Path) -> None:
    from hseval.extractors.torchvision import Torchvision

    samples, ref = (replace_parts(sets[role], wavelengths=None) for role in ("samples", "ref"))
    assert Torchvision.needs_nm
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"never read")
    report = hseval.score(
        samples, ref=ref, metrics=["fid", "spectral-kl"], extractor="torchvision",
        options={"torchvision": {"weights": str(weights)}},
    )  # fmt: skip
    assert "needs wavelengths in nm" in report["fid"].verdict
    assert report["spectral-kl"].value is not None


def test_invalid_reference_cubes_are_noted(sets: dict[str, ArraySet]) -> None:
    cubes = sets["ref"].cubes.copy()
    cubes[:2] = np.nan
    report = hseval.score(sets["samples"], ref=replace_parts(sets["ref"], cubes=cubes), metrics=["fid"])
    assert any(note.startswith("reference: 2 cubes without a valid pixel") for note in report.notes)


def test_resampling_is_noted(sets: dict[str, ArraySet]) -> None:
    inner = replace_parts(sets["ref"], wavelengths=sets["ref"].wavelengths[1:-1], cubes=sets["ref"].cubes[:, 1:-1])
    moved = replace_parts(sets["samples"], wavelengths=sets["samples"].wavelengths + 1.0)
    report = hseval.score(moved, ref=inner, metrics=["fid"], resample=True)
    assert any("interpolated bands are smoother" in note for note in report.notes)


class Brightest:
    """A third party's metric that reads cubes again."""

    name, better, summary = "brightest", "lower", "difference of the brightest valid values"
    needs = hseval.Needs(features=("values",), cubes=True)

    def relate(self, *, real: Any, generated: Any, train: Any, cubes: Any) -> tuple[Any, Any, Any]:
        sides = ((real, cubes.reference), (generated, cubes.samples))
        added = []
        for table, cube_set in sides:
            index_by_id = {name: i for i, name in enumerate(cube_set.ids)}
            maxima = [
                cube_set[index_by_id[name]].data[:, cube_set[index_by_id[name]].masks["fov"]].max()
                for name in table.ids
            ]
            added.append(table.add_columns({"brightest": np.array(maxima)}))
        return *added, train

    def compare(self, *, real: Any, generated: Any, train: Any = None, rng: Any) -> float:
        return abs(float(real["brightest"].mean(dtype=float) - generated["brightest"].mean(dtype=float)))


class BrightestPlugin:
    @staticmethod
    @hseval.hookimpl
    def hseval_metrics() -> list[type]:
        return [Brightest]


def test_a_metric_that_needs_cubes_gets_the_sets(sets: dict[str, ArraySet]) -> None:
    from hseval.core.plugin_manager import PluginManager, get_plugins

    registry: PluginManager = get_plugins()
    plugin = BrightestPlugin()
    registry.register(plugin, name="hseval-brightest:test", distribution="hseval-brightest")
    try:
        score = hseval.score(sets["samples"], ref=sets["ref"], metrics=["brightest"])["brightest"]
    finally:
        registry.manager.unregister(plugin)
        registry._registrations.clear()
    tops = [np.mean([c.data[:, c.masks["fov"]].max() for c in sets[role]], dtype=float) for role in ("ref", "samples")]
    assert get_full_value(score) == pytest.approx(abs(tops[0] - tops[1]), rel=1e-5)


@pytest.mark.parametrize("value", [{1, 2}, len, object()])
def test_details_that_no_report_can_hold_name_the_type(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    from hseval.metrics.spectral_angle import SpectralAngle

    compute = SpectralAngle.compare

    def add_details(self: Any, **inputs: Any) -> Any:
        parts = compute(self, **inputs)
        return dataclasses.replace(parts, details={**parts.details, "odd": [{"x": value}]})

    monkeypatch.setattr(SpectralAngle, "compare", add_details)
    score = hseval.score(sets["samples"], ref=sets["ref"], metrics=["spectral-angle"])["spectral-angle"]
    assert score.value is None
    assert f"details hold a {type(value).__name__}" in score.verdict
