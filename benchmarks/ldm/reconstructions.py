"""Reconstructions of held-out eyes by a trained autoencoder, and their quality."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.ldm.eye_measures import FIELD, PARTS, Array, compute_contrast_retention, compute_dice
from hseval import HsevalError, NotComputable, open_set, score
from hseval.core.cubes import ArraySet, CubeSet
from hseval.metrics.ssim.ssim import ms_ssim
from hseval.utils.distributed import Ranks
from hseval.utils.random_streams import create_rng
from hseval_ldm.data.batches import load_whole_cubes
from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.codebook import compute_usage
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch, find_valid_tokens
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run import TrainingRun, load_autoencoder
from hseval_ldm.training.run_config import read_config

BATCH_SIZE = 16


class HeldOut(NamedTuple):
    """Held-out eyes and their reconstructions.

    Attributes:
        real: the eyes, 0 outside the field.
        decoded: the decoder's output in physical units, without noise, ``(n, band, y, x)``; 0 outside the real field.
        finished: the output postprocessed like a sample: with noise, clipped, with decoded masks.
        tokens: how often each code was used, ``(code,)``.
        span: range of each band's values in the training set, ``(band,)``.
    """

    real: ArraySet
    decoded: Array
    finished: ArraySet
    tokens: Tensor
    span: Array


def open_run(run: Path, data: CubeSet | str) -> TrainingRun:
    """Return a run in its last state, with both parts of the split of its training set.

    Raises:
        HsevalError: no run, or one trained on another set.
    """
    cubes = open_set(data) if isinstance(data, str) else data
    return TrainingRun.prepare(LdmOptions(resume=True), cubes, run, seed=read_config(run).seed, ranks=Ranks())


@torch.no_grad()
def reconstruct_held_out(work: TrainingRun) -> HeldOut:
    """Encode and decode the held-out eyes of a run, in float32 on the CPU.

    Raises:
        HsevalError: the run holds none out, or has no trained autoencoder.
    """
    count, options, known = len(work.held_out), work.options, work.normalization
    if not count:
        raise HsevalError(f"{work.out}: has no held-out cubes; train with held_out above 0")
    model = load_autoencoder(work.out, options, known)[0].eval()
    tokens = torch.zeros(options.codes, dtype=torch.int64)
    real, decoded, finished = [], [], []
    for start in range(0, count, BATCH_SIZE):
        at = np.arange(start, min(start + BATCH_SIZE, count))
        batch = load_whole_cubes(work.held_out, at, options, torch.device("cpu"))
        inside = find_valid_tokens(batch.field, options.compression)
        output = model(batch.to_network_input())
        tokens += model.codebook.count_codes(output.quantized.indices, inside)
        cubes, logits = (_crop(part, known.size) for part in (output.cubes, output.masks))
        batch = Batch(*(_crop(part, known.size) if part.ndim == 4 else part for part in batch))
        real.append(_to_physical(model, batch.cubes, batch))
        decoded.append(_to_physical(model, cubes, batch))
        shape = tuple(cubes.shape)
        noise = create_rng(work.config.seed, "held-out camera", start).standard_normal(shape, dtype=np.float32)
        finished.append(model.postprocess(cubes, logits, noise=options.noise * torch.from_numpy(noise)))
    span = known.high - known.low
    return HeldOut(
        _build_set(real, work), _concatenate(decoded).cubes.numpy(), _build_set(finished, work), tokens, span
    )


def compute_figures(held_out: HeldOut) -> dict[str, float]:
    """Return quality figures of held-out reconstructions, means over eyes.

    ``psnr`` in dB, over the field, relative to the largest span of a band; ``angle``, the spectral angle, in degrees;
    ``ms_ssim``, in 2D, of each eye with its reconstruction; ``contrast_retention_PART``, vessel contrast relative to
    the real eyes'; ``dice_STRUCTURE`` of the masks; ``perplexity`` and ``codes`` used of the codebook; ``rfid``, fid of
    the finished reconstructions against the same eyes, at full size.
    """
    real, field, nm = held_out.real.cubes, held_out.real.masks[FIELD], held_out.real.wavelengths
    structures = [name for name in held_out.real.structures if name != FIELD]
    perplexity, used = compute_usage(held_out.tokens)
    return {
        "psnr": _compute_psnr(held_out.decoded, real, field, float(held_out.span.max())),
        "angle": _compute_angle(held_out.decoded, real, field),
        "ms_ssim": _compute_ms_ssim(held_out, field),
        **{
            f"contrast_retention_{of}": compute_contrast_retention(
                held_out.decoded, real, held_out.real.masks, nm, of=of
            )
            for of in PARTS
        },
        **{
            f"dice_{name}": compute_dice(held_out.finished.masks[name], held_out.real.masks[name])
            for name in structures
        },
        "perplexity": perplexity,
        "codes": used,
        "rfid": _compute_rfid(held_out),
    }


def _compute_psnr(output: Array, real: Array, field: Array, span: float) -> float:
    squared = np.square(output.astype(np.float64) - real).mean(axis=1)
    errors = np.array([image[inside].mean() for image, inside in zip(squared, field, strict=True)])
    return float(np.mean(10 * np.log10(span**2 / np.maximum(errors, 1e-20))))


def _compute_angle(output: Array, real: Array, field: Array) -> float:
    output, real = output.astype(np.float64), real.astype(np.float64)
    lengths = np.linalg.norm(output, axis=1) * np.linalg.norm(real, axis=1)
    cosine = (output * real).sum(axis=1) / np.maximum(lengths, 1e-30)
    angles = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return float(np.mean([image[inside].mean() for image, inside in zip(angles, field, strict=True)]))


def _compute_ms_ssim(held_out: HeldOut, field: Array) -> float:
    try:
        values = ms_ssim(held_out.decoded, held_out.real.cubes, data_range=held_out.span, field_a=field, field_b=field)
    except NotComputable:  # eyes smaller than the metric's window
        return float("nan")
    return float(np.mean(values))


def _compute_rfid(held_out: HeldOut) -> float:
    report = score(held_out.finished, ref=held_out.real, metrics=["fid"], device="cpu", cache=False)
    statistics = report["fid"].statistics
    return statistics.full_value if statistics else float("nan")


def _to_physical(model: Autoencoder, cubes: Tensor, batch: Batch) -> CubeBatch:
    inside = torch.where(batch.field, model.normalization.to_physical(cubes), 0.0)
    return CubeBatch(inside, batch.masks > 0, batch.field)


def _crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    return images[..., : size[0], : size[1]]


def _concatenate(batches: list[CubeBatch]) -> CubeBatch:
    return CubeBatch(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))


def _build_set(batches: list[CubeBatch], work: TrainingRun) -> ArraySet:
    output, names = _concatenate(batches), work.normalization.structures
    masks = {name: output.masks[:, number].numpy() for number, name in enumerate(names)}
    masks.setdefault(FIELD, output.field[:, 0].numpy())
    cubes, nm = output.cubes.float().numpy(), work.normalization.wavelengths
    return ArraySet(cubes, wavelengths=nm, masks=masks, ids=list(work.held_out.ids))
