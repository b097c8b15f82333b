"""What a part's file holds, as it is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hseval.errors import HsevalError
from hseval.hookspecs import Sample


def ids_in(path: Path) -> list[str]:
    """Return the ids of a part's cubes."""
    import h5py

    with h5py.File(path) as file:
        return [str(name) for name in file["ids"].asstr()[()]]


def samples_in(path: Path, structures: Sequence[str]) -> Iterator[Sample]:
    """Yield cubes and masks (uint8, not read as bool: the set gets what the generator gave).

    Raises:
        HsevalError: it can't be read.
    """
    import h5py

    try:
        names = ids_in(path)
        with h5py.File(path) as file:
            for index, name in enumerate(names):
                masks = {structure: file[f"masks/{structure}"][index] for structure in structures}
                yield Sample(file["cubes"][index], masks, name)
    except (OSError, KeyError) as error:
        raise HsevalError(f"{path}: can't be read ({error}); the same command draws it again") from error
