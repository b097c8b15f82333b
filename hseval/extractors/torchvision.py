"""Features of a torchvision backbone on a three-band composite, for continuity with the classic FID.

Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, NeurIPS 2017.
The backbone gets three bands of the cube and was trained on photographs: it is insensitive to most of a spectrum.
Weights come from a file that the user names (nothing is downloaded), or are random: the untrained baseline that shows
what training on photographs contributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from hseval.core.options import option
from hseval.data.field_of_view import (
    compute_by_bounding_box,
    compute_canvas_shape,
    erode_fov,
    fill_outside,
    find_valid_pixels,
)
from hseval.extractors.backbones import (
    INPUT_SIZES,
    RANDOM_INIT_VERSION,
    build_backbone,
    build_random_backbone,
    read_state_dict,
)
from hseval.extractors.spectral_windows import compute_interpolation_weights
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import compute_sha256

if TYPE_CHECKING:
    import torch

EXTRACTOR_LABEL = "extractor 'torchvision'"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # by channel: torchvision's convention
BATCH_SIZE = 16  # images a forward pass


@dataclasses.dataclass(frozen=True)
class TorchvisionOptions:
    """Options of the features."""

    backbone: Literal["inception_v3", "resnet50", "convnext_tiny"] = option("inception_v3", "network")
    weights: str | None = option(None, "file with the network's state dict (.pth or .safetensors)")
    random: int | None = option(None, "seed of random weights, in place of a file")
    composite: tuple[float, ...] = option((640.0, 550.0, 460.0), "wavelengths of red, green and blue, nm")
    low: float = option(0.0, "value that becomes black")
    high: float = option(1.0, "value that becomes white")
    size: int | None = option(None, "side of the network's input, px (none: the backbone's own)")

    def __post_init__(self) -> None:
        """Refuse options that define no composite."""
        if self.weights is not None and self.random is not None:
            both = f"weights={self.weights} and random={self.random}"
            raise HsevalError(f"{EXTRACTOR_LABEL}: {both}: expected one of the two")
        if self.random is not None and self.random < 0:
            raise HsevalError(f"{EXTRACTOR_LABEL}: random = {self.random}, expected a seed of 0 or more")
        if len(self.composite) != 3:
            composite = f"composite has {len(self.composite)} wavelengths"
            raise HsevalError(f"{EXTRACTOR_LABEL}: {composite}, expected 3, such as 640,550,460")
        if not self.high > self.low:
            raise HsevalError(f"{EXTRACTOR_LABEL}: high = {self.high:g} is not above low = {self.low:g}")
        if self.size is not None and self.size < 32:
            raise HsevalError(f"{EXTRACTOR_LABEL}: size = {self.size}, expected at least 32 px")


class Torchvision:
    """Pooled features before the classifier: 2048 (Inception-v3, ResNet-50) or 768 (ConvNeXt-T) a cube."""

    name: ClassVar[str] = "torchvision"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "a torchvision backbone on a three-band composite, weights from a file or random"
    reads_structures: ClassVar[bool] = False
    needs_nm: ClassVar[bool] = True
    Options = TorchvisionOptions

    def __init__(self, options: TorchvisionOptions | None = None) -> None:
        self.options = options or TorchvisionOptions()
        self.device = "cpu"  # the core may set another torch device
        self._model: torch.nn.Module | None = None

    def fingerprint(self) -> str:
        """Return the sha256 of the weights file, or version and seed of random weights."""
        if self.options.random is not None:
            return f"{RANDOM_INIT_VERSION} {self.options.random}"
        return compute_sha256(self._resolve_weights_path())

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Float32Array:
        """Return float32 features ``(n, feature)``; NaN for a cube without a valid pixel.

        Raises:
            HsevalError: no weights, weights of another network, or bands that do not cover the composite.
        """
        import torch

        composite = compute_composite_weights(wavelengths, self.options.composite)
        model = self._get_model()
        valid = find_valid_pixels(cubes, masks["fov"])

        def compute(part: Float32Array, inside: BoolArray) -> Float32Array:
            return np.asarray(model(self._prepare_inputs(part, inside, composite)).cpu().numpy())

        with torch.inference_mode():
            return compute_by_bounding_box(compute, cubes, valid, batch_size=BATCH_SIZE)

    def _prepare_inputs(self, cubes: Float32Array, valid: BoolArray, composite: Float64Array) -> torch.Tensor:
        """Return the network's inputs (n, 3, size, size), normalized as ImageNet's images are."""
        import torch
        from torch.nn.functional import interpolate

        options, (height, width) = self.options, valid.shape[1:]
        field = torch.from_numpy(erode_fov(valid)).to(self.device)
        pixels = torch.from_numpy(np.where(valid[:, None], cubes, 0).astype(np.float32)).to(self.device)
        mixed = torch.einsum("cb,nbyx->ncyx", torch.from_numpy(composite.astype(np.float32)).to(self.device), pixels)
        filled = fill_outside(mixed, field, canvas=compute_canvas_shape(height, width))[..., :height, :width]
        size = options.size or INPUT_SIZES[options.backbone]
        scaled = ((filled - options.low) / (options.high - options.low)).clamp(0, 1)
        resized = interpolate(scaled, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        mean, std = torch.tensor((IMAGENET_MEAN, IMAGENET_STD), device=self.device)[..., None, None]
        normalized: torch.Tensor = (resized - mean) / std
        return normalized

    def _resolve_weights_path(self) -> Path:
        path = self.options.weights
        if path is None:
            raise HsevalError(
                f"{EXTRACTOR_LABEL} needs a weights file: --set torchvision.weights=FILE with a state dict of "
                f"torchvision's {self.options.backbone} (.pth or .safetensors); nothing is downloaded. Without a file: "
                "--set torchvision.random=0, untrained"
            )
        if not Path(path).is_file():
            raise HsevalError(f"{path}: no such weights file for {EXTRACTOR_LABEL}")
        return Path(path)

    def _get_model(self) -> torch.nn.Module:
        if self._model is None:
            backbone, seed = self.options.backbone, self.options.random
            if seed is not None:
                self._model = build_random_backbone(backbone, seed)
            else:
                path = self._resolve_weights_path()
                self._model = build_backbone(backbone, read_state_dict(path), path=path)
        return self._model.to(self.device)


def compute_composite_weights(wavelengths: Array, composite: tuple[float, ...]) -> Float64Array:
    """Return ``(3, band)`` weights that interpolate a composite's three wavelengths linearly between bands.

    Raises:
        HsevalError: a wavelength lies outside the bands.
    """
    low, high = float(np.min(wavelengths)), float(np.max(wavelengths))
    for target in composite:
        if not low <= target <= high:
            raise HsevalError(
                f"{EXTRACTOR_LABEL}: composite wavelength {target:g} nm lies outside the bands "
                f"({low:g} to {high:g} nm); set torchvision.composite to three wavelengths inside"
            )
    return compute_interpolation_weights(wavelengths, np.array(composite))
