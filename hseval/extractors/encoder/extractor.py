"""The encoder: moments of the residuals that a network fitted on real cubes, without labels, leaves of a cube.

The network learned to predict hidden values of real cubes from the values around them, in the spectrum and in space
(:mod:`hseval.extractors.encoder.network`). Fitted by ``hseval fit-extractor``; docs/extractors.md lists the columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.options import build_options, options_to_dict
from hseval.data.field_of_view import compute_by_bounding_box, find_valid_pixels
from hseval.extractors.encoder.options import EncoderOptions, FitOptions
from hseval.extractors.encoder.preprocessing import (
    EXTRACTOR_LABEL,
    compute_node_wavelengths,
    compute_node_weights,
    resample_to_nodes,
    standardize_and_fill,
)
from hseval.training.checkpoint_file import load_weights, read_checkpoint, write_checkpoint
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import compute_sha256
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    import torch

    from hseval.extractors.encoder.network import Network

MIN_CUBES, MIN_BANDS = 8, 4  # a fit on fewer memorizes the cubes
BATCH_SIZE = 16  # cubes a forward pass
FILE_FORMAT = "hseval-encoder-2"
FIT_HINT = "create one by: hseval fit-extractor REAL --out FILE.safetensors"


class Fitter:
    """Fits the encoder on real cubes and writes its weights to a file."""

    Options = FitOptions

    def __init__(self, options: FitOptions | None = None) -> None:
        self.options = options or FitOptions()

    def fit(
        self, data: CubeSet, out: Path, *, seed: int = 0, device: str = "cpu",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:  # fmt: skip
        """Fit on ``data`` and write the file ``out`` atomically.

        The same cubes, options and seed give the same bytes on a CPU with the same number of threads.

        Raises:
            HsevalError: too few cubes or bands, no wavelengths in nm, or cubes without variation.
        """
        from hseval.extractors.encoder.training import TrainingPatches, fit_network

        _check_data(data)
        on_progress = progress or (lambda label, done, total: None)
        nodes = compute_node_wavelengths(data.wavelengths, self.options.nodes)
        patches = TrainingPatches(data, nodes, seed=seed, on_progress=on_progress)
        network = fit_network(patches, self.options, seed=seed, device=device, on_progress=on_progress)
        record = {
            "options": options_to_dict(self.options),
            "seed": seed,
            "nodes": nodes.tolist(),
            "fitted_on": {
                "cubes": patches.cube_count,
                "content": patches.content_hash,
                "wavelengths": data.wavelengths.tolist(),
                "units": data.info.units,
            },
        }
        write_checkpoint(out, network.state_dict(), record, format=FILE_FORMAT)


class Encoder:
    """Moments of prediction residuals, by wavelength."""

    name: ClassVar[str] = "encoder"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "a network fitted on real cubes without labels (hseval fit-extractor)"
    reads_structures: ClassVar[bool] = False
    needs_nm: ClassVar[bool] = True
    Options = EncoderOptions
    Fitter = Fitter

    def __init__(self, options: EncoderOptions | None = None) -> None:
        self.options = options or EncoderOptions()
        self.device = "cpu"  # the core may set another torch device
        self._cached_network: tuple[Network, Float64Array] | None = None

    def fingerprint(self) -> str:
        """Return the sha256 of the weights file."""
        return compute_sha256(self._resolve_weights_path())

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Float32Array:
        """Return float32 features ``(n, feature)``; NaN for a cube without a valid pixel.

        Raises:
            HsevalError: no weights, a file of another format, or bands that the weights were not fitted for.
        """
        import torch

        network, nodes = self._get_network()
        weights = compute_node_weights(wavelengths, nodes)
        valid = find_valid_pixels(cubes, masks["fov"])
        compute = functools.partial(self._compute_features, network, weights)
        # TF32 would round a GPU's products to three digits, and features would depend on the device.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return compute_by_bounding_box(compute, cubes, valid, batch_size=BATCH_SIZE)

    def _compute_features(
        self, network: Network, weights: Float64Array, cubes: Float32Array, valid: BoolArray
    ) -> Float32Array:
        """Return the features of cubes ``(n, band, y, x)`` with one bounding box."""
        import torch

        from hseval.extractors.encoder.features import compute_features

        images = resample_to_nodes(cubes, valid, weights).to(self.device)
        inputs = standardize_and_fill(images, valid, network.center, network.scale)
        covered_nodes = torch.from_numpy(weights.any(axis=1)).to(self.device)
        return compute_features(network, inputs, covered_nodes).float().cpu().numpy()

    def _resolve_weights_path(self) -> Path:
        path = self.options.weights
        if path is None:
            raise HsevalError(f"{EXTRACTOR_LABEL} needs weights: --set encoder.weights=FILE.safetensors; {FIT_HINT}")
        if not Path(path).is_file():
            raise HsevalError(f"{path}: no such weights file for {EXTRACTOR_LABEL}; {FIT_HINT}")
        return Path(path)

    def _get_network(self) -> tuple[Network, Float64Array]:
        if self._cached_network is None:
            path = self._resolve_weights_path()
            weights = read_checkpoint(path, format=FILE_FORMAT, hint=FIT_HINT)
            self._cached_network = restore_network(path, *weights)
        network, nodes = self._cached_network
        return network.to(self.device), nodes


def restore_network(path: Path, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> tuple[Network, Any]:
    """Return the network with the weights of a file, and its nodes in nm.

    Raises:
        HsevalError: tensors and record do not match.
    """
    from hseval.extractors.encoder.network import create_network

    try:
        nodes = np.asarray(record["nodes"], dtype=np.float64)
        options = build_options(Fitter, record["options"], owner=f"{path}: its record")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise HsevalError(f"{path}: its weights do not fit its record; {FIT_HINT}") from error
    if nodes.ndim != 1 or len(nodes) < MIN_BANDS or not np.isfinite(nodes).all() or not (np.diff(nodes) > 0).all():
        raise HsevalError(f"{path}: its nodes are not ascending wavelengths; {FIT_HINT}")
    network = create_network(len(nodes), options.width)
    load_weights(network, tensors, path, FIT_HINT)
    return network.eval().requires_grad_(False), nodes


def _check_data(data: CubeSet) -> None:
    location, info = data.info.location, data.info
    if not info.wavelengths_known:
        raise HsevalError(f"{location}: the encoder needs wavelengths in nm (--wavelengths FILE|450:905:16)")
    if len(data) < MIN_CUBES:
        cubes = format_count(len(data), "cube")
        raise HsevalError(f"{location}: has {cubes}, expected at least {MIN_CUBES} to fit an encoder")
    if len(np.unique(info.wavelengths)) < MIN_BANDS:
        bands = format_count(len(info.wavelengths), "band")
        expected = f"at least {MIN_BANDS} of different wavelengths to fit an encoder"
        raise HsevalError(f"{location}: has {bands}, expected {expected}")
