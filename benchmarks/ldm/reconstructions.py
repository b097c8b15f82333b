"""What a trained autoencoder makes of the eyes that it was not trained on, and the figures of that."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.ldm.eye_measures import FIELD, PARTS, Array, contrast_kept, dice
from hseval import HsevalError, NotComputable, open_set, score
from hseval.core.cubes import ArraySet, CubeSet
from hseval.metrics.ssim.ssim import ms_ssim
from hseval.utils.random_streams import create_rng
from hseval_ldm.data.batches import load_whole_cubes
from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.codebook import compute_usage
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch, find_valid_tokens
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run import TrainingRun, load_autoencoder
from hseval_ldm.training.run_config import read_config
from hseval_ldm.utils.distributed import Ranks

AT_ONCE = 16


class HeldOut(NamedTuple):
    """Held-out eyes and what became of them.

    Attributes:
        real: as they are, 0 outside the field.
        decoded: what the decoder gives, physical and without noise, ``(n, band, y, x)``; 0 outside the real field.
        finished: the same as a sample would be: with noise, clipped, with the masks that were decoded.
        tokens: how often each code was used, ``(code,)``.
        span: of each band's values in the training set, ``(band,)``.
    """

    real: ArraySet
    decoded: Array
    finished: ArraySet
    tokens: Tensor
    span: Array


def opened(run: Path, data: CubeSet | str) -> TrainingRun:
    """Return a run as it was left, with both sides of the split of its training set.

    Raises:
        HsevalError: no run, or one of another set.
    """
    cubes = open_set(data) if isinstance(data, str) else data
    return TrainingRun.prepare(LdmOptions(resume=True), cubes, run, seed=read_config(run).seed, ranks=Ranks())


@torch.no_grad()
def held_out(work: TrainingRun) -> HeldOut:
    """Encode and decode the eyes that a run held out, in float32 on the CPU.

    Raises:
        HsevalError: the run held none out, or has no trained autoencoder.
    """
    count, options, known = len(work.held_out), work.options, work.normalization
    if not count:
        raise HsevalError(f"{work.out}: holds no cubes out; train with held_out above 0")
    model = load_autoencoder(work.out, options, known)[0].eval()
    tokens = torch.zeros(options.codes, dtype=torch.int64)
    real, plain, finished = [], [], []
    for start in range(0, count, AT_ONCE):
        at = np.arange(start, min(start + AT_ONCE, count))
        batch = load_whole_cubes(work.held_out, at, options, torch.device("cpu"))
        inside = find_valid_tokens(batch.field, options.compression)
        made = model(batch.to_network_input())
        tokens += model.codebook.count_codes(made.quantized.indices, inside)
        cubes, logits = (_cut(part, known.size) for part in (made.cubes, made.masks))
        batch = Batch(*(_cut(part, known.size) if part.ndim == 4 else part for part in batch))
        real.append(_physical(model, batch.cubes, batch))
        plain.append(_physical(model, cubes, batch))
        shape = tuple(cubes.shape)
        noise = create_rng(work.config.seed, "held-out camera", start).standard_normal(shape, dtype=np.float32)
        finished.append(model.postprocess(cubes, logits, noise=options.noise * torch.from_numpy(noise)))
    span = known.high - known.low
    return HeldOut(_as_set(real, work), _joined(plain).cubes.numpy(), _as_set(finished, work), tokens, span)


def figures(found: HeldOut) -> dict[str, float]:
    """Return the figures of held-out reconstructions, means over eyes.

    ``psnr`` in dB, over the field, against the largest span of a band; ``angle``, the spectral one, in degrees;
    ``ms_ssim``, in 2D, of each eye with its reconstruction; ``kept_PART``, the share of the vessels' contrast that is
    left; ``dice_STRUCTURE`` of the masks; ``perplexity`` and ``codes`` used of the codebook; ``rfid``, fid of the
    finished reconstructions against the same eyes, at full size.
    """
    real, field, nm = found.real.cubes, found.real.masks[FIELD], found.real.wavelengths
    structures = [name for name in found.real.structures if name != FIELD]
    perplexity, used = compute_usage(found.tokens)
    return {
        "psnr": _psnr(found.decoded, real, field, float(found.span.max())),
        "angle": _angle(found.decoded, real, field),
        "ms_ssim": _ms_ssim(found, field),
        **{f"kept_{of}": contrast_kept(found.decoded, real, found.real.masks, nm, of=of) for of in PARTS},
        **{f"dice_{name}": dice(found.finished.masks[name], found.real.masks[name]) for name in structures},
        "perplexity": perplexity,
        "codes": used,
        "rfid": _rfid(found),
    }


def _psnr(made: Array, real: Array, field: Array, span: float) -> float:
    squared = np.square(made.astype(np.float64) - real).mean(axis=1)
    errors = np.array([each[inside].mean() for each, inside in zip(squared, field, strict=True)])
    return float(np.mean(10 * np.log10(span**2 / np.maximum(errors, 1e-20))))


def _angle(made: Array, real: Array, field: Array) -> float:
    one, other = made.astype(np.float64), real.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (one * other).sum(axis=1) / np.maximum(lengths, 1e-30)
    angles = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return float(np.mean([each[inside].mean() for each, inside in zip(angles, field, strict=True)]))


def _ms_ssim(found: HeldOut, field: Array) -> float:
    try:
        values = ms_ssim(found.decoded, found.real.cubes, data_range=found.span, field_a=field, field_b=field)
    except NotComputable:  # eyes smaller than its window
        return float("nan")
    return float(np.mean(values))


def _rfid(found: HeldOut) -> float:
    report = score(found.finished, ref=found.real, metrics=["fid"], device="cpu", cache=False)
    return float(report["fid"].details.get("full_value", float("nan")))


def _physical(model: Autoencoder, cubes: Tensor, batch: Batch) -> CubeBatch:
    inside = torch.where(batch.field, model.normalization.to_physical(cubes), 0.0)
    return CubeBatch(inside, batch.masks > 0, batch.field)


def _cut(part: Tensor, size: tuple[int, int]) -> Tensor:
    return part[..., : size[0], : size[1]]


def _joined(parts: list[CubeBatch]) -> CubeBatch:
    return CubeBatch(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _as_set(parts: list[CubeBatch], work: TrainingRun) -> ArraySet:
    made, names = _joined(parts), work.normalization.structures
    masks = {name: made.masks[:, number].numpy() for number, name in enumerate(names)}
    masks.setdefault(FIELD, made.field[:, 0].numpy())
    cubes, nm = made.cubes.float().numpy(), work.normalization.wavelengths
    return ArraySet(cubes, wavelengths=nm, masks=masks, ids=list(work.held_out.ids))
