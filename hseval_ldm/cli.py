"""``hseval train-ldm DATA --out RUN``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hseval_ldm.options import PRESETS, STAGE_CHOICES


@click.command("train-ldm")
@click.argument("data", type=click.Path())
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Folder for the run.")
@click.option("--preset", metavar="P", help=f"{', '.join(PRESETS)} or a file.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option; hseval plugins ldm lists them.")
@click.option("--stage", type=click.Choice(STAGE_CHOICES), metavar="S", help=f"{', '.join(STAGE_CHOICES)}.")
@click.option("--resume", is_flag=True, help="Resume from the last checkpoints of RUN.")
@click.option("--seed", type=int, metavar="N", help="Seed of all random draws; default: 0, or that resumed.")
@click.option(
    "--layout", type=click.Choice(["byx", "yxb"]), metavar="byx|yxb", help="Axis order, where files do not state it."
)
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm); overrides the files.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; default: CUDA where available.")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def train_ldm(data: str, out: Path, **arguments: Any) -> None:
    """Train the bundled generator, VQ-GAN and latent diffusion.

    With --resume it continues exactly where it was interrupted. On several GPUs: torchrun --nproc-per-node 4 -m hseval
    train-ldm DATA --out RUN ...
    """
    import os

    from hseval.generator_kit import silence_progress
    from hseval.plugin import build_options, open_set
    from hseval_ldm.generator import Ldm
    from hseval_ldm.training.run import train

    if arguments["quiet"]:
        click.get_current_context().with_resource(silence_progress())
    options = build_options(Ldm, _collect_settings(arguments), owner="generator 'ldm'")
    is_main = os.environ.get("RANK", "0") == "0"
    with _prepare_run_folder(out):
        cubes = open_set(data, layout=arguments["layout"], wavelengths=arguments["wavelengths"])
        for note in cubes.info.notes if is_main else ():
            print(f"{data}: {note}", file=sys.stderr)
        train(
            options,
            cubes,
            out,
            seed=_resolve_seed(arguments["seed"], out, resume=options.resume),
            device=arguments["device"],
        )
    if is_main:
        command = f"hseval sample ldm --checkpoint {out} -n 64 --out SET"
        print(f"{out}: ldm trained on {data}; sample cubes with: {command}")


def _collect_settings(arguments: dict[str, Any]) -> dict[str, Any]:
    from hseval.plugin import HsevalError

    settings: dict[str, Any] = {}
    for assignment in arguments["assignments"]:
        path, equals, value = assignment.partition("=")
        key = path.strip().removeprefix("ldm.")
        if not equals or not key:
            raise HsevalError(f"--set {assignment!r}: expected key=value")
        settings[key] = value.strip()
    for name in ("preset", "stage"):
        if arguments[name] is not None:
            settings[name] = arguments[name]
    return settings | ({"resume": True} if arguments["resume"] else {})


def _resolve_seed(seed: int | None, out: Path, *, resume: bool) -> int:
    from hseval_ldm.training.run_config import CONFIG_FILE, read_config

    if seed is None and resume and (out / CONFIG_FILE).exists():
        return read_config(out).seed
    return seed or 0


@contextlib.contextmanager
def _prepare_run_folder(out: Path) -> Iterator[None]:
    """Make the folder, check before the training that it is writable, and leave no empty folder behind."""
    from hseval.plugin import HsevalError, check_writable, create_folder

    if out.exists() and not out.is_dir():
        raise HsevalError(f"{out}: is a file; --out takes the folder for the run")
    is_new = create_folder(out)
    try:
        check_writable(out / "config.json")
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                out.rmdir()
