"""``hseval train-ldm``: invalid input gives exit status 2 and one line, whose advice works."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hseval import open_set
from hseval.training.metrics_log import read_metrics_log
from hseval_ldm.training.run_config import get_checkpoints
from tests.helpers.commands import Command, Outcome, limit_file_size, run_hseval_process
from tests.helpers.ldm_processes import run_hseval_forked
from tests.helpers.sets import make_texture_set, save_set

STAGES = ("features", "autoencoder", "diffusion")


def assert_refused(outcome: Outcome, *words: str) -> str:
    """Check for exit status 2 and one final line that has the words; return that line."""
    assert outcome.status == 2, outcome
    lines = outcome.err.splitlines()
    assert [line.startswith("hseval: ") for line in lines] == [False] * (len(lines) - 1) + [True], outcome.err
    for word in words:
        assert word in lines[-1]
    return lines[-1]


def assert_refused_at_once(outcome: Outcome, *words: str) -> None:
    """Check that it was refused before the training started."""
    assert len(outcome.err.splitlines()) == 1
    assert_refused(outcome, *words)


def read_contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclasses.dataclass
class StartRun:
    """Starts the small run with more options, in the folder ``out``."""

    hseval: Command
    data: Path
    tiny: Path
    out: Path

    def __call__(self, *more: Any, data: Path | None = None) -> Outcome:
        return self.hseval("train-ldm", data or self.data, "--out", self.out, "--preset", self.tiny, *more)


@pytest.fixture
def start_run(hseval: Command, data: Path, tiny: Path, tmp_path: Path) -> StartRun:
    return StartRun(hseval, data, tiny, tmp_path / "run")


# Runs that are refused.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "compresion=4"], ["no option 'compresion'", "did you mean 'compression'"]),
        (["--set", "compression"], ["--set 'compression': expected key=value"]),
        (["--set", "compression=5"], ["compression is 5, expected 4, 8, 16"]),
        (["--preset", "smokey"], ["preset 'smokey'", "did you mean 'smoke'"]),
        (["--preset", "{wrong}"], ["wrong.toml: has no option 'widht'", "did you mean 'width'"]),
        (["--set", "multipliers=1,2,4,8"], ["data.h5: 16 px", "4 latents, too few for 4 levels", "lower compression"]),
        (["--set", "crop=32"], ["data.h5: crop=32 is more than the shorter side of its cubes, 16 px", "crop=none"]),
        (["--device", "tpu"], ["--device tpu", "use cpu"]),
    ],
)
def test_invalid_options_are_refused(start_run: StartRun, arguments: list[str], words: list[str]) -> None:
    wrong = start_run.out.with_name("wrong.toml")
    wrong.write_text("widht = 8\n")
    assert_refused_at_once(start_run(*(word.format(wrong=wrong) for word in arguments)), *words)
    assert not start_run.out.exists()


def test_a_stage_without_the_previous_one_is_refused(start_run: StartRun) -> None:
    assert_refused_at_once(
        start_run("--stage", "diffusion"),
        "autoencoder/best.safetensors: no such checkpoint",
        "create it with hseval train-ldm",
    )


def test_a_missing_run_to_start_from_is_refused(start_run: StartRun) -> None:
    arguments = [f"--set={option}" for option in ("start_from=nowhere", "features_steps=0", "ae_steps=1")]
    assert_refused(start_run(*arguments), "nowhere/diffusion/best.safetensors: no such checkpoint")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, ["few.h5: holds 1 cube, ldm needs 2 or more"]),
        (3, ["few.h5: 3 cubes in 3 groups; hseval_ldm needs 4 cubes in 2 groups or more (or held_out=0)"]),
    ],
)
def test_a_set_that_is_too_small_is_refused(start_run: StartRun, tmp_path: Path, count: int, words: list[str]) -> None:
    assert_refused_at_once(
        start_run(data=save_set(tmp_path / "few.h5", make_texture_set(count, size=16, bands=3))), *words
    )
    assert not start_run.out.exists()


def test_invalid_folders_are_refused(data: Path, tiny: Path, run: Path, tmp_path: Path, hseval: Command) -> None:
    arguments = ("train-ldm", data, "--preset", tiny, "--out")
    assert_refused_at_once(hseval(*arguments, data), f"{data}: is a file; --out takes the folder for the run")
    assert_refused_at_once(hseval(*arguments, tmp_path / "no" / "run"), "does not exist")
    before = read_contents(run)
    assert_refused_at_once(
        hseval(*arguments, run), f"{run}: already holds a run; use --resume to continue it, or another folder"
    )
    assert read_contents(run) == before
    assert_refused_at_once(hseval("train-ldm", tmp_path / "none.h5", "--out", tmp_path / "new"), "none.h5")
    assert not (tmp_path / "new").exists()


# Runs that cannot be resumed.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", 1], ["was started with --seed 0, not 1"]),
        (
            ["--set", "width=16"],
            ["was started with width=8, not 16; omit width to resume, or train into another folder"],
        ),
        (["--set", "base=16"], ["was started with base=8, not 16"]),
        (["--preset", "demo"], ["was started with ", ", not "]),
    ],
)
def test_fixed_settings_of_a_run_cannot_change(
    run: Path, data: Path, hseval: Command, arguments: list[Any], words: list[str]
) -> None:
    before = read_contents(run)
    assert_refused_at_once(hseval("train-ldm", data, "--out", run, "--resume", *arguments), f"{run}: ", *words)
    assert read_contents(run) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wavelengths": np.array([450.0, 680.0, 905.0])}, ["other.h5: band 1 is at 680 nm, at 677.5 nm"]),
        ({"ids": [f"x-{i}" for i in range(16)]}, ["was trained on another set", "--resume requires the same set"]),
        ({"groups": ["a", "b"] * 8}, ["was trained on another set"]),
        ({"masks": {}}, ["has the masks none, the checkpoint was trained with bright, dark, fov"]),
    ],
)
def test_a_run_cannot_be_resumed_with_another_set(
    run: Path, tmp_path: Path, hseval: Command, change: dict[str, Any], words: list[str]
) -> None:
    other = save_set(tmp_path / "other.h5", make_texture_set(16, size=16, bands=3), **change)
    before = read_contents(run)
    assert_refused_at_once(hseval("train-ldm", other, "--out", run, "--resume"), *words)
    assert read_contents(run) == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_changed_cube_is_refused_in_every_stage(
    run: Path, data: Path, tmp_path: Path, hseval: Command, stage: str
) -> None:
    cubes = make_texture_set(16, size=16, bands=3)
    cubes.cubes[5] *= 1e4
    other = save_set(tmp_path / "other.h5", cubes, units="reflectance")
    before = read_contents(run)
    done = hseval("train-ldm", other, "--out", run, "--resume", "--stage", stage)
    assert_refused_at_once(done, f"{run}: was trained on other pixels", f"cube {cubes.ids[5]!r} changed")
    assert read_contents(run) == before


def test_a_run_is_resumed_from_a_moved_set_in_another_order(
    run: Path, data: Path, tmp_path: Path, hseval: Command
) -> None:
    more = ("--out", run, "--resume", "--set", "ldm_steps=7")
    moved = shutil.copytree(run, tmp_path / "moved")
    cubes = make_texture_set(16, size=16, bands=3)
    cubes.cubes = cubes.cubes[::-1]
    masks = {name: mask[::-1] for name, mask in cubes.masks.items()}
    other = save_set(tmp_path / "other.h5", cubes, masks=masks, ids=cubes.ids[::-1], units="reflectance")
    assert hseval("train-ldm", data, *more).status == 0
    done = hseval("train-ldm", other, "--out", moved, *more[2:])
    assert done.status == 0, done.err
    last = Path("diffusion/last.safetensors")
    assert (run / last).read_bytes() == (moved / last).read_bytes()


@pytest.mark.parametrize("content", [None, "empty", "foreign"])
def test_a_folder_without_a_run_is_not_resumed(start_run: StartRun, content: str | None) -> None:
    if content is not None:
        start_run.out.mkdir()
    if content == "foreign":
        (start_run.out / "notes.txt").write_text("x")
    assert_refused_at_once(start_run("--resume"), f"{start_run.out}: holds no run of ldm to resume", "omit --resume")
    assert start_run.out.exists() == (content is not None)
    assert not start_run.out.exists() or [path.name for path in start_run.out.iterdir()] in ([], ["notes.txt"])


def test_a_second_trainer_of_a_folder_is_refused(run: Path, data: Path, hseval: Command) -> None:
    code = (
        "import sys; from pathlib import Path; from hseval.generator_kit import hold_run_folder\n"
        "with hold_run_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        done = hseval("train-ldm", data, "--out", run, "--resume")
        assert_refused_at_once(done, f"{run}: another process is training into it")
        holder.kill()
    assert hseval("train-ldm", data, "--out", run, "--resume").status == 0


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "hseval-ldm-run-1"}'])
def test_a_damaged_configuration_is_refused(run: Path, data: Path, hseval: Command, damage: str) -> None:
    (run / "config.json").write_text(damage)
    assert_refused_at_once(hseval("train-ldm", data, "--out", run, "--resume"), f"{run / 'config.json'}: ")


def test_resuming_a_finished_run_changes_nothing(run: Path, data: Path, hseval: Command) -> None:
    before = read_contents(run)
    done = hseval("train-ldm", data, "--out", run, "--resume")
    assert (done.status, done.err) == (0, "".join(f"{s}: finished at step {n}, skipped\n" for s, n in STEPS.items()))
    assert read_contents(run) == before


STEPS = {"features": 2, "autoencoder": 6, "diffusion": 6}


# Damaged checkpoints.


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))


def follow_advice(line: str) -> None:
    """Run the command that an error line recommends."""
    advice = re.search(r"(mv|cp) (\S+) ([^\s,;]+)|remove (\S+)(,| and)", line)
    assert advice is not None, line
    if advice[4]:
        shutil.rmtree(advice[4])
    else:
        subprocess.run(advice[0].rstrip(","), shell=True, check=True)


@pytest.mark.parametrize(("damage", "stage"), [(truncate, "autoencoder"), (flip_bit, "diffusion")])
def test_the_advice_for_a_damaged_last_checkpoint_works(
    run: Path, data: Path, hseval: Command, damage: Callable[[Path], None], stage: str
) -> None:
    arguments = {"autoencoder": "ae_steps=7", "diffusion": "ldm_steps=7"}[stage]
    last = run / stage / "last.safetensors"
    damage(last)
    resume_command = ("train-ldm", data, "--out", run, "--resume", "--stage", stage, "--set", arguments)
    line = assert_refused(
        hseval(*resume_command), str(last), "the checkpoint of step 6 is intact: mv", ", then --resume"
    )
    follow_advice(line)
    done = hseval(*resume_command)
    assert done.status == 0
    assert f"{stage}: resuming from step 6 of 7" in done.err


@pytest.mark.parametrize(("damage", "stage"), [(flip_bit, "autoencoder"), (truncate, "diffusion")])
def test_the_advice_for_a_damaged_best_checkpoint_works(
    run: Path, tmp_path: Path, hseval: Command, damage: Callable[[Path], None], stage: str
) -> None:
    best = run / stage / "best.safetensors"
    damage(best)
    arguments = ("sample", "ldm", "--checkpoint", run, "-n", 2, "--out")
    follow_advice(
        assert_refused(hseval(*arguments, tmp_path / "s.h5"), str(best), "the checkpoint of step 6 is intact: ")
    )
    assert hseval(*arguments, tmp_path / "s.h5").status == 0


def test_without_an_intact_checkpoint_the_stage_is_trained_again(run: Path, data: Path, hseval: Command) -> None:
    before = (run / "diffusion" / "last.safetensors").read_bytes()
    for path in (run / "diffusion").glob("*.safetensors"):
        truncate(path)
    resume_command = ("train-ldm", data, "--out", run, "--resume")
    line = assert_refused(
        hseval(*resume_command), f"no other checkpoint is intact: remove {run / 'diffusion'} and train again"
    )
    follow_advice(line)
    assert hseval(*resume_command).status == 0
    assert (run / "diffusion" / "last.safetensors").read_bytes() == before


def test_another_autoencoder_than_the_diffusion_was_trained_with_is_refused(
    run: Path, data: Path, tmp_path: Path, hseval: Command
) -> None:
    resume_command = ("train-ldm", data, "--out", run, "--resume")
    assert hseval(*resume_command, "--stage", "autoencoder", "--set", "ae_steps=30").status == 0
    sample = ("sample", "ldm", "--checkpoint", run, "-n", 1, "--out", tmp_path / "s.h5")
    message = f"{run / 'diffusion'}: was trained with another autoencoder than"
    assert_refused(hseval(*resume_command), message)
    follow_advice(assert_refused(hseval(*sample), message))
    assert hseval(*resume_command, "--stage", "diffusion").status == 0
    assert hseval(*sample).status == 0


# Interruptions and errors.


def test_a_run_resumed_after_ctrl_c_equals_an_uninterrupted_one(
    data: Path, tiny: Path, trained: Path, tmp_path: Path, hseval: Command
) -> None:
    out = tmp_path / "run"
    arguments = ("train-ldm", data, "--out", out)
    done = run_hseval_forked(*arguments, "--preset", tiny, at=("autoencoder", 4), signal_number=signal.SIGINT)
    assert done.status == 130
    assert "autoencoder: stopped at step 5; --resume continues from there\n" in done.err
    assert done.err.splitlines()[-1].startswith("hseval: interrupted")
    assert get_checkpoints(out / "autoencoder").load()[1]["step"] == 5
    done = hseval(*arguments, "--resume")
    assert done.status == 0
    assert "autoencoder: resuming from step 5 of 6" in done.err
    for stage in STAGES:
        for which in ("last", "best"):
            path = f"{stage}/{which}.safetensors"
            assert (out / path).read_bytes() == (trained / path).read_bytes(), path


def test_a_full_disk_preserves_the_previous_checkpoint(run: Path, data: Path, trained: Path, hseval: Command) -> None:
    size = (run / "diffusion" / "last.safetensors").stat().st_size
    before = read_contents(run / "diffusion")
    resume_command = ("train-ldm", data, "--out", run, "--resume", "--set", "ldm_steps=9")
    with limit_file_size(size // 2):
        done = hseval(*resume_command)
    assert_refused(done, "last.safetensors: could not be written: File too large", "free disk space, then --resume")
    assert read_contents(run / "diffusion") == before
    assert hseval(*resume_command).status == 0
    assert [line["step"] for line in read_metrics_log(run / "metrics.jsonl") if line["stage"] == "diffusion"] == [
        *range(1, 10)
    ]


def test_a_full_disk_at_the_first_checkpoint_is_reported(start_run: StartRun, hseval: Command) -> None:
    with limit_file_size(6000):
        done = start_run("--set", "ae_steps=2", "--set", "ldm_steps=2")
    assert_refused(done, "features/last.safetensors: could not be written: File too large")
    assert hseval("train-ldm", start_run.data, "--out", start_run.out, "--resume", "--stage", "features").status == 0


@pytest.mark.parametrize(("kmeans", "precision"), [("every", "float32"), ("first", "float32"), ("every", "bf16")])
def test_a_loss_that_is_not_finite_is_reported_with_the_last_good_checkpoint(
    start_run: StartRun, tmp_path: Path, kmeans: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_texture_set(16, size=16, bands=3)
    cubes = base.cubes.copy()
    # The check of the data is made to miss a fill value, as it would in a cube that it does not measure; with this seed
    # the cube is in the third batch. The next epoch starts with k-means or the noise measurement, and so meets weights
    # that are not finite before the step that writes a line.
    monkeypatch.setattr("hseval_ldm.data.fill_values.MAX_DEVIATION_RATIO", np.inf)
    cubes[3, :, 8, 8] = 1e20
    filled = save_set(tmp_path / "filled.h5", base, cubes=cubes)
    options = ("features_steps=0", "log_every=2", "checkpoint_every=2", "score_every=9", f"kmeans={kmeans}")
    options += (f"precision={precision}",)
    done = start_run("--seed", 1, *(f"--set={option}" for option in options), data=filled)
    last = start_run.out / "autoencoder" / "last.safetensors"
    line = assert_refused(
        done, "hseval: autoencoder, step 3: loss 'adaptive_weight' (nan)", "not finite; the last good"
    )
    assert line.endswith(f" checkpoint is {last} (step 2); lower ae_lr or adversarial, then --resume")
    assert get_checkpoints(last.parent).load()[1]["step"] == 2


def test_a_fill_value_is_refused_at_once(start_run: StartRun, tmp_path: Path) -> None:
    base = make_texture_set(16, size=16, bands=3)
    cubes = base.cubes.copy()
    cubes[:, 1, 6:9] = 1e20
    filled = save_set(tmp_path / "filled.h5", base, cubes=cubes)
    assert_refused_at_once(
        start_run(data=filled), f"hseval: {filled}: band 1 (677.5 nm) of cube ", " holds 1e+20, the band"
    )
    assert not start_run.out.exists()


def test_missing_wavelengths_can_be_passed(start_run: StartRun, tmp_path: Path, hseval: Command) -> None:
    bare = save_set(tmp_path / "bare.h5", make_texture_set(16, size=16, bands=3), wavelengths=None)
    steps = [f"--set={stage}_steps=1" for stage in ("features", "ae", "ldm")]
    assert start_run("--wavelengths", "450:905:3", *steps, data=bare).status == 0
    sample = ("sample", "ldm", "--checkpoint", start_run.out, "-n", 1, "--out", tmp_path / "s.h5")
    assert hseval(*sample).status == 0
    np.testing.assert_allclose(open_set(tmp_path / "s.h5").wavelengths, [450, 677.5, 905])


# Without hseval_ldm.


BLOCKED_IMPORT_SCRIPT = """
import sys
sys.modules["hseval_ldm"] = None  # as if the package were missing
from hseval.cli.main import main
main()
"""


def test_hseval_lists_and_scores_without_hseval_ldm(data: Path) -> None:
    def run_without_ldm(*arguments: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BLOCKED_IMPORT_SCRIPT, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    listed = run_without_ldm("plugins")
    assert listed.returncode == 0
    broken = [line for line in listed.stdout.splitlines() if line.startswith("broken: ")]
    assert len(broken) == 1 and "hseval_ldm" in broken[0]
    assert "generator ldm" not in listed.stdout and "generator phantom" in listed.stdout
    scored = run_without_ldm("score", data, "--ref", data, "--metrics", "fid")
    assert scored.returncode == 0 and "fid" in scored.stdout
    assert "generator ldm" in run_hseval_process("plugins").stdout
