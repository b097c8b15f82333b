"""Options: explicit values override the preset, the preset overrides the defaults, and invalid ones are refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hseval.core.options import build_options, describe_options, options_to_dict
from hseval.utils.errors import HsevalError
from hseval_ldm.options import (
    COMMAND_OPTIONS,
    OPTION_BOUNDS,
    PRESETS,
    SAMPLING_OPTIONS,
    STAGE_CHOICES,
    LdmOptions,
    load_preset,
)


class Plugin:
    Options = LdmOptions


def build(**values: Any) -> LdmOptions:
    built: LdmOptions = build_options(Plugin, values, owner="generator 'ldm'")
    return built


def write_preset(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_explicit_values_override_the_preset_and_the_preset_overrides_defaults(tmp_path: Path) -> None:
    mine = write_preset(tmp_path, "width = 48\ncodes = 512\nmultipliers = [1, 2]\ncrop = 64\nae_lr = 1\n")
    built = build(preset=mine, codes="256")
    assert (built.width, built.codes, built.blocks) == (48, 256, LdmOptions().blocks)
    assert built.multipliers == (1, 2) and built.crop == 64
    assert built.ae_lr == 1.0 and isinstance(built.ae_lr, float)
    assert built.explicit_names == {"preset", "codes"}
    assert built.preset_names == {"width", "codes", "multipliers", "crop", "ae_lr"}
    # Also a value that equals the default, and none.
    assert build(preset=mine, width=64, crop="none").width == 64
    assert build(preset=mine, width=64, crop="none").crop is None


def test_strings_become_the_declared_types() -> None:
    built = build(**{"latent-channels": "32", "multipliers": "1,1,2,4", "compile": "yes", "ae_lr": "1e-3"})
    assert (built.latent_channels, built.multipliers, built.compile, built.ae_lr) == (32, (1, 1, 2, 4), True, 1e-3)


def test_every_option_has_help_a_type_and_a_valid_default() -> None:
    described = {info.name: info for info in describe_options(Plugin)}
    assert list(described) == [field.name for field in dataclasses.fields(LdmOptions)]
    assert all(info.help and info.type for info in described.values())
    assert described["crop"].type == "int or none" and described["multipliers"].type == "int,..."
    assert {name: info.default for name, info in described.items()} == options_to_dict(LdmOptions())
    numbers = {name for name, info in described.items() if info.type in ("int", "float")}
    assert numbers - set(OPTION_BOUNDS) == {"compression", "stem"}  # which have choices
    assert (
        set(OPTION_BOUNDS) < set(described)
        and set(SAMPLING_OPTIONS) < set(described)
        and set(COMMAND_OPTIONS) < set(described)
    )
    assert described["stage"].type == "|".join(STAGE_CHOICES)


def test_options_are_restored_from_their_record(tmp_path: Path) -> None:
    mine = write_preset(tmp_path, "width = 48\nmultipliers = [1, 2]\n")
    built = build(preset=mine, stage="diffusion", resume=True)
    record = json.loads(json.dumps(options_to_dict(built)))
    assert build(**record) == built
    Path(mine).write_text("width = 96\n")  # the record is used, not the current file
    for name in COMMAND_OPTIONS:
        del record[name]
    assert build(**record).width == 48
    Path(mine).unlink()
    assert build(**record).multipliers == (1, 2)
    with pytest.raises(HsevalError, match=r"mine\.toml: can't be read"):
        build(preset=mine)


def test_replace_changes_only_the_given_options(tmp_path: Path) -> None:
    built = build(preset=write_preset(tmp_path, "width = 48\n"), codes=99)
    changed = dataclasses.replace(built, codes=100, preset=None)
    assert (changed.width, changed.codes, changed.preset) == (48, 100, None)
    assert built.codes == 99 and dataclasses.replace(built) == built
    with pytest.raises(ValueError, match="codes is 1, expected 2 to"):
        dataclasses.replace(built, codes=1)


def test_options_are_frozen_and_compared_by_value() -> None:
    assert build(width=32) == LdmOptions(width=32) != LdmOptions()
    assert hash(build(width=32)) == hash(LdmOptions(width=32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        build().width = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 3}, "has no option 'widht' .did you mean 'width'"),
        ({"width": 3}, "generator 'ldm': width is 3, expected 4 to 4096"),
        ({"width": "4097"}, "width is 4097"),
        ({"width": 8.5}, "not of type int"),
        ({"compression": 5}, "compression is 5, expected 4, 8, 16"),
        ({"stem": 3}, "stem is 3, expected 1, 2, 4"),
        ({"crop": 8, "compression": 4}, "crop is 8, expected 16 or more and a multiple of compression=4"),
        ({"crop": 40, "compression": 16}, "crop is 40"),
        ({"crop": -16}, "crop is -16"),
        ({"multipliers": ""}, "multipliers"),
        ({"multipliers": ()}, "multipliers is .., expected whole numbers"),
        ({"multipliers": (1, 0)}, "multipliers is .1, 0."),
        ({"steps": 50, "timesteps": 40}, "steps is 50, more than timesteps=40"),
        ({"held_out": float("nan")}, "held_out: nan, expected a finite number"),
        ({"memory": float("inf")}, "memory: inf, expected a finite number"),
        ({"kmeans": "evry"}, "did you mean 'every'"),
        (
            {"preset": "smok"},
            "preset 'smok': neither a preset that ships with hseval nor a .toml file .did you mean 'smoke'",
        ),
        ({"preset": "gone.toml"}, "gone.toml: can't be read as TOML: no such file"),
    ],
)
def test_invalid_values_are_refused_with_the_valid_ones(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HsevalError, match=message) as error:
        build(**values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OPTION_BOUNDS)
def test_bounds_are_inclusive(name: str) -> None:
    low, high = OPTION_BOUNDS[name]
    others = {"timesteps": 100000} if name == "steps" else {"steps": 2} if name == "timesteps" else {}
    for value in (low, high):
        assert getattr(LdmOptions(**(others | {name: value})), name) == value
    for value in (low - 1e-3, high * (1 + 1e-6) + 1e-3):
        with pytest.raises(ValueError, match=f"^{name} is .*, expected {low:g} to"):
            LdmOptions(**(others | {name: value}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widht = 3", r"mine\.toml: has no option 'widht' .did you mean 'width'"),
        ("preset = 'demo'", "has no option 'preset'"),
        ("[autoencoder]\nwidth = 3", "has no option 'autoencoder'"),
        ("width = 'many'", r"mine\.toml: width: 'many' is not of type int"),
        ("width = 3.5", "width: 3.5 is not of type int"),
        ("compile = 1", "compile: 1 is not of type bool"),
        ("multipliers = ['x']", "multipliers: 'x' is not of type int"),
        ("model = 'vqgam'", "model: 'vqgam' is not a valid value .did you mean 'vqgan'"),
        ("width = 3", "width is 3, expected 4 to 4096"),
        ("width = ", r"mine\.toml: can't be read as TOML"),
        ("width = 8\nwidth = 9", "can't be read as TOML"),
        ("\x00", "can't be read as TOML"),
    ],
)
def test_an_invalid_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(HsevalError, match=message) as error:
        build(preset=write_preset(tmp_path, text))
    assert "\n" not in str(error.value)


def test_an_unreadable_preset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HsevalError, match="can't be read"):
        build(preset=str(path))
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(HsevalError, match="is a folder; a regular file expected"):
        build(preset=str(folder))


def test_an_unknown_name_in_python_is_a_type_error_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match=r"no option 'widht' .did you mean 'width'"):
        LdmOptions(widht=3)


@pytest.mark.parametrize("name", PRESETS)
def test_shipped_presets_are_valid(name: str) -> None:
    built, values = build(preset=name), load_preset(name)
    assert values and all(getattr(built, option) == value for option, value in values.items())
    assert not {"stage", "resume", "start_from"} & set(values)


def test_importing_the_options_imports_no_large_package() -> None:
    imported = "{'torch', 'numpy', 'diffusers', 'h5py'} & set(sys.modules)"
    code = f"import sys, hseval_ldm.options as o; o.LdmOptions(); print({imported} or 'nothing')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing"
