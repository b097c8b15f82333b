"""The contract checks of metrics: each broken metric gets its own message."""

# ruff: noqa: ANN001, ANN201, ANN202, ANN204 - plugins as third parties write them, most of them broken on purpose

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from hseval import Needs, NotComputable, ScoreParts, option
from hseval.testing import ContractError, check_metric


class Brightness:
    name, summary, better = "brightness", "difference of the mean brightness", "lower"
    needs = Needs(features=("spectra",))

    def compare(self, *, real, generated, train=None, rng):
        return float(abs(self._mean(real) - self._mean(generated)))

    def _mean(self, features):
        return np.sort(features["spectra/mean"].mean(axis=(1, 2), dtype=np.float64)).mean()


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
    def compare(self, real, generated, train=None, *, rng):
        return 0.0


class NoRng(Brightness):
    def compare(self, *, real, generated, train=None):
        return 0.0


class NotANumber(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        return float("nan")


class ReturnsText(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        return "0.5"


class GlobalRandom(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        return random.random()


class FirstRow(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        return float(real["spectra/mean"][0].mean())


class WritesToFeatures(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        features = real["spectra/mean"]
        features -= features.mean()
        return 0.0


class OutOfBounds(Brightness):
    bounds = (1e3, 1e4)


class AnotherHeadline(Brightness):
    def headline(self, *, real, generated, train):
        return 17.0


class DetailsNotJson(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        return ScoreParts(0.0, {"array": BrokenArray()})


class BrokenArray:
    def tolist(self):
        raise TypeError("no list")


class FailsOnOneCube(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        return float(np.linalg.cholesky(np.cov(real["spectra/mean"].mean(axis=(1, 2))).reshape(1, 1))[0, 0])


class NotComputableOnOneCube(Brightness):
    def compare(self, *, real, generated, train=None, rng):
        if len(real) < 2:
            raise NotComputable("needs two cubes")
        return super().compare(real=real, generated=generated, rng=rng)


class PairsWithoutVersion(Brightness):
    needs = Needs(features=("spectra",), pairs=4)

    def describe_block(self, cubes, *, field, reference):
        return {"brightness": np.array([[np.nanmean(cubes)]])}

    def compare(self, *, real, generated, train=None, rng):
        return float(abs(np.sort(real["brightness"]).mean() - np.sort(generated["brightness"]).mean()))


class Pairs(PairsWithoutVersion):
    version = "1"


class PairsOfVersionOne(PairsWithoutVersion):
    version = 1


@pytest.mark.parametrize("metric", [Brightness, NotComputableOnOneCube, Brightness(), Pairs])
def test_a_correct_metric_passes(metric):
    check_metric(metric)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (ShoutingName, "lower case letters and digits with single dashes"),
        (NoSummary, "summary is ''; it has to be one line"),
        (BetterBigger, "better is 'bigger'; expected 'lower', 'higher' or 'floor'"),
        (MutableOptions, "not a frozen dataclass"),
        (OptionWithoutHelp, "option 'bins' has no help"),
        (OptionWithoutDefault, "option 'bins' has no default"),
        (NeedsArguments, "can't be built without arguments"),
        (NeedsList, "has to be an instance of hseval.Needs"),
        (Positional, "takes 'real' by position; write a \\* before it"),
        (NoRng, "does not take 'rng'"),
        (NotANumber, "compare returns nan; if there is no value, raise hseval.NotComputable"),
        (ReturnsText, "compare returns str; expected a float or hseval.ScoreParts"),
        (GlobalRandom, "for the same features and seed; draw from its rng"),
        (FirstRow, "for the same features in another order"),
        (WritesToFeatures, "compare writes to its features"),
        (OutOfBounds, r"outside of bounds = \(1000.0, 10000.0\), where intervals are cut"),
        (AnotherHeadline, "headline returns 17.0, and compare 0"),
        (DetailsNotJson, "details do not fit into JSON"),
        (PairsWithoutVersion, "version is None; a metric that needs pairs has a str there"),
        (PairsOfVersionOne, "version is 1; a metric that needs pairs has a str there"),
        (FailsOnOneCube, "one cube per side (raises|gives).*NotComputable"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_error_for_a_broken_metric_names_the_fault(metric, message):
    with pytest.raises(ContractError, match=message):
        check_metric(metric)
