"""Scores and reports: a round trip by JSON, the numbers for a log, and the text of a report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hseval import HsevalError, Report, Score, load_report
from hseval.core.report import to_jsonable
from hseval.renderers.terminal import format_report
from tests.helpers.full_report import EMPTY, FULL, REPORT


def test_a_report_with_every_record_survives_its_file(tmp_path: Path) -> None:
    REPORT.save(tmp_path / "report.json")
    loaded = load_report(tmp_path / "report.json")
    assert loaded == REPORT
    assert loaded.to_json() == REPORT.to_json()


def test_every_field_of_a_record_is_in_the_json() -> None:
    content = json.loads(REPORT.to_json())
    assert (content["format"], content["version"]) == ("hseval-report", 2)
    assert set(content["scores"][0]) == {field.name for field in dataclasses.fields(Score)}
    assert content["scores"][0]["statistics"]["resamples"]["replicates"]["real"] == [[1.5, 1.0, 0.5]] * 3


def test_what_is_no_number_in_json_becomes_null(tmp_path: Path) -> None:
    score = dataclasses.replace(
        EMPTY, details={"values": np.array([1.0, np.nan]), "size": np.int64(3), "path": tmp_path}
    )
    Report((score,), (), {}).save(tmp_path / "report.json")
    assert load_report(tmp_path / "report.json").scores[0].details == {
        "values": [1.0, None], "size": 3, "path": str(tmp_path),
    }  # fmt: skip
    assert to_jsonable((np.float32(0.5), np.inf, {1: True})) == [0.5, None, {"1": True}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "is a report of version 1, expected 2; score again"),
        ({"version": "1\n2"}, r"is a report of version '1\n2', expected 2"),
        ({"format": "hseval-sweep"}, 'is not a report (expected "format": "hseval-report")'),
    ],
)
def test_another_version_is_refused_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**json.loads(REPORT.to_json()), **change}))
    with pytest.raises(HsevalError) as refused:
        load_report(tmp_path / "r.json")
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_scalars_are_a_flat_dict_of_floats() -> None:
    assert Report((FULL, EMPTY), (), {}).scalars() == {
        "fid": 1.5, "fid/floor": 1.0, "fid/excess": 0.5, "fid/excess_low": 0.25, "fid/excess_high": 0.75,
        "fid/p_adjusted": 0.02,
    }  # fmt: skip
    assert all(type(value) is float for value in REPORT.scalars().values())


def test_the_text_of_a_report_is_the_table() -> None:
    assert str(REPORT) == repr(REPORT) == format_report(REPORT)
    lines = str(REPORT).splitlines()
    row = next(line for line in lines if line.startswith("fid"))
    assert row.split() == ["fid", "worse", "than", "real", "0.5", "0.02"]
    assert len(lines) < 25 and "{" not in str(REPORT)


def test_fields_of_a_score_have_no_order() -> None:
    with pytest.raises(TypeError, match="positional"):
        Score("fid", 1.0, 0.5, None, "lower", "like real", 9)  # type: ignore[call-arg, misc]


def test_a_score_is_found_by_its_name() -> None:
    assert REPORT["fid"] is FULL
    with pytest.raises(KeyError, match="kid"):
        REPORT["kid"]
