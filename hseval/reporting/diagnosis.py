"""Where samples differ, in words: a report's scores read for structure, wavelength and spatial scale.

Every sentence rests on what value and floor hold at equal size; a score that is like real gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hseval.core.report import Report, Score

TOLD = 0.5  # of the largest excess: what comes near it belongs to it

Numbers = Sequence[float]


class Bands:
    """Band centres, and how they are written.

    Args:
        centres: nm by band, or the band's index.
        known: whether they are nm.
    """

    def __init__(self, centres: Numbers, known: bool) -> None:
        self.centres, self.known = centres, known

    def near(self, curve: Numbers) -> str:
        """Return where a curve over bands is highest and, where that is more than one band, how far it reaches."""
        if len(curve) != len(self.centres) or max(curve) <= 0:
            return ""
        first, top, last = reach(curve)
        peak = f"near {self._one(top)}" if self.known else f"at band {self._one(top)}"
        wide = 0 < last - first < len(curve) - 1
        return f"{peak} ({self._one(first, unit=False)} to {self._one(last)})" if wide else peak

    def _one(self, place: int, *, unit: bool = True) -> str:
        return f"{self.centres[place]:.0f}{' nm' if self.known and unit else ''}"


def reach(curve: Numbers) -> tuple[int, int, int]:
    """Return the first, highest and last place of the stretch around a curve's peak that stays above half of it."""
    top = max(range(len(curve)), key=lambda place: curve[place])
    first = last = top
    while first > 0 and curve[first - 1] >= TOLD * curve[top]:
        first -= 1
    while last < len(curve) - 1 and curve[last + 1] >= TOLD * curve[top]:
        last += 1
    return first, top, last


def at(details: Mapping[str, Any], *path: str) -> Any:
    """Return what lies at a path of keys, or None."""
    found: Any = details
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def both(score: Score, *path: str) -> tuple[Any, Any] | None:
    """Return value and floor of a detail at equal size, or None where one is missing."""
    value, floor = at(score.details, "at_n", *path), at(score.details, "floor_at_n", *path)
    return None if value is None or floor is None else (value, floor)


def excess(score: Score, *path: str) -> list[float]:
    """Return how far a curve lies above its floor; empty where one is missing."""
    curves = both(score, *path)
    return [a - b for a, b in zip(*curves, strict=True)] if curves and len(curves[0]) == len(curves[1]) else []


def worst(score: Score, where: str, *, least: float | None = None) -> list[str]:
    """Return the entries of a detail whose value exceeds its floor, worst first: the top and those near it.

    With ``least``, those whose excess is at least that.
    """
    found = {}
    for name in at(score.details, "at_n", where) or {}:
        pair = both(score, where, name, "value")
        if pair is not None:
            found[name] = pair[0] - pair[1]
    bar = TOLD * max(found.values(), default=0.0) if least is None else least
    return [name for name in sorted(found, key=lambda name: -found[name]) if found[name] > 0 and found[name] >= bar]


DIFFERS = ("worse than real", "too high", "too low")
NAMED = 3  # structures in one sentence
FEEBLE = 0.1  # of a real structure's deviation: a difference of means below it is no direction
STRANGER = 1.0  # deviations of real cubes from which a part of plausibility is told
FINE = 0.25  # cycles/px from which structure counts as fine
LOCAL = 1.5  # times the mean over bands from which a band stands out


def where(report: Report) -> list[str]:
    """Return sentences that say where the samples of a report differ from real cubes, score by score."""
    about = report.provenance.get("sets", {}).get("reference", {})
    bands = Bands([float(centre) for centre in about.get("wavelengths", [])], about.get("wavelengths_known", True))
    told: list[str] = []
    for score in report.scores:
        says = SAYS.get(score.name)
        if says is not None and score.verdict.startswith(DIFFERS):
            told.extend(f"{score.name}: {sentence}" for sentence in says(score, bands))
    return [*told, *_views({score.name: score for score in report.scores})]


def _spectral_kl(score: Score, bands: Bands) -> Iterator[str]:
    places = []
    for name in worst(score, "structures")[:NAMED]:
        curve = excess(score, "structures", name, "by_wavelength")
        near = bands.near(curve) if curve else ""
        places.append(f"{_named(name)}{near and ' ' + near}{_direction(score, name, curve)}")
    if places:
        yield f"values differ most {places[0]}" + "".join(f"; also {place}" for place in places[1:])


def _direction(score: Score, name: str, curve: Numbers) -> str:
    """Return which way the values of a structure differ where the curve is highest."""
    means, spreads = (at(score.details, "at_n", "structures", name, what) for what in ("means", "deviations"))
    if not (means and spreads and curve):
        return ""
    top = reach(curve)[1]
    real, fake = spreads["reference"][top], spreads["samples"][top]
    if real <= 0:
        return ", where real values do not vary"
    away = (means["samples"][top] - means["reference"][top]) / real
    if abs(away) >= FEEBLE:
        return f", where samples are {'brighter' if away > 0 else 'darker'} by {abs(away):.2g} real deviations"
    if abs(fake / real - 1) >= FEEBLE:
        return f", where samples vary {fake / real:.2g} times as much as real pixels"
    return ", in the shape of their distribution"


def _spectral_angle(score: Score, bands: Bands) -> Iterator[str]:
    for name in worst(score, "structures")[:1]:
        angles = both(score, "structures", name, "value")
        turned = at(score.details, "at_n", "structures", name, "turned")
        curve = excess(score, "structures", name, "by_wavelength")
        if angles is None or not turned or not curve:
            continue
        near, way = bands.near(curve), "bright" if turned[reach(curve)[1]] > 0 else "dark"
        told = f"the mean spectrum {_named(name)} is {angles[0]:.2g} degrees off (real cubes: {angles[1]:.2g})"
        yield told + (f", too {way} {near} against the other bands" if near else "")


