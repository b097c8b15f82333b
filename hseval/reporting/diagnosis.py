"""Sentences on where samples differ from real cubes: in which structures, at which wavelengths and spatial scales.

They are derived from the details of value and floor at equal size; scores that are like real get none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hseval.core.report import Report, Score

RELATIVE_THRESHOLD = 0.5  # of the largest excess: larger ones are reported with it

Numbers = Sequence[float]


class BandAxis:
    """Band centers and their text.

    Args:
        centers: nm by band, or the band's index.
        in_nm: whether they are nm.
    """

    def __init__(self, centers: Numbers, in_nm: bool) -> None:
        self.centers, self.in_nm = centers, in_nm

    def format_peak(self, curve: Numbers) -> str:
        """Return the peak of a curve over bands as text, with its range where it is wider than one band."""
        if len(curve) != len(self.centers) or max(curve) <= 0:
            return ""
        first, top, last = find_peak_range(curve)
        peak = f"near {self._format_band(top)}" if self.in_nm else f"at band {self._format_band(top)}"
        is_wide = 0 < last - first < len(curve) - 1
        return f"{peak} ({self._format_band(first, unit=False)} to {self._format_band(last)})" if is_wide else peak

    def _format_band(self, index: int, *, unit: bool = True) -> str:
        return f"{self.centers[index]:.0f}{' nm' if self.in_nm and unit else ''}"


def find_peak_range(curve: Numbers) -> tuple[int, int, int]:
    """Return the first, highest and last index of the range around a curve's peak that stays above half of it."""
    top = max(range(len(curve)), key=lambda index: curve[index])
    first = last = top
    while first > 0 and curve[first - 1] >= RELATIVE_THRESHOLD * curve[top]:
        first -= 1
    while last < len(curve) - 1 and curve[last + 1] >= RELATIVE_THRESHOLD * curve[top]:
        last += 1
    return first, top, last


def get_value(score: Score, *path: str) -> Any:
    """Return the value at equal size of a detail at a path of keys, or None."""
    return _get_nested(score.statistics.value_details if score.statistics else {}, path)


def get_floor(score: Score, *path: str) -> Any:
    """Return the floor of a detail at a path of keys, or None."""
    return _get_nested(score.statistics.floor_details if score.statistics else {}, path)


