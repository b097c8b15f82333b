"""Where samples differ, in words: a report's scores read for structure, wavelength and spatial scale.

Every sentence rests on what value and floor hold at equal size; a score that is like real gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hseval.core.report import Report, Score

RELATIVE_THRESHOLD = 0.5  # of the largest excess: what comes near it belongs to it

Numbers = Sequence[float]


class BandAxis:
    """Band centres, and how they are written.

    Args:
        centers: nm by band, or the band's index.
        in_nm: whether they are nm.
    """

    def __init__(self, centers: Numbers, in_nm: bool) -> None:
        self.centers, self.in_nm = centers, in_nm

    def format_peak(self, curve: Numbers) -> str:
        """Return where a curve over bands is highest and, where that is more than one band, how far it reaches."""
        if len(curve) != len(self.centers) or max(curve) <= 0:
            return ""
        first, top, last = find_peak_range(curve)
        peak = f"near {self._format_band(top)}" if self.in_nm else f"at band {self._format_band(top)}"
        wide = 0 < last - first < len(curve) - 1
        return f"{peak} ({self._format_band(first, unit=False)} to {self._format_band(last)})" if wide else peak

    def _format_band(self, index: int, *, unit: bool = True) -> str:
        return f"{self.centers[index]:.0f}{' nm' if self.in_nm and unit else ''}"


def find_peak_range(curve: Numbers) -> tuple[int, int, int]:
    """Return the first, highest and last place of the stretch around a curve's peak that stays above half of it."""
    top = max(range(len(curve)), key=lambda place: curve[place])
    first = last = top
    while first > 0 and curve[first - 1] >= RELATIVE_THRESHOLD * curve[top]:
        first -= 1
    while last < len(curve) - 1 and curve[last + 1] >= RELATIVE_THRESHOLD * curve[top]:
        last += 1
    return first, top, last


def get_nested(details: Mapping[str, Any], *path: str) -> Any:
    """Return what lies at a path of keys, or None."""
    found: Any = details
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def get_value_and_floor(score: Score, *path: str) -> tuple[Any, Any] | None:
    """Return value and floor of a detail at equal size, or None where one is missing."""
    value, floor = get_nested(score.details, "at_n", *path), get_nested(score.details, "floor_at_n", *path)
    return None if value is None or floor is None else (value, floor)


def compute_excess(score: Score, *path: str) -> list[float]:
    """Return how far a curve lies above its floor; empty where one is missing."""
    curves = get_value_and_floor(score, *path)
    return [a - b for a, b in zip(*curves, strict=True)] if curves and len(curves[0]) == len(curves[1]) else []


def list_worst(score: Score, section: str, *, min_excess: float | None = None) -> list[str]:
    """Return the entries of a detail whose value exceeds its floor, worst first: the top and those near it.

    With ``min_excess``, those whose excess is at least that.
    """
    found = {}
    for name in get_nested(score.details, "at_n", section) or {}:
        pair = get_value_and_floor(score, section, name, "value")
        if pair is not None:
            found[name] = pair[0] - pair[1]
    bar = RELATIVE_THRESHOLD * max(found.values(), default=0.0) if min_excess is None else min_excess
    return [name for name in sorted(found, key=lambda name: -found[name]) if found[name] > 0 and found[name] >= bar]


WORSE_VERDICTS = ("worse than real", "too high", "too low")
MAX_LISTED_STRUCTURES = 3  # structures in one sentence
MIN_EFFECT = 0.1  # of a real structure's deviation: a difference of means below it is no direction
OUTLIER_Z = 1.0  # deviations of real cubes from which a part of plausibility is told
MIN_FINE_FREQUENCY = 0.25  # cycles/px from which structure counts as fine
MIN_PEAK_RATIO = 1.5  # times the mean over bands from which a band stands out


def diagnose_report(report: Report) -> list[str]:
    """Return sentences that say where the samples of a report differ from real cubes, score by score."""
    about = report.provenance.get("sets", {}).get("reference", {})
    bands = BandAxis([float(centre) for centre in about.get("wavelengths", [])], about.get("wavelengths_known", True))
    told: list[str] = []
    for score in report.scores:
        says = METRIC_DIAGNOSTICS.get(score.name)
        if says is not None and score.verdict.startswith(WORSE_VERDICTS):
            told.extend(f"{score.name}: {sentence}" for sentence in says(score, bands))
    return [*told, *_diagnose_fid_views({score.name: score for score in report.scores})]


