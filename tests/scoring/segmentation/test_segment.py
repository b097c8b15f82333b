"""Scores with a segmenter's masks, end to end: when it is used, what it changes, and what the report states."""

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
from hseval.core.report_file import load_report
from hseval.core.score_records import OwnMaskScore, SegmentationRecord
from hseval.data.content_hash import compute_masks_hash
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan
from hseval.reporting.summary import iterate_remarks
from hseval.scoring.segmentation.cross_fit import build_folds
from hseval.scoring.segmentation.jobs import FitJob, SegmenterSpec, SegmentJob
from hseval.scoring.segmentation.segmented_set import SegmentedSet, pack_masks, unpack_masks
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.sets import make_texture_set, replace_parts, save_set

FAST = {"pixels": {"trees": 8, "pixels": 3000}}
KL = "spectral-kl"


def remove_masks(base: ArraySet, *keep: str) -> ArraySet:
    return replace_parts(base, masks={name: base.masks[name] for name in ("fov", *keep) if name in base.masks})


def score(samples: Any, ref: Any, **arguments: Any) -> Report:
    return hseval.score(samples, ref=ref, **{"metrics": [KL], "options": FAST, **arguments})


def get_masks(report: Report) -> SegmentationRecord:
    record = report[KL].segmentation
    assert record is not None
    return record


def get_own_masks(report: Report) -> OwnMaskScore:
    own_masks = get_masks(report).own_masks
    assert own_masks is not None
    return own_masks


def remove_provenance(report: Report) -> str:
    return json.dumps({**json.loads(report.to_json()), "provenance": None})


@pytest.fixture(autouse=True, scope="module")
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Use one cache for all tests here: most score against the same reference."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def samples() -> ArraySet:
    return make_texture_set(24, seed=1)


@pytest.fixture(scope="module")
def ref() -> ArraySet:
    return make_texture_set(24, seed=2)


@pytest.fixture(scope="module")
def scored(samples: ArraySet, ref: ArraySet) -> Report:
    return score(remove_masks(samples), ref)


def test_real_cubes_without_masks_score_like_the_floor(scored: Report) -> None:
    score = scored[KL]
    assert score.verdict == "like real"
    assert set(score.details["structures"]) == {"bright", "dark"}
    assert score.details["masks_from"] == {"reference": "pixels", "samples": "pixels"}
    assert score.value == pytest.approx(score.floor, rel=0.5)


def test_the_report_states_the_source_and_accuracy_of_masks(scored: Report) -> None:
    masks = get_masks(scored)
    assert (masks.segmenter, masks.own_masks) == ("pixels", None)
    assert all(dice is not None and dice > 0.7 for dice in masks.dice.values())
    assert any("'pixels', as the samples lack masks of: bright, dark" in note for note in scored.notes)
    assert any(f"held-out Dice on the reference: bright {masks.dice['bright']:.2f}" in note for note in scored.notes)
    provenance = json.loads(scored.to_json())["provenance"]["segmenter"]
    assert provenance["options"] == {"trees": 8, "pixels": 3000}
    assert provenance["version"]


def test_samples_with_all_masks_are_not_segmented(samples: ArraySet, ref: ArraySet) -> None:
    report = score(samples, ref)
    assert report[KL].details["masks_from"] == {"reference": "set", "samples": "set"}
    assert report[KL].segmentation is None
    assert any(
        "masks supplied by the generator may bias the score (--segmenter pixels" in note for note in report.notes
    )
    assert "segmenter" not in report.provenance
    assert remove_provenance(report) == remove_provenance(score(samples, ref, segmenter="none"))


def test_none_uses_the_masks_in_the_files(samples: ArraySet, ref: ArraySet) -> None:
    report = score(remove_masks(samples, "bright"), ref, segmenter="none")
    assert set(report[KL].details["structures"]) == {"bright"}


