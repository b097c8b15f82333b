"""torchvision's networks without their classifiers: weights from a file, or drawn by a seed. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError, first_line
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    import torch

SIZES = {"inception_v3": 299, "resnet50": 224, "convnext_tiny": 224}  # px, what each was trained on
HEADS = {"inception_v3": ("fc.", "AuxLogits."), "resnet50": ("fc.",), "convnext_tiny": ("classifier.2.",)}
DRAWN = "random-1"  # raised whenever the same seed draws other weights


def read_state(path: Path) -> dict[str, torch.Tensor]:
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
        raise HsevalError(f"{path}: can't be read as a state dict: {first_line(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise HsevalError(f"{path}: holds no state dict (names -> tensors), but {type(state).__name__}")
    return dict(state)


def build(backbone: str, state: dict[str, torch.Tensor], *, path: Path) -> torch.nn.Module:
    """Return a backbone without its classifier, in evaluation mode, with the weights of ``state``.

    Raises:
        HsevalError: a tensor is missing, unknown, or of another shape; the message names ``path`` and the first one.
    """
    model = empty(backbone)
    kept = {name: value for name, value in state.items() if not name.startswith(HEADS[backbone])}
    _check(backbone, model.state_dict(), kept, path)
    model.load_state_dict(kept, strict=False)
    return trunk(backbone, model)


def drawn(backbone: str, seed: int) -> torch.nn.Module:
    """Return a backbone without its classifier, in evaluation mode, with random weights (:func:`drawn_state`)."""
    model = empty(backbone)
    model.load_state_dict(drawn_state(model.state_dict(), seed, backbone))
    return trunk(backbone, model)


def empty(backbone: str) -> torch.nn.Module:
    """Return torchvision's network, whose weights mean nothing yet."""
    import torch
    from torchvision import models

    extra = {"transform_input": True, "init_weights": False} if backbone == "inception_v3" else {}
    with torch.random.fork_rng(devices=[]):  # the layers' initial values are drawn and thrown away
        model: torch.nn.Module = models.get_model(backbone, weights=None, **extra)
    return model


def drawn_state(state: dict[str, torch.Tensor], seed: int, backbone: str) -> dict[str, torch.Tensor]:
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
            rng = stream(seed, f"torchvision {backbone} {name}")
            values = torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype="float32"))
            found[name] = values * (2 / tensor[0].numel()) ** 0.5
        else:
            found[name] = torch.zeros_like(tensor)
    return found


def trunk(backbone: str, model: Any) -> torch.nn.Module:
    """Return a network without its classifier, in evaluation mode."""
    import torch

    if backbone == "convnext_tiny":
        model.classifier.pop(-1)
    else:
        model.fc = torch.nn.Identity()
    network: torch.nn.Module = model.eval().requires_grad_(False)
    return network


def _check(backbone: str, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], path: Path) -> None:
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # older files lack them
    wanted = {name for name in expected if not name.startswith(HEADS[backbone])}
    for problem, names in (("lacks", wanted - counters - set(found)), ("has unknown", set(found) - wanted)):
        if names:
            told = f"{path}: no state dict of {backbone}: it {problem} {len(names)} tensors, {min(names)!r} for one"
            raise HsevalError(f"{told} (backbones: {', '.join(SIZES)})")
    for name, value in found.items():
        if value.shape != expected[name].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            raise HsevalError(f"{path}: tensor {name!r} of {backbone} has shape {shapes}")
