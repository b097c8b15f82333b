"""The record of a check: how much was checked, and what was skipped, with the reason."""

# ruff: noqa: ANN001, ANN201, ANN204 - plugins as third parties write them

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hseval.plugin import ArraySet, HsevalError
from hseval.testing import (
    CheckRecord,
    check_extractor,
    check_generator,
    check_metric,
    check_reader,
    check_segmenter,
    find_plugin,
    make_example_set,
)
from tests.testing.test_extractor import MeanSpectrum, OnlyFieldOfView
from tests.testing.test_generator import Dice, Fitted, PublishedSignature, UnknownWavelengths
from tests.testing.test_metric import Brightness
from tests.testing.test_segmenter import Bright


class BoundedBrightness(Brightness):
    bounds = (0.0, np.inf)


class CountedDisc(OnlyFieldOfView):
    """Features that a constant cube's value does not change: what invalid pixels do to them can't be checked."""

    def __call__(self, cubes, *, wavelengths, masks):
        return masks["fov"].mean(axis=(1, 2))[:, None]


class StoredBright(Bright):
    def state(self):
        return {name: np.array(level) for name, level in self.levels.items()}

    def restore(self, state, structures):
        self.levels = {name: float(state[name]) for name in structures}


def test_a_record_is_one_line() -> None:
    assert str(CheckRecord("metric 'fid'", 23)) == "metric 'fid': 23 checks"
    skipped = ("bounds (it has none)", "headline (it has none)")
    line = "metric 'fid': 1 check, 2 skipped: bounds (it has none); headline (it has none)"
    assert str(CheckRecord("metric 'fid'", 1, skipped)) == line


def test_checks_of_a_metric_without_bounds_are_skipped_and_shown() -> None:
    record, bounded = check_metric(Brightness), check_metric(BoundedBrightness)
    assert "bounds (it has none)" in str(record)
    assert {*record.skipped} - {*bounded.skipped} == {"bounds (it has none)"}
    assert bounded.checks == record.checks + 1


def test_checks_of_masks_are_skipped_for_an_extractor_that_reads_them() -> None:
    assert check_extractor(OnlyFieldOfView).skipped == ()
    assert check_extractor(MeanSpectrum).skipped == ("independence of masks other than 'fov' (it reads structures)",)


def test_a_check_that_has_nothing_to_compare_is_skipped() -> None:
    reason = "its feature array of constant cubes (no feature changes with their value)"
    assert check_extractor(CountedDisc).skipped == (reason,)
    one_cube = check_extractor(OnlyFieldOfView, data=make_example_set(1))
    assert one_cube.skipped == ("independence of the batch (there is one cube)",)


def test_checks_of_the_state_are_skipped_for_a_segmenter_without_it() -> None:
    assert check_segmenter(Bright).skipped == ("state and restore (it has none)",)
    assert check_segmenter(StoredBright).skipped == ()


@pytest.mark.parametrize(
    ("generator", "skipped"),
    [
        (Fitted, set()),
        (Dice, {"fit and its checkpoints (it has no fit)"}),
        (UnknownWavelengths, {"fit and its checkpoints (it has no fit)", "wavelengths (they are unknown)"}),
        (PublishedSignature, {"fit and its checkpoints (it has no fit)", "start (sample does not take it)"}),
    ],
)
def test_checks_are_skipped_for_what_a_generator_lacks(generator: type, skipped: set[str], tmp_path: Path) -> None:
    assert set(check_generator(generator, tmp_path=tmp_path).skipped) == skipped


def test_a_folder_is_not_truncated(tmp_path: Path) -> None:
    data = make_example_set(2)
    for name, cube in zip(data.ids, data.cubes, strict=True):
        np.save(tmp_path / f"{name}.npy", cube)
    assert check_reader(find_plugin("reader", "folder"), tmp_path).skipped == (
        "a truncated file (the path is a folder)",
    )


def test_the_example_set_is_an_array_set_and_unknown_names_are_refused() -> None:
    assert isinstance(make_example_set(1), ArraySet)
    with pytest.raises(HsevalError, match="no metric is called 'fud'"):
        find_plugin("metric", "fud")
