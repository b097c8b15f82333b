"""Reading a report: values of another type are refused with their place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hseval import HsevalError, load_report
from hseval.utils.structured_files import MAX_DEPTH, read_toml
from tests.helpers.full_report import REPORT

SET = {"location": "a.h5", "cubes": 3, "content": "abc", "wavelengths": [500.0], "wavelengths_known": True,
       "structures": ["fov"], "units": None}  # fmt: skip


def load_changed(folder: Path, place: str, value: Any) -> None:
    """Load the report with a value at a place, given as keys and indices with dots between them."""
    content = copy.deepcopy(json.loads(REPORT.to_json()))
    *parents, last = (int(part) if part.isdigit() else part for part in place.split("."))
    parent = content
    for part in parents:
        parent = parent[part]
    parent[last] = value
    (folder / "r.json").write_text(json.dumps(content))
    load_report(folder / "r.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("scores", None, "Expected `array`, got `null` - at `$.scores`"),
        ("scores.0.name", 3, "Expected `str`, got `int` - at `$.scores[0].name`"),
        ("scores.0.value", "1", "Expected `float | null`, got `str` - at `$.scores[0].value`"),
        ("scores.0.value", True, "got `bool`"),
        ("scores.0.value", float("nan"), "can't be read as a report: JSON is malformed"),
        ("scores.0.interval", [1.0, 2.0, 3.0], "length 2"),
        ("scores.0.better", "best", "Invalid enum value 'best' - at `$.scores[0].better`"),
        ("scores.0.statistics.count", 1.5, "`$.scores[0].statistics.count`"),
        ("scores.0.statistics.resamples.replicates.real", [[1, 2, 3]], "replicates of too few splits or blocks"),
        ("scores.0.statistics.resamples.replicates.generated_pairs", -1, "a negative variance or number of pairs"),
        ("scores.0.statistics.resamples.replicates", None, "either replicates or draws"),
        ("scores.0.segmentation.dice", ["vein"], "`$.scores[0].segmentation.dice`"),
        ("scores.0.details.structures", [1], "fid: details: Expected `object`, got `array` - at `$.structures`"),
        ("scores.0.details.shown", {"a": [1]}, "fid: details: "),
        ("scores.0.statistics.value_details", {"structures": {"vein": 3}}, "fid: value_details: "),
        ("notes", ["a", 1], "`$.notes[1]`"),
        ("provenance", [], "`$.provenance`"),
        ("provenance.settings", 3, "provenance: Expected `object`, got `int` - at `$.settings`"),
        ("provenance.sets", {"samples": {**SET, "cubes": "3"}}, "`$.sets[...].cubes`"),
        ("provenance.sets", {"samples": {}}, "provenance: Object missing required field"),
    ],
)
def test_another_type_is_refused_with_its_place(tmp_path: Path, place: str, value: Any, message: str) -> None:
    with pytest.raises(HsevalError) as refused:
        load_changed(tmp_path, place, value)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'r.json'}: ") and "\n" not in str(refused.value)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    content = json.loads(REPORT.to_json())
    del content["scores"][0]["verdict"]
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(HsevalError, match=r"missing required field `verdict` - at `\$.scores\[0\]`"):
        load_report(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("scores.0.details.further", {"by a third party": [1, "a", None]}),
        ("scores.0.further", 1),
        ("provenance.sets", {"samples": SET, "reference": {**SET, "made_by": {}}}),
        ("provenance.metrics", {"fid": {"distribution": "hseval", "options": {"extractor": None}}}),
    ],
)
def test_further_details_and_provenance_are_accepted(tmp_path: Path, place: str, value: Any) -> None:
    load_changed(tmp_path, place, value)


@pytest.mark.parametrize("depth", [MAX_DEPTH, 900, 100_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int, brackets: tuple[str, str]) -> None:
    text = brackets[0] * depth + "1" + brackets[1] * depth
    (tmp_path / "r.json").write_text(f'{{"format": "hseval-report", "version": 2, "provenance": {text}}}')
    (tmp_path / "c.toml").write_text(f"a = {text.replace(chr(34) + 'a' + chr(34) + ':', 'a=')}")
    for read, path in ((load_report, tmp_path / "r.json"), (read_toml, tmp_path / "c.toml")):
        with pytest.raises(HsevalError, match="nested too deeply"):
            read(path)
