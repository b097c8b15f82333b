"""``hseval train-ldm DATA --out RUN``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hseval_ldm.options import PRESETS, STAGE_CHOICES


@click.command("train-ldm")
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Folder for the run.")
@click.option("--preset", metavar="P", help=f"{', '.join(PRESETS)}, or a TOML file.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option; hseval plugins lists them.")
@click.option("--stage", type=click.Choice(STAGE_CHOICES), help="Train this stage only.")
@click.option("--resume", is_flag=True, help="Resume from the last checkpoints of RUN.")
@click.option("--seed", type=int, help="Seed of all random draws. [default: 0, or that of the resumed run]")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where files do not state it.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), where files do not state them.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...")
def train_ldm(data: str, out: Path, **arguments: Any) -> None:
    """Train the bundled generator, VQ-GAN and latent diffusion.

    DATA is a set of real cubes. Stops cleanly on Ctrl-C; with --resume it continues, exactly as if it had never
    stopped. On several GPUs: torchrun --nproc-per-node 4 -m hseval train-ldm DATA --out RUN ...
    """
    import os

    from hseval.core.options import build_options
    from hseval.pipeline.open import open_set
    from hseval_ldm.generator import Ldm
    from hseval_ldm.training.run import train

    options = build_options(Ldm, _collect_settings(arguments), owner="generator 'ldm'")
    is_main = os.environ.get("RANK", "0") == "0"
    with _prepare_run_folder(out):
        cubes = open_set(data, layout=arguments["layout"], wavelengths=arguments["wavelengths"])
        for note in cubes.info.notes if is_main else ():
            click.echo(f"{data}: {note}", err=True)
        train(
            options,
            cubes,
            out,
            seed=_resolve_seed(arguments["seed"], out, resume=options.resume),
            device=arguments["device"],
        )
    if is_main:
        command = f"hseval sample ldm --checkpoint {out} -n 64 --out SET"
        click.echo(f"{out}: ldm trained on {data}; sample cubes with: {command}")


def _collect_settings(arguments: dict[str, Any]) -> dict[str, Any]:
    from hseval.utils.errors import HsevalError

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
    from hseval.utils.atomic_files import check_writable
    from hseval.utils.errors import HsevalError

    if out.exists() and not out.is_dir():
        raise HsevalError(f"{out}: is a file; --out takes the folder for the run")
    is_new = not out.exists()
    if is_new:
        check_writable(out)
        out.mkdir(exist_ok=True)
    try:
        check_writable(out / "config.json")
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                out.rmdir()
