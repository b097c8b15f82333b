"""The sweeps in ``examples/`` are what they say they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hseval.sweep.config import read_plan
from hseval.sweep.grid import resolve_options
from hseval.sweep.keys import compute_run_keys
from hseval.sweep.plan import SweepPlan

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLISHED = {(4, 8), (4, 32), (8, 8), (8, 32), (8, 256), (16, 256)}  # compression, latent channels
WIDTHS = (128, 256, 512)


@pytest.fixture(scope="module")
def reference() -> SweepPlan:
    return read_plan(EXAMPLES / "sweep-reference.toml")


def test_the_reference_sweep_holds_the_published_18_and_the_nine_left_out(reference: SweepPlan) -> None:
    found = {"published": set(), "left out": set()}
    for run in reference.runs:
        found[run.table_label].add(
            tuple(run.varied_options[name] for name in ("compression", "latent_channels", "base"))
        )
    published = {(*pair, base) for pair in PUBLISHED for base in WIDTHS}
    whole = {(factor, channels, base) for factor in (4, 8, 16) for channels in (8, 32, 256) for base in WIDTHS}
    assert found == {"published": published, "left out": whole - published}
    assert (len(published), len(whole - published), len(reference.runs)) == (18, 9, 27)


def test_nine_autoencoders_serve_its_27_unets(reference: SweepPlan) -> None:
    keys = [compute_run_keys(run, reference, {"train": "a", "ref": "b"}) for run in reference.runs]
    assert len({each.stages["autoencoder"].digest for each in keys}) == 9
    assert len({each.stages["features"].digest for each in keys}) == 1
    assert len({each.fit.digest for each in keys if each.fit}) == 27


KEYS = """
from pathlib import Path
from hseval.sweep.keys import compute_run_keys
from hseval.sweep.config import read_plan
plan = read_plan(Path("sweep-reference.toml"))
for run in plan.runs:
    keys = compute_run_keys(run, plan, {"train": "a", "ref": "b"})
    print(*(each.key for each in (*keys.stages.values(), keys.fit, keys.samples, keys.scores)))
"""


def test_every_process_finds_the_same_keys() -> None:
    # A set of words comes in another order in each process, unless it is told otherwise.
    found = [
        subprocess.run([sys.executable, "-c", KEYS], cwd=EXAMPLES, env={**os.environ, "PYTHONHASHSEED": seed},
                       capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1] and len(set(found[0].splitlines())) == 27


def test_it_samples_as_the_reference_did_and_trains_as_its_preset_does(reference: SweepPlan) -> None:
    for run in reference.runs:
        drawn, trained = resolve_options(run, with_sampling=True), resolve_options(run, with_sampling=False)
        assert (drawn["sampler"], drawn["steps"], drawn["batch_size"], drawn["timesteps"]) == ("ddpm", 300, 1, 300)
        assert (trained["sampler"], trained["ae_steps"], trained["multipliers"]) == ("dpm-solver", 60000, (1, 2, 4))


def test_both_examples_ask_for_the_five_panels(reference: SweepPlan) -> None:
    for plan in (reference, read_plan(EXAMPLES / "sweep-small.toml")):
        assert plan.plot.y == ("fid", "ms-ssim", "spectral-kl:vein", "spectral-kl:artery", "spectral-kl:onh")
        assert (plan.plot.x, plan.plot.color, plan.plot.style) == ("samples/s", "compression", "latent_channels")
