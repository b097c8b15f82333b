"""Counts, limits and thresholds that the docs state are those of the code."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# Page, a part of a sentence, and the constants in its gaps.
STATED = [
    ("intervals", "Every score has a {:.0%} interval", "stats.variance.CONFIDENCE_LEVEL"),
    ("intervals", "No more than {:half} of the plain variance is subtracted", "stats.variance.MIN_VARIANCE_RATIO"),
    (
        "intervals",
        "are at least {:g}, and at least {:g} for the excess",
        "stats.variance.MIN_DEGREES_OF_FREEDOM stats.variance.MIN_DIFFERENCE_DEGREES_OF_FREEDOM",
    ),
    ("intervals", "of the {} splits", "scoring.score_metric.SPLITS"),
    ("intervals", "fewer than {:word} groups on a side", "stats.intervals.MIN_GROUPS"),
    ("intervals", "more than {:word} joint standard deviations", "stats.splits.MIN_JOINT_STDS"),
    ("intervals", "adjusted p below {}", "stats.multiple_testing.ALPHA"),
    ("metrics/authenticity", "at distance 0 (up to {:sci}, rounding)", "metrics.copying_tests.MAX_IDENTICAL_DISTANCE"),
    ("metrics/authenticity", "k = floor({} (n + 1))", "metrics.copying_tests.FALSE_ALARM_RATE"),
    (
        "metrics/authenticity",
        "one cell for {} training cubes and {:word} at most",
        "metrics.copying_tests.MIN_CUBES_PER_CELL metrics.copying_tests.MAX_CELLS",
    ),
    (
        "metrics/authenticity",
        "fewer than {0} samples or {0} held-out cubes do not count",
        "metrics.copying_tests.MIN_CUBES_IN_CELL",
    ),
    (
        "metrics/authenticity",
        "two Gaussian blurs ({} and {} cells)",
        "metrics.copy_search.FINE_SIGMA metrics.copy_search.COARSE_SIGMA",
    ),
    ("metrics/authenticity", "in a Gaussian of {:g} cells", "metrics.copy_search.CONTRAST_SIGMA"),
    ("metrics/authenticity", "The {:word} outermost cells", "metrics.copy_search.RIM_CELLS"),
    ("metrics/authenticity", "shifted by up to {} steps", "metrics.copy_search.MAX_SHIFT_STEPS"),
    ("metrics/band-covariance", "shrunk by {:.0%}", "metrics.correlations.CORRELATION_SHRINKAGE"),
    ("metrics/band-covariance", "fewer than {} pixels", "metrics.band_covariance.MIN_PIXELS"),
    ("metrics/fid", "below {} times the median one", "metrics.standardized_features.MIN_STD_RATIO"),
    ("metrics/fid", "exceeds {:sci} of the mean trace", "metrics.frechet.TOLERANCE"),
    ("metrics/kid", "(x . y / d + {:g})^{}", "metrics.polynomial_mmd.OFFSET metrics.polynomial_mmd.DEGREE"),
    ("metrics/ms-ssim", "Gaussian window of {} px", "metrics.ssim.fields.WINDOW_SIZE"),
    ("metrics/ms-ssim", "Under {} px nothing is computed", "metrics.ssim.fields.WINDOW_SIZE"),
    ("metrics/ms-ssim", "and sigma {}", "metrics.ssim.maps.SIGMA"),
    ("metrics/ms-ssim", "also spans {} bands", "metrics.ssim.maps.MAX_BAND_WINDOW"),
    ("metrics/ms-ssim", "{:word} scales with weights", "metrics.ssim.fields.MAX_SCALES"),
    ("metrics/plausibility", "samples beyond {:g}", "metrics.plausibility.OUTLIER_Z"),
    ("metrics/plausibility", "fewer than {} reference cubes", "metrics.plausibility.MIN_REAL_CUBES"),
    ("metrics/power-spectrum", "above {} cycles/px", "metrics.power_spectrum.MIN_FINE_FREQUENCY"),
    ("metrics/power-spectrum", "fewer than {:half} of either side", "metrics.power_spectrum.MIN_RESOLVED_SHARE"),
    ("metrics/power-spectrum", "at least {:g} periods wide", "extractors.radial.MIN_PERIODS"),
    ("metrics/power-spectrum", "{:sci} of the mean square", "extractors.power.DENSITY_FLOOR"),
    ("metrics/spectral-kl", "at least {:word} independent cubes", "metrics.structure_selection.MIN_GROUPS"),
    ("metrics/spectral-kl", "A ridge of {:sci}", "metrics.spectral_kl.COVARIANCE_SHRINKAGE"),
    (
        "extractors",
        "at least {} cubes and {} bands",
        "extractors.encoder.extractor.MIN_CUBES extractors.encoder.extractor.MIN_BANDS",
    ),
    ("segmenters", "at most {} of its cubes", "scoring.segmentation.cross_fit.MAX_FIT_CUBES"),
    ("segmenters", "are assigned to {:word} folds", "scoring.segmentation.folds.FOLD_COUNT"),
    ("segmenters", "held-out Dice is below {}", "scoring.segmentation.quality.MIN_DICE"),
    ("formats", "differ by more than {} nm", "core.cubes.WAVELENGTH_TOLERANCE_NM"),
    ("where", "at least a {:tenth} of the real pixels", "reporting.diagnosis.MIN_EFFECT"),
    ("how-to/generate", "most about {:g} seconds", "sampling.chunks.CHUNK_SECONDS"),
]


class Number(float):
    """A number that can also be formatted as a word, a share in words, or in short scientific notation."""

    def __format__(self, spec: str) -> str:
        match spec:
            case "word":
                return WORDS[int(self)] if self == int(self) else "?"
            case "half":
                return {0.5: "half"}.get(float(self), "?")
            case "tenth":
                return {0.1: "tenth"}.get(float(self), "?")
            case "sci":
                mantissa, exponent = f"{float(self):e}".split("e")
                return f"{float(mantissa):g}e{int(exponent)}"
            case ".0%":
                return f"{100 * float(self):g} %"
            case _:
                return f"{float(self):g}"


def read_page(name: str) -> str:
    return " ".join((DOCS / f"{name}.md").read_text().split())


def get_constant(name: str) -> Any:
    module, _, attribute = f"hseval.{name}".rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(("page", "sentence", "names"), STATED, ids=lambda value: value.split()[0])
def test_a_number_in_the_docs_is_that_of_the_code(page: str, sentence: str, names: str) -> None:
    expected = sentence.format(*(Number(get_constant(name)) for name in names.split()))
    assert expected.lower() in read_page(page).lower()
