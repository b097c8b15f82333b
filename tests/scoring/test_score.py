"""Scoring end to end through the Python API: what must change a score, and what must not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hseval
from hseval.core.cubes import ArraySet
from hseval.scoring.score import DEFAULT_METRICS
from tests.helpers.sets import saved, texture_set


def values(report: hseval.Report) -> dict[str, tuple[float, float]]:
    return {score.name: (score.value, score.floor) for score in report.scores}


def outside_provenance(report: hseval.Report) -> str:
    return json.dumps({**json.loads(report.to_json()), "provenance": None})


def as_arrays(base: ArraySet, **changes: Any) -> ArraySet:
    given = {
        "cubes": base.cubes, "wavelengths": base.wavelengths, "masks": base.masks, "ids": base.ids,
        "groups": base.groups,
    }  # fmt: skip
    return ArraySet(**{**given, **changes})


@pytest.fixture(scope="module")
def sets() -> dict[str, ArraySet]:
    return {"samples": texture_set(24, seed=1), "ref": texture_set(24, seed=2), "train": texture_set(24, seed=3)}


@pytest.fixture
def base(sets: dict[str, ArraySet]) -> hseval.Report:
    return hseval.score(**sets)


def test_all_four_scores_have_values_and_floors(base: hseval.Report) -> None:
    assert [score.name for score in base.scores] == list(DEFAULT_METRICS)
    for score in base.scores:
        assert score.value is not None
        assert score.floor is not None
        assert score.n == 12 or score.name == "ms-ssim"


def test_a_set_like_the_reference_is_not_told_from_it(base: hseval.Report) -> None:
    assert {score.verdict for score in base.scores} <= {"like real"}


@pytest.mark.parametrize(
    ("metric", "damage"),
    [
        ("fid", lambda cubes: cubes + np.random.default_rng(0).normal(0, 0.02, cubes.shape)),
        ("spectral-kl", lambda cubes: cubes * np.linspace(0.8, 1.2, cubes.shape[1])[:, None, None]),
        ("ms-ssim", lambda cubes: np.repeat(cubes[:2], 12, axis=0)),
    ],
)
def test_damage_shows(sets: dict[str, ArraySet], metric: str, damage: Callable[[Any], Any]) -> None:
    samples = sets["samples"]
    damaged = as_arrays(samples, cubes=damage(samples.cubes))
    score = hseval.score(damaged, ref=sets["ref"], metrics=[metric])[metric]
    assert score.verdict == "worse than real"


def test_copies_of_training_cubes_show(sets: dict[str, ArraySet]) -> None:
    train, samples = sets["train"], sets["samples"]
    copied = samples.cubes.copy()
    copied[:12] = train.cubes[:12] * 1.01
    report = hseval.score(as_arrays(samples, cubes=copied), ref=sets["ref"], train=train, metrics=["authenticity"])
    assert report["authenticity"].value == pytest.approx(0.5, abs=0.15)
    assert report["authenticity"].verdict == "worse than real"


def test_the_same_seed_gives_the_same_report_to_the_last_digit(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    again = hseval.score(**sets)
    fresh = hseval.score(**sets, cache=False)
    assert outside_provenance(base) == outside_provenance(again) == outside_provenance(fresh)


def test_another_seed_draws_other_splits(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    other = hseval.score(**sets, seed=1)
    assert other["fid"].value != base["fid"].value
    assert other["fid"].details["full_value"] == base["fid"].details["full_value"]


def test_adding_a_metric_changes_no_others_value(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    """Only what is adjusted for the number of scores in a report depends on that number."""
    alone = hseval.score(**sets, metrics=["fid"])
    one, among = (dataclasses.asdict(report["fid"]) for report in (alone, base))
    for score in (one, among):
        del score["details"]["p_adjusted"]
    assert one == among


def test_order_and_names_of_cubes_change_nothing(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    def shuffled(cubes: ArraySet, seed: int) -> ArraySet:
        order = np.random.default_rng(seed).permutation(len(cubes))
        masks = {name: mask[order] for name, mask in cubes.masks.items()}
        return as_arrays(cubes, cubes=cubes.cubes[order], masks=masks, ids=[f"renamed-{i}" for i in range(len(order))])

    other = hseval.score(**{role: shuffled(cubes, 5 + i) for i, (role, cubes) in enumerate(sets.items())})
    assert values(other) == values(base)


@pytest.mark.parametrize("given", [{"batch_size": 5}, {"workers": 2}], ids=str)
def test_batches_and_workers_change_nothing(
    sets: dict[str, ArraySet], base: hseval.Report, given: dict[str, int]
) -> None:
    other = hseval.score(**sets, cache=False, **given)
    for name, (value, floor) in values(base).items():
        assert values(other)[name] == pytest.approx((value, floor), rel=1e-5, abs=1e-7)


def test_more_black_around_the_field_changes_no_score(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    def padded(cubes: ArraySet) -> ArraySet:
        around = ((0, 0), (5, 12), (9, 2))
        masks = {name: np.pad(mask, around) for name, mask in cubes.masks.items()}
        return as_arrays(cubes, cubes=np.pad(cubes.cubes, ((0, 0), *around)), masks=masks)

    other = hseval.score(**{role: padded(cubes) for role, cubes in sets.items()})
    for name, (value, floor) in values(base).items():
        assert values(other)[name] == pytest.approx((value, floor), rel=1e-3)


def test_what_stands_outside_the_field_changes_no_score(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    def painted(cubes: ArraySet, value: float) -> ArraySet:
        field = cubes.masks["fov"][:, None]
        return as_arrays(cubes, cubes=np.where(field, cubes.cubes, np.float32(value)))

    other = hseval.score(
        painted(sets["samples"], 7.0), ref=painted(sets["ref"], np.nan), train=painted(sets["train"], -1.0)
    )
    assert values(other) == values(base)


def test_a_set_without_a_field_is_seen_through_the_references(sets: dict[str, ArraySet], base: hseval.Report) -> None:
    samples = sets["samples"]
    bare = as_arrays(samples, masks={name: mask for name, mask in samples.masks.items() if name != "fov"})
    report = hseval.score(bare, ref=sets["ref"], train=sets["train"])
    told = "no 'fov' masks in: samples; the consensus field of the reference set is used on all sides"
    assert told in report.notes
    assert values(report)["fid"] == pytest.approx(values(base)["fid"], rel=1e-6)


def test_no_group_is_divided_between_value_and_floor(sets: dict[str, ArraySet]) -> None:
    ref = as_arrays(sets["ref"], groups=["one patient"] * 24)
    report = hseval.score(sets["samples"], ref=ref, metrics=["fid"])
    assert report["fid"].floor is None
    assert "no floor" in report["fid"].verdict


def test_training_cubes_leave_the_reference_with_a_note(sets: dict[str, ArraySet]) -> None:
    ref, train = sets["ref"], sets["train"]
    mixed = as_arrays(
        ref,
        cubes=np.concatenate([ref.cubes, train.cubes[:5]]),
        masks={name: np.concatenate([mask, train.masks[name][:5]]) for name, mask in ref.masks.items()},
        ids=None,
    )
    report = hseval.score(sets["samples"], ref=mixed, train=train, metrics=["fid"])
    assert "5 reference cubes are in the training set too: they leave the reference" in report.notes
    assert report["fid"] == hseval.score(sets["samples"], ref=ref, train=train, metrics=["fid"])["fid"]


def test_reference_and_training_set_being_one_is_said_and_leaves_authenticity_out(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"], ref=sets["ref"], train=sets["ref"])
    assert any(note.startswith("every reference cube is in the training set") for note in report.notes)
    assert report["authenticity"].value is None
    assert "none is held out" in report["authenticity"].verdict
    assert report["fid"].value is not None


def test_without_a_training_set_authenticity_says_what_it_needs(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"], ref=sets["ref"])
    assert report["authenticity"].verdict == "not computed: needs --train"


def test_exact_copies_are_counted_and_stay(sets: dict[str, ArraySet]) -> None:
    samples, train = sets["samples"], sets["train"]
    cubes = np.concatenate([samples.cubes[:-2], train.cubes[:1], samples.cubes[:1]])
    masks = {n: np.concatenate([m[:-2], train.masks[n][:1], m[:1]]) for n, m in samples.masks.items()}
    report = hseval.score(as_arrays(samples, cubes=cubes, masks=masks), ref=sets["ref"], train=train, metrics=["fid"])
    assert report.notes[0].startswith("24 samples against")
    assert "1 samples are cubes of the training set, pixel for pixel: they stay, as copies" in report.notes
    assert "1 samples repeat another sample pixel for pixel" in report.notes


def test_invalid_pixels_and_dead_cubes_are_told_and_left_out(sets: dict[str, ArraySet]) -> None:
    samples = sets["samples"]
    cubes = samples.cubes.copy()
    cubes[0] = np.nan
    cubes[1, 2, 14:17, 15] = np.inf
    cubes[:, 3] = 0.25
    report = hseval.score(as_arrays(samples, cubes=cubes), ref=sets["ref"], metrics=["fid", "spectral-kl", "ms-ssim"])
    assert "1 samples have no valid pixel" in report.notes[0]
    assert samples.ids[0] in report.notes[0]
    assert any("1 cubes have NaN or infinite pixels" in note for note in report.notes)
    assert any("1 bands are constant in every cube" in note for note in report.notes)
    assert all(score.value is not None for score in report.scores)


def test_sets_of_another_scale_are_refused_with_both_ranges(sets: dict[str, ArraySet]) -> None:
    counts = as_arrays(sets["samples"], cubes=sets["samples"].cubes * 65535)
    with pytest.raises(hseval.HsevalError, match=r"values of .* but the reference array has .*: another unit"):
        hseval.score(counts, ref=sets["ref"])


def test_other_wavelengths_are_refused_or_resampled(sets: dict[str, ArraySet]) -> None:
    shifted = as_arrays(sets["samples"], wavelengths=sets["samples"].wavelengths + 1.0)
    with pytest.raises(hseval.HsevalError, match="--resample"):
        hseval.score(shifted, ref=sets["ref"], metrics=["fid"])
    inner = as_arrays(
        sets["ref"], wavelengths=sets["ref"].wavelengths[1:-1], cubes=np.ascontiguousarray(sets["ref"].cubes[:, 1:-1])
    )
    report = hseval.score(shifted, ref=inner, metrics=["fid"], resample=True)
    assert report["fid"].value is not None


def test_a_broken_metric_leaves_the_others_alone(sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch) -> None:
    from hseval.metrics.fid import Fid

    def fails(self: Fid, **_: Any) -> float:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Fid, "compare", fails)
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid", "spectral-kl"])
    assert report["fid"].verdict == "not computed: it raised ZeroDivisionError: by zero"
    assert report["spectral-kl"].value is not None


def test_a_changed_file_is_never_described_by_stale_rows(tmp_path: Path, sets: dict[str, ArraySet]) -> None:
    path = tmp_path / "samples.h5"

    saved(path, sets["samples"])
    first = hseval.score(path, ref=sets["ref"], metrics=["fid"])
    saved(path, texture_set(24, seed=9))
    second = hseval.score(path, ref=sets["ref"], metrics=["fid"])
    saved(path, sets["samples"])
    third = hseval.score(path, ref=sets["ref"], metrics=["fid"])
    assert first["fid"] == third["fid"] != second["fid"]


def test_quick_looks_at_few_cubes_and_says_so() -> None:
    samples, ref = texture_set(80, size=16, seed=1), texture_set(80, size=16, seed=2)
    report = hseval.score(samples, ref=ref, metrics=["fid"], quick=True)
    assert report.notes[0].startswith("64 samples against 64 reference cubes")
    assert any("quick look" in note for note in report.notes)


def test_a_report_survives_its_file(tmp_path: Path, base: hseval.Report) -> None:
    base.save(tmp_path / "report.json")
    loaded = hseval.load_report(tmp_path / "report.json")
    assert values(loaded) == values(base)
    assert loaded.to_json() == base.to_json()
    assert json.loads(loaded.to_json()).keys() == {"format", "version", "scores", "notes", "provenance"}


@pytest.mark.parametrize("kept", [("fov", "bright"), ("fov",)], ids=["one structure", "no structure"])
def test_value_and_floor_are_of_the_same_structures(sets: dict[str, ArraySet], kept: tuple[str, ...]) -> None:
    samples = sets["samples"]
    bare = as_arrays(samples, masks={name: samples.masks[name] for name in kept})
    score = hseval.score(bare, ref=sets["ref"], metrics=["spectral-kl"], segmenter="none")["spectral-kl"]
    expected = {"bright"} if "bright" in kept else {"fov"}
    assert set(score.details["at_n"]["structures"]) == set(score.details["floor_at_n"]["structures"]) == expected
    assert score.verdict == "like real"


def test_a_cube_without_a_group_stands_alone(sets: dict[str, ArraySet]) -> None:
    ref = as_arrays(sets["ref"], groups=["", *["patient"] * 3, *[""] * 20])
    report = hseval.score(sets["samples"], ref=ref, metrics=["fid"])
    assert report["fid"].n >= 11  # one group of all empty names would leave no halves


def test_few_samples_are_what_a_missing_floor_is_blamed_on(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"].subset([0]), ref=sets["ref"], metrics=["spectral-kl"])
    assert report["spectral-kl"].verdict == "no floor: too few samples"


def test_an_extractor_of_several_columns_is_no_vector_for_fid(sets: dict[str, ArraySet]) -> None:
    report = hseval.score(sets["samples"], ref=sets["ref"], metrics=["fid"], extractor="spectra")
    assert "gives several columns" in report["fid"].verdict


def test_no_group_is_divided_by_pairs_either(sets: dict[str, ArraySet]) -> None:
    ref = as_arrays(sets["ref"], groups=[f"patient-{i % 2}" for i in range(24)])
    report = hseval.score(sets["samples"], ref=ref, metrics=["ms-ssim"])
    assert report["ms-ssim"].verdict == "no floor: too few independent real cubes to halve"


def test_a_field_that_only_the_samples_have_is_used_on_both_sides(sets: dict[str, ArraySet]) -> None:
    ref = sets["ref"]
    bare = as_arrays(ref, masks={name: mask for name, mask in ref.masks.items() if name != "fov"})
    report = hseval.score(sets["samples"], ref=bare, metrics=["fid"])
    assert any("no 'fov' masks in: reference; the consensus field of the samples set" in note for note in report.notes)
    assert values(report) == values(hseval.score(**{**sets, "train": None}, metrics=["fid"]))


def test_a_cube_without_a_field_among_others_with_one_is_refused(sets: dict[str, ArraySet]) -> None:
    class Holes(ArraySet):
        def read_masks(self, index: int) -> dict[str, Any]:
            masks = super().read_masks(index)
            return {name: mask for name, mask in masks.items() if index != 3 or name != "fov"}

    samples = sets["samples"]
    holes = Holes(samples.cubes, wavelengths=samples.wavelengths, masks=samples.masks, ids=samples.ids)
    with pytest.raises(hseval.HsevalError, match=rf"cube {samples.ids[3]} has no 'fov' mask, but others"):
        hseval.score(holes, ref=sets["ref"], metrics=["fid"])


def test_pair_rows_of_shifted_content_are_not_mistaken_for_each_other() -> None:
    def shifted(by: int) -> ArraySet:
        base = texture_set(8, size=24, field=False, seed=1)
        cubes = np.full((8, 6, 40, 40), np.nan, dtype=np.float32)
        for i, cube in enumerate(base.cubes):
            at = 8 + by * (-1) ** i
            cubes[i, :, at : at + 24, at : at + 24] = cube
        return ArraySet(cubes, wavelengths=base.wavelengths)

    ref = texture_set(8, size=24, field=False, seed=2)
    cached = [hseval.score(shifted(by), ref=ref, metrics=["ms-ssim"])["ms-ssim"] for by in (0, 4)]
    fresh = hseval.score(shifted(4), ref=ref, metrics=["ms-ssim"], cache=False)["ms-ssim"]
    assert cached[1].details["full_value"] == fresh.details["full_value"] != cached[0].details["full_value"]


def test_quick_takes_shared_cubes_out_and_counts_failures_in_the_whole_sets() -> None:
    train, fresh = texture_set(80, size=16, seed=1), texture_set(80, size=16, seed=2)
    both = {name: np.concatenate([train.masks[name], fresh.masks[name]]) for name in train.masks}
    ref = ArraySet(np.concatenate([train.cubes, fresh.cubes]), wavelengths=train.wavelengths, masks=both)
    broken = texture_set(80, size=16, seed=3)
    broken.cubes[:10] = np.nan
    report = hseval.score(broken, ref=ref, train=train, metrics=["fid"], quick=True)
    assert "80 reference cubes are in the training set too: they leave the reference" in report.notes
    assert "10 samples have no valid pixel" in report.notes[0]


def test_a_new_structure_in_the_samples_leaves_the_cached_reference_alone(
    sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.extractors.spectra import StructureSpectra

    samples, calls = sets["samples"], []
    hseval.score(samples, ref=sets["ref"], metrics=["spectral-kl"])
    more = as_arrays(samples, masks={**samples.masks, "new": samples.masks["bright"]})
    original = StructureSpectra.__call__

    def counted(self: StructureSpectra, cubes: Any, **given: Any) -> Any:
        calls.append(len(cubes))
        return original(self, cubes, **given)

    monkeypatch.setattr(StructureSpectra, "__call__", counted)
    hseval.score(more, ref=sets["ref"], metrics=["spectral-kl"])
    assert sum(calls) == len(samples)


def test_an_extractor_that_fails_is_named(sets: dict[str, ArraySet], monkeypatch: pytest.MonkeyPatch) -> None:
    from hseval.extractors.spectra import StructureSpectra

    def fails(self: StructureSpectra, cubes: Any, **_: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(StructureSpectra, "__call__", fails)
    told = r"extractor 'spectra' \(hseval .*\) failed: ZeroDivisionError: by zero"
    with pytest.raises(hseval.HsevalError, match=told):
        hseval.score(sets["samples"], ref=sets["ref"], metrics=["spectral-kl"])


def test_an_extractor_that_needs_nm_leaves_only_its_metric_out(sets: dict[str, ArraySet], tmp_path: Path) -> None:
    from hseval.extractors.torchvision import Torchvision

    samples, ref = (as_arrays(sets[role], wavelengths=None) for role in ("samples", "ref"))
    assert Torchvision.needs_nm
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"never read")
    report = hseval.score(
        samples, ref=ref, metrics=["fid", "spectral-kl"], extractor="torchvision",
        options={"torchvision": {"weights": str(weights)}},
    )  # fmt: skip
    assert "needs wavelengths in nm" in report["fid"].verdict
    assert report["spectral-kl"].value is not None


def test_invalid_reference_cubes_are_told(sets: dict[str, ArraySet]) -> None:
    cubes = sets["ref"].cubes.copy()
    cubes[:2] = np.nan
    report = hseval.score(sets["samples"], ref=as_arrays(sets["ref"], cubes=cubes), metrics=["fid"])
    assert any(note.startswith("reference: 2 cubes have no valid pixel") for note in report.notes)


def test_resampling_is_told(sets: dict[str, ArraySet]) -> None:
    inner = as_arrays(sets["ref"], wavelengths=sets["ref"].wavelengths[1:-1], cubes=sets["ref"].cubes[:, 1:-1])
    moved = as_arrays(sets["samples"], wavelengths=sets["samples"].wavelengths + 1.0)
    report = hseval.score(moved, ref=inner, metrics=["fid"], resample=True)
    assert any("interpolated bands are smoother" in note for note in report.notes)


class Brightest:
    """A third party's metric that looks at cubes again."""

    name, better, summary = "brightest", "lower", "difference of the brightest valid values"
    needs = hseval.Needs(features=("values",), cubes=True)

    def relate(self, *, real: Any, generated: Any, train: Any, cubes: Any) -> tuple[Any, Any, Any]:
        sides = ((real, cubes.reference), (generated, cubes.samples))
        added = []
        for rows, cubes_of in sides:
            place = {name: i for i, name in enumerate(cubes_of.ids)}
            top = [cubes_of[place[name]].data[:, cubes_of[place[name]].masks["fov"]].max() for name in rows.ids]
            added.append(rows.add_columns({"brightest": np.array(top)}))
        return *added, train

    def compare(self, *, real: Any, generated: Any, train: Any = None, rng: Any) -> float:
        return abs(float(real["brightest"].mean(dtype=float) - generated["brightest"].mean(dtype=float)))


class BrightestPlugin:
    @staticmethod
    @hseval.hookimpl
    def hseval_metrics() -> list[type]:
        return [Brightest]


def test_a_metric_that_asks_for_cubes_gets_the_sets(sets: dict[str, ArraySet]) -> None:
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
    assert score.details["full_value"] == pytest.approx(abs(tops[0] - tops[1]), rel=1e-5)