def _get_nested(details: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = details
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def get_value_and_floor(score: Score, *path: str) -> tuple[Any, Any] | None:
    """Return value and floor of a detail at equal size, or None where one is missing."""
    value, floor = get_value(score, *path), get_floor(score, *path)
    return None if value is None or floor is None else (value, floor)


def compute_excess(score: Score, *path: str) -> list[float]:
    """Return the excess of a curve over its floor; empty where one is missing."""
    curves = get_value_and_floor(score, *path)
    return [a - b for a, b in zip(*curves, strict=True)] if curves and len(curves[0]) == len(curves[1]) else []


def list_worst(score: Score, section: str, *, min_excess: float | None = None) -> list[str]:
    """Return the entries of a detail whose value exceeds its floor, worst first: the largest and those near it.

    With ``min_excess``, those whose excess is at least that.
    """
    excesses = {}
    for name in get_value(score, section) or {}:
        pair = get_value_and_floor(score, section, name, "value")
        if pair is not None:
            excesses[name] = pair[0] - pair[1]
    threshold = RELATIVE_THRESHOLD * max(excesses.values(), default=0.0) if min_excess is None else min_excess
    return [
        name
        for name in sorted(excesses, key=lambda name: -excesses[name])
        if excesses[name] > 0 and excesses[name] >= threshold
    ]


WORSE_VERDICTS = ("worse than real", "too high", "too low")
MAX_LISTED_STRUCTURES = 3  # structures in one sentence
MIN_EFFECT = 0.1  # standard deviations of the real data: smaller differences of means are not reported
OUTLIER_Z = 1.0  # standard deviations of real cubes from which a part of plausibility is reported
MIN_FINE_FREQUENCY = 0.25  # cycles/px from which structure counts as fine
MIN_PEAK_RATIO = 1.5  # times the mean over bands: bands below it are not reported


def diagnose_report(report: Report) -> list[str]:
    """Return sentences on where the samples of a report differ from real cubes, score by score."""
    reference = report.provenance.get("sets", {}).get("reference", {})
    bands = BandAxis(
        [float(center) for center in reference.get("wavelengths", [])], reference.get("wavelengths_known", True)
    )
    sentences: list[str] = []
    for score in report.scores:
        diagnose = METRIC_DIAGNOSTICS.get(score.name)
        if diagnose is not None and score.verdict.startswith(WORSE_VERDICTS):
            sentences.extend(f"{score.name}: {sentence}" for sentence in diagnose(score, bands))
    return [*sentences, *_diagnose_fid_views({score.name: score for score in report.scores})]


def _diagnose_spectral_kl(score: Score, bands: BandAxis) -> Iterator[str]:
    locations = []
    for name in list_worst(score, "structures")[:MAX_LISTED_STRUCTURES]:
        curve = compute_excess(score, "structures", name, "by_wavelength")
        peak = bands.format_peak(curve) if curve else ""
        locations.append(f"{_format_structure(name)}{peak and ' ' + peak}{_format_direction(score, name, curve)}")
    if locations:
        yield f"values differ most {locations[0]}" + "".join(f"; also {location}" for location in locations[1:])


def _format_direction(score: Score, name: str, curve: Numbers) -> str:
    """Return in which direction the values of a structure differ where the curve is highest."""
    means, stds = (get_value(score, "structures", name, key) for key in ("means", "deviations"))
    if not (means and stds and curve):
        return ""
    top = find_peak_range(curve)[1]
    real, generated = stds["reference"][top], stds["samples"][top]
    if real <= 0:
        return ", where real values do not vary"
    shift = (means["samples"][top] - means["reference"][top]) / real
    if abs(shift) >= MIN_EFFECT:
        direction = "brighter" if shift > 0 else "darker"
        return f", where samples are {direction} by {abs(shift):.2g} standard deviations of the real data"
    if abs(generated / real - 1) >= MIN_EFFECT:
        return f", where samples vary {generated / real:.2g} times as much as real pixels"
    return ", in the shape of their distribution"


def _diagnose_spectral_angle(score: Score, bands: BandAxis) -> Iterator[str]:
    for name in list_worst(score, "structures")[:1]:
        angles = get_value_and_floor(score, "structures", name, "value")
        directions = get_value(score, "structures", name, "turned")
        curve = compute_excess(score, "structures", name, "by_wavelength")
        if angles is None or not directions or not curve:
            continue
        peak, direction = bands.format_peak(curve), "bright" if directions[find_peak_range(curve)[1]] > 0 else "dark"
        angle_text = f"{angles[0]:.2g} degrees (real cubes: {angles[1]:.2g})"
        sentence = f"the mean spectrum {_format_structure(name)} deviates by {angle_text}"
        yield sentence + (f", too {direction} {peak} relative to the other bands" if peak else "")


def _diagnose_band_covariance(score: Score, bands: BandAxis) -> Iterator[str]:
    peak = bands.format_peak(compute_excess(score, "structures", "fov", "by_wavelength") or [0.0])
    if peak:
        yield f"bands correlate differently than in real cubes, most {peak}" + _format_neighbor_correlation(score)


def _format_neighbor_correlation(score: Score) -> str:
    pair = get_value_and_floor(score, "structures", "fov", "neighbors")
    if pair is None or abs(pair[0]) < max(2 * abs(pair[1]), RELATIVE_THRESHOLD * (score.value or 0.0)):
        return ""
    return f"; neighboring bands correlate {'more' if pair[0] > 0 else 'less'} strongly than in real cubes"


def _diagnose_power_spectrum(score: Score, bands: BandAxis) -> Iterator[str]:
    curve, cycles = compute_excess(score, "by_frequency"), get_value(score, "frequencies")
    directions, difference_db = (get_value(score, f"{key}_frequency") for key in ("leaning_by", "by"))
    if curve and cycles and directions and max(curve) > 0:
        sentence = _format_power_difference(find_peak_range(curve), cycles, directions, difference_db)
        yield sentence + _format_peak_bands(compute_excess(score, "by_wavelength"), bands)


def _format_power_difference(
    peak_range: tuple[int, int, int], frequencies: Numbers, net_direction: Numbers, difference_db: Numbers
) -> str:
    """Return in which direction power differs, at which periods, and by how many dB (root mean square over bands)."""
    first, top, last = peak_range
    periods = f"periods of {1 / frequencies[last]:.2g} to {1 / frequencies[first]:.2g} px" if first != last else ""
    periods = periods or f"periods of about {1 / frequencies[top]:.2g} px"
    if abs(net_direction[top]) < RELATIVE_THRESHOLD:
        return f"power differs by {difference_db[top]:.2g} dB, higher in some bands and lower in others ({periods})"
    is_low, is_fine = net_direction[top] < 0, frequencies[top] > MIN_FINE_FREQUENCY
    if last - first == len(frequencies) - 1:
        scale, likeness = "structure at every scale", ""
    else:
        scale = "fine structure" if is_fine else "coarse structure"
        likeness = "" if not is_fine else ", as after a blur" if is_low else ", as with noise"
    return f"too {'little' if is_low else 'much'} {scale}{likeness} ({periods}, by {difference_db[top]:.2g} dB at most)"


def _format_peak_bands(curve: Numbers, bands: BandAxis) -> str:
    """Return the peak of a curve over wavelength as text, ``""`` where it is flat."""
    if not curve or max(curve) < MIN_PEAK_RATIO * sum(curve) / len(curve):
        return ""
    peak = bands.format_peak(curve)
    return f", most {peak}" if peak else ""


def _diagnose_plausibility(score: Score, bands: BandAxis) -> Iterator[str]:
    for name in list_worst(score, "parts", min_excess=OUTLIER_Z):
        sentence = PLAUSIBILITY_DIAGNOSTICS[name](score, bands) if name in PLAUSIBILITY_DIAGNOSTICS else ""
        if sentence:
            yield sentence


def _diagnose_range(score: Score, bands: BandAxis) -> str:
    shares = get_value(score, "parts", "range")
    negative = shares["negative"]["samples"], shares["negative"]["reference"]
    real_outside = get_floor(score, "parts", "range", "outside", "samples")
    outside = shares["outside"]["samples"]
    sentence = f"{outside:.2g} % of values lie outside the range of real cubes (real: {real_outside:.2g} %"
    sentence += f"; negative: {negative[0]:.2g} %)" if negative[0] > negative[1] else ")"
    return sentence + _format_peak_bands(shares["by_wavelength"]["samples"], bands)


def _diagnose_unmixing(score: Score, bands: BandAxis) -> str:
    unmixing = get_value(score, "parts", "unmixing")
    residual, curves = unmixing["residual"], unmixing["by_wavelength"]
    sentence = (
        f"unmixing leaves a residual of {residual['samples']:.2g} % of the signal (real: {residual['reference']:.2g} %)"
    )
    differences = [abs(a - b) for a, b in zip(curves["samples"], curves["reference"], strict=True)]
    return sentence + _format_peak_bands(differences, bands)


def _diagnose_noise(score: Score, bands: BandAxis) -> str:
    noise = get_value(score, "parts", "noise")
    ratio, curve = noise["ratio"], noise["ratio_by_wavelength"]
    deviations = [max(band_ratio, 1 / max(band_ratio, 1e-12)) - 1 for band_ratio in curve]
    return f"noise is {ratio:.2g} times that of real cubes{_format_peak_bands(deviations, bands)}"


def _diagnose_fid_views(scores: Mapping[str, Score]) -> Iterator[str]:
    """Yield a sentence on ``fid-spectral`` and ``fid-spatial`` together."""
    views = [scores.get(name) for name in ("fid-spectral", "fid-spatial")]
    if any(view is None or view.value is None or view.floor is None for view in views):
        return
    spectral, spatial = (view.verdict.startswith(WORSE_VERDICTS) for view in views if view is not None)
    numbers = ", ".join(f"{view.name} {view.value:.3g}, floor {view.floor:.3g}" for view in views if view is not None)
    fid = scores.get("fid")
    if spectral and spatial:
        yield f"both spectra and spatial structure differ ({numbers})"
    elif spectral:
        yield f"spectra differ, spatial structure alone does not ({numbers})"
    elif spatial:
        yield f"spatial structure differs, spectra alone do not ({numbers})"
    elif fid is not None and fid.verdict.startswith(WORSE_VERDICTS):
        yield f"neither spectra nor spatial structure alone differ, but their combination does ({numbers})"


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
