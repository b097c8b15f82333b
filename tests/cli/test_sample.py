"""``hseval train`` and ``hseval sample`` as typed."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest

from hseval import HsevalError, Sample, __version__, hookimpl, open_set
from hseval.cli.settings import merge_settings, parse_plugin_settings, parse_settings, read_config
from hseval.core.plugin_manager import get_plugins
from hseval.generator_kit import choose_device
from hseval.testing import make_example_set
from hseval.training.checkpoint_file import read_record
from tests.helpers.commands import Command, assert_refused, run_hseval_process
from tests.helpers.sets import save_set


class Dice:
    """A third party's generator with the shortest published signatures; it raises the errors in ``errors``."""

    name, version, summary = "dice", "1", "noise"
    wavelengths = None
    errors: ClassVar[dict[str, BaseException]] = {}

    def fit(self, data: Any, out: Path) -> None:
        self.raise_error("fit")
        (out / "dice.txt").write_text("fitted")

    def load(self, path: Path | None) -> None:
        self.raise_error("load")

    def sample(self, n: int, *, seed: int) -> Iterator[Any]:
        for index in range(n):
            yield Sample(np.full((2, 4, 4), index, dtype=np.float32), {}, f"dice-{index}")
            self.raise_error("sample")

    def raise_error(self, method: str) -> None:
        if method in self.errors:
            raise self.errors[method]


class DeviceDice(Dice):
    """A generator that takes a device."""

    name = "device-dice"

    def fit(self, data: Any, out: Path, *, seed: int, device: str = "cpu") -> None:
        (out / "dice.txt").write_text(f"{device} {seed}")

    def load(self, path: Path | None, device: str | None = None) -> None:
        self.device = device or "cpu"


class TorchDice(DeviceDice):
    """A generator that computes on a device of torch."""

    name = "torch-dice"

    def fit(self, data: Any, out: Path, *, seed: int, device: str | None = None) -> None:
        choose_device(device)

    def load(self, path: Path | None, device: str | None = None) -> None:
        self.device = str(choose_device(device))


class TupleDice(Dice):
    """A generator that yields no samples."""

    name = "tuple-dice"

    def sample(self, n: int, *, seed: int) -> Iterator[Any]:
        yield from range(n)


class ThirdParty:
    """The hooks of a third party's module."""

    @hookimpl
    def hseval_generators(self) -> list[type]:
        return [Dice, DeviceDice, TorchDice, TupleDice]


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, BaseException]]:
    """Install the third party's generators; yield the errors that they raise, by method."""
    registry = get_plugins()
    registry.register(ThirdParty(), name="hseval-dice:dice", distribution="hseval-dice")
    monkeypatch.setattr(Dice, "errors", {})
    yield Dice.errors
    registry.manager.unregister(name="hseval-dice:dice")
    registry._registrations.clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_set(tmp_path / "real.h5", make_example_set(8, size=32, bands=4), units="reflectance")


@pytest.fixture
def run(tmp_path: Path, data: Path, hseval: Command) -> Path:
    assert hseval("train", "pca", data, "--out", tmp_path / "run").status == 0
    return tmp_path / "run"


def test_train_then_sample_makes_a_set_that_opens(tmp_path: Path, run: Path, hseval: Command) -> None:
    done = hseval("sample", "pca", "--checkpoint", run, "-n", 5, "--out", tmp_path / "generated.h5", "--seed", 3)
    assert (done.status, done.err) == (0, "")
    assert "generated.h5: 5 cubes by pca, seed 3" in done.out
    real, generated = make_example_set(8, size=32, bands=4), open_set(tmp_path / "generated.h5")
    assert len(generated) == len(set(generated.ids)) == 5
    np.testing.assert_allclose(generated.wavelengths, real.wavelengths)
    assert generated.structures == ("disc", "fov")
    assert generated.info.units == "reflectance"


def test_a_set_of_samples_stores_its_provenance(tmp_path: Path, data: Path, hseval: Command) -> None:
    hseval("train", "pca", data, "--out", tmp_path / "run", "--set", "variance=0.9")
    hseval("sample", "pca", "--checkpoint", tmp_path / "run", "-n", 1, "--out", tmp_path / "generated.h5", "--seed", 3)
    with h5py.File(tmp_path / "generated.h5") as file:
        provenance = json.loads(file.attrs["provenance"])
    assert provenance["generator"] == "pca"
    assert provenance["generator_version"]
    assert provenance["options"]["variance"] == 0.9
    assert provenance["seed"] == 3
    assert provenance["hseval"] == __version__


