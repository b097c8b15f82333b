"""Scores whose masks come from a segmenter: when one is used, what is described through it, what the report says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD
from hseval.core.plugin_manager import plugins
from hseval.core.report import Score
from hseval.pipeline.context import Described, Run
from hseval.pipeline.extract import Description
from hseval.pipeline.inputs import Sets
from hseval.pipeline.worker import Chosen, Plan, reads_structures
from hseval.scoring.score_metric import score_of
from hseval.scoring.segmentation.cross_fit import Crossfit, Folds, NothingFoundError, fold
from hseval.scoring.segmentation.jobs import AGREEMENT, MASKS, Choice, Columns
from hseval.scoring.segmentation.quality import POOR, Segmentation
from hseval.scoring.segmentation.segmented_set import SegmentedSet
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Metric

DEFAULT = "pixels"
NONE = "none"

Found = Mapping[str, Description]
Describe = Callable[..., Description]


def choose(
    name: str | None, sets: Sets, extractors: Mapping[str, Chosen], options: Mapping[str, Any], device: str
) -> Choice | None:
    """Return the segmenter to use, or None: masks as they come.

    Without a name, the default one where the samples lack masks of a structure that the reference has.

    Raises:
        HsevalError: a segmenter was asked for that is not there, that nothing needs, or that can't be fitted.
    """
    if name is not None and name != NONE:
        plugins().find("segmenter", name)
    if name == NONE:
        return None
    wanted = set(sets.reference.structures) - {FIELD}
    lacking = tuple(sorted(wanted - set(sets.samples.structures)))
    chosen = Choice(name or DEFAULT, name is not None, lacking, options.get(name or DEFAULT, {}), device)
    if not any(_reads(each) for each in extractors.values()):
        if name is not None:
            raise HsevalError(f"--segmenter {name}: none of the metrics asked for looks at structures")
        return None
    if not wanted and name is not None:
        raise HsevalError(
            f"--segmenter {name}: the reference {sets.reference.info.location} has no masks that it could be fitted on"
        )
    return chosen if wanted and (name is not None or lacking) else None


@dataclasses.dataclass(frozen=True)
class Masked:
    """Sets described by the masks that a segmenter found.

    Attributes:
        about: the segmenter, and how good its masks are.
        found: the described sets, by role.
        own: the sets described by the masks that they came with; None where the samples bring none of use.
    """

    about: Segmentation
    found: Found
    own: Described | None

    def told(self, scores: Sequence[Score], metrics: Sequence[Metric], run: Run) -> list[Score]:
        """Return the scores: those that look at structures with whose masks tell them, and the value by the sets' own.

        Args:
            scores: by the segmenter's masks.
            metrics: theirs.
            run: how the others are computed.
        """
        return [self._told(score, metric, run) for score, metric in zip(scores, metrics, strict=True)]

    def _told(self, score: Score, metric: Metric, run: Run) -> Score:
        if not set(metric.needs.rows) & set(self.about.reading):
            return score
        details = {**score.details, "segmenter": self.about.details()}
        if self.own is not None:
            details |= _beside(score_of(metric, self.own, run, intervals=False), details)
        return dataclasses.replace(score, details=details)


def own_masks_note(sets: Sets, extractors: Mapping[str, Chosen]) -> list[str]:
    """Return what is to be known where no segmenter is used, and the samples' own masks tell their structures."""
    if not _brought(sets) or not any(_reads(each) for each in extractors.values()):
        return []
    return [
        "structures are where the sets' own masks say; a generator's own may flatter it (--segmenter "
        f"{DEFAULT} finds them in all sets alike, and shows both figures)"
    ]


def plain_plan(choice: Choice | None, sets: Sets, plan: Plan) -> Plan:
    """Return the plan by which a set is described before structures are found in it.

    What looks at structures waits, unless the samples bring masks that a second score can be had by.
    """
    if choice is None or _brought(sets):
        return plan
    return dataclasses.replace(plan, extractors=tuple(each for each in plan.extractors if not _reads(each)))


