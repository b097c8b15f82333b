"""Ranks share the cubes of a score, and each gets the result of a single process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hseval import HsevalError, score
from hseval.pipeline.worker import ExtractionWorker
from hseval.utils.distributed import Ranks
from tests.helpers.sets import make_texture_set, save_set
from tests.helpers.two_ranks import run_on_two_ranks

METRICS = ["spectral-kl", "ms-ssim"]


def score_as_rank(_: Ranks, samples: Path, real: Path) -> list[Any]:
    report = score(samples, ref=real, metrics=METRICS, device="cpu", workers=0, cache=False, ranks=True)
    return [*(result.value for result in report.scores), report.notes]


def score_with_a_failing_rank(ranks: Ranks, samples: Path, real: Path) -> str:
    def fail(*_: object, **__: object) -> None:
        raise HsevalError("cube 4 is truncated")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(HsevalError) as error:
        if ranks.rank == 1:
            patch.setattr(ExtractionWorker, "load_cached", fail)
        score_as_rank(ranks, samples, real)
    return str(error.value)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return save_set(tmp_path / "real.h5", make_texture_set(9, size=24, bands=4))


def test_two_ranks_have_the_scores_of_one(tmp_path: Path, real: Path) -> None:
    base = make_texture_set(9, size=24, bands=4, seed=1)
    base.cubes[8] = base.cubes[0]
    for mask in base.masks.values():
        mask[8] = mask[0]
    samples = save_set(tmp_path / "samples.h5", base)
    single = score(samples, ref=real, metrics=METRICS, device="cpu", workers=0, cache=False)
    expected = [*(pytest.approx(result.value, rel=1e-5) for result in single.scores), single.notes]
    assert "samples: 1 exact duplicate, for example cube-1-000 = cube-1-008" in single.notes
    assert run_on_two_ranks(score_as_rank, samples, real) == [expected, expected]


def test_an_error_of_one_rank_is_raised_on_both(real: Path) -> None:
    assert run_on_two_ranks(score_with_a_failing_rank, real, real) == ["cube 4 is truncated"] * 2