def test_other_metrics_do_not_change_by_a_digit(samples: ArraySet, ref: ArraySet) -> None:
    arguments = {"metrics": ["fid", KL, "ms-ssim", "authenticity"], "train": make_texture_set(24, seed=3)}
    arguments["options"] = {**FAST, "ms-ssim": {"pairs": 60}}
    segmented, unsegmented = (score(remove_masks(samples), ref, segmenter=name, **arguments) for name in (None, "none"))
    assert segmented[KL] != unsegmented[KL]
    for name in ("fid", "ms-ssim", "authenticity"):
        scores, other_scores = (json.loads(report.to_json())["scores"] for report in (segmented, unsegmented))
        index = [score["name"] for score in scores].index(name)
        for record in (scores[index], other_scores[index]):
            del record["p_adjusted"]  # of all scores together
        assert scores[index] == other_scores[index]


def test_both_scores_are_shown_where_samples_have_masks(samples: ArraySet, ref: ArraySet) -> None:
    by_own, report = score(samples, ref)[KL], score(samples, ref, segmenter="pixels")
    own, agreement = get_own_masks(report), get_masks(report).agreement or {}
    assert (own.value, own.floor, own.verdict) == (by_own.value, by_own.floor, by_own.verdict)
    assert any(f"{by_own.value:.4g}, floor {by_own.floor:.4g}" in remark for remark in iterate_remarks(report[KL]))
    assert report[KL].details["masks_from"]["samples"] == "pixels"
    assert set(agreement) == {"bright", "dark"}
    assert all(dice is not None and dice > 0.7 for dice in agreement.values())


def test_samples_with_some_masks_are_scored_with_these_too(samples: ArraySet, ref: ArraySet) -> None:
    report = score(remove_masks(samples, "bright"), ref)
    assert set(report[KL].details["structures"]) == {"bright", "dark"}
    assert set(get_own_masks(report).structures or ()) == set(get_masks(report).agreement or ()) == {"bright"}