def masked_sets(choice: Choice, described: Described, found: Found, run: Run, describe: Describe) -> Masked | str:
    """Return the sets described by the masks that a segmenter finds in them.

    Args:
        choice: the segmenter.
        described: the sets by :func:`plain_plan`, for the score by their own masks.
        found: the same, shared cubes included.
        run: how.
        describe: describes a set by a plan.

    Returns:
        a note instead where nobody asked for the segmenter, and it can't be fitted, finds nothing or nothing new.

    Raises:
        HsevalError: it was asked for and can't be fitted or finds nothing, or it fails.
    """
    try:
        reference, plan = described.sets.reference, described.plans["reference"]
        folds = fold(choice, reference, found["reference"], plan)
        if why := _not_worth_it(choice, folds, _brought(described.sets)):
            return why
        return _masked(Crossfit(choice, reference, folds, plan, run), described, found, describe)
    except NothingFoundError as error:
        if choice.asked:
            raise
        return f"masks as they come, and no segmenter: {error}"


def _not_worth_it(choice: Choice, folds: Folds, brought: Sequence[str]) -> str:
    """Return why no segmenter is used though nobody forbade it, or ``""``."""
    if choice.asked or not brought or set(choice.lacking) & set(folds.structures):
        return ""
    few = "; ".join(f"{name}: {folds.left_out[name]}" for name in choice.lacking)
    return f"masks as they come: what the samples lack masks of can't be segmented ({few})"


def _masked(models: Crossfit, described: Described, found: Found, describe: Describe) -> Masked:
    """Return the sets described by the masks of all structures that are found on held-out cubes.

    Raises:
        HsevalError: the segmenter fails, or finds none.
    """
    sets, plans, choice, folds = described.sets, described.plans, models.choice, models.folds
    of_reference = models.masks_of(sets.reference, found["reference"], what="reference")
    reading = tuple(each.name for each in plans["reference"].extractors if _reads(each))
    brought = _brought(sets)
    held_out = _agreement(of_reference)[folds.annotated]
    about = Segmentation(choice, folds, reading, held_out, None, brought)
    if not about.kept():
        raise NothingFoundError(
            f"{choice.name!r} finds none of the reference's structures on held-out cubes: Dice {about.listed()}, "
            f"expected at least {POOR} (--segmenter none scores by the sets' own masks)"
        )
    whole = dict(found)
    for role, cubes in sets.named():
        looking = tuple(each for each in plans[role].extractors if _reads(each))
        if not looking:
            continue
        columns = of_reference if role == "reference" else models.masks_of(cubes, found[role], what=role)
        if role == "samples" and brought:
            about = dataclasses.replace(about, on_samples=_agreement(columns))
        masks = {int(place): each[MASKS] for place, each in zip(found[role].index, columns, strict=True)}
        segmented = SegmentedSet(
            cubes, structures=folds.structures, kept=about.kept(), masks=masks, field=plans[role].field
        )
        names = tuple(sorted({FIELD, *segmented.structures}))
        plan = dataclasses.replace(plans[role], extractors=looking, structures=names)
        by_masks = describe(segmented, plan, models.run, what=f"structures of {role}")
        whole[role] = merged(found[role], by_masks, [each.name for each in looking], choice.name)
    return Masked(about, whole, described if brought else None)


def _agreement(columns: Sequence[Columns]) -> NDArray[Any]:
    return np.stack([each[AGREEMENT] for each in columns])


def merged(plain: Description, segmented: Description, names: Sequence[str], masks_from: str) -> Description:
    """Return a described set whose columns of the extractors ``names`` are those of its segmented twin."""
    place = {int(index): row for row, index in enumerate(segmented.index)}
    rows = segmented.rows.take(np.array([place[int(index)] for index in plain.index], dtype=np.int64)).only(names)
    kept = {name: column for name, column in plain.rows.columns.items() if name.split("/", maxsplit=1)[0] not in names}
    columns = {**kept, **rows.columns}
    told = dataclasses.replace(plain.rows, columns=columns, structures=rows.structures, masks_from=masks_from)
    return dataclasses.replace(plain, rows=told)


def _reads(chosen: Chosen) -> bool:
    return reads_structures(chosen.build())


def _brought(sets: Sets) -> tuple[str, ...]:
    """Return the structures of the reference that the samples come with masks of."""
    return tuple(sorted(set(sets.samples.structures) & set(sets.reference.structures) - {FIELD}))


def _beside(own: Score, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details that show a score by the sets' own masks."""
    kept = {"value": own.value, "floor": own.floor, "verdict": own.verdict, "n": own.n}
    kept |= {name: own.details[name] for name in ("spread", "floor_spread", "structures") if name in own.details}
    shown = dict(details.get("shown") or {})
    shown["by the sets' own masks (the samples' may flatter): value"] = own.value
    shown["by the sets' own masks: floor"] = own.floor
    return {"own_masks": kept, "shown": shown}