def _diagnose_spectral_kl(score: Score, bands: BandAxis) -> Iterator[str]:
    places = []
    for name in list_worst(score, "structures")[:MAX_LISTED_STRUCTURES]:
        curve = compute_excess(score, "structures", name, "by_wavelength")
        near = bands.format_peak(curve) if curve else ""
        places.append(f"{_format_structure(name)}{near and ' ' + near}{_format_direction(score, name, curve)}")
    if places:
        yield f"values differ most {places[0]}" + "".join(f"; also {place}" for place in places[1:])


def _format_direction(score: Score, name: str, curve: Numbers) -> str:
    """Return which way the values of a structure differ where the curve is highest."""
    means, spreads = (get_nested(score.details, "at_n", "structures", name, what) for what in ("means", "deviations"))
    if not (means and spreads and curve):
        return ""
    top = find_peak_range(curve)[1]
    real, generated = spreads["reference"][top], spreads["samples"][top]
    if real <= 0:
        return ", where real values do not vary"
    away = (means["samples"][top] - means["reference"][top]) / real
    if abs(away) >= MIN_EFFECT:
        return f", where samples are {'brighter' if away > 0 else 'darker'} by {abs(away):.2g} real deviations"
    if abs(generated / real - 1) >= MIN_EFFECT:
        return f", where samples vary {generated / real:.2g} times as much as real pixels"
    return ", in the shape of their distribution"


def _diagnose_spectral_angle(score: Score, bands: BandAxis) -> Iterator[str]:
    for name in list_worst(score, "structures")[:1]:
        angles = get_value_and_floor(score, "structures", name, "value")
        turned = get_nested(score.details, "at_n", "structures", name, "turned")
        curve = compute_excess(score, "structures", name, "by_wavelength")
        if angles is None or not turned or not curve:
            continue
        near, way = bands.format_peak(curve), "bright" if turned[find_peak_range(curve)[1]] > 0 else "dark"
        told = (
            f"the mean spectrum {_format_structure(name)} is {angles[0]:.2g} degrees off (real cubes: {angles[1]:.2g})"
        )
        yield told + (f", too {way} {near} against the other bands" if near else "")


def _diagnose_band_covariance(score: Score, bands: BandAxis) -> Iterator[str]:
    near = bands.format_peak(compute_excess(score, "structures", "fov", "by_wavelength") or [0.0])
    if near:
        yield f"bands go together otherwise than in real cubes, most {near}" + _format_neighbor_correlation(score)


def _format_neighbor_correlation(score: Score) -> str:
    pair = get_value_and_floor(score, "structures", "fov", "neighbours")
    if pair is None or abs(pair[0]) < max(2 * abs(pair[1]), RELATIVE_THRESHOLD * (score.value or 0.0)):
        return ""
    return f"; neighbouring bands are {'more' if pair[0] > 0 else 'less'} alike than real ones"


def _diagnose_power_spectrum(score: Score, bands: BandAxis) -> Iterator[str]:
    curve, cycles = compute_excess(score, "by_frequency"), get_nested(score.details, "at_n", "frequencies")
    leaning, off = (get_nested(score.details, "at_n", f"{what}_frequency") for what in ("leaning_by", "by"))
    if curve and cycles and leaning and max(curve) > 0:
        told = _format_power_difference(find_peak_range(curve), cycles, leaning, off)
        yield told + _format_peak_bands(compute_excess(score, "by_wavelength"), bands)


def _format_power_difference(
    peak_range: tuple[int, int, int], frequencies: Numbers, net_direction: Numbers, difference_db: Numbers
) -> str:
    """Return which way the power differs, at which periods, and by how many dB (root mean square over bands)."""
    first, top, last = peak_range
    periods = f"periods of {1 / frequencies[last]:.2g} to {1 / frequencies[first]:.2g} px" if first != last else ""
    periods = periods or f"periods of about {1 / frequencies[top]:.2g} px"
    if abs(net_direction[top]) < RELATIVE_THRESHOLD:
        return f"power is {difference_db[top]:.2g} dB off, up in some bands and down in others ({periods})"
    lost, fine = net_direction[top] < 0, frequencies[top] > MIN_FINE_FREQUENCY
    if last - first == len(frequencies) - 1:
        scale, like = "structure at every scale", ""
    else:
        scale = "fine structure" if fine else "coarse structure"
        like = "" if not fine else ", as after a blur" if lost else ", as with noise"
    return f"too {'little' if lost else 'much'} {scale}{like} ({periods}, by {difference_db[top]:.2g} dB at most)"


