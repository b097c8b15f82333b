"""``hseval train-ldm`` as typed: one line and exit status 2 for what can't be, and the way on that the line names."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hseval import open_set
from hseval_ldm.training import checkpoint
from hseval_ldm.training.metrics_log import read_metrics_log
from tests.helpers.commands import Outcome, hseval_process
from tests.helpers.ldm_processes import hseval_forked
from tests.helpers.sets import saved, texture_set

Command = Callable[..., Outcome]
STAGES = ("features", "autoencoder", "diffusion")


def refused(outcome: Outcome, *words: str) -> str:
    """Check for exit status 2 and, as the last of what was said, one line that has the words; return it."""
    assert outcome.status == 2, outcome
    said = outcome.err.splitlines()
    assert [line.startswith("hseval: ") for line in said] == [False] * (len(said) - 1) + [True], outcome.err
    for word in words:
        assert word in said[-1]
    return said[-1]


def at_once(outcome: Outcome, *words: str) -> None:
    """Check that nothing was begun before it was refused."""
    assert len(outcome.err.splitlines()) == 1
    refused(outcome, *words)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a full disk looks like to its writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclasses.dataclass
class Begin:
    """Begins the small run with more options; ``out`` is where."""

    hseval: Command
    data: Path
    tiny: Path
    out: Path

    def __call__(self, *more: Any, data: Path | None = None) -> Outcome:
        return self.hseval("train-ldm", data or self.data, "--out", self.out, "--preset", self.tiny, *more)


@pytest.fixture
def begin(hseval: Command, data: Path, tiny: Path, tmp_path: Path) -> Begin:
    return Begin(hseval, data, tiny, tmp_path / "run")


# What can't be begun.


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--set", "compresion=4"], ["no option 'compresion'", "did you mean 'compression'"]),
        (["--set", "compression"], ["--set 'compression': expected key=value"]),
        (["--set", "compression=5"], ["compression is 5, expected 4, 8, 16"]),
        (["--preset", "smokey"], ["preset 'smokey'", "did you mean 'smoke'"]),
        (["--preset", "{wrong}"], ["wrong.toml: has no option 'widht'", "did you mean 'width'"]),
        (["--set", "multipliers=1,2,4,8"], ["data.h5: 16 px", "4 latents, too few for 4 levels", "lower compression"]),
        (["--set", "crop=32"], ["data.h5: crop=32 is more than its cubes' shorter side of 16 px", "crop=none"]),
        (["--device", "tpu"], ["--device tpu", "cpu works"]),
    ],
)
def test_options_that_can_not_be(begin: Begin, typed: list[str], words: list[str]) -> None:
    wrong = begin.out.with_name("wrong.toml")
    wrong.write_text("widht = 8\n")
    at_once(begin(*(word.format(wrong=wrong) for word in typed)), *words)
    assert not begin.out.exists()


def test_a_stage_without_the_one_before_it(begin: Begin) -> None:
    at_once(
        begin("--stage", "diffusion"), "autoencoder/best.safetensors: there is no such", "hseval train-ldm makes one"
    )


def test_a_run_to_start_from_that_there_is_not(begin: Begin) -> None:
    typed = [f"--set={each}" for each in ("start_from=nowhere", "features_steps=0", "ae_steps=1")]
    refused(begin(*typed), "nowhere/diffusion/best.safetensors: there is no such checkpoint")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, ["few.h5: holds 1 cube, ldm needs 2 or more"]),
        (3, ["few.h5: 3 cubes of 3 groups; hseval_ldm needs 4 cubes of 2 groups or more (or hold out a share of 0)"]),
    ],
)
def test_too_small_a_set(begin: Begin, tmp_path: Path, count: int, words: list[str]) -> None:
    at_once(begin(data=saved(tmp_path / "few.h5", texture_set(count, size=16, bands=3))), *words)
    assert not begin.out.exists()


def test_folders_that_can_not_be(data: Path, tiny: Path, trained: Path, tmp_path: Path, hseval: Command) -> None:
    typed = ("train-ldm", data, "--preset", tiny, "--out")
    at_once(hseval(*typed, data), f"{data}: is a file; --out takes the folder for the run")
    at_once(hseval(*typed, tmp_path / "no" / "run"), "does not exist")
    before = contents(trained)
    at_once(hseval(*typed, trained), f"{trained}: holds a run already; go on with --resume, or train into another")
    assert contents(trained) == before
    at_once(hseval("train-ldm", tmp_path / "none.h5", "--out", tmp_path / "run"), "none.h5")
    assert not (tmp_path / "run").exists()


# What can't go on.


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--seed", 1], ["was started with --seed 0, now 1"]),
        (["--set", "width=16"], ["width was 8, now 16; leave it out to go on, or train into another folder"]),
        (["--set", "base=16"], ["base was 8, now 16"]),
        (["--preset", "demo"], [", now "]),
    ],
)
def test_a_run_goes_on_as_it_was_begun(
    trained: Path, data: Path, hseval: Command, typed: list[Any], words: list[str]
) -> None:
    before = contents(trained)
    at_once(hseval("train-ldm", data, "--out", trained, "--resume", *typed), f"{trained}: ", *words)
    assert contents(trained) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wavelengths": np.array([450.0, 680.0, 905.0])}, ["other.h5: band 1 is at 680 nm, at 677.5 nm"]),
        ({"ids": [f"x-{i}" for i in range(16)]}, ["was trained on another set", "--resume takes the same one"]),
        ({"groups": ["a", "b"] * 8}, ["was trained on another set"]),
        ({"masks": {}}, ["has the masks none, the checkpoint was trained with bright, dark, fov"]),
    ],
)
def test_a_run_goes_on_with_its_own_set(
    trained: Path, tmp_path: Path, hseval: Command, change: dict[str, Any], words: list[str]
) -> None:
    other = saved(tmp_path / "other.h5", texture_set(16, size=16, bands=3), **change)
    before = contents(trained)
    at_once(hseval("train-ldm", other, "--out", trained, "--resume"), *words)
    assert contents(trained) == before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "hseval-ldm-run-1"}'])
def test_a_damaged_configuration(run: Path, data: Path, hseval: Command, damage: str) -> None:
    (run / "config.json").write_text(damage)
    at_once(hseval("train-ldm", data, "--out", run, "--resume"), f"{run / 'config.json'}: ")


def test_a_finished_run_is_left_as_it_is(run: Path, data: Path, hseval: Command) -> None:
    before = contents(run)
    done = hseval("train-ldm", data, "--out", run, "--resume")
    assert (done.status, done.err) == (0, "".join(f"{s}: finished at step {n}, skipped\n" for s, n in STEPS.items()))
    assert contents(run) == before


STEPS = {"features": 2, "autoencoder": 6, "diffusion": 6}


# Broken checkpoints.


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_another_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-7] ^= 1
    path.write_bytes(bytes(whole))


def follow(line: str) -> None:
    """Do what an error line says is the way back."""
    advice = re.search(r"(mv|cp) (\S+) ([^\s,;]+)|remove (\S+)(,| and)", line)
    assert advice is not None, line
    if advice[4]:
        shutil.rmtree(advice[4])
    else:
        subprocess.run(advice[0].rstrip(","), shell=True, check=True)


@pytest.mark.parametrize(("damage", "stage"), [(cut_in_half, "autoencoder"), (with_another_bit, "diffusion")])
def test_a_broken_last_checkpoint_names_the_way_back(
    run: Path, data: Path, hseval: Command, damage: Callable[[Path], None], stage: str
) -> None:
    typed = {"autoencoder": "ae_steps=7", "diffusion": "ldm_steps=7"}[stage]
    last = run / stage / "last.safetensors"
    damage(last)
    going_on = ("train-ldm", data, "--out", run, "--resume", "--stage", stage, "--set", typed)
    line = refused(hseval(*going_on), str(last), "that of step 6 is whole: mv", ", then --resume")
    follow(line)
    done = hseval(*going_on)
    assert done.status == 0
    assert f"{stage}: going on from step 6 of 7" in done.err


@pytest.mark.parametrize(("damage", "stage"), [(with_another_bit, "autoencoder"), (cut_in_half, "diffusion")])
def test_a_broken_best_checkpoint_names_the_way_back(
    run: Path, tmp_path: Path, hseval: Command, damage: Callable[[Path], None], stage: str
) -> None:
    best = run / stage / "best.safetensors"
    damage(best)
    typed = ("sample", "ldm", "--checkpoint", run, "-n", 2, "--out")
    follow(refused(hseval(*typed, tmp_path / "s.h5"), str(best), "that of step 6 is whole: "))
    assert hseval(*typed, tmp_path / "s.h5").status == 0


def test_where_no_checkpoint_is_whole_the_stage_is_trained_anew(run: Path, data: Path, hseval: Command) -> None:
    before = (run / "diffusion" / "last.safetensors").read_bytes()
    for path in (run / "diffusion").glob("*.safetensors"):
        cut_in_half(path)
    going_on = ("train-ldm", data, "--out", run, "--resume")
    line = refused(hseval(*going_on), f"no other is whole: remove {run / 'diffusion'} and train again")
    follow(line)
    assert hseval(*going_on).status == 0
    assert (run / "diffusion" / "last.safetensors").read_bytes() == before


def test_another_autoencoder_than_the_diffusion_was_trained_with_is_refused(
    run: Path, data: Path, tmp_path: Path, hseval: Command
) -> None:
    going_on = ("train-ldm", data, "--out", run, "--resume")
    assert hseval(*going_on, "--stage", "autoencoder", "--set", "ae_steps=30").status == 0
    sample = ("sample", "ldm", "--checkpoint", run, "-n", 1, "--out", tmp_path / "s.h5")
    told = f"{run / 'diffusion'}: was trained with another autoencoder than"
    refused(hseval(*going_on), told)
    follow(refused(hseval(*sample), told))
    assert hseval(*going_on, "--stage", "diffusion").status == 0
    assert hseval(*sample).status == 0


# What ends a run on the way.


def test_after_ctrl_c_it_goes_on_as_if_it_had_not_stopped(
    data: Path, tiny: Path, trained: Path, tmp_path: Path, hseval: Command
) -> None:
    out = tmp_path / "run"
    typed = ("train-ldm", data, "--out", out)
    done = hseval_forked(*typed, "--preset", tiny, at=("autoencoder", 4), signalled=signal.SIGINT)
    assert done.status == 130
    assert "autoencoder: stopped at step 5; --resume goes on from there\n" in done.err
    assert done.err.splitlines()[-1].startswith("hseval: interrupted")
    assert checkpoint.load(out / "autoencoder")[1]["step"] == 5
    done = hseval(*typed, "--resume")
    assert done.status == 0
    assert "autoencoder: going on from step 5 of 6" in done.err
    for stage in STAGES:
        for which in ("last", "best"):
            path = f"{stage}/{which}.safetensors"
            assert (out / path).read_bytes() == (trained / path).read_bytes(), path


def test_a_full_disk_keeps_the_checkpoint_before(run: Path, data: Path, trained: Path, hseval: Command) -> None:
    size = (run / "diffusion" / "last.safetensors").stat().st_size
    before = contents(run / "diffusion")
    going_on = ("train-ldm", data, "--out", run, "--resume", "--set", "ldm_steps=9")
    with files_up_to(size // 2):
        done = hseval(*going_on)
    refused(done, "last.safetensors: could not be written: File too large", "make room, then --resume")
    assert contents(run / "diffusion") == before
    assert hseval(*going_on).status == 0
    assert [line["step"] for line in read_metrics_log(run / "metrics.jsonl") if line["stage"] == "diffusion"] == [
        *range(1, 10)
    ]


def test_a_full_disk_at_the_first_checkpoint(begin: Begin, hseval: Command) -> None:
    with files_up_to(6000):
        done = begin("--set", "ae_steps=2", "--set", "ldm_steps=2")
    refused(done, "features/last.safetensors: could not be written: File too large")
    assert hseval("train-ldm", begin.data, "--out", begin.out, "--resume", "--stage", "features").status == 0


@pytest.mark.parametrize("kmeans", ["every", "first"])
def test_what_is_not_finite_is_named_and_the_last_good_checkpoint_kept(
    begin: Begin, tmp_path: Path, kmeans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = texture_set(16, size=16, bands=3)
    cubes = base.cubes.copy()
    # A fill value that the check of the data is made to miss, as it would beyond the cubes that it looks at; in a cube
    # that this seed has in the third batch. What starts the next epoch, before the step that is to write a line, meets
    # weights that are not finite: k-means, or the measured noise.
    monkeypatch.setattr("hseval_ldm.data.fill_values.MAX_DEVIATION_RATIO", np.inf)
    cubes[3, :, 8, 8] = 1e20
    absurd = saved(tmp_path / "absurd.h5", base, cubes=cubes)
    given = ("features_steps=0", "log_every=2", "checkpoint_every=2", "score_every=9", f"kmeans={kmeans}")
    done = begin("--seed", 1, *(f"--set={each}" for each in given), data=absurd)
    last = begin.out / "autoencoder" / "last.safetensors"
    told = "autoencoder, step 3: loss 'adaptive_weight' (nan) is not finite; the last good checkpoint is "
    refused(done, f"hseval: {told}{last} (step 2); lower ae_lr or adversarial, then --resume")
    assert checkpoint.load(last.parent)[1]["step"] == 2


def test_a_fill_value_is_refused_at_once(begin: Begin, tmp_path: Path) -> None:
    base = texture_set(16, size=16, bands=3)
    cubes = base.cubes.copy()
    cubes[:, 1, 6:9] = 1e20
    filled = saved(tmp_path / "filled.h5", base, cubes=cubes)
    at_once(begin(data=filled), f"hseval: {filled}: band 1 (677.5 nm) of cube ", " holds 1e+20, the band")
    assert not begin.out.exists()


def test_wavelengths_that_a_set_lacks_can_be_given(begin: Begin, tmp_path: Path, hseval: Command) -> None:
    bare = saved(tmp_path / "bare.h5", texture_set(16, size=16, bands=3), wavelengths=None)
    steps = [f"--set={stage}_steps=1" for stage in ("features", "ae", "ldm")]
    assert begin("--wavelengths", "450:905:3", *steps, data=bare).status == 0
    sample = ("sample", "ldm", "--checkpoint", begin.out, "-n", 1, "--out", tmp_path / "s.h5")
    assert hseval(*sample).status == 0
    np.testing.assert_allclose(open_set(tmp_path / "s.h5").wavelengths, [450, 677.5, 905])


# Without it.


BLOCKED = """
import sys
sys.modules["hseval_ldm"] = None  # what an import meets where the package is missing
from hseval.cli.main import main
main()
"""


def test_hseval_lists_and_scores_without_hseval_ldm(data: Path) -> None:
    def without_it(*typed: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BLOCKED, *map(str, typed)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    listed = without_it("plugins")
    assert listed.returncode == 0
    broken = [line for line in listed.stdout.splitlines() if line.startswith("broken: ")]
    assert len(broken) == 1 and "hseval_ldm" in broken[0]
    assert "generator ldm" not in listed.stdout and "generator phantom" in listed.stdout
    scored = without_it("score", data, "--ref", data, "--metrics", "fid")
    assert scored.returncode == 0 and "fid" in scored.stdout
    assert "generator ldm" in hseval_process("plugins").stdout