def test_the_same_seed_writes_the_same_cubes_and_another_seed_others(
    tmp_path: Path, run: Path, hseval: Command
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        hseval("sample", "pca", "--checkpoint", run, "-n", 2, "--out", tmp_path / f"{name}.h5", "--seed", seed)
    a, b, c = (open_set(tmp_path / f"{name}.h5")[1].data for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_billion_cubes_are_refused_before_they_are_made(tmp_path: Path) -> None:
    out = tmp_path / "eyes.h5"
    done = run_hseval_process("sample", "phantom", "-n", 1_000_000_000, "--set", "size=64", "--out", out)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    expected = rf"hseval: {out}: needs 278,528.0 GB, but {tmp_path} has [\d,.]+ GB free\n"
    assert re.fullmatch(expected, done.stderr), done.stderr


def test_a_generator_without_fit_samples_at_once(tmp_path: Path, hseval: Command) -> None:
    done = hseval("sample", "phantom", "-n", 1, "--set", "size=32", "--out", tmp_path / "eye.h5")
    assert done.status == 0
    assert open_set(tmp_path / "eye.h5").shape(0)[1:] == (32, 32)


def test_settings_may_name_the_generator(tmp_path: Path, data: Path, hseval: Command) -> None:
    assert hseval("train", "pca", data, "--out", tmp_path / "run", "--set", "pca.components=2").status == 0
    assert read_record(tmp_path / "run" / "pca.safetensors", format="hseval-pca-2")["fit"]["components"] == 2


def test_it_runs_as_a_process_of_its_own(tmp_path: Path, run: Path) -> None:
    done = run_hseval_process("sample", "pca", "--checkpoint", run, "-n", 2, "--out", tmp_path / "generated.h5")
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar where nobody looks


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "pcb", "{data}"], ["no generator is called 'pcb'", "did you mean 'pca'"]),
        (["train", "pca", "{data}", "--set", "varianze=0.9"], ["no option 'varianze'", "did you mean 'variance'"]),
        (["train", "pca", "{data}", "--set", "variance=much"], ["variance: 'much' is not of type float"]),
        (["train", "pca", "{data}", "--set", "variance=2"], ["'pca': variance is 2, expected above 0 and up to 1"]),
        (["train", "pca", "{data}", "--set", "variance"], ["expected key=value"]),
        (["train", "pca", "{data}", "--set", "fid.extractor=maps"], ["this command takes options of 'pca' only"]),
        (["train", "pca", "nowhere.h5"], ["nowhere.h5"]),
        (["train", "phantom", "{data}"], ["needs no training", "hseval sample phantom"]),
        (["train", "pca", "{data}", "--device", "cuda"], ["does not choose a device"]),
    ],
)
def test_training_refuses_with_one_line_and_leaves_nothing(
    tmp_path: Path, data: Path, hseval: Command, arguments: list[str], words: list[str]
) -> None:
    typed = [argument.format(data=data) for argument in arguments]
    assert_refused(hseval(*typed, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_a_set_of_one_cube_is_refused_and_leaves_nothing(tmp_path: Path, hseval: Command) -> None:
    one = save_set(tmp_path / "one.h5", make_example_set(1, size=32))
    assert_refused(hseval("train", "pca", one, "--out", tmp_path / "run"), "one.h5: has 1 cube", "2 or more")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_with_files_is_written_into_with_force_only(data: Path, run: Path, hseval: Command) -> None:
    before = (run / "pca.safetensors").read_bytes()
    assert_refused(hseval("train", "pca", data, "--out", run, "--set", "components=1"), "not empty", "--force")
    assert (run / "pca.safetensors").read_bytes() == before
    assert hseval("train", "pca", data, "--out", run, "--set", "components=1", "--force").status == 0
    assert (run / "pca.safetensors").read_bytes() != before


def test_an_impossible_run_folder_is_refused_before_the_work(tmp_path: Path, data: Path, hseval: Command) -> None:
    assert_refused(hseval("train", "pca", data, "--out", data), "is a file")
    assert_refused(hseval("train", "pca", data, "--out", tmp_path / "no" / "run"), "does not exist")
    for below in (data / "run", data / "further" / "run"):
        assert_refused(hseval("train", "pca", data, "--out", below), f"--out {below}: '{data}' is a file, not a folder")


@pytest.mark.parametrize("method", ["fit", "load", "sample"])
def test_errors_of_a_third_partys_generator_are_reported_in_one_line(
    data: Path, hseval: Command, dice: dict[str, BaseException], method: str
) -> None:
    typed = ("train", "dice", data) if method == "fit" else ("sample", "dice", "-n", 2)
    errors = {
        "ValueError: no six": ValueError("no six\nwas thrown"),
        "FileNotFoundError: [Errno 2] gone: 'd6'": FileNotFoundError(errno.ENOENT, "gone", "d6"),
    }
    for message, dice[method] in errors.items():
        done = hseval(*typed, "--out", data.parent / "out")
        assert (done.status, done.err) == (2, f"hseval: generator 'dice' of hseval-dice: {message}\n")
        assert [path.name for path in data.parent.iterdir()] == ["real.h5"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MemoryError("32 GiB"), 2, "hseval: out of memory: 32 GiB;"),
        (KeyboardInterrupt(), 130, "hseval: interrupted"),
        (HsevalError("six sides, please"), 2, "hseval: six sides, please\n"),
    ],
)
def test_errors_that_are_not_the_generators_are_reported_as_usual(
    hseval: Command, dice: dict[str, BaseException], error: BaseException, status: int, message: str
) -> None:
    dice["load"] = error
    done = hseval("sample", "dice", "-n", 1, "--out", "generated.h5")
    assert done.status == status
    assert done.err.lstrip().startswith(message)