def _band_covariance(score: Score, bands: Bands) -> Iterator[str]:
    near = bands.near(excess(score, "structures", "fov", "by_wavelength") or [0.0])
    if near:
        yield f"bands go together otherwise than in real cubes, most {near}" + _alike(score)


def _alike(score: Score) -> str:
    pair = both(score, "structures", "fov", "neighbours")
    if pair is None or abs(pair[0]) < max(2 * abs(pair[1]), TOLD * (score.value or 0.0)):
        return ""
    return f"; neighbouring bands are {'more' if pair[0] > 0 else 'less'} alike than real ones"


def _power_spectrum(score: Score, bands: Bands) -> Iterator[str]:
    curve, cycles = excess(score, "by_frequency"), at(score.details, "at_n", "frequencies")
    leaning, off = (at(score.details, "at_n", f"{what}_frequency") for what in ("leaning_by", "by"))
    if curve and cycles and leaning and max(curve) > 0:
        told = _power(reach(curve), cycles, leaning, off)
        yield told + _standing_out(excess(score, "by_wavelength"), bands)


def _power(stretch: tuple[int, int, int], cycles: Numbers, leaning: Numbers, off: Numbers) -> str:
    """Return which way the power differs, at which periods, and by how many dB (root mean square over bands)."""
    first, top, last = stretch
    periods = f"periods of {1 / cycles[last]:.2g} to {1 / cycles[first]:.2g} px" if first != last else ""
    periods = periods or f"periods of about {1 / cycles[top]:.2g} px"
    if abs(leaning[top]) < TOLD:
        return f"power is {off[top]:.2g} dB off, up in some bands and down in others ({periods})"
    lost, fine = leaning[top] < 0, cycles[top] > FINE
    if last - first == len(cycles) - 1:
        scale, like = "structure at every scale", ""
    else:
        scale = "fine structure" if fine else "coarse structure"
        like = "" if not fine else ", as after a blur" if lost else ", as with noise"
    return f"too {'little' if lost else 'much'} {scale}{like} ({periods}, by {off[top]:.2g} dB at most)"


def _standing_out(curve: Numbers, bands: Bands) -> str:
    """Return the bands that stand out of a curve over wavelength, where some do."""
    if not curve or max(curve) < LOCAL * sum(curve) / len(curve):
        return ""
    near = bands.near(curve)
    return f", most {near}" if near else ""


def _plausibility(score: Score, bands: Bands) -> Iterator[str]:
    for name in worst(score, "parts", least=STRANGER):
        sentence = PARTS[name](score, bands) if name in PARTS else ""
        if sentence:
            yield sentence


def _of_range(score: Score, bands: Bands) -> str:
    shares = at(score.details, "at_n", "parts", "range")
    negative = shares["negative"]["samples"], shares["negative"]["reference"]
    usual = at(score.details, "floor_at_n", "parts", "range", "outside", "samples")
    told = f"{shares['outside']['samples']:.2g} % of values lie outside the range of real cubes (real: {usual:.2g} %"
    told += f"; negative: {negative[0]:.2g} %)" if negative[0] > negative[1] else ")"
    return told + _standing_out(shares["by_wavelength"]["samples"], bands)


def _of_unmixing(score: Score, bands: Bands) -> str:
    found = at(score.details, "at_n", "parts", "unmixing")
    residual, curves = found["residual"], found["by_wavelength"]
    told = f"spectra leave {residual['samples']:.2g} % of the signal when unmixed (real: {residual['reference']:.2g} %)"
    away = [abs(a - b) for a, b in zip(curves["samples"], curves["reference"], strict=True)]
    return told + _standing_out(away, bands)


def _of_noise(score: Score, bands: Bands) -> str:
    found = at(score.details, "at_n", "parts", "noise")
    ratio, curve = found["ratio"], found["ratio_by_wavelength"]
    away = [max(each, 1 / max(each, 1e-12)) - 1 for each in curve]
    return f"noise is {ratio:.2g} times that of real cubes{_standing_out(away, bands)}"


def _views(scores: Mapping[str, Score]) -> Iterator[str]:
    """Yield what the two views of ``fid`` say together."""
    views = [scores.get(name) for name in ("fid-spectral", "fid-spatial")]
    if any(view is None or view.value is None or view.floor is None for view in views):
        return
    spectral, spatial = (view.verdict.startswith(DIFFERS) for view in views if view is not None)
    told = ", ".join(f"{view.name} {view.value:.3g}, floor {view.floor:.3g}" for view in views if view is not None)
    whole = scores.get("fid")
    if spectral and spatial:
        yield f"both spectra and space differ ({told})"
    elif spectral:
        yield f"spectra differ, space alone does not ({told})"
    elif spatial:
        yield f"space differs, spectra alone do not ({told})"
    elif whole is not None and whole.verdict.startswith(DIFFERS):
        yield f"neither spectra alone nor space alone differ, but how they go together ({told})"


def _named(structure: str) -> str:
    return "over the field of view" if structure == "fov" else f"in {structure}"


SAYS: Mapping[str, Callable[[Score, Bands], Iterator[str]]] = {
    "spectral-kl": _spectral_kl,
    "spectral-angle": _spectral_angle,
    "band-covariance": _band_covariance,
    "power-spectrum": _power_spectrum,
    "plausibility": _plausibility,
}
PARTS: Mapping[str, Callable[[Score, Bands], str]] = {
    "range": _of_range,
    "unmixing": _of_unmixing,
    "noise": _of_noise,
}
