"""The generator ``pca``: the interface to hseval, on top of the numerics in :mod:`hseval_pca.gaussian`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.generator_kit import convert_record, load_checkpoint, save_checkpoint
from hseval.plugin import CubeSet, HsevalError, Sample, build_options, create_rng, format_count, option
from hseval_pca.gaussian import fit_gaussian
from hseval_pca.layers import LayerLayout

Array = NDArray[Any]
FORMAT = "hseval-pca-2"
MAX_VALUE = 1e18  # beyond it, squares are no float32 numbers
RECORD_KEYS = ("options", "wavelengths", "units", "structures")


@dataclasses.dataclass(frozen=True)
class _Record:
    """The types of the checkpoint's record."""

    options: dict[str, Any]
    wavelengths: list[float] | None
    units: str | None
    structures: tuple[str, ...]


class Pca:
    """Cubes and soft masks as one Gaussian in the space of their principal components."""

    name = "pca"
    version = "1.0.0"
    summary = "baseline: principal components and a Gaussian, masks as extra channels"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options that ``--set`` can set when training."""

        variance: float = option(0.99, "share of the variance to retain, above 0 and up to 1")
        components: int | None = option(None, "number of components to retain instead of a share of the variance")
        memory: float = option(4.0, "GiB that the cubes may take; of a set that needs more, a random subset is fitted")

        def __post_init__(self) -> None:
            if not 0 < self.variance <= 1:
                raise ValueError(f"variance is {self.variance:g}, expected above 0 and up to 1")
            if self.components is not None and self.components < 1:
                raise ValueError(f"components is {self.components}, expected 1 or more, or none")
            if not self.memory > 0:
                raise ValueError(f"memory is {self.memory:g} GiB, expected more than 0")

        def __str__(self) -> str:
            """Return the options as typed on the command line."""
            values = dataclasses.asdict(self).items()
            return " ".join(f"{name}={'none' if value is None else value}" for name, value in values)

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def fit(self, data: CubeSet, out: Path, *, seed: int = 0) -> None:
        """Fit on ``data`` and write ``pca.safetensors`` to the folder ``out``.

        Raises:
            HsevalError: fewer than two cubes, cubes of several shapes, or cubes that are all the same.
        """
        if len(data) < 2:
            raise HsevalError(
                f"{data.info.location}: has {format_count(len(data), 'cube')}, expected 2 or more for pca"
            )
        save_checkpoint(out, self.name, *self._fit_model(data, seed), format=FORMAT)
        self.load(out)

    def load(self, path: Path | None) -> None:
        """Read what :meth:`fit` wrote to ``path``; sampling runs on the CPU.

        Raises:
            HsevalError: ``path`` is None, or its checkpoint is missing, damaged or has other options.
        """
        if path is None:
            raise HsevalError("pca has to be fitted first: hseval train pca DATA --out RUN, then --checkpoint RUN")
        hint = "create one by: hseval train pca"
        tensors, record = load_checkpoint(path, self.name, format=FORMAT, required_keys=RECORD_KEYS, hint=hint)
        values = convert_record(record, _Record, path / "pca.safetensors")
        fitted = build_options(type(self), values.options, owner=f"{path}: pca.safetensors")
        if self.options not in (self.Options(), fitted):
            raise HsevalError(f"{path}: was fitted with {fitted}; options are set when training, not when sampling")
        _check_tensors(path, tensors, values)
        self.options, self.units = fitted, values.units
        self.wavelengths = None if values.wavelengths is None else np.array(values.wavelengths)
        bands = len(tensors["mean"]) - len(values.structures)
        self._layout = LayerLayout(bands, values.structures, tensors["seen"])
        self._mean, self._axes, self._thresholds = tensors["mean"], tensors["axes"], tensors["thresholds"]

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1``; cube i is drawn from the stream (seed, "pca", i) alone."""
        for index in range(start, n):
            normal = create_rng(seed, self.name, index).standard_normal(len(self._axes), dtype=np.float32)
            flat = self._mean + np.tensordot(normal, self._axes, axes=1)
            yield Sample(*self._layout.unflatten(flat, self._thresholds), f"pca-{seed}-{index:06d}")

    def _fit_model(self, data: CubeSet, seed: int) -> tuple[dict[str, Array], dict[str, Any]]:
        layers, options = LayerLayout.from_cubes(data), self.options
        stack = self._stack_cubes(data, layers, seed)
        try:
            tensors, share = fit_gaussian(
                stack, bands=layers.bands, variance=options.variance, components=options.components
            )
        except ValueError as error:
            raise HsevalError(f"{data.info.location}: {error}") from error
        fit_record = {"cubes": len(stack), "components": len(tensors["axes"]), "variance_kept": share}
        record: dict[str, Any] = {"version": self.version, "options": dataclasses.asdict(options), "fit": fit_record}
        known = data.info.wavelengths_known
        record |= {"wavelengths": data.wavelengths.tolist() if known else None, "units": data.info.units}
        return {**tensors, "seen": layers.pixel_mask}, {**record, "structures": layers.structures}

    def _stack_cubes(self, data: CubeSet, layers: LayerLayout, seed: int) -> Array:
        """Return float32 ``(n, layer, pixel)``: all cubes, or a random subset that fits ``memory``."""
        shape = (layers.bands + len(layers.structures), int(layers.pixel_mask.sum()))
        max_cubes = max(int(self.options.memory * 2**30 / (4 * shape[0] * shape[1])), 2)
        indices = sorted(create_rng(seed, "pca fit").permutation(len(data))[:max_cubes])
        if len(indices) < len(data):
            message = "%s: pca is fitted on %d of %d cubes, which fit into memory=%g GiB"
            logging.getLogger("hseval.pca").warning(
                message, data.info.location, max_cubes, len(data), self.options.memory
            )
        stack = np.empty((len(indices), *shape), dtype=np.float32)
        for position, index in enumerate(indices):
            stack[position] = layers.flatten(data[int(index)])
            largest = np.fmax.reduce(np.abs(stack[position]), axis=None)  # without the NaN of missing pixels
            if largest > MAX_VALUE:
                found = f"cube {data.ids[int(index)]} has values of {largest:.4g}"
                raise HsevalError(f"{data.info.location}: {found}; at most {MAX_VALUE:g} expected")
        return stack


def _check_tensors(path: Path, tensors: Mapping[str, Array], record: _Record) -> None:
    """Raise HsevalError unless the tensors of a checkpoint fit each other and its record, and are finite."""
    mean, axes, thresholds, seen = (tensors.get(name, np.empty(0)) for name in ("mean", "axes", "thresholds", "seen"))
    bands = len(mean) - len(record.structures)
    is_consistent = (
        seen.dtype == np.dtype(bool)
        and (seen.ndim, mean.ndim) == (2, 2)
        and mean.shape[1] == seen.sum()
        and axes.shape[1:] == mean.shape
        and thresholds.shape == (len(record.structures),)
        and bands > 0
        and (record.wavelengths is None or len(record.wavelengths) == bands)
        and bool((np.abs(mean) <= MAX_VALUE).all() and (np.abs(axes) <= MAX_VALUE).all())
        and not np.isnan(thresholds).any()  # infinite for a structure that is everywhere or nowhere
    )
    if not is_consistent:
        raise HsevalError(f"{path / 'pca.safetensors'}: its tensors and record do not agree; fit again")
