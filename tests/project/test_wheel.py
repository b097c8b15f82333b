"""A built wheel, installed elsewhere, does the same without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both wheels from a clean copy of the tracked files and install them into a folder."""
    base = tmp_path_factory.mktemp("wheel")
    for source in (CHECKOUT, CHECKOUT / "plugins" / "pca"):
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", base / "dist", source, cwd=base)
    wheels = sorted((base / "dist").glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["hseval", "hseval_pca"]
    target = base / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, *wheels, cwd=base)
    return target


def test_the_wheel_samples_trains_and_scores_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    def hseval(*arguments: object) -> str:
        return run(sys.executable, "-m", "hseval", *arguments, cwd=tmp_path, PYTHONPATH=str(installed))

    where = run(
        sys.executable, "-c", "import hseval, hseval_pca; print(hseval.__file__, hseval_pca.__file__)",
        cwd=tmp_path, PYTHONPATH=str(installed),
    )  # fmt: skip
    assert all(path.startswith(str(installed)) for path in where.split())
    for name, seed in (("real", 1), ("train", 2)):
        hseval("sample", "phantom", "-n", 8, "--set", "size=32", "--seed", seed, "--out", f"{name}.h5")
    hseval("train", "pca", "train.h5", "--out", "run")
    hseval("sample", "pca", "--checkpoint", "run", "-n", 8, "--out", "samples.h5")
    table = hseval("score", "samples.h5", "--ref", "real.h5", "--train", "train.h5", "--json", "report.json")
    assert all(name in table for name in ("fid", "spectral-kl", "ms-ssim", "authenticity"))
    assert {path.name for path in tmp_path.iterdir()} == {"real.h5", "train.h5", "run", "samples.h5", "report.json"}
    assert "tests/test_hseval_depth.py" in hseval("new-plugin", "metric", "depth")  # the templates are in it
