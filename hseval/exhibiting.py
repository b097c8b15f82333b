"""From described sets to exhibits: the few cubes that are shown are read again, all else comes from rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.exhibits import Exhibits, Pair, Shown
from hseval.exhibits_rows import embedding, spectra, values
from hseval.prepare import valid_pixels
from hseval.previewing.pictures import SIDE, Painter, masked
from hseval.seeds import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.hookspecs import Metric
    from hseval.report import Score
    from hseval.run import Described, Run

CUBES = 4  # of each side that are shown
PAIRS = 6  # nearest pairs that are shown


def exhibits_of(described: Described, scores: Sequence[Score], run: Run, *, extractor: str | None) -> Exhibits:
    """Return what a report shows besides its scores.

    Args:
        described: the sets.
        scores: their scores; those with ``nearest_pairs`` say which pairs are shown.
        run: its seed draws, and what metrics left in ``run.shown`` becomes histograms.
        extractor: whose rows are laid in the plane, or None.
    """
    info = described.sets.reference.info
    real, fake = (_drawn(described, role, run.seed) for role in ("reference", "samples"))
    shape = tuple(np.max([cube.shape[1:] for _, cube in (*real, *fake)], axis=0).tolist())
    cubes = [cube for _, cube in real]
    known: dict[str, Any] = {"known": info.wavelengths_known, "units": info.units, "shape": shape}
    painter = Painter.of(cubes, info.wavelengths, **known)
    small = Painter.of(cubes, info.wavelengths, **known, side=SIDE // 2)
    sets = {role: getattr(described, role) for role, _ in described.sets.named()}
    order = [role for role in ("train", "reference", "samples") if role in sets]
    return Exhibits(
        wavelengths=info.wavelengths,
        look=painter.look(),
        real=tuple(painter.shown(cube, id) for id, cube in real),
        fake=tuple(painter.shown(cube, id) for id, cube in fake),
        pairs=tuple(_pairs(described, scores, small)),
        spectra=tuple(spectra(described.reference.rows, described.samples.rows)),
        embedding=embedding(extractor, {role: sets[role] for role in order}, seed=run.seed),
        values=tuple(values(run.shown or {}, seed=run.seed)),
    )


def embedded_by(metrics: Sequence[Metric]) -> str | None:
    """Return the feature extractor whose rows are to be shown in the plane: that of the first metric with a choice."""
    chosen = (getattr(getattr(metric, "options", None), "extractor", None) for metric in metrics)
    return next((each for each in chosen if isinstance(each, str)), None)


def turned(data: NDArray[Any], placement: str) -> NDArray[Any]:
    """Return a cube ``(band, y, x)`` turned and mirrored as a metric says that it fits best.

    Args:
        data: the cube.
        placement: in words, as ``"turned 90 degrees, mirrored, shifted by (1, 0) cells"``; shifts are left out.
    """
    angle = re.search(r"turned (90|180|270) degrees", placement)
    found = np.rot90(data, int(angle[1]) // 90 if angle else 0, axes=(-2, -1))
    return found[..., ::-1] if "mirrored" in placement else found


def _drawn(described: Described, role: str, seed: int) -> list[tuple[str, NDArray[Any]]]:
    """Return ids and pixels of some cubes, drawn by content."""
    found = getattr(described, role)
    picked = stream(seed, f"pictures of {role}").permutation(len(found.index))[:CUBES]
    return [_read(described, role, int(found.index[row])) for row in picked]


def _read(described: Described, role: str, place: int) -> tuple[str, NDArray[Any]]:
    cube = getattr(described.sets, role)[place]
    return cube.id, masked(cube.data, valid_pixels(cube, described.plans[role].field))


def _pairs(described: Described, scores: Sequence[Score], painter: Painter) -> Iterator[Pair]:
    """Yield the nearest pairs that a score names by their ids."""
    if described.sets.train is None:
        return
    places = {
        "sample": ("samples", {id: i for i, id in enumerate(described.sets.samples.ids)}),
        "training": ("train", {id: i for i, id in enumerate(described.sets.train.ids)}),
    }
    for named in _named_pairs(scores)[:PAIRS]:
        if not all(named.get(side) in ids for side, (_, ids) in places.items()):
            continue
        read = {side: _read(described, role, ids[named[side]]) for side, (role, ids) in places.items()}
        placement = str(named.get("placement", ""))
        sample, training = _shown(painter, read["sample"], placement), _shown(painter, read["training"], "")
        distance = named.get("distance")
        yield Pair(sample, training, distance if isinstance(distance, float) else None, placement)


def _shown(painter: Painter, read: tuple[str, NDArray[Any]], placement: str) -> Shown:
    id, data = read
    return painter.shown(turned(data, placement), id)


def _named_pairs(scores: Sequence[Score]) -> list[Mapping[str, Any]]:
    """Return the first score's pairs that name a sample and a training cube."""
    for score in scores:
        pairs = [pair for pair in score.details.get("nearest_pairs") or [] if {"sample", "training"} <= pair.keys()]
        if pairs:
            return pairs
    return []
