"""The backbone extractor: the composite, the user's own weights, and no connection to a network."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hseval.core.options import build_options
from hseval.extractors.backbones import draw_state_dict
from hseval.extractors.torchvision import Torchvision, TorchvisionOptions, compute_composite_weights
from hseval.testing import check_extractor
from hseval.utils.errors import HsevalError

WAVELENGTHS = np.linspace(450.0, 905.0, 8)


def create_network(name: str) -> torch.nn.Module:
    from torchvision import models

    torch.manual_seed(0)
    return models.get_model(name, weights=None)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(create_network("resnet50").state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def block_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let any attempt to open a connection fail, torch.hub's included."""
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    yield


def make_options(**values: object) -> TorchvisionOptions:
    built = build_options(Torchvision, {"backbone": "resnet50", "size": 32, **values}, owner="torchvision")
    assert isinstance(built, TorchvisionOptions)
    return built


def make_cubes(count: int = 3, size: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 0.9, (count, len(WAVELENGTHS), size, size)).astype(np.float32)


def compute_features(extractor: Torchvision, data: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    valid = np.ones((len(data), *data.shape[2:]), dtype=bool) if valid is None else valid
    return extractor(data, wavelengths=WAVELENGTHS, masks={"fov": valid})


def test_features_equal_the_network_run_by_hand(resnet: Path) -> None:
    """The oracle: torchvision's own network without its classifier, on a composite computed by numpy."""
    data = make_cubes(2, 34)
    data[:, :, [0, -1]], data[..., [0, -1]] = 0.5, 0.5  # the rim is eroded and filled, so it is constant here
    model = create_network("resnet50").eval()
    model.fc = torch.nn.Identity()
    bands = [np.apply_along_axis(lambda s, at=at: np.interp(at, WAVELENGTHS, s), 1, data) for at in (640, 550, 460)]
    picture = torch.from_numpy(np.stack(bands, axis=1).astype(np.float32))
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    extractor = Torchvision(make_options(weights=str(resnet)))
    weights = compute_composite_weights(WAVELENGTHS, (640, 550, 460))
    inputs = extractor._prepare_inputs(data, np.ones((2, 34, 34), dtype=bool), weights)
    with torch.inference_mode():
        expected = torch.nn.functional.interpolate(picture, size=(32, 32), mode="bilinear", antialias=True)
        expected_features = model(inputs).numpy()
    middle = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(inputs[middle], ((expected - mean) / std)[middle], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(compute_features(extractor, data), expected_features, rtol=1e-4, atol=1e-5)
    assert expected_features.shape == (2, 2048)


def test_convnext_gives_768_features_from_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "convnext.safetensors"
    save_file(create_network("convnext_tiny").state_dict(), path)
    features = compute_features(Torchvision(make_options(backbone="convnext_tiny", weights=str(path))), make_cubes(2))
    assert features.shape == (2, 768)
    assert np.isfinite(features).all()


def test_inception_gives_2048_features_with_or_without_its_auxiliary_head(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        state = create_network("inception_v3").state_dict()
    features = []
    for name, stored in (("all", state), ("trunk", {k: v for k, v in state.items() if "AuxLogits" not in k})):
        torch.save(stored, tmp_path / f"{name}.pth")
        options = make_options(backbone="inception_v3", weights=str(tmp_path / f"{name}.pth"), size=96)
        features.append(compute_features(Torchvision(options), make_cubes(1)))
    assert features[0].shape == (1, 2048)
    assert np.array_equal(*features)


def test_the_surround_and_the_batch_change_nothing(resnet: Path) -> None:
    extractor, data = Torchvision(make_options(weights=str(resnet))), make_cubes(3)
    y, x = np.mgrid[:24, :24] - 11.5
    valid = np.repeat((np.hypot(y, x) < 11)[None], 3, axis=0)
    alone = compute_features(extractor, np.where(valid[:, None], data, np.nan), valid)
    pad = ((0, 0), (6, 1), (3, 8))
    wide = np.pad(np.where(valid[:, None], data, 7e3).astype(np.float32), ((0, 0), *pad))
    np.testing.assert_allclose(compute_features(extractor, wide, np.pad(valid, pad)), alone, rtol=1e-5, atol=1e-5)
    one_by_one = np.concatenate([compute_features(extractor, data[i : i + 1], valid[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(one_by_one, alone, rtol=1e-4, atol=1e-5)


def test_no_valid_pixel_gives_nan(resnet: Path) -> None:
    valid = np.ones((2, 24, 24), dtype=bool)
    valid[1] = False
    features = compute_features(Torchvision(make_options(weights=str(resnet))), make_cubes(2), valid)
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1]).all()


def test_values_are_scaled_from_low_to_high(resnet: Path) -> None:
    data = make_cubes(1)
    counts = compute_features(Torchvision(make_options(weights=str(resnet), low="100", high="1100")), data * 1000 + 100)
    np.testing.assert_allclose(
        counts, compute_features(Torchvision(make_options(weights=str(resnet))), data), rtol=2e-3, atol=1e-4
    )


def test_the_fingerprint_is_the_files_sha256(resnet: Path) -> None:
    assert (
        Torchvision(make_options(weights=str(resnet))).fingerprint() == hashlib.sha256(resnet.read_bytes()).hexdigest()
    )


def test_loading_draws_nothing_from_the_global_stream(resnet: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    compute_features(Torchvision(make_options(weights=str(resnet))), make_cubes(1))
    assert torch.equal(torch.rand(3), expected)


def test_missing_weights_are_refused_with_the_option_to_set() -> None:
    with pytest.raises(HsevalError, match=r"torchvision\.weights=FILE"):
        compute_features(Torchvision(make_options()), make_cubes(1))
    with pytest.raises(HsevalError, match=r"nowhere\.pth: no such weights file"):
        Torchvision(make_options(weights="nowhere.pth")).fingerprint()


def break_state_dict(resnet: Path, fault: str) -> object:
    state = torch.load(resnet, weights_only=True)
    if fault == "missing":
        del state["conv1.weight"]
    elif fault == "unknown":
        state["extra.weight"] = torch.zeros(1)
    elif fault == "shape":
        state["conv1.weight"] = torch.zeros(64, 4, 7, 7)
    return [1, 2] if fault == "list" else state


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "lacks 1 tensor, for example 'conv1.weight'"),
        ("unknown", "has 1 unknown tensor, for example 'extra.weight'"),
        ("shape", r"'conv1.weight' of resnet50 has shape \(64, 4, 7, 7\), expected \(64, 3, 7, 7\)"),
        ("list", "expected a state dict .names -> tensors., found list"),
    ],
)
def test_weights_of_something_else_are_refused_in_one_line(
    resnet: Path, tmp_path: Path, fault: str, message: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(break_state_dict(resnet, fault), path)
    with pytest.raises(HsevalError, match=message) as caught:
        compute_features(Torchvision(make_options(weights=str(path))), make_cubes(1))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_state_dict_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"not weights at all")
    with pytest.raises(HsevalError, match="can't be read as a state dict") as caught:
        compute_features(Torchvision(make_options(weights=str(path))), make_cubes(1))
    assert "\n" not in str(caught.value)


class Payload:
    """Runs when unpickled by a careless loader."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("unpickled"),)


def test_code_in_a_weights_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Payload()}, "weights.pth")
    with pytest.raises(HsevalError, match="can't be read as a state dict"):
        compute_features(Torchvision(make_options(weights="weights.pth")), make_cubes(1))
    assert not Path("unpickled").exists()


def test_a_composite_beyond_the_bands_is_refused() -> None:
    with pytest.raises(HsevalError, match="440 nm lies outside the bands"):
        compute_composite_weights(WAVELENGTHS, (640, 550, 440))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"composite": "640,550"}, "expected 3"), ({"low": 1, "high": 1}, "not above"), ({"size": 8}, "at least 32")],
)
def test_options_that_define_no_composite_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(HsevalError, match=message):
        make_options(**values)


# ---------------------------------------------------------------- random weights


@pytest.mark.parametrize(("backbone", "width"), [("resnet50", 2048), ("convnext_tiny", 768)])
def test_random_weights_follow_from_their_seed_alone(backbone: str, width: int) -> None:
    features = []
    for seed, torch_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(torch_seed)
        features.append(compute_features(Torchvision(make_options(backbone=backbone, random=seed)), make_cubes(2)))
    assert features[0].shape == (2, width)
    assert np.isfinite(features[0]).all()
    assert np.array_equal(features[0], features[1])
    assert not np.allclose(features[0], features[2])
    assert np.abs(features[0][0] - features[0][1]).max() > 0


def test_random_weights_have_the_standard_deviation_that_preserves_the_signal() -> None:
    """The weights' variance is 2 / fan-in (He et al. 2015)."""
    state = create_network("resnet50").state_dict()
    weights = draw_state_dict(state, 0, "resnet50")
    assert weights.keys() == state.keys()
    for name in ("conv1.weight", "layer3.2.conv2.weight"):
        expected = (2 / (state[name].shape[1] * state[name].shape[2] * state[name].shape[3])) ** 0.5
        assert float(weights[name].std()) == pytest.approx(expected, rel=0.03)
        assert abs(float(weights[name].mean())) < 0.05 * expected
    assert torch.equal(weights["bn1.weight"], torch.ones(64))
    assert torch.equal(weights["bn1.running_var"], torch.ones(64))
    assert torch.equal(weights["bn1.bias"], torch.zeros(64))
    reordered = draw_state_dict({name: state[name] for name in sorted(state, reverse=True)}, 0, "resnet50")
    assert all(torch.equal(reordered[name], weights[name]) for name in state)


def test_random_weights_draw_nothing_from_the_global_stream() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    compute_features(Torchvision(make_options(backbone="convnext_tiny", random=0)), make_cubes(1))
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_of_random_weights_names_seed_and_version() -> None:
    prints = [Torchvision(make_options(random=seed)).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0].startswith("random-1 ")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"random": 0, "weights": "a.pth"}, "expected one of the two"), ({"random": -1}, "seed of 0")],
)
def test_random_weights_and_a_file_exclude_each_other(values: dict[str, object], message: str) -> None:
    with pytest.raises(HsevalError, match=message):
        make_options(**values)


def test_random_weights_fulfill_contract() -> None:
    check_extractor(Torchvision(make_options(backbone="convnext_tiny", random=0)))