def _format_peak_bands(curve: Numbers, bands: BandAxis) -> str:
    """Return the bands that stand out of a curve over wavelength, where some do."""
    if not curve or max(curve) < MIN_PEAK_RATIO * sum(curve) / len(curve):
        return ""
    near = bands.format_peak(curve)
    return f", most {near}" if near else ""


def _diagnose_plausibility(score: Score, bands: BandAxis) -> Iterator[str]:
    for name in list_worst(score, "parts", min_excess=OUTLIER_Z):
        sentence = PLAUSIBILITY_DIAGNOSTICS[name](score, bands) if name in PLAUSIBILITY_DIAGNOSTICS else ""
        if sentence:
            yield sentence


def _diagnose_range(score: Score, bands: BandAxis) -> str:
    shares = get_nested(score.details, "at_n", "parts", "range")
    negative = shares["negative"]["samples"], shares["negative"]["reference"]
    usual = get_nested(score.details, "floor_at_n", "parts", "range", "outside", "samples")
    told = f"{shares['outside']['samples']:.2g} % of values lie outside the range of real cubes (real: {usual:.2g} %"
    told += f"; negative: {negative[0]:.2g} %)" if negative[0] > negative[1] else ")"
    return told + _format_peak_bands(shares["by_wavelength"]["samples"], bands)


def _diagnose_unmixing(score: Score, bands: BandAxis) -> str:
    found = get_nested(score.details, "at_n", "parts", "unmixing")
    residual, curves = found["residual"], found["by_wavelength"]
    told = f"spectra leave {residual['samples']:.2g} % of the signal when unmixed (real: {residual['reference']:.2g} %)"
    away = [abs(a - b) for a, b in zip(curves["samples"], curves["reference"], strict=True)]
    return told + _format_peak_bands(away, bands)


def _diagnose_noise(score: Score, bands: BandAxis) -> str:
    found = get_nested(score.details, "at_n", "parts", "noise")
    ratio, curve = found["ratio"], found["ratio_by_wavelength"]
    away = [max(each, 1 / max(each, 1e-12)) - 1 for each in curve]
    return f"noise is {ratio:.2g} times that of real cubes{_format_peak_bands(away, bands)}"


def _diagnose_fid_views(scores: Mapping[str, Score]) -> Iterator[str]:
    """Yield what the two views of ``fid`` say together."""
    views = [scores.get(name) for name in ("fid-spectral", "fid-spatial")]
    if any(view is None or view.value is None or view.floor is None for view in views):
        return
    spectral, spatial = (view.verdict.startswith(WORSE_VERDICTS) for view in views if view is not None)
    told = ", ".join(f"{view.name} {view.value:.3g}, floor {view.floor:.3g}" for view in views if view is not None)
    whole = scores.get("fid")
    if spectral and spatial:
        yield f"both spectra and space differ ({told})"
    elif spectral:
        yield f"spectra differ, space alone does not ({told})"
    elif spatial:
        yield f"space differs, spectra alone do not ({told})"
    elif whole is not None and whole.verdict.startswith(WORSE_VERDICTS):
        yield f"neither spectra alone nor space alone differ, but how they go together ({told})"


def _format_structure(structure: str) -> str:
    return "over the field of view" if structure == "fov" else f"in {structure}"


METRIC_DIAGNOSTICS: Mapping[str, Callable[[Score, BandAxis], Iterator[str]]] = {
    "spectral-kl": _diagnose_spectral_kl,
    "spectral-angle": _diagnose_spectral_angle,
    "band-covariance": _diagnose_band_covariance,
    "power-spectrum": _diagnose_power_spectrum,
    "plausibility": _diagnose_plausibility,
}
PLAUSIBILITY_DIAGNOSTICS: Mapping[str, Callable[[Score, BandAxis], str]] = {
    "range": _diagnose_range,
    "unmixing": _diagnose_unmixing,
    "noise": _diagnose_noise,
}
