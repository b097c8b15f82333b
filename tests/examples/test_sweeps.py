"""The sweeps in ``examples/`` match their descriptions."""

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


def test_the_reference_sweep_has_the_18_published_configurations_and_the_other_nine(reference: SweepPlan) -> None:
    configurations = {"published": set(), "left out": set()}
    for run in reference.runs:
        configurations[run.table_label].add(
            tuple(run.varied_options[name] for name in ("compression", "latent_channels", "base"))
        )
    published = {(*pair, base) for pair in PUBLISHED for base in WIDTHS}
    grid = {(factor, channels, base) for factor in (4, 8, 16) for channels in (8, 32, 256) for base in WIDTHS}
    assert configurations == {"published": published, "left out": grid - published}
    assert (len(published), len(grid - published), len(reference.runs)) == (18, 9, 27)


def test_the_27_unets_share_nine_autoencoders(reference: SweepPlan) -> None:
    run_keys = [compute_run_keys(run, reference, {"train": "a", "ref": "b"}) for run in reference.runs]
    assert len({keys.stages["autoencoder"].digest for keys in run_keys}) == 9
    assert len({keys.stages["features"].digest for keys in run_keys}) == 1
    assert len({keys.fit.digest for keys in run_keys if keys.fit}) == 27


PRINT_KEYS = """
from pathlib import Path
from hseval.sweep.keys import compute_run_keys
from hseval.sweep.config import read_plan
plan = read_plan(Path("sweep-reference.toml"))
for run in plan.runs:
    keys = compute_run_keys(run, plan, {"train": "a", "ref": "b"})
    print(*(key.digest for key in (*keys.stages.values(), keys.fit, keys.samples, keys.scores)))
"""


def test_every_process_computes_the_same_keys() -> None:
    # The order of a set of strings depends on the hash seed of the process.
    outputs = [
        subprocess.run([sys.executable, "-c", PRINT_KEYS], cwd=EXAMPLES, env={**os.environ, "PYTHONHASHSEED": seed},
                       capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert outputs[0] == outputs[1] and len(set(outputs[0].splitlines())) == 27


def test_the_reference_sweep_samples_as_published_and_trains_with_its_preset(reference: SweepPlan) -> None:
    for run in reference.runs:
        sampling, training = resolve_options(run, with_sampling=True), resolve_options(run, with_sampling=False)
        values = tuple(sampling[name] for name in ("sampler", "steps", "batch_size", "timesteps"))
        assert values == ("ddpm", 300, 1, 300)
        assert (training["sampler"], training["ae_steps"], training["multipliers"]) == ("dpm-solver", 60000, (1, 2, 4))


def test_both_examples_plot_the_five_panels(reference: SweepPlan) -> None:
    for plan in (reference, read_plan(EXAMPLES / "sweep-small.toml")):
        assert plan.plot.y == ("fid", "ms-ssim", "spectral-kl:vein", "spectral-kl:artery", "spectral-kl:onh")
        assert (plan.plot.x, plan.plot.color, plan.plot.style) == ("samples/s", "compression", "latent_channels")
