"""Draw phantom eyes into one set on all cores: the same eyes as ``hseval sample phantom``, faster.

    python -m benchmarks.helpers.draw_eyes SET -n 2000 --size 224 --seed 1

Nothing here imports torch, so processes start quickly.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from hseval.core.protocols import Sample
from hseval.data.writer import SetWriter
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions


def draw_eye(index: int, *, size: int, seed: int) -> Sample:
    """Return one eye."""
    return Phantom(PhantomOptions(size=size)).draw_sample(seed, index)


def main(path: Path, count: int, size: int, seed: int) -> None:
    """Draw the eyes and write them in order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    phantom = Phantom(PhantomOptions(size=size))
    with ProcessPoolExecutor(cores) as pool, SetWriter(path, wavelengths=phantom.wavelengths) as writer:
        for eye in pool.map(partial(draw_eye, size=size, seed=seed), range(count), chunksize=4):
            writer.add(eye.cube, eye.masks, eye.id)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.path, arguments.n, arguments.size, arguments.seed)
