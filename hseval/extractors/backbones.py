"""torchvision's networks without their classifiers: weights from a file, or drawn by a seed. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError, format_error
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    import torch

INPUT_SIZES = {"inception_v3": 299, "resnet50": 224, "convnext_tiny": 224}  # px, what each was trained on
CLASSIFIER_PREFIXES = {"inception_v3": ("fc.", "AuxLogits."), "resnet50": ("fc.",), "convnext_tiny": ("classifier.2.",)}
RANDOM_INIT_VERSION = "random-1"  # raised whenever the same seed draws other weights


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict: safetensors, or a torch file of plain tensors (never code).

    Raises:
        HsevalError: the file can't be read as one.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zip, pickle and safetensors raise a dozen types
        raise HsevalError(f"{path}: can't be read as a state dict: {format_error(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise HsevalError(f"{path}: holds no state dict (names -> tensors), but {type(state).__name__}")
    return dict(state)


def build_backbone(backbone: str, state: dict[str, torch.Tensor], *, path: Path) -> torch.nn.Module:
    """Return a backbone without its classifier, in evaluation mode, with the weights of ``state``.

    Raises:
        HsevalError: a tensor is missing, unknown, or of another shape; the message names ``path`` and the first one.
    """
    model = create_untrained_model(backbone)
    kept = {name: value for name, value in state.items() if not name.startswith(CLASSIFIER_PREFIXES[backbone])}
    _check_state_dict(backbone, model.state_dict(), kept, path)
    model.load_state_dict(kept, strict=False)
    return remove_classifier(backbone, model)


def build_random_backbone(backbone: str, seed: int) -> torch.nn.Module:
    """Return a backbone without its classifier, in evaluation mode, with random weights (:func:`draw_state_dict`)."""
    model = create_untrained_model(backbone)
    model.load_state_dict(draw_state_dict(model.state_dict(), seed, backbone))
    return remove_classifier(backbone, model)


def create_untrained_model(backbone: str) -> torch.nn.Module:
    """Return torchvision's network, whose weights mean nothing yet."""
    import torch
    from torchvision import models

    extra = {"transform_input": True, "init_weights": False} if backbone == "inception_v3" else {}
    with torch.random.fork_rng(devices=[]):  # the layers' initial values are drawn and thrown away
        model: torch.nn.Module = models.get_model(backbone, weights=None, **extra)
    return model


def draw_state_dict(state: dict[str, torch.Tensor], seed: int, backbone: str) -> dict[str, torch.Tensor]:
    """Return a state dict of the same shapes whose weights are drawn: normal, with He et al.'s deviation (ICCV 2015).

    Each tensor has a stream of its own by its name, so that neither torch's version nor its generators decide a
    value. Norms and the scales of ConvNeXt's layers start at 1 (at torchvision's 1e-6 its blocks would do nothing),
    biases and running means at 0.
    """
    import torch

    found = {}
    for name, tensor in state.items():
        if name.endswith("layer_scale") or name.endswith("running_var") or (tensor.ndim == 1 and "weight" in name):
            found[name] = torch.ones_like(tensor)
        elif tensor.ndim > 1:
            rng = create_rng(seed, f"torchvision {backbone} {name}")
            values = torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype="float32"))
            found[name] = values * (2 / tensor[0].numel()) ** 0.5
        else:
            found[name] = torch.zeros_like(tensor)
    return found


def remove_classifier(backbone: str, model: Any) -> torch.nn.Module:
    """Return a network without its classifier, in evaluation mode."""
    import torch

    if backbone == "convnext_tiny":
        model.classifier.pop(-1)
    else:
        model.fc = torch.nn.Identity()
    network: torch.nn.Module = model.eval().requires_grad_(False)
    return network


def _check_state_dict(
    backbone: str, expected: dict[str, torch.Tensor], state: dict[str, torch.Tensor], path: Path
) -> None:
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # older files lack them
    wanted = {name for name in expected if not name.startswith(CLASSIFIER_PREFIXES[backbone])}
    for problem, names in (("lacks", wanted - counters - set(state)), ("has unknown", set(state) - wanted)):
        if names:
            told = f"{path}: no state dict of {backbone}: it {problem} {len(names)} tensors, {min(names)!r} for one"
            raise HsevalError(f"{told} (backbones: {', '.join(INPUT_SIZES)})")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            raise HsevalError(f"{path}: tensor {name!r} of {backbone} has shape {shapes}")
