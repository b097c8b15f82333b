"""Options are declared once and converted from strings."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from hseval.core.options import build_options, check_ranges, describe_options, option
from hseval.utils.errors import HsevalError, format_suggestion


class Plugin:
    @dataclasses.dataclass(frozen=True)
    class Options:
        size: int = option(224, "pixels")
        gain: float = option(1.0, "factor")
        fast: bool = option(False, "skip the slow part")
        mode: Literal["exact", "ivf"] = option("exact", "index")
        bands: tuple[float, ...] = option((640.0, 550.0), "nm")
        limit: int | None = option(None, "at most")


def build_plugin_options(**values: object) -> Plugin.Options:
    return build_options(Plugin, values, owner="plugin")


def test_strings_become_the_declared_types() -> None:
    options = build_plugin_options(size="64", gain="1e-2", fast="yes", mode="ivf", bands="1,2.5", limit="3")
    assert options == Plugin.Options(64, 0.01, True, "ivf", (1.0, 2.5), 3)


def test_none_is_accepted_only_where_the_type_allows_it() -> None:
    assert build_plugin_options(limit="none").limit is None
    with pytest.raises(HsevalError, match="size"):
        build_plugin_options(size="none")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sise": 1}, "did you mean 'size'"),
        ({"size": "many"}, "plugin, option size: 'many' is not of type int"),
        ({"size": 2.5}, "not of type int"),
        ({"size": True}, "not of type int"),
        ({"fast": "perhaps"}, "not of type bool"),
        ({"mode": "exakt"}, "did you mean 'exact'"),
        ({"bands": 3}, "plugin, option bands: 3 is not of type float"),
        *[({"size": value}, "option size: inf is not of type int$") for value in (float("inf"), 1e400)],
        ({"size": float("nan")}, "option size: nan is not of type int$"),
        *[({"size": value}, f"option size: '{value}' is not of type int$") for value in ("inf", "nan", "1e400")],
        *[
            ({"size": value}, "option size: an integer of .* bits, expected at most 64$")
            for value in (10**19, 10**5000, 1e308)
        ],
        ({"size": "1" * 5000}, "option size: '1{79} is not of type int$"),
        *[({"gain": value}, "option gain: .*, expected a finite number$") for value in ("inf", "1e400", "nan")],
        *[({"gain": value}, "expected a finite number$") for value in (float("inf"), -1e400, float("nan"))],
        *[({name: 10**5000}, f"{name}: an integer of 16611 bits") for name in ("gain", "mode", "limit", "fast")],
        ({"gain": [1.0]}, "not of type float"),
        ({"bands": [640.0, float("nan")]}, "expected a finite number$"),
        ({"limit": float("inf")}, "option limit: inf is not of type int$"),
        ({"mode": float("nan")}, "option mode: nan is not a valid value"),
        ({"mode": []}, "not a valid value"),
        ({"fast": float("nan")}, "not of type bool"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(values: dict[str, object], message: str) -> None:
    with pytest.raises(HsevalError, match=message):
        build_plugin_options(**values)


def test_help_and_defaults_come_from_the_declaration() -> None:
    by_name = {info.name: info for info in describe_options(Plugin)}
    assert by_name["size"].default == 224
    assert by_name["size"].help == "pixels"
    assert by_name["mode"].type == "exact|ivf"
    assert by_name["limit"].type == "int or none"


@pytest.mark.parametrize("size", [7, 4097, float("nan")])
def test_a_number_outside_its_range_is_refused_with_the_range(size: float) -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        size: float
        width: int = 1

    ranges = {"size": (8, 4096), "width": (1, 2)}
    check_ranges(Options(8), ranges, owner="phantom")
    check_ranges(Options(4096), ranges, owner="phantom")
    with pytest.raises(HsevalError, match=f"phantom: size = {size}, expected 8 to 4096"):
        check_ranges(Options(size), ranges, owner="phantom")


def test_two_swapped_letters_are_the_nearest_choice() -> None:
    assert format_suggestion("fdi", ["ndi", "fid", "kid"]) == " (did you mean 'fid'?)"
