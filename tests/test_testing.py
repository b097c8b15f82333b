"""The published contract checks: built-in plugins keep them, and each broken plugin gets its own message."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import saved

from hseval import HsevalError, Needs, NotComputable, Sample, ScoreParts, option
from hseval.plugins import plugins
from hseval.seeds import stream
from hseval.testing import (
    ContractError,
    check_extractor,
    check_generator,
    check_metric,
    check_reader,
    example_set,
)

WITHOUT_WEIGHTS = [name for name in plugins().names("extractor") if name != "torchvision"]
SMALL = {"phantom": {"size": 48}}


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_every_extractor_keeps_the_contract(name):
    check_extractor(plugins().find("extractor", name))


@pytest.mark.parametrize("name", plugins().names("metric"))
def test_every_metric_keeps_the_contract(name):
    check_metric(plugins().find("metric", name))


@pytest.mark.parametrize("name", [name for name in plugins().names("generator") if name in ("pca", "phantom")])
def test_every_generator_keeps_the_contract(name, tmp_path):
    check_generator(plugins().build("generator", name, SMALL.get(name)), tmp_path=tmp_path)


def test_the_built_in_ones_are_among_those_checked():
    assert {"scattering", "spectra", "maps", "values"} <= set(WITHOUT_WEIGHTS)
    assert {"fid", "spectral-kl", "ms-ssim", "authenticity"} <= set(plugins().names("metric"))
    assert {"pca", "phantom"} <= set(plugins().names("generator"))


def test_the_readers_keep_the_contract(tmp_path):
    data = example_set(3)
    check_reader(plugins().find("reader", "hdf5"), saved(tmp_path / "set.h5", data))
    (tmp_path / "folder").mkdir()
    for name, cube in zip(data.ids, data.cubes, strict=True):
        np.save(tmp_path / "folder" / f"{name}.npy", cube)
    check_reader(plugins().find("reader", "folder"), tmp_path / "folder")


# ---------------------------------------------------------------------------------------------- metrics


class Brightness:
    name, summary, better = "brightness", "difference of the mean brightness", "lower"
    needs = Needs(rows=("spectra",))

    def compare(self, *, real, fake, train=None, rng):
        return float(abs(self._mean(real) - self._mean(fake)))

    def _mean(self, rows):
        return np.sort(rows["spectra/mean"].mean(axis=(1, 2), dtype=np.float64)).mean()


class ShoutingName(Brightness):
    name = "Mean_Brightness"


class NoSummary(Brightness):
    summary = ""


class BetterBigger(Brightness):
    better = "bigger"


class MutableOptions(Brightness):
    @dataclasses.dataclass
    class Options:
        bins: int = option(3, "number of bins")


class OptionWithoutHelp(Brightness):
    @dataclasses.dataclass(frozen=True)
    class Options:
        bins: int = 3


class OptionWithoutDefault(Brightness):
    @dataclasses.dataclass(frozen=True)
    class Options:
        bins: int


class NeedsArguments(Brightness):
    def __init__(self, options):
        self.options = options


class NeedsList(Brightness):
    needs = ["spectra"]  # noqa: RUF012


class Positional(Brightness):
    def compare(self, real, fake, train=None, *, rng):
        return 0.0


class NoRng(Brightness):
    def compare(self, *, real, fake, train=None):
        return 0.0


class NotANumber(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        return float("nan")


class ReturnsText(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        return "0.5"


class GlobalRandom(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        return random.random()


class FirstRow(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        return float(real["spectra/mean"][0].mean())


class WritesToRows(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        rows = real["spectra/mean"]
        rows -= rows.mean()
        return 0.0


class DetailsOfFunctions(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        return ScoreParts(0.0, {"loop": Loop()})


class Loop:
    def tolist(self):
        raise TypeError("no list")


class FailsOnFew(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        return float(np.linalg.cholesky(np.cov(real["spectra/mean"].mean(axis=(1, 2))).reshape(1, 1))[0, 0])


class TellsOnFew(Brightness):
    def compare(self, *, real, fake, train=None, rng):
        if len(real) < 2:
            raise NotComputable("needs two cubes")
        return super().compare(real=real, fake=fake, rng=rng)


@pytest.mark.parametrize("metric", [Brightness, TellsOnFew, Brightness()])
def test_a_sound_metric_passes(metric):
    check_metric(metric)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (ShoutingName, "lower case letters and digits with single dashes"),
        (NoSummary, "summary is ''; it has to be one line"),
        (BetterBigger, "better is 'bigger'; expected 'lower', 'higher' or 'floor'"),
        (MutableOptions, "no frozen dataclass"),
        (OptionWithoutHelp, "option 'bins' has no help"),
        (OptionWithoutDefault, "option 'bins' has no default"),
        (NeedsArguments, "can't be built without arguments"),
        (NeedsList, "has to be an instance of hseval.Needs"),
        (Positional, "takes 'real' by position; write a \\* before it"),
        (NoRng, "does not take 'rng'"),
        (NotANumber, "compare returns nan; where there is no value, raise hseval.NotComputable"),
        (ReturnsText, "compare returns str; expected a float or hseval.ScoreParts"),
        (GlobalRandom, "for the same rows and seed; draw from the rng"),
        (FirstRow, "for the same rows in another order"),
        (WritesToRows, "compare writes to the rows it is given"),
        (DetailsOfFunctions, "details do not fit into JSON"),
        (FailsOnFew, "one cube a side (raises|gives).*NotComputable"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_broken_metric_is_told_what_is_wrong(metric, message):
    with pytest.raises(ContractError, match=message):
        check_metric(metric)


# ------------------------------------------------------------------------------------------- extractors


class MeanSpectrum:
    name, version, summary = "mean-spectrum", "1", "mean of the valid pixels, band by band"

    def __call__(self, cubes, *, wavelengths, masks):
        return np.nanmean(cubes, axis=(2, 3))


class NoVersion(MeanSpectrum):
    version = None


class ZerosCounted(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return np.nan_to_num(cubes).mean(axis=(2, 3))


class NanSpreads(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return cubes.mean(axis=(2, 3))


class BatchStatistics(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        rows = np.nanmean(cubes, axis=(2, 3))
        return rows - rows.mean(axis=0)


class BandsFirst(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return super().__call__(cubes, wavelengths=wavelengths, masks=masks).T


class Integers(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return np.isfinite(cubes).sum(axis=(1, 2, 3))


class Noisy(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return np.nanmean(cubes, axis=(2, 3)) + np.random.default_rng().normal()


class WritesToCubes(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        np.nan_to_num(cubes, copy=False)
        return cubes.mean(axis=(2, 3))


class PositionalMasks(MeanSpectrum):
    def __call__(self, cubes, wavelengths, masks):
        return np.nanmean(cubes, axis=(2, 3))


class NothingAtAll(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        return {}


class HoleInAFullFrame(MeanSpectrum):
    def __call__(self, cubes, *, wavelengths, masks):
        rows = np.nanmean(cubes, axis=(2, 3))
        return np.column_stack([rows, np.full(len(rows), np.nan)])


def test_a_sound_extractor_passes():
    check_extractor(MeanSpectrum)


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (NoVersion, "version is None; it has to be one line"),
        (ZerosCounted, "NaN pixels are counted, as zeros perhaps"),
        (NanSpreads, "holds Inf, or NaN alone"),
        (BatchStatistics, "changes with the other cubes in its batch"),
        (BandsFirst, r"has shape \(6, 4\) for 4 cubes; the first axis has to be the cube"),
        (Integers, "no float array"),
        (Noisy, "has to be deterministic"),
        (WritesToCubes, "writes to the cubes it is given"),
        (PositionalMasks, "takes 'wavelengths' by position"),
        (NothingAtAll, "returns no rows"),
        (HoleInAFullFrame, "holds NaN though every pixel is valid"),
    ],
)
def test_a_broken_extractor_is_told_what_is_wrong(extractor, message):
    with pytest.raises(ContractError, match=message):
        check_extractor(extractor)


# ------------------------------------------------------------------------------------------- generators


class Dice:
    """Noise cubes, no fit."""

    name, version, summary = "dice", "1", "noise"
    wavelengths = np.array([500.0, 600.0])
    shape = (2, 8, 8)

    def load(self, path, device=None):
        pass

    def sample(self, n, *, seed, start=0):
        for index in range(start, n):
            yield self.draw(stream(seed, self.name, index), seed, index)

    def draw(self, rng, seed, index):
        cube = rng.random(self.shape, dtype=np.float32)
        return Sample(cube, {"bright": cube[0] > 0.5}, f"dice-{seed}-{index}")


class SeedPlusIndex(Dice):
    def draw(self, rng, seed, index):
        return super().draw(np.random.default_rng(seed + index), seed, index)


class OneStream(Dice):
    def sample(self, n, *, seed, start=0):
        rng = np.random.default_rng(seed)
        for index in range(start, n):
            yield self.draw(rng, seed, index)


class DependsOnCount(Dice):
    def sample(self, n, *, seed, start=0):
        for index in range(start, n):
            yield self.draw(stream(seed, str(n), index), seed, index)


class GlobalState(Dice):
    def draw(self, rng, seed, index):
        return super().draw(np.random.mtrand._rand, seed, index) if False else Sample(
            np.random.random(self.shape).astype(np.float32), {}, f"{seed}-{index}"
        )  # fmt: skip


class SeedIgnored(Dice):
    def draw(self, rng, seed, index):
        return super().draw(stream(0, "dice", index), seed, index)


class AlwaysTheSame(Dice):
    def draw(self, rng, seed, index):
        return super().draw(stream(seed, "dice"), seed, index)


class SharedBetweenIterators(Dice):
    def sample(self, n, *, seed, start=0):
        self.rng = stream(seed, "shared", start)
        self.seed, self.skipped = seed, start
        for index in range(start, n):
            self.last = stream(seed, "dice", index) if not hasattr(self, "busy") else self.rng
            self.busy = True
            yield self.draw(self.last, seed, index)
        del self.busy


class WholeList(Dice):
    def sample(self, n, *, seed, start=0):
        return list(super().sample(n, seed=seed, start=start))


class OneTooMany(Dice):
    def sample(self, n, *, seed, start=0):
        return super().sample(n + 1, seed=seed, start=start)


class Doubles(Dice):
    def draw(self, rng, seed, index):
        return super().draw(rng, seed, index)._replace(cube=rng.random(self.shape))


class BytesAsMasks(Dice):
    def draw(self, rng, seed, index):
        drawn = super().draw(rng, seed, index)
        return drawn._replace(masks={"bright": drawn.masks["bright"].astype(np.uint8)})


class MasksComeAndGo(Dice):
    def draw(self, rng, seed, index):
        drawn = super().draw(rng, seed, index)
        return drawn if index % 2 else drawn._replace(masks={})


class OneId(Dice):
    def draw(self, rng, seed, index):
        return super().draw(rng, seed, index)._replace(id="cube")


class BandsLast(Dice):
    shape = (8, 8, 2)


class Descending(Dice):
    wavelengths = np.array([600.0, 500.0])


class NanInside(Dice):
    def draw(self, rng, seed, index):
        drawn = super().draw(rng, seed, index)
        drawn.cube[0, 0, 0] = np.nan
        return drawn


class Fitted(Dice):
    """Noise around a fitted mean."""

    def fit(self, data, out, *, seed=0):
        if not len(data):
            raise HsevalError("no cubes")
        self.mean = float(np.mean([cube.data.mean() for cube in data]))
        (out / "mean.txt").write_text(f"{self.mean:.17f} end")

    def load(self, path, device=None):
        if path is None:
            raise HsevalError("needs a checkpoint")
        try:
            text = (path / "mean.txt").read_text()
        except OSError as error:
            raise HsevalError(f"{path}: {error.strerror}") from error
        self.mean = self.parsed(text)

    def parsed(self, text):
        if not text.endswith(" end"):
            raise HsevalError("mean.txt is cut off")
        return float(text.split()[0])

    def draw(self, rng, seed, index):
        drawn = super().draw(rng, seed, index)
        return drawn._replace(cube=drawn.cube + np.float32(self.mean))


class LeavesNothing(Fitted):
    def fit(self, data, out, *, seed=0):
        self.mean = 0.0


class RemembersInMemory(Fitted):
    draws = 0

    def load(self, path, device=None):
        super().load(path, device)
        type(self).draws += 1
        self.mean += type(self).draws


class LoadsFromNowhere(Fitted):
    def load(self, path, device=None):
        if path is None:
            self.mean = 0.0
        else:
            super().load(path, device)


class RawErrors(Fitted):
    def load(self, path, device=None):
        if path is None:
            raise HsevalError("needs a checkpoint")
        self.mean = self.parsed((path / "mean.txt").read_text())


class TakesHalfAFile(Fitted):
    def parsed(self, text):
        return float(text.split()[0])


class RawErrorOnHalfAFile(Fitted):
    def parsed(self, text):
        number, end = text.split()
        return float(number) if end == "end" else 0.0


class FitsNothing(Fitted):
    def fit(self, data, out, *, seed=0):
        (out / "mean.txt").write_text("0.0 end")


@pytest.mark.parametrize("generator", [Dice, Fitted, Fitted()])
def test_a_sound_generator_passes(generator, tmp_path):
    check_generator(generator, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (SeedPlusIndex, "cube 1 of seed 7 is cube 0 of seed 8, as with seed \\+ i"),
        (OneStream, r"sample\(4, start=2\) differs from cubes 2 and 3"),
        (DependsOnCount, r"sample\(2\) differs from the start of sample\(4\)"),
        (GlobalState, "the same seed yields other cubes when drawn again"),
        (SeedIgnored, "two seeds yield the same cube"),
        (AlwaysTheSame, "cubes 0 and 1 of a seed are the same"),
        (SharedBetweenIterators, "two samplings that run at once disturb each other|yields other cubes"),
        (WholeList, "does not return an iterator"),
        (OneTooMany, r"sample\(4\) yields 5 cubes"),
        (Doubles, "yields float64 cubes"),
        (BytesAsMasks, "mask 'bright' is uint8"),
        (MasksComeAndGo, "cubes have different masks"),
        (OneId, "another for each cube"),
        (BandsLast, r"shape \(8, 8, 2\) and has 2 wavelengths"),
        (Descending, "band centres, ascending, in nm"),
        (NanInside, "NaN or Inf in its field of view"),
        (LeavesNothing, "fit leaves nothing in the folder"),
        (RemembersInMemory, "a second instance that loads the same yields other cubes"),
        (LoadsFromNowhere, "load without a checkpoint, though it has fit: nothing was raised"),
        (RawErrors, "load from an empty folder: raised FileNotFoundError"),
        (TakesHalfAFile, "mean.txt was cut in half, and yields other cubes"),
        (RawErrorOnHalfAFile, "mean.txt of its checkpoint cut in half: raised ValueError"),
        (FitsNothing, "fit on a set without cubes: nothing was raised"),
    ],
)
def test_a_broken_generator_is_told_what_is_wrong(generator, message, tmp_path):
    with pytest.raises(ContractError, match=message):
        check_generator(generator, tmp_path=tmp_path)


# ---------------------------------------------------------------------------------------------- readers


@pytest.fixture
def file(tmp_path) -> Path:
    return saved(tmp_path / "set.h5", example_set(3))


def reader_with(change_set=lambda cubes: cubes, **methods):
    """Return the HDF5 reader's class with some of it replaced."""
    sound = plugins().find("reader", "hdf5")

    class Changed(sound):
        def open(self, path, *, layout=None, wavelengths=None):
            return change_set(super().open(path, layout=layout, wavelengths=wavelengths))

    for name, method in methods.items():
        setattr(Changed, name, method)
    return Changed


