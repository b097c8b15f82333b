"""hseval_ldm on a GPU: speed, memory and quality, on a machine that is available for minutes at a time.

    python -m benchmarks.gpu.measure --minutes 9                  # repeat until all measurements are finished
    python -m benchmarks.gpu.measure --only speed,quality --minutes 9
    python -m benchmarks.gpu.measure --small                      # everything in small on a CPU, as a test

Each finished measurement is stored in ``benchmarks/results/gpu/DEVICE/GROUP.json`` and not repeated; with ``--minutes``
none is started that would not end in time. Temporary files (sets, runs) are in ``--work``. ``quality`` runs the
commands of hseval, so hseval has to be installed.

So far this has only run in small on a CPU, never on a GPU.

speed       every configuration at 224 x 224 x 16, the 18 of the reference's study first: training steps/s of the
            diffusion stage, samples/s, memory, FLOPs counted, share of the rate of a large bf16 matrix product
reference   hseval_ldm and the reference recipe on this device, for three configurations
loop        the real training loop against its step alone on resident latents
sampler     a sampled batch against its steps times a U-Net evaluation plus a decode, eager and compiled
kmeans      cost of k-means at an epoch's start
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

from benchmarks.gpu.device import get_device_name
from benchmarks.gpu.quality import SMALL as SMALL_PLAN
from benchmarks.gpu.quality import Plan, Work, measure_quality
from benchmarks.gpu.speed import Environment, measure_loop, measure_reference, measure_sampler, measure_speed
from benchmarks.gpu.stages import list_large_measurements, measure_extraction, measure_kmeans
from benchmarks.gpu.store import Budget, Measurement, Store, run_measurements
from benchmarks.helpers.machine import RESULTS
from benchmarks.ldm.configurations import FULL, LEFT_OUT, PUBLISHED, SELECTED, SMALL, Configuration
from hseval.generator_kit import choose_device
from hseval.utils.plural import format_count

LOOP_CONFIGURATIONS = tuple(map(Configuration.parse, ("8/8/128", "8/8/256")))
KMEANS_PAIRS = ((4, 8), (8, 8), (8, 256), (16, 256))  # compression, latent channels
# Not base 512: its checkpoint is 20 GB, and three are on disk while one is written.
TRAINED_CONFIGURATIONS = "8/8/256,4/8/256,8/8/128"


def list_speed(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield the speed of every configuration, the study's first."""
    for configuration in (*PUBLISHED, *LEFT_OUT):
        seconds = 120 if configuration.base == 512 else 60
        yield Measurement("speed", configuration.name, seconds, functools.partial(measure_speed, env, configuration))


def list_reference(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield both sides at the selected configurations."""
    for configuration in SELECTED:
        yield Measurement(
            "reference", configuration.name, 150, functools.partial(measure_reference, env, configuration)
        )


def list_loop(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield the training loop, at configurations with short steps."""
    for configuration in LOOP_CONFIGURATIONS:
        yield Measurement("loop", configuration.name, 90, functools.partial(measure_loop, env, configuration))


def list_sampler(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield the sampler, from short steps to long ones."""
    for configuration in SELECTED:
        yield Measurement("sampler", configuration.name, 180, functools.partial(measure_sampler, env, configuration))


def list_kmeans(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield the start of an epoch of the autoencoder."""
    for compression, channels in KMEANS_PAIRS:
        run = functools.partial(measure_kmeans, env, compression, channels)
        yield Measurement("kmeans", f"{compression}/{channels}", 90, run)


def list_extraction(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield the extractor."""
    yield Measurement("extraction", "scattering", 60, functools.partial(measure_extraction, env))


def list_large(env: Environment, _: Work) -> Iterator[Measurement]:
    """Yield the stages at the largest size."""
    for name, run in list_large_measurements(env).items():
        yield Measurement("large", name, 90, run)


def list_quality(env: Environment, work: Work, names: str = TRAINED_CONFIGURATIONS) -> Iterator[Measurement]:
    """Yield the configurations to train; each resumes where the time was up."""
    for name in names.split(","):
        yield Measurement("quality", name, 120, functools.partial(measure_quality, work, Configuration.parse(name)))


GROUPS: dict[str, Callable[[Environment, Work], Iterator[Measurement]]] = {
    "speed": list_speed, "reference": list_reference, "loop": list_loop, "sampler": list_sampler, "kmeans": list_kmeans,
    "extraction": list_extraction, "large": list_large, "quality": list_quality,
}  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    """Run the requested measurements that are not finished."""
    if not arguments.small and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; --small runs everything in small on a CPU")
    device = choose_device("cpu" if arguments.small else arguments.device)
    budget = Budget(arguments.minutes)
    env = Environment(
        device, SMALL if arguments.small else FULL, arguments.work / ("small" if arguments.small else "full")
    )
    plan = Plan(autoencoder=arguments.ae_minutes, diffusion=arguments.ldm_minutes)
    work = Work(env, SMALL_PLAN if arguments.small else plan, budget)
    store = Store(arguments.out, get_device_name(device), small=arguments.small)
    groups = GROUPS | {"quality": functools.partial(list_quality, names=arguments.configurations)}
    remaining = sum(
        run_measurements(groups[name](env, work), store, budget, small=arguments.small) for name in arguments.only
    )
    count = format_count(remaining, "measurement")
    print(f"{store.folder}: {count} unfinished" if remaining else f"{store.folder}: all measurements are finished")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, separated by commas")
    parser.add_argument("--small", action="store_true", help="everything in small, on the CPU")
    parser.add_argument("--minutes", type=float, help="start nothing that would take longer")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hseval-ldm-gpu")
    parser.add_argument(
        "--configurations", default=TRAINED_CONFIGURATIONS, help="for quality: compression/channels/base, ..."
    )
    parser.add_argument("--ae-minutes", type=float, default=Plan.autoencoder, help="for quality")
    parser.add_argument("--ldm-minutes", type=float, default=Plan.diffusion, help="for quality")
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    if unknown := sorted(set(arguments.only) - set(GROUPS)):
        parser.error(f"--only {unknown[0]}: expected {', '.join(GROUPS)}")
    return arguments


if __name__ == "__main__":
    main(parse_arguments())
