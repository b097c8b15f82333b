"""torchvision's networks without their classifiers: weights from a file or random. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError, format_error
from hseval.utils.plural import format_count
from hseval.utils.random_streams import create_rng, fork_torch_rng

if TYPE_CHECKING:
    import torch

INPUT_SIZES = {"inception_v3": 299, "resnet50": 224, "convnext_tiny": 224}  # px, what each was trained on
CLASSIFIER_PREFIXES = {"inception_v3": ("fc.", "AuxLogits."), "resnet50": ("fc.",), "convnext_tiny": ("classifier.2.",)}
RANDOM_INIT_VERSION = "random-1"  # raised whenever the same seed gives other weights


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict: safetensors, or a torch file of plain tensors (never code).

    Raises:
        HsevalError: the file can't be read as a state dict.
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
        raise HsevalError(f"{path}: expected a state dict (names -> tensors), found {type(state).__name__}")
    return dict(state)


def build_backbone(backbone: str, state: dict[str, torch.Tensor], *, path: Path) -> torch.nn.Module:
    """Return a backbone without its classifier, in evaluation mode, with the weights of ``state``.

    Raises:
        HsevalError: a tensor is missing, unknown, or of another shape; the message names ``path`` and a tensor.
    """
    model = create_untrained_model(backbone)
    trunk = {name: value for name, value in state.items() if not name.startswith(CLASSIFIER_PREFIXES[backbone])}
    _check_state_dict(backbone, model.state_dict(), trunk, path)
    model.load_state_dict(trunk, strict=False)
    return remove_classifier(backbone, model)


def build_random_backbone(backbone: str, seed: int) -> torch.nn.Module:
    """Return a backbone without its classifier, in evaluation mode, with random weights (:func:`draw_state_dict`)."""
    model = create_untrained_model(backbone)
    model.load_state_dict(draw_state_dict(model.state_dict(), seed, backbone))
    return remove_classifier(backbone, model)


def create_untrained_model(backbone: str) -> torch.nn.Module:
    """Return torchvision's network with arbitrary weights; torch's generators are left unchanged."""
    from torchvision import models

    extra = {"transform_input": True, "init_weights": False} if backbone == "inception_v3" else {}
    with fork_torch_rng():  # for the layers' initial values, which are discarded
        model: torch.nn.Module = models.get_model(backbone, weights=None, **extra)
    return model


def draw_state_dict(state: dict[str, torch.Tensor], seed: int, backbone: str) -> dict[str, torch.Tensor]:
    """Return a state dict of the same shapes with normal weights of He et al.'s standard deviation (ICCV 2015).

    Each tensor has a random stream of its own, by its name, so that values depend neither on torch's version nor on
    its generators. Norms and the scales of ConvNeXt's layers start at 1 (at torchvision's 1e-6 its blocks would do
    nothing), biases and running means at 0.
    """
    import torch

    weights = {}
    for name, tensor in state.items():
        if name.endswith("layer_scale") or name.endswith("running_var") or (tensor.ndim == 1 and "weight" in name):
            weights[name] = torch.ones_like(tensor)
        elif tensor.ndim > 1:
            rng = create_rng(seed, f"torchvision {backbone} {name}")
            values = torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype="float32"))
            weights[name] = values * (2 / tensor[0].numel()) ** 0.5
        else:
            weights[name] = torch.zeros_like(tensor)
    return weights


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
    required = {name for name in expected if not name.startswith(CLASSIFIER_PREFIXES[backbone])}
    missing, unknown = required - counters - set(state), set(state) - required
    for problem, noun, names in (("lacks", "tensor", missing), ("has", "unknown tensor", unknown)):
        if names:
            count = format_count(len(names), noun)
            message = f"{path}: no state dict of {backbone}: it {problem} {count}, for example {min(names)!r}"
            raise HsevalError(f"{message} (backbones: {', '.join(INPUT_SIZES)})")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            raise HsevalError(f"{path}: tensor {name!r} of {backbone} has shape {shapes}")
