"""Sets whose values have another scale than the reference's are refused, whatever pixels are invalid."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.core.cubes import ArraySet
from hseval.pipeline.inputs import check_scale
from hseval.utils.errors import HsevalError


def make_set(factor: float, *, invalid: float) -> ArraySet:
    """Return cubes of which a share of the pixels is NaN."""
    cubes = factor * np.random.default_rng(0).uniform(0.2, 1.0, (3, 4, 10, 10)).astype(np.float32)
    cubes[..., : round(10 * invalid)] = np.nan
    return ArraySet(cubes)


@pytest.mark.parametrize("invalid", [0.0, 0.3])
def test_a_set_of_another_scale_is_refused_by_its_valid_pixels(invalid: float) -> None:
    reference = make_set(1.0, invalid=invalid)
    check_scale(make_set(2.0, invalid=invalid), reference)
    with pytest.raises(HsevalError, match="another unit or scale"):
        check_scale(make_set(10_000.0, invalid=invalid), reference)


def test_a_set_without_a_valid_pixel_has_no_scale() -> None:
    valid, invalid = make_set(1.0, invalid=0.0), make_set(1.0, invalid=1.0)
    check_scale(valid, invalid)
    check_scale(invalid, valid)
