"""hseval_ldm on a GPU: speed, memory and quality, on a machine that can be had for minutes at a time.

    python -m benchmarks.gpu.measure --minutes 9                  # again and again, until nothing is left
    python -m benchmarks.gpu.measure --only speed,quality --minutes 9
    python -m benchmarks.gpu.measure --small                      # all of it in small on a CPU; the figures say nothing

Each finished measurement is kept in ``results/ldm_gpu/DEVICE/GROUP.json`` and not done again; with ``--minutes`` none
is begun that would not end in time. What is not worth keeping (sets, runs) lies in ``--work``. ``quality`` runs the
commands of hseval, so hseval has to be installed there.

So far this has run in small on a CPU alone, never on a GPU.

speed       every configuration at 224 x 224 x 16, the 18 of the reference's study first: training steps/s of the
            diffusion stage, samples/s, memory, FLOPs counted, share of the rate of a large bf16 matrix product
reference   hseval_ldm and the reference recipe on this device, for a chosen few
loop        the real training loop against its step alone on resident latents
sampler     a sampled batch against its steps times a U-Net evaluation plus a decode, eager and compiled
kmeans      what k-means costs at an epoch's start
extraction  hseval's default extractor on the device and on the CPU
large       every stage at 672 x 672 x 16: speed and memory
quality     configurations trained for some minutes on 2,000 phantom eyes, sampled and scored
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.gpu.device import name_of
from benchmarks.gpu.quality import SMALL as SMALL_PLAN
from benchmarks.gpu.quality import Plan, Work, quality
from benchmarks.gpu.speed import Place, loop, reference, sampler, speed
from benchmarks.gpu.stages import extraction, kmeans, large_parts
from benchmarks.gpu.store import Budget, Measurement, Store, take
from benchmarks.helpers.machine import RESULTS
from benchmarks.ldm.configurations import CHOSEN, FULL, LEFT_OUT, PUBLISHED, SMALL, Configuration
from hseval_ldm.utils.distributed import resolve_device

LOOPS = tuple(map(Configuration.named, ("8/8/128", "8/8/256")))
CLUSTERED = ((4, 8), (8, 8), (8, 256), (16, 256))  # compression, latent channels
TRAINED = "8/8/256,4/8/256,8/8/128"  # at base 512 a checkpoint is 20 GB, and three are on disk while one is written


def speeds(place: Place, _: Work) -> Iterator[Measurement]:
    """Every configuration, the study's first."""
    for one in (*PUBLISHED, *LEFT_OUT):
        needed = 120 if one.base == 512 else 60
        yield Measurement("speed", one.name, needed, functools.partial(speed, place, one))


def references(place: Place, _: Work) -> Iterator[Measurement]:
    """Both sides at the chosen configurations."""
    for one in CHOSEN:
        yield Measurement("reference", one.name, 150, functools.partial(reference, place, one))


def loops(place: Place, _: Work) -> Iterator[Measurement]:
    """The loop, where a step is short."""
    for one in LOOPS:
        yield Measurement("loop", one.name, 90, functools.partial(loop, place, one))


def samplers(place: Place, _: Work) -> Iterator[Measurement]:
    """The sampler, from short steps to long ones."""
    for one in CHOSEN:
        yield Measurement("sampler", one.name, 180, functools.partial(sampler, place, one))


def clusterings(place: Place, _: Work) -> Iterator[Measurement]:
    """The start of an epoch of the autoencoder."""
    for compression, channels in CLUSTERED:
        run = functools.partial(kmeans, place, compression, channels)
        yield Measurement("kmeans", f"{compression}/{channels}", 90, run)


def extractions(place: Place, _: Work) -> Iterator[Measurement]:
    """The extractor."""
    yield Measurement("extraction", "scattering", 60, functools.partial(extraction, place))


def large(place: Place, _: Work) -> Iterator[Measurement]:
    """The stages at the largest size."""
    for name, run in large_parts(place).items():
        yield Measurement("large", name, 90, run)


def qualities(place: Place, work: Work, chosen: str = TRAINED) -> Iterator[Measurement]:
    """The configurations that are trained; each goes on where the time was up."""
    for name in chosen.split(","):
        yield Measurement("quality", name, 120, functools.partial(quality, work, Configuration.named(name)))


GROUPS: dict[str, Callable[[Place, Work], Iterator[Measurement]]] = {
    "speed": speeds, "reference": references, "loop": loops, "sampler": samplers, "kmeans": clusterings,
    "extraction": extractions, "large": large, "quality": qualities,
}  # fmt: skip


def main(given: argparse.Namespace) -> None:
    """Do what is asked for and not done yet."""
    if not given.small and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --small tries everything on a CPU")
    device = resolve_device("cpu" if given.small else given.device)
    budget = Budget(given.minutes)
    place = Place(device, SMALL if given.small else FULL, given.work / ("small" if given.small else "full"))
    plan = Plan(autoencoder=given.ae_minutes, diffusion=given.ldm_minutes)
    work = Work(place, SMALL_PLAN if given.small else plan, budget)
    store = Store(given.out, name_of(device), small=given.small)
    groups = GROUPS | {"quality": functools.partial(qualities, chosen=given.configurations)}
    left = sum(take(groups[name](place, work), store, budget, small=given.small) for name in given.only)
    print(f"{store.folder}: {left} measurements left" if left else f"{store.folder}: all that was asked for is there")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, with commas between them")
    parser.add_argument("--small", action="store_true", help="everything in small, on the CPU")
    parser.add_argument("--minutes", type=float, help="begin nothing that would not end by then")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hseval-ldm-gpu")
    parser.add_argument("--configurations", default=TRAINED, help="for quality: compression/channels/base, ...")
    parser.add_argument("--ae-minutes", type=float, default=Plan.autoencoder, help="for quality")
    parser.add_argument("--ldm-minutes", type=float, default=Plan.diffusion, help="for quality")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := sorted(set(given.only) - set(GROUPS)):
        parser.error(f"--only {unknown[0]}: expected {', '.join(GROUPS)}")
    return given


if __name__ == "__main__":
    main(arguments())
