"""Metrics that prepare both sets together do so themselves where the caller has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hseval.metrics.band_covariance import BandCovariance
from hseval.metrics.fid import Fid
from hseval.metrics.kid import Kid
from hseval.metrics.plausibility import Plausibility
from hseval.metrics.power_spectrum import PowerSpectrum
from hseval.metrics.prdc import PrecisionRecall
from hseval.metrics.spectral_angle import SpectralAngle
from hseval.metrics.spectral_kl import SpectralKL
from hseval.metrics.vendi import Vendi
from tests.helpers.described_sets import compare_tables, extract_table
from tests.helpers.sets import make_texture_set


@pytest.mark.parametrize(
    "metric", [BandCovariance, Fid, Kid, Plausibility, PowerSpectrum, PrecisionRecall, SpectralAngle, SpectralKL, Vendi]
)
def test_compare_without_relate_gives_the_same_value(metric: Callable[[], Any]) -> None:
    real, generated = (
        extract_table(make_texture_set(8, size=32, seed=seed), *metric().needs.features) for seed in (1, 2)
    )
    parts = metric().compare(real=real, generated=generated, rng=np.random.default_rng(0))
    assert parts.value == pytest.approx(compare_tables(metric(), real, generated).value)
    assert parts.value != 0
