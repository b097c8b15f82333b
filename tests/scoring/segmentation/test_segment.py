"""Scores by the masks of a segmenter, end to end: when it is used, what it changes, and what the report says."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hseval
from hseval.core.cubes import FOV, ArraySet, CubeSet
from hseval.core.report import Report
from hseval.data.content_hash import compute_masks_hash
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan
from hseval.scoring.segmentation.cross_fit import build_folds
from hseval.scoring.segmentation.jobs import FitJob, SegmenterSpec, SegmentJob
from hseval.scoring.segmentation.segmented_set import SegmentedSet, pack_masks, unpack_masks
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.sets import saved, texture_set

FAST = {"pixels": {"trees": 8, "pixels": 3000}}
KL = "spectral-kl"


def changed(base: ArraySet, **changes: Any) -> ArraySet:
    given = {
        "cubes": base.cubes, "wavelengths": base.wavelengths, "masks": base.masks, "ids": base.ids,
        "groups": base.groups,
    }  # fmt: skip
    return ArraySet(**{**given, **changes})


def bare(base: ArraySet, *keep: str) -> ArraySet:
    return changed(base, masks={name: base.masks[name] for name in ("fov", *keep) if name in base.masks})


def score(samples: Any, ref: Any, **given: Any) -> Report:
    return hseval.score(samples, ref=ref, **{"metrics": [KL], "options": FAST, **given})


def outside_provenance(report: Report) -> str:
    return json.dumps({**json.loads(report.to_json()), "provenance": None})


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all tests here: most score against the same reference."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def samples() -> ArraySet:
    return texture_set(24, seed=1)


@pytest.fixture(scope="module")
def ref() -> ArraySet:
    return texture_set(24, seed=2)


@pytest.fixture(scope="module")
def scored(samples: ArraySet, ref: ArraySet) -> Report:
    return score(bare(samples), ref)


def test_real_cubes_without_masks_score_like_the_floor(scored: Report) -> None:
    found = scored[KL]
    assert found.verdict == "like real"
    assert set(found.details["structures"]) == {"bright", "dark"}
    assert found.details["masks_from"] == {"reference": "pixels", "samples": "pixels"}
    assert found.value == pytest.approx(found.floor, rel=0.5)


def test_the_report_says_whose_masks_and_how_good_they_are(scored: Report) -> None:
    told = scored[KL].details["segmenter"]
    assert told["name"] == "pixels"
    assert min(told["dice"].values()) > 0.7
    assert any("'pixels', as the samples lack masks of: bright, dark" in note for note in scored.notes)
    assert any(f"held-out Dice on the reference: bright {told['dice']['bright']:.2f}" in note for note in scored.notes)
    about = json.loads(scored.to_json())["provenance"]["segmenter"]
    assert about["options"] == {"trees": 8, "pixels": 3000}
    assert about["version"]
    assert "own_masks" not in scored[KL].details


def test_samples_with_all_masks_meet_no_segmenter(samples: ArraySet, ref: ArraySet) -> None:
    report = score(samples, ref)
    assert report[KL].details["masks_from"] == {"reference": "set", "samples": "set"}
    assert "segmenter" not in report[KL].details
    assert any("a generator's own may flatter it (--segmenter pixels" in note for note in report.notes)
    assert "segmenter" not in report.provenance
    assert outside_provenance(report) == outside_provenance(score(samples, ref, segmenter="none"))


def test_none_leaves_masks_as_they_come(samples: ArraySet, ref: ArraySet) -> None:
    report = score(bare(samples, "bright"), ref, segmenter="none")
    assert set(report[KL].details["structures"]) == {"bright"}


def test_other_metrics_do_not_move_by_a_digit(samples: ArraySet, ref: ArraySet) -> None:
    asked = {"metrics": ["fid", KL, "ms-ssim", "authenticity"], "train": texture_set(24, seed=3)}
    asked["options"] = {**FAST, "ms-ssim": {"pairs": 60}}
    with_it, without = (score(bare(samples), ref, segmenter=name, **asked) for name in (None, "none"))
    assert with_it[KL] != without[KL]
    for name in ("fid", "ms-ssim", "authenticity"):
        one, other = (json.loads(report.to_json())["scores"] for report in (with_it, without))
        place = [score["name"] for score in one].index(name)
        for told in (one[place], other[place]):
            told["details"].pop("p_adjusted", None)  # of all scores together
        assert one[place] == other[place]


def test_both_figures_are_shown_where_samples_bring_masks(samples: ArraySet, ref: ArraySet) -> None:
    by_own, both = score(samples, ref)[KL], score(samples, ref, segmenter="pixels")[KL]
    own = both.details["own_masks"]
    assert (own["value"], own["floor"], own["verdict"]) == (by_own.value, by_own.floor, by_own.verdict)
    assert by_own.value in both.details["shown"].values()
    assert both.details["masks_from"]["samples"] == "pixels"
    assert min(both.details["segmenter"]["agreement_with_samples"].values()) > 0.7


def test_samples_that_bring_some_masks_are_scored_by_these_too(samples: ArraySet, ref: ArraySet) -> None:
    found = score(bare(samples, "bright"), ref)[KL]
    assert set(found.details["structures"]) == {"bright", "dark"}
    assert set(found.details["own_masks"]["structures"]) == {"bright"}
    assert set(found.details["segmenter"]["agreement_with_samples"]) == {"bright"}


def test_masks_that_flatter_are_found_out(samples: ArraySet, ref: ArraySet) -> None:
    # The generator is wrong wherever it says that nothing is: its masks leave out the half whose colours are off.
    tint = np.linspace(0.75, 1.25, samples.cubes.shape[1], dtype=np.float32)[:, None, None]
    right = np.zeros(samples.cubes.shape[2:], bool)
    right[:, right.shape[1] // 2 :] = True
    cubes = np.where(right & samples.masks["fov"][:, None], samples.cubes * tint, samples.cubes)
    masks = {name: mask if name == "fov" else mask & ~right for name, mask in samples.masks.items()}
    found = score(changed(samples, cubes=cubes, masks=masks), ref, segmenter="pixels")[KL]
    assert found.details["own_masks"]["verdict"] == "like real"
    assert found.verdict == "worse than real"
    agreed, real = (found.details["segmenter"][name] for name in ("agreement_with_samples", "dice"))
    assert all(agreed[name] < real[name] - 0.1 for name in real)


def test_masks_beside_their_structures_are_not_held_against_good_cubes(samples: ArraySet, ref: ArraySet) -> None:
    shifted = {n: m if n == "fov" else np.roll(m, 9, axis=2) & samples.masks["fov"] for n, m in samples.masks.items()}
    found = score(changed(samples, masks=shifted), ref, segmenter="pixels")[KL]
    assert found.details["own_masks"]["verdict"] == "worse than real"
    assert found.verdict == "like real"


def random_masks(ref: ArraySet, *names: str) -> ArraySet:
    rng = np.random.default_rng(0)
    noise = {name: (rng.random(ref.masks[name].shape) < 0.1) & ref.masks["fov"] for name in names}
    return changed(ref, masks={**ref.masks, **noise})


def test_what_a_segmenter_does_not_find_is_left_out(samples: ArraySet, ref: ArraySet) -> None:
    report = score(bare(samples), random_masks(ref, "bright"))
    assert set(report[KL].details["structures"]) == {"dark"}
    assert any(re.search(r"left out: bright \(held-out Dice of 0\.\d\d", note) for note in report.notes)


def test_a_segmenter_that_finds_nothing_is_not_used(samples: ArraySet, ref: ArraySet) -> None:
    noise = random_masks(ref, "bright", "dark")
    report = score(bare(samples), noise)
    assert set(report[KL].details["structures"]) == {"fov"}
    assert any("finds none of the reference's structures" in note for note in report.notes)
    with pytest.raises(HsevalError, match="finds none of the reference's structures"):
        score(bare(samples), noise, segmenter="pixels")


def test_masks_that_nobody_can_find_start_no_segmenter(samples: ArraySet, ref: ArraySet) -> None:
    once = np.zeros_like(ref.masks["dark"])
    once[0] = ref.masks["dark"][0]
    report = score(samples, changed(ref, masks={**ref.masks, "once": once}))
    assert "segmenter" not in report[KL].details
    assert any(note.startswith("masks as they come: what the samples lack") for note in report.notes)


def plan_of(cubes: CubeSet) -> ExtractionPlan:
    return ExtractionPlan((), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths)


def test_no_cube_is_seen_by_a_model_that_saw_its_group(ref: ArraySet) -> None:
    grouped = changed(ref, groups=[f"patient-{i % 7}" for i in range(24)])
    with FeatureCache(None) as cache:
        found = extract_features(grouped, plan_of(grouped), cache=cache)
    folds = build_folds(SegmenterSpec("pixels", True), grouped, found, plan_of(grouped))
    seen_by = [{grouped.groups[i] for i in places} for places in folds.fit_indices]
    assert seen_by[0] | seen_by[1] == set(grouped.groups)
    assert not seen_by[0] & seen_by[1]
    for content, group in zip(found.features.hashes, found.features.groups, strict=True):
        assert group not in seen_by[folds.select_model(content, group)]
    strangers = [folds.select_model(f"{i * 2654435761 % 2**32:08x}", "\0stranger") for i in range(200)]
    assert 70 < sum(strangers) < 130
    assert folds.select_model("0" * 64, "patient-0") == folds.select_model("1" * 64, "patient-0")


def test_ids_that_sets_share_by_chance_bind_nothing(ref: ArraySet) -> None:
    with FeatureCache(None) as cache:
        found = extract_features(ref, plan_of(ref), cache=cache)
    assert not build_folds(SegmenterSpec("pixels", True), ref, found, plan_of(ref)).fold_by_group


def test_order_names_and_cache_change_nothing(samples: ArraySet, ref: ArraySet, scored: Report) -> None:
    order = np.random.default_rng(0).permutation(24)

    def shuffled(base: ArraySet) -> ArraySet:
        masks = {name: mask[order] for name, mask in base.masks.items()}
        return changed(base, cubes=base.cubes[order], masks=masks, ids=[f"renamed-{i}" for i in order])

    again = score(shuffled(bare(samples)), shuffled(ref), cache=False)
    assert (again[KL].value, again[KL].floor) == (scored[KL].value, scored[KL].floor)
    assert again[KL].details["segmenter"] == scored[KL].details["segmenter"]


def test_jobs_that_travel_to_workers_find_the_same(ref: ArraySet) -> None:
    choice = SegmenterSpec("pixels", True, options=FAST["pixels"])
    fits = FitJob(choice, ref, ((0, 2, 4, 6), (1, 3, 5, 7)), ("bright", "dark"), None)
    models = {**fits.run_chunk([0]), **travelled(fits).run_chunk([1])}
    finds = SegmentJob("pixels", ref, {8: 0, 9: 1}, models, fits.structures, None, ref.wavelengths)
    here = dataclasses.replace(finds, models=fits.run_chunk([0, 1])).run_chunk([8, 9])
    there = travelled(finds).run_chunk([8, 9])
    for place, columns in here.items():
        for name, column in columns.items():
            assert np.array_equal(column, there[place][name])


def travelled(job: FitJob | SegmentJob) -> FitJob | SegmentJob:
    """Return the job as a worker process builds it (the processes are tested with what starts them)."""
    build, given = pickle.loads(pickle.dumps(job.get_spec()))
    return build(*given)


def test_what_is_cached_is_not_fitted_again(
    samples: ArraySet, ref: ArraySet, scored: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise AssertionError("fitted again")

    monkeypatch.setattr(FitJob, "_fit_fold", refused)
    assert outside_provenance(score(bare(samples), ref)) == outside_provenance(scored)
    with pytest.raises(AssertionError, match="fitted again"):
        score(bare(samples), ref, options={"pixels": {"trees": 9, "pixels": 3000}})
    other = ref.masks["dark"].copy()
    other[0] = ref.masks["bright"][0]
    with pytest.raises(AssertionError, match="fitted again"):
        score(bare(samples), changed(ref, masks={**ref.masks, "dark": other}))


def test_a_fitted_unet_is_kept_in_the_cache(samples: ArraySet, ref: ArraySet, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"segmenter": "unet", "options": {"unet": {"steps": 2}}}
    score(bare(samples), ref, **given)
    monkeypatch.setattr(FitJob, "_fit_fold", lambda *_: pytest.fail("fitted again"))
    assert score(bare(texture_set(24, seed=5)), ref, **given)[KL].details["segmenter"]["name"] == "unet"


@pytest.mark.parametrize("kind", ["another grid", "no field", "no field in the reference", "quick", "train"])
def test_unlike_sets_work(samples: ArraySet, ref: ArraySet, kind: str) -> None:
    given: dict[str, Any] = {}
    if kind == "another grid":
        samples = texture_set(24, size=24, seed=1)
    if kind == "no field":
        samples = changed(samples, masks={})
    if kind == "no field in the reference":
        ref = changed(ref, masks={name: mask for name, mask in ref.masks.items() if name != "fov"})
    if kind == "quick":
        given = {"quick": True}
    if kind == "train":
        given = {"train": changed(ref, cubes=np.concatenate([ref.cubes[:8], samples.cubes[8:]])), "metrics": None}
    found = score(bare(samples), ref, **given)[KL]
    assert found.value is not None
    assert found.floor is not None
    assert set(found.details["structures"]) == {"bright", "dark"}


def test_a_cube_without_a_valid_pixel_does_no_harm(samples: ArraySet, ref: ArraySet) -> None:
    cubes = samples.cubes.copy()
    cubes[3] = np.nan
    report = score(bare(changed(samples, cubes=cubes)), ref)
    assert report[KL].value is not None
    assert "1 samples have no valid pixel" in report.notes[0]


def test_masks_that_no_two_groups_share_can_fit_nothing(samples: ArraySet, ref: ArraySet) -> None:
    one_patient = changed(ref, groups=["patient"] * 24)
    report = score(bare(samples), one_patient)
    assert any(note.startswith("masks as they come, and no segmenter: ") for note in report.notes)
    assert report[KL].details["masks_from"]["samples"] == "set"
    with pytest.raises(HsevalError, match="no structure is in two groups"):
        score(bare(samples), one_patient, segmenter="pixels")


def test_a_structure_of_one_group_is_left_out(samples: ArraySet, ref: ArraySet) -> None:
    once = np.zeros_like(ref.masks["dark"])
    once[0] = ref.masks["dark"][0]
    report = score(bare(samples), changed(ref, masks={**ref.masks, "once": once}))
    assert any(note.startswith("structures left out: once (in fewer than two groups") for note in report.notes)
    assert set(report[KL].details["structures"]) == {"bright", "dark"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"segmenter": "pixel"}, "no segmenter is called 'pixel'"),
        ({"segmenter": "pixels", "metrics": ["fid"]}, "none of the metrics asked for looks at structures"),
        ({"options": {"pixels": {"tree": 3}}}, "has no option 'tree'"),
    ],
)
def test_nonsense_is_refused(samples: ArraySet, ref: ArraySet, given: dict[str, Any], told: str) -> None:
    with pytest.raises(HsevalError, match=told):
        score(samples, ref, **given)


def test_a_reference_without_masks_can_fit_nothing(samples: ArraySet, ref: ArraySet) -> None:
    assert score(bare(samples), bare(ref))[KL].value is not None
    with pytest.raises(HsevalError, match="has no masks that it could be fitted on"):
        score(bare(samples), bare(ref), segmenter="pixels")


def test_the_command_line_takes_a_segmenter(
    tmp_path: Path, samples: ArraySet, ref: ArraySet, hseval: Callable[..., Any]
) -> None:
    generated, real = saved(tmp_path / "samples.h5", bare(samples)), saved(tmp_path / "real.h5", ref)
    fast = ("--metrics", KL, "--set", "pixels.trees=8", "--set", "pixels.pixels=3000")
    done = hseval("score", generated, "--ref", real, *fast, "--json", tmp_path / "report.json")
    assert done.status == 0
    assert "held-out Dice on the reference: bright" in done.out
    assert json.loads((tmp_path / "report.json").read_text())["scores"][0]["details"]["segmenter"]["name"] == "pixels"
    again = hseval("score", generated, "--ref", real, *fast)  # by file stamps, rows and masks from the cache
    assert again.out == done.out
    without = hseval("score", generated, "--ref", real, *fast, "--segmenter", "none")
    assert without.status == 0
    assert "Dice" not in without.out
    wrong = hseval("score", generated, "--ref", real, "--segmenter", "pixles")
    assert wrong.status == 2
    assert "did you mean" in wrong.err
    both = hseval("score", real, "--ref", real, *fast, "--segmenter", "pixels")
    assert "by the sets' own masks" in both.out


def test_masks_travel_in_few_bytes() -> None:
    masks = np.random.default_rng(0).random((3, 21, 17)) < 0.1
    assert np.array_equal(unpack_masks(pack_masks(masks), masks.shape), masks)
    for kept, shape in ((pack_masks(masks), (3, 21, 25)), (np.zeros(4, np.uint8), masks.shape)):
        with pytest.raises(ValueError, match="masks"):
            unpack_masks(kept, shape)


def test_a_segmented_set_keeps_the_field_and_is_another_set_to_the_cache(ref: ArraySet) -> None:
    box = np.flatnonzero(ref.masks["fov"][0].any(axis=0))
    side = int(box[-1] - box[0] + 1)
    found = np.zeros((1, side, side), bool)
    found[0, 4, 5] = True
    one, other = (
        SegmentedSet(
            ref, structures=["spot"], visible_structures=["spot"], packed_masks={0: pack_masks(masks)}, field=None
        )
        for masks in (found, ~found)
    )
    assert one.structures == ("fov", "spot")
    assert np.array_equal(one[0].masks["fov"], ref.masks["fov"][0])
    assert np.argwhere(one[0].masks["spot"]).tolist() == [[box[0] + 4, box[0] + 5]]
    assert not one[1].masks["spot"].any()
    assert one.recipe(0) != other.recipe(0)
    assert one.recipe(1) == other.recipe(1)
    assert compute_masks_hash(one[0].masks) != compute_masks_hash(other[0].masks)