def test_masks_that_bias_a_score_are_detected(samples: ArraySet, ref: ArraySet) -> None:
    # The generator's masks leave out the half of each cube with wrong colors.
    tint = np.linspace(0.75, 1.25, samples.cubes.shape[1], dtype=np.float32)[:, None, None]
    right_half = np.zeros(samples.cubes.shape[2:], bool)
    right_half[:, right_half.shape[1] // 2 :] = True
    cubes = np.where(right_half & samples.masks["fov"][:, None], samples.cubes * tint, samples.cubes)
    masks = {name: mask if name == "fov" else mask & ~right_half for name, mask in samples.masks.items()}
    report = score(replace_parts(samples, cubes=cubes, masks=masks), ref, segmenter="pixels")
    assert (get_own_masks(report).verdict, report[KL].verdict) == ("like real", "worse than real")
    dice, agreement = get_masks(report).dice, get_masks(report).agreement or {}
    assert all((agreement[name] or 0) < (dice[name] or 0) - 0.1 for name in dice)


def test_misplaced_masks_do_not_affect_the_score_of_good_cubes(samples: ArraySet, ref: ArraySet) -> None:
    shifted = {n: m if n == "fov" else np.roll(m, 9, axis=2) & samples.masks["fov"] for n, m in samples.masks.items()}
    report = score(replace_parts(samples, masks=shifted), ref, segmenter="pixels")
    assert (get_own_masks(report).verdict, report[KL].verdict) == ("worse than real", "like real")


def add_noise_masks(ref: ArraySet, *names: str) -> ArraySet:
    rng = np.random.default_rng(0)
    noise = {name: (rng.random(ref.masks[name].shape) < 0.1) & ref.masks["fov"] for name in names}
    return replace_parts(ref, masks={**ref.masks, **noise})


def test_structures_that_a_segmenter_does_not_find_are_left_out(samples: ArraySet, ref: ArraySet) -> None:
    report = score(remove_masks(samples), add_noise_masks(ref, "bright"))
    assert set(report[KL].details["structures"]) == {"dark"}
    assert any(re.search(r"left out: bright \(held-out Dice of 0\.\d\d", note) for note in report.notes)


def test_a_segmenter_that_finds_nothing_is_not_used(samples: ArraySet, ref: ArraySet) -> None:
    noise = add_noise_masks(ref, "bright", "dark")
    report = score(remove_masks(samples), noise)
    assert set(report[KL].details["structures"]) == {"fov"}
    assert any("finds none of the reference's structures" in note for note in report.notes)
    with pytest.raises(HsevalError, match="finds none of the reference's structures"):
        score(remove_masks(samples), noise, segmenter="pixels")


def test_no_segmenter_is_fitted_for_structures_that_can_not_be_learned(samples: ArraySet, ref: ArraySet) -> None:
    once = np.zeros_like(ref.masks["dark"])
    once[0] = ref.masks["dark"][0]
    report = score(samples, replace_parts(ref, masks={**ref.masks, "once": once}))
    assert report[KL].segmentation is None
    assert any(
        note.startswith("using the masks in the files: structures that the samples lack") for note in report.notes
    )


def make_plan(cubes: CubeSet) -> ExtractionPlan:
    return ExtractionPlan((), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths)


def test_no_cube_is_segmented_by_a_model_fitted_on_its_group(ref: ArraySet) -> None:
    grouped = replace_parts(ref, groups=[f"patient-{i % 7}" for i in range(24)])
    with FeatureCache(None) as cache:
        extracted = extract_features(grouped, make_plan(grouped), cache=cache)
    folds = build_folds(SegmenterSpec("pixels"), grouped, extracted, make_plan(grouped))
    groups_by_fold = [{grouped.groups[i] for i in indices} for indices in folds.fit_indices]
    assert groups_by_fold[0] | groups_by_fold[1] == set(grouped.groups)
    assert not groups_by_fold[0] & groups_by_fold[1]
    for content, group in zip(extracted.features.hashes, extracted.features.groups, strict=True):
        assert group not in groups_by_fold[folds.select_model(content, group)]
    new_group_models = [folds.select_model(f"{i * 2654435761 % 2**32:08x}", "\0stranger") for i in range(200)]
    assert 70 < sum(new_group_models) < 130
    assert folds.select_model("0" * 64, "patient-0") == folds.select_model("1" * 64, "patient-0")


def test_ids_without_groups_do_not_assign_folds(ref: ArraySet) -> None:
    with FeatureCache(None) as cache:
        extracted = extract_features(ref, make_plan(ref), cache=cache)
    assert not build_folds(SegmenterSpec("pixels"), ref, extracted, make_plan(ref)).fold_by_group


def test_order_names_and_cache_do_not_matter(samples: ArraySet, ref: ArraySet, scored: Report) -> None:
    order = np.random.default_rng(0).permutation(24)

    def shuffle(base: ArraySet) -> ArraySet:
        masks = {name: mask[order] for name, mask in base.masks.items()}
        return replace_parts(base, cubes=base.cubes[order], masks=masks, ids=[f"renamed-{i}" for i in order])

    again = score(shuffle(remove_masks(samples)), shuffle(ref), cache=False)
    assert (again[KL].value, again[KL].floor) == (scored[KL].value, scored[KL].floor)
    assert again[KL].segmentation == scored[KL].segmentation


def test_jobs_give_the_same_masks_in_workers(ref: ArraySet) -> None:
    spec = SegmenterSpec("pixels", FAST["pixels"])
    fit_job = FitJob(spec, ref, ((0, 2, 4, 6), (1, 3, 5, 7)), ("bright", "dark"), None)
    models = {**fit_job.run_chunk([0]), **send_to_worker(fit_job).run_chunk([1])}
    segment_job = SegmentJob("pixels", ref, {8: 0, 9: 1}, models, fit_job.structures, None, ref.wavelengths)
    masks = dataclasses.replace(segment_job, models=fit_job.run_chunk([0, 1])).run_chunk([8, 9])
    worker_masks = send_to_worker(segment_job).run_chunk([8, 9])
    for index, columns in masks.items():
        for name, column in columns.items():
            assert np.array_equal(column, worker_masks[index][name])


def send_to_worker(job: FitJob | SegmentJob) -> FitJob | SegmentJob:
    """Return the job as a worker process builds it (the processes are tested with what starts them)."""
    build, arguments = pickle.loads(pickle.dumps(job.get_spec()))
    return build(*arguments)


def test_cached_models_are_not_fitted_again(
    samples: ArraySet, ref: ArraySet, scored: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: Any) -> Any:
        raise AssertionError("fitted again")

    monkeypatch.setattr(FitJob, "_fit_fold", raise_error)
    assert remove_provenance(score(remove_masks(samples), ref)) == remove_provenance(scored)
    with pytest.raises(AssertionError, match="fitted again"):
        score(remove_masks(samples), ref, options={"pixels": {"trees": 9, "pixels": 3000}})
    other = ref.masks["dark"].copy()
    other[0] = ref.masks["bright"][0]
    with pytest.raises(AssertionError, match="fitted again"):
        score(remove_masks(samples), replace_parts(ref, masks={**ref.masks, "dark": other}))


def test_a_fitted_unet_is_stored_in_the_cache(
    samples: ArraySet, ref: ArraySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"segmenter": "unet", "options": {"unet": {"steps": 2}}}
    score(remove_masks(samples), ref, **arguments)
    monkeypatch.setattr(FitJob, "_fit_fold", lambda *_: pytest.fail("fitted again"))
    assert get_masks(score(remove_masks(make_texture_set(24, seed=5)), ref, **arguments)).segmenter == "unet"


@pytest.mark.parametrize("kind", ["another grid", "no field", "no field in the reference", "quick", "train"])
def test_sets_with_different_properties_are_scored(samples: ArraySet, ref: ArraySet, kind: str) -> None:
    arguments: dict[str, Any] = {}
    if kind == "another grid":
        samples = make_texture_set(24, size=24, seed=1)
    if kind == "no field":
        samples = replace_parts(samples, masks={})
    if kind == "no field in the reference":
        ref = replace_parts(ref, masks={name: mask for name, mask in ref.masks.items() if name != "fov"})
    if kind == "quick":
        arguments = {"quick": True}
    if kind == "train":
        arguments = {
            "train": replace_parts(ref, cubes=np.concatenate([ref.cubes[:8], samples.cubes[8:]])),
            "metrics": None,
        }
    result = score(remove_masks(samples), ref, **arguments)[KL]
    assert result.value is not None
    assert result.floor is not None
    assert set(result.details["structures"]) == {"bright", "dark"}


def test_a_cube_without_a_valid_pixel_is_left_out(samples: ArraySet, ref: ArraySet) -> None:
    cubes = samples.cubes.copy()
    cubes[3] = np.nan
    report = score(remove_masks(replace_parts(samples, cubes=cubes)), ref)
    assert report[KL].value is not None
    assert "1 sample without a valid pixel" in report.notes[0]


def test_masks_of_one_group_can_not_fit_a_segmenter(samples: ArraySet, ref: ArraySet) -> None:
    one_patient = replace_parts(ref, groups=["patient"] * 24)
    report = score(remove_masks(samples), one_patient)
    assert any(note.startswith("using the masks in the files, without a segmenter: ") for note in report.notes)
    assert report[KL].details["masks_from"]["samples"] == "set"
    with pytest.raises(HsevalError, match="no structure is in two groups"):
        score(remove_masks(samples), one_patient, segmenter="pixels")


def test_a_structure_of_one_group_is_left_out(samples: ArraySet, ref: ArraySet) -> None:
    once = np.zeros_like(ref.masks["dark"])
    once[0] = ref.masks["dark"][0]
    report = score(remove_masks(samples), replace_parts(ref, masks={**ref.masks, "once": once}))
    assert any(note.startswith("structures left out: once (in fewer than two groups") for note in report.notes)
    assert set(report[KL].details["structures"]) == {"bright", "dark"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segmenter": "pixel"}, "no segmenter is called 'pixel'"),
        ({"segmenter": "pixels", "metrics": ["fid"]}, "none of the requested metrics uses structures"),
        ({"options": {"pixels": {"tree": 3}}}, "has no option 'tree'"),
    ],
)
def test_invalid_arguments_are_refused(
    samples: ArraySet, ref: ArraySet, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(HsevalError, match=message):
        score(samples, ref, **arguments)


def test_a_reference_without_masks_can_not_fit_a_segmenter(samples: ArraySet, ref: ArraySet) -> None:
    assert score(remove_masks(samples), remove_masks(ref))[KL].value is not None
    with pytest.raises(HsevalError, match="has no masks that it could be fitted on"):
        score(remove_masks(samples), remove_masks(ref), segmenter="pixels")


def test_the_command_line_takes_a_segmenter(
    tmp_path: Path, samples: ArraySet, ref: ArraySet, hseval: Callable[..., Any]
) -> None:
    generated, real = save_set(tmp_path / "samples.h5", remove_masks(samples)), save_set(tmp_path / "real.h5", ref)
    fast = ("--metrics", KL, "--set", "pixels.trees=8", "--set", "pixels.pixels=3000")
    outcome = hseval("score", generated, "--ref", real, *fast, "--json", tmp_path / "report.json")
    assert outcome.status == 0
    assert "held-out Dice on the reference: bright" in outcome.out
    assert get_masks(load_report(tmp_path / "report.json")).segmenter == "pixels"
    again = hseval("score", generated, "--ref", real, *fast)  # by file stamps, with features and masks from the cache
    assert again.out == outcome.out
    without = hseval("score", generated, "--ref", real, *fast, "--segmenter", "none")
    assert without.status == 0
    assert "Dice" not in without.out
    wrong = hseval("score", generated, "--ref", real, "--segmenter", "pixles")
    assert wrong.status == 2
    assert "did you mean" in wrong.err
    requested = hseval("score", real, "--ref", real, *fast, "--segmenter", "pixels")
    assert "Dice of its masks and the samples' own: bright" in requested.out


def test_packed_masks_round_trip() -> None:
    masks = np.random.default_rng(0).random((3, 21, 17)) < 0.1
    assert np.array_equal(unpack_masks(pack_masks(masks), masks.shape), masks)
    for packed, shape in ((pack_masks(masks), (3, 21, 25)), (np.zeros(4, np.uint8), masks.shape)):
        with pytest.raises(ValueError, match="masks"):
            unpack_masks(packed, shape)


def test_a_segmented_set_preserves_the_field_and_has_its_own_cache_key(ref: ArraySet) -> None:
    box = np.flatnonzero(ref.masks["fov"][0].any(axis=0))
    side = int(box[-1] - box[0] + 1)
    mask = np.zeros((1, side, side), bool)
    mask[0, 4, 5] = True
    segmented, inverted = (
        SegmentedSet(
            ref, structures=["spot"], visible_structures=["spot"], packed_masks={0: pack_masks(masks)}, field=None
        )
        for masks in (mask, ~mask)
    )
    assert segmented.structures == ("fov", "spot")
    assert np.array_equal(segmented[0].masks["fov"], ref.masks["fov"][0])
    assert np.argwhere(segmented[0].masks["spot"]).tolist() == [[box[0] + 4, box[0] + 5]]
    assert not segmented[1].masks["spot"].any()
    assert segmented.recipe(0) != inverted.recipe(0)
    assert segmented.recipe(1) == inverted.recipe(1)
    assert compute_masks_hash(segmented[0].masks) != compute_masks_hash(inverted[0].masks)