def test_a_full_disk_is_not_an_error_of_the_generator() -> None:
    with pytest.raises(OSError, match="No space left"), get_plugins().wrap_errors("generator", "dice"):
        raise OSError(errno.ENOSPC, "No space left on device", "d6")


def test_a_yielded_item_that_is_no_sample_is_an_error_of_the_generator(tmp_path: Path, hseval: Command) -> None:
    done = hseval("sample", "tuple-dice", "-n", 2, "--out", tmp_path / "generated.h5")
    assert_refused(done, "generator 'tuple-dice' of hseval-dice: TypeError")
    assert not (tmp_path / "generated.h5").exists()


def test_a_fit_without_seed_is_called_without_it(tmp_path: Path, data: Path, hseval: Command) -> None:
    done = hseval("train", "dice", data, "--out", tmp_path / "run")
    assert (done.status, done.err) == (0, "")
    done = hseval("train", "dice", data, "--out", tmp_path / "run", "--seed", 3, "--force")
    assert (done.status, done.err) == (0, "--seed 3: generator 'dice' takes no seed for training\n")


def test_a_fit_that_takes_seed_and_device_gets_both(tmp_path: Path, data: Path, hseval: Command) -> None:
    typed = ("train", "device-dice", data, "--out", tmp_path / "run", "--seed", 3, "--device", "cuda:1")
    assert hseval(*typed).status == 0
    assert (tmp_path / "run" / "dice.txt").read_text() == "cuda:1 3"


@pytest.mark.parametrize("typed", [("phantom", "--set", "size=32"), ("dice",), ("pca", "--checkpoint", "{run}")])
def test_a_device_that_a_generator_does_not_use_is_refused(
    tmp_path: Path, run: Path, hseval: Command, typed: tuple[str, ...]
) -> None:
    words = [word.format(run=run) for word in typed]
    done = hseval("sample", *words, "-n", 1, "--out", tmp_path / "generated.h5", "--device", "cuda")
    assert_refused(done, f"--device cuda: generator {typed[0]!r} does not choose a device to sample on")
    assert not (tmp_path / "generated.h5").exists()


def test_a_device_that_a_generator_uses_is_taken(tmp_path: Path, hseval: Command) -> None:
    typed = ("sample", "device-dice", "-n", 1, "--out", tmp_path / "generated.h5", "--device", "cuda")
    assert hseval(*typed).status == 0


@pytest.mark.parametrize("device", ["nope", "meta"])
def test_a_device_that_torch_cannot_use_is_refused_in_one_line(
    tmp_path: Path, data: Path, hseval: Command, device: str
) -> None:
    for typed in (("train", "torch-dice", data), ("sample", "torch-dice", "-n", 1)):
        done = hseval(*typed, "--out", tmp_path / "out", "--device", device)
        assert_refused(done, f"hseval: --device {device}: ", "; use cpu")
        assert not (tmp_path / "out").exists()