def with_info(**changes):
    def change(cubes):
        cubes.info = dataclasses.replace(cubes.info, **changes)
        return cubes

    return change


def with_cube(**changes):
    def change(cubes):
        read = cubes.read
        cubes.read = lambda index: dataclasses.replace(read(index), **changes)
        return cubes

    return change


def with_open_file(cubes):
    cubes.handle = Path(__file__).open()
    return cubes


def with_one_recipe(cubes):
    cubes.recipe = lambda index: "0"
    return cubes


def swallow_errors(self, path, *, layout=None, wavelengths=None):
    try:
        return plugins().find("reader", "hdf5")().open(path)
    except HsevalError:
        return example_set(1)


def raw_errors(self, path, *, layout=None, wavelengths=None):
    try:
        return plugins().find("reader", "hdf5")().open(path)
    except HsevalError as error:
        raise OSError("bad file") from error


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (lambda: reader_with(claims=lambda self, path: False), "is not True, though it is to open it"),
        (lambda: reader_with(claims=lambda self, path: True), "does not say False to a path that does not exist"),
        (lambda: reader_with(claims=lambda self, path: path.exists()), "a line of text; look at its bytes"),
        (lambda: reader_with(open=lambda self, path: None), "does not take 'layout'"),
        (lambda: reader_with(lambda cubes: cubes.subset([])), "opens an empty set"),
        (lambda: reader_with(lambda cubes: list(cubes)), "open returns list"),
        (lambda: reader_with(with_info(ids=("a", "a", "b"))), "ids are not unique"),
        (lambda: reader_with(with_info(wavelengths=np.arange(6.0)[::-1])), "do not ascend"),
        (lambda: reader_with(with_info(wavelengths=np.arange(5.0))), "for 6 bands"),
        (lambda: reader_with(with_info(structures=("fov", "disc"))), "structures are not sorted"),
        (lambda: reader_with(with_info(groups=("one",))), "'groups' does not have one entry a cube"),
        (lambda: reader_with(with_one_recipe), "two cubes share sources and recipe"),
        (lambda: reader_with(with_cube(data=np.zeros((6, 48, 48)))), "is float64; cubes are float32"),
        (lambda: reader_with(with_cube(data=np.zeros((48, 48, 6), np.float32))), r"has shape \(48, 48, 6\)"),
        (lambda: reader_with(with_cube(id="other")), "calls itself 'other'"),
        (lambda: reader_with(with_cube(masks={"fov": np.ones((48, 48))})), "mask 'fov' is float64"),
        (lambda: reader_with(with_cube(masks={"sea": np.ones((48, 48), bool)})), "do not list"),
        (lambda: reader_with(with_cube(masks={})), r"read_masks\(0\) differs"),
        (lambda: reader_with(with_open_file), "can't be sent to a worker process"),
        (lambda: reader_with(open=swallow_errors), "a file cut in half: nothing was raised"),
        (lambda: reader_with(open=raw_errors), "a file cut in half: raised OSError"),
    ],
)
def test_a_broken_reader_is_told_what_is_wrong(reader, message, file):
    with pytest.raises(ContractError, match=message):
        check_reader(reader(), file)
