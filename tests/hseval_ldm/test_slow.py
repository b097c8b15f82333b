"""Full-size networks on cubes as large as real fundus cubes: a minute and gigabytes each (``pytest -m slow``)."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet
from hseval.utils.distributed import Ranks
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.unet import build_denoiser
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder, find_valid_tokens
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import Pipeline
from hseval_ldm.sampling.schedule import NoiseSchedule, draw_times_and_noise, velocity_loss
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.stage_autoencoder import AutoencoderStage
from hseval_ldm.training.stage_perceptual import build_perceptual_encoder

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
STRUCTURES = ("artery", "fov", "onh", "vein")


def make_eyes(count: int, side: int) -> ArraySet:
    """Return noise with a round field and rectangles in it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    masks: dict[str, NDArray[np.bool_]] = {name: np.zeros((count, side, side), dtype=bool) for name in STRUCTURES}
    masks["fov"][:] = np.hypot(y, x) < 0.48
    for index, name in enumerate(("artery", "onh", "vein")):
        masks[name][:, side // 3 : side // 2, (4 + index) * side // 10 : (5 + index) * side // 10] = True
    cubes = rng.uniform(0.1, 0.9, (count, 16, side, side)).astype(np.float32) * masks["fov"][:, None]
    return ArraySet(cubes, wavelengths=np.linspace(450, 905, 16), masks=masks)


def have_all_gradients(module: torch.nn.Module) -> bool:
    grads = [parameter.grad for parameter in module.parameters()]
    return all(grad is not None and bool(torch.isfinite(grad).all()) for grad in grads) and any(
        bool(grad.any()) for grad in grads if grad is not None
    )


@pytest.mark.parametrize(
    ("compression", "channels", "base"),
    [(4, 8, 128), (4, 32, 256), (8, 8, 512), (8, 256, 128), (16, 32, 512), (16, 256, 256)],
)
def test_combinations_train_and_sample_at_224(compression: int, channels: int, base: int) -> None:
    """Run six of the 27 combinations, each value twice."""
    small = {"width": 16, "blocks": 1, "codes": 64, "unet_blocks": 1, "steps": 2}
    options = LdmOptions(compression=compression, latent_channels=channels, base=base, **small)
    data = make_eyes(1, 224)
    normalization = Normalization.measure(data, [0])
    batch = CubeDataset(data, [0], normalization, memory_gib=1).load_batch(np.array([0]))
    autoencoder = build_autoencoder(options, normalization)
    tokens = find_valid_tokens(batch.field, compression)
    with torch.no_grad():
        latents = autoencoder.encoder(batch.to_network_input())
        autoencoder.codebook.initialize(latents, tokens, ranks=Ranks(), step=0, seed=0)
    reconstruction = autoencoder(batch.to_network_input())
    side = 224 // compression
    assert reconstruction.latents.shape == (1, channels, side, side) and reconstruction.cubes.shape == (1, 16, 224, 224)
    term = (
        (reconstruction.cubes - batch.cubes).abs().mean()
        + reconstruction.masks.square().mean()
        + reconstruction.quantized.commitment
    )
    term.backward()  # type: ignore[no-untyped-call]
    assert have_all_gradients(autoencoder)

    denoiser = build_denoiser(options, channels)
    schedule = NoiseSchedule(options.timesteps)
    scaler = LatentScaler(latents.mean((0, 2, 3)), latents.std((0, 2, 3)).clamp_min(1e-6))
    clean = scaler.normalize(latents)
    times, noise = draw_times_and_noise(
        0, batch_size=1, shape=tuple(clean.shape[1:]), seed=0, schedule=schedule, device=CPU
    )  # type: ignore[arg-type]
    noisy, velocity = schedule.add_noise(clean, noise, times)
    velocity_loss(schedule, denoiser(noisy, times), velocity, times, gamma=5.0).mean().backward()
    assert have_all_gradients(denoiser)
    denoiser.zero_grad(set_to_none=True)

    denoiser.eval().requires_grad_(False)
    pipeline = Pipeline(autoencoder, denoiser, scaler, schedule, options, CPU, contextlib.nullcontext)
    ((index, cube),) = pipeline.generate_cubes([7], seed=1)
    assert index == 7 and cube.cubes.shape == (1, 16, 224, 224) and cube.masks.shape == (1, 4, 224, 224)
    assert bool(torch.isfinite(cube.cubes).all())


def test_retina_672_takes_a_step_on_a_crop_and_decodes_a_whole_cube_in_tiles() -> None:
    options = LdmOptions(preset="retina-672", ae_batch=1, disc_start=0.0, kmeans_iterations=1, precision="float32")
    assert (options.crop, options.tile, options.compression) == (256, 16, 16)
    data, ranks = make_eyes(2, 672), Ranks()
    normalization = Normalization.measure(data, [0, 1])
    train_data = CubeDataset(data, [0, 1], normalization, memory_gib=1)
    model = build_autoencoder(options, normalization)
    evaluator = HeldOutEvaluator(CubeDataset(data, [], normalization, memory_gib=1), normalization, ranks, 0)
    features = build_perceptual_encoder(options, 16, seed=0)
    stage = AutoencoderStage(
        options, train_data, model, perceptual_encoder=features, evaluator=evaluator, ranks=ranks, seed=0
    )
    before = model.decoder.last.weight.detach().clone()
    assert stage.start_epoch(0)["kmeans_distortion"] > 0
    terms = stage.step(0)
    assert {"l1", "perceptual", "adversarial", "discriminator"} <= terms.keys()
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    assert not torch.equal(model.decoder.last.weight, before)
    _decode_whole(model.eval().requires_grad_(False), options)


def _decode_whole(model: Autoencoder, options: LdmOptions) -> None:
    assert model.latent_shape == (32, 42, 42)
    latents = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    tiled, whole = (model.decode(latents, tile=tile) for tile in (options.tile, 0))
    assert tiled[0].shape == (1, 16, 672, 672) and tiled[1].shape == (1, 4, 672, 672)
    for tiled_part, whole_part in zip(tiled, whole, strict=True):
        torch.testing.assert_close(tiled_part, whole_part, rtol=0, atol=1e-5 * float(whole_part.abs().max()))