def test_an_unknown_generator_is_reported_before_an_existing_set(data: Path, hseval: Command) -> None:
    assert_refused(hseval("sample", "fantom", "-n", 1, "--out", data), "no generator is called 'fantom'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pca"], ["pca has to be fitted first: hseval train pca DATA --out RUN"]),
        (["pca", "--checkpoint", "nowhere"], ["nowhere", "does not exist"]),
        (["pca", "--checkpoint", "{empty}"], ["pca.safetensors: no such checkpoint; create one by: hseval train pca"]),
        (["fantom"], ["no generator is called 'fantom'", "did you mean 'phantom'"]),
        (["phantom", "--set", "sice=32"], ["no option 'sice'", "did you mean 'size'"]),
    ],
)
def test_sampling_refuses_with_one_line_and_leaves_nothing(
    tmp_path: Path, hseval: Command, arguments: list[str], words: list[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    typed = [argument.format(empty=empty) for argument in arguments]
    assert_refused(hseval("sample", *typed, "-n", 2, "--out", tmp_path / "generated.h5"), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_existing_set_is_overwritten_with_force_only(tmp_path: Path, run: Path, data: Path, hseval: Command) -> None:
    typed = ("sample", "pca", "--checkpoint", run, "-n", 2, "--out", data)
    before = data.read_bytes()
    assert_refused(hseval(*typed), "exists already", "--force")
    assert data.read_bytes() == before
    assert hseval(*typed, "--force").status == 0
    assert len(open_set(data)) == 2


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("no/such/generated.h5", "does not exist"),
        (".", "is a folder"),
        ("real.h5/generated.h5", "real.h5' is a file, not a folder"),
        ("real.h5/further/generated.h5", "real.h5' is a file, not a folder"),
    ],
)
def test_an_impossible_output_is_refused_before_the_work(
    tmp_path: Path, run: Path, hseval: Command, name: str, word: str
) -> None:
    assert_refused(hseval("sample", "pca", "--checkpoint", run, "-n", 10**9, "--out", tmp_path / name), word)


def test_an_interrupted_sampling_leaves_no_partial_file_and_resumes(
    tmp_path: Path, run: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval_pca.generator import Pca

    original = Pca.sample

    def sample_two(self: Pca, n: int, *, seed: int, start: int = 0) -> Any:
        yield from original(self, 2, seed=seed)
        raise KeyboardInterrupt

    typed = ("sample", "pca", "--checkpoint", run, "-n", 5, "--out")
    with monkeypatch.context() as patch:
        patch.setattr(Pca, "sample", sample_two)
        assert hseval(*typed, tmp_path / "generated.h5").status == 130
    assert not (tmp_path / "generated.h5").exists()
    assert "resuming after 2 cubes" in hseval(*typed, tmp_path / "generated.h5").err
    assert hseval(*typed, tmp_path / "fresh.h5").status == 0
    assert (tmp_path / "generated.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_generator_that_can_not_start_in_the_middle_leaves_nothing_when_interrupted(
    tmp_path: Path, hseval: Command, dice: dict[str, BaseException]
) -> None:
    dice["sample"] = KeyboardInterrupt()
    done = hseval("sample", "dice", "-n", 3, "--out", tmp_path / "generated.h5")
    assert (done.status, done.err.strip()) == (130, "hseval: interrupted: no partial file was left behind")
    assert list(tmp_path.iterdir()) == []


def test_ranks_after_the_first_train_into_a_folder_that_is_not_empty_and_print_nothing(
    data: Path, run: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert_refused(hseval("train", "pca", data, "--out", run), "is not empty")
    monkeypatch.setenv("RANK", "1")
    for out in (run, run.with_name("further")):
        done = hseval("train", "pca", data, "--out", out)
        assert (done.status, done.out, done.err) == (0, "", "")
        assert (out / "pca.safetensors").exists()
    assert_refused(hseval("train", "pca", data, "--out", data), "is a file")


def test_a_count_of_zero_is_refused(tmp_path: Path, hseval: Command) -> None:
    assert hseval("sample", "phantom", "-n", 0, "--out", tmp_path / "generated.h5").status == 2


def test_settings_split_at_the_first_equals_sign_and_the_last_dot_before_it() -> None:
    assert parse_settings(("size=224", "fid.weights=a.b=c", "fid.k= 3")) == {
        "": {"size": "224"},
        "fid": {"weights": "a.b=c", "k": "3"},
    }


@pytest.mark.parametrize("wrong", ["size", "=3", "fid.=3", ""])
def test_settings_without_key_or_value_are_refused(wrong: str) -> None:
    with pytest.raises(HsevalError, match="expected key=value"):
        parse_settings((wrong,))


def test_settings_of_the_command_line_override_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[fid]\nextractor = "maps"\nk = 3\n[ms-ssim]\npairs = 50\n')
    assert read_config(tmp_path / "c.toml")["ms-ssim"] == {"pairs": 50}
    merged = merge_settings(("fid.k=4",), tmp_path / "c.toml")
    assert merged == {"fid": {"extractor": "maps", "k": "4"}, "ms-ssim": {"pairs": 50}}


@pytest.mark.parametrize(
    ("text", "word"), [("[fid", "TOML"), ("seed = 3", "'seed' is outside a table"), (None, "no such file")]
)
def test_an_unreadable_config_file_is_refused(tmp_path: Path, text: str | None, word: str) -> None:
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(HsevalError, match=word):
        read_config(path)


def test_a_setting_without_a_plugin_is_refused_where_several_plugins_run() -> None:
    with pytest.raises(HsevalError, match=r"--set k=\.\.\.: name the plugin"):
        merge_settings(("k=4",))


def test_a_setting_of_another_plugin_is_refused_where_one_plugin_runs() -> None:
    assert parse_plugin_settings("pca", ("pca.variance=1", "components=2")) == {"components": "2", "variance": "1"}
    with pytest.raises(HsevalError, match=r"--set pcb\.variance: .* options of 'pca' only \(did you mean 'pca'"):
        parse_plugin_settings("pca", ("pcb.variance=1",))
