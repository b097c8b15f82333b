"""The contract checks of generators: each broken generator gets its own message."""

# ruff: noqa: ANN001, ANN201 - plugins as third parties write them, most of them broken on purpose

from __future__ import annotations

import numpy as np
import pytest

from hseval import HsevalError, Sample
from hseval.testing import ContractError, check_generator
from hseval.utils.random_streams import create_rng


class Dice:
    """Noise cubes, no fit."""

    name, version, summary = "dice", "1", "noise"
    wavelengths = np.array([500.0, 600.0])
    shape = (2, 8, 8)

    def load(self, path, device=None):
        pass

    def sample(self, n, *, seed, start=0):
        for index in range(start, n):
            yield self.draw(create_rng(seed, self.name, index), seed, index)

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
            yield self.draw(create_rng(seed, str(n), index), seed, index)


class GlobalState(Dice):
    def draw(self, rng, seed, index):
        return super().draw(rng, seed, index)._replace(cube=np.random.random(self.shape).astype(np.float32))


class SeedIgnored(Dice):
    def draw(self, rng, seed, index):
        return super().draw(create_rng(0, "dice", index), seed, index)


class AlwaysTheSame(Dice):
    def draw(self, rng, seed, index):
        return super().draw(create_rng(seed, "dice"), seed, index)


class SharedBetweenIterators(Dice):
    def sample(self, n, *, seed, start=0):
        self.index = start
        while self.index < n:
            yield self.draw(create_rng(seed, self.name, self.index), seed, self.index)
            self.index += 1


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
        sample = super().draw(rng, seed, index)
        return sample._replace(masks={"bright": sample.masks["bright"].astype(np.uint8)})


class MasksComeAndGo(Dice):
    def draw(self, rng, seed, index):
        sample = super().draw(rng, seed, index)
        return sample if index % 2 else sample._replace(masks={})


class OneId(Dice):
    def draw(self, rng, seed, index):
        return super().draw(rng, seed, index)._replace(id="cube")


class BandsLast(Dice):
    shape = (8, 8, 2)


class Descending(Dice):
    wavelengths = np.array([600.0, 500.0])


class NanInside(Dice):
    def draw(self, rng, seed, index):
        sample = super().draw(rng, seed, index)
        sample.cube[0, 0, 0] = np.nan
        return sample


class NoWavelengths:
    name, version, summary, shape = "dice", "1", "noise", Dice.shape
    load, sample, draw = Dice.load, Dice.sample, Dice.draw


class UnknownWavelengths(Dice):
    wavelengths = None


class BandsComeAndGo(UnknownWavelengths):
    def draw(self, rng, seed, index):
        sample = super().draw(rng, seed, index)
        return sample if index % 2 else sample._replace(cube=sample.cube[:1])


class PublishedSignature(Dice):
    """``sample(n, *, seed)`` and ``load(path)``, nothing more."""

    def load(self, path):
        pass

    def sample(self, n, *, seed):
        for index in range(n):
            yield self.draw(create_rng(seed, self.name, index), seed, index)


class PositionalStart(Dice):
    def sample(self, n, start=0, *, seed):
        return super().sample(n, seed=seed, start=start)


class Fitted(Dice):
    """Noise around a fitted mean."""

    def fit(self, data, out, *, seed=0):
        if not len(data):
            raise HsevalError("no cubes")
        self.mean = np.mean([cube.data.mean() for cube in data])
        tally = "1" * round(1000 * self.mean)  # so that half of the file would give half the mean
        (out / "mean.txt").write_text(f"{tally} end")

    def load(self, path, device=None):
        if path is None:
            raise HsevalError("needs a checkpoint")
        try:
            text = (path / "mean.txt").read_text()
        except OSError as error:
            raise HsevalError(f"{path}: {error.strerror}") from error
        self.mean = self.parse(text)

    def parse(self, text):
        if not text.endswith(" end"):
            raise HsevalError("mean.txt is truncated")
        return text.count("1") / 1000

    def draw(self, rng, seed, index):
        sample = super().draw(rng, seed, index)
        return sample._replace(cube=sample.cube + np.float32(self.mean))


class FitsWithoutSeed(Fitted):
    def fit(self, data, out):
        super().fit(data, out)


class WritesNothing(Fitted):
    def fit(self, data, out, *, seed=0):
        self.mean = 0.0


class RemembersInMemory(Fitted):
    draws = 0

    def load(self, path, device=None):
        super().load(path, device)
        type(self).draws += 1
        self.mean += type(self).draws


class LoadsWithoutCheckpoint(Fitted):
    def load(self, path, device=None):
        if path is None:
            self.mean = 0.0
        else:
            super().load(path, device)


class RawErrors(Fitted):
    def load(self, path, device=None):
        if path is None:
            raise HsevalError("needs a checkpoint")
        self.mean = self.parse((path / "mean.txt").read_text())


class AcceptsTruncatedFile(Fitted):
    def parse(self, text):
        return text.count("1") / 1000


class RawErrorOnTruncatedFile(Fitted):
    def parse(self, text):
        number, end = text.split()
        return len(number) / 1000 if end else 0.0


class AcceptsEmptySet(Fitted):
    def fit(self, data, out, *, seed=0):
        (out / "mean.txt").write_text("111 end")


@pytest.mark.parametrize("generator", [Dice, UnknownWavelengths, PublishedSignature, Fitted, Fitted(), FitsWithoutSeed])
def test_a_correct_generator_passes(generator, tmp_path):
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
        (SharedBetweenIterators, "two samplings at the same time affect each other"),
        (WholeList, "does not return an iterator"),
        (OneTooMany, r"sample\(4\) yields 5 cubes"),
        (Doubles, "yields float64 cubes"),
        (BytesAsMasks, "mask 'bright' is uint8"),
        (MasksComeAndGo, "cubes have different masks"),
        (OneId, "expected a unique str for each cube"),
        (BandsLast, r"shape \(8, 8, 2\) and has 2 wavelengths"),
        (NoWavelengths, "no attribute wavelengths after load"),
        (BandsComeAndGo, "cubes have 1 and 2 bands"),
        (PositionalStart, "sample takes 'start' by position"),
        (Descending, "band centers, ascending, in nm"),
        (NanInside, "NaN or Inf in its field of view"),
        (WritesNothing, "fit writes nothing to the folder"),
        (RemembersInMemory, "a second instance of the same checkpoint yields other cubes"),
        (LoadsWithoutCheckpoint, "load without a checkpoint, although it has fit: nothing was raised"),
        (RawErrors, "load from an empty folder: raised FileNotFoundError"),
        (AcceptsTruncatedFile, "mean.txt is truncated to half, and yields other cubes"),
        (RawErrorOnTruncatedFile, "mean.txt of its checkpoint truncated to half: raised ValueError"),
        (AcceptsEmptySet, "fit on a set without cubes: nothing was raised"),
    ],
)
def test_the_error_for_a_broken_generator_names_the_fault(generator, message, tmp_path):
    with pytest.raises(ContractError, match=message):
        check_generator(generator, tmp_path=tmp_path)
