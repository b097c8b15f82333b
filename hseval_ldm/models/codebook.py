"""The codebook: nearest vectors, moving averages of the latents assigned to them, and revival of dead vectors.

van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", 2017; the averages are its appendix A.1.
Latent tokens outside the field of view are excluded from averages, usage, revival and the commitment loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hseval.generator_kit import Ranks
from hseval.plugin import create_rng
from hseval_ldm.models.kmeans import KMeansResult, find_nearest_centers

SMOOTHING = 1e-5  # Laplace smoothing: a vector without tokens stays finite
UNUSED_COUNT_SHARE = 0.01  # count, as a share of the mean, of a center to which k-means assigned no row


class Quantized(NamedTuple):
    """Quantized latents ``(n, d, h, w)`` float32, their indices ``(n, h, w)`` and the commitment loss ``()``."""

    values: Tensor
    indices: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """``codes`` vectors of ``dimensions``, updated by averages of the latents nearest to them, never by a gradient.

    The whole state is in buffers, ``initialised`` included (its name is a key of checkpoints): training resumes exactly
    after loading.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    initialised: Tensor

    def __init__(
        self, codes: int, dimensions: int, *, decay: float = 0.99, threshold: float = 0.1, revive_every: int = 100
    ) -> None:
        """Create a codebook of zeros, which :meth:`set_clusters`, :meth:`initialize` or the first :meth:`update` fills.

        A vector is dead when its count falls below the share ``threshold`` of the mean count (0: never). One revived,
        every ``revive_every`` steps, starts at the mean count, and so has about ``log(threshold) / log(decay)`` steps
        (229) to attract tokens.
        """
        super().__init__()
        self.decay, self.threshold, self.revive_every = decay, threshold, revive_every
        self.register_buffer("vectors", torch.zeros(codes, dimensions))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, dimensions))
        self.register_buffer("initialised", torch.tensor(False))

    def find_nearest(self, latents: Tensor) -> Tensor:
        """Return the index of each latent's nearest vector, ``(n, d, h, w)`` to ``(n, h, w)``, in float32."""
        n, _, h, w = latents.shape
        return find_nearest_centers(_flatten_tokens(latents, None), self.vectors)[0].view(n, h, w)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the vectors of indices ``(n, h, w)``, as ``(n, d, h, w)``."""
        return self.vectors[indices].permute(0, 3, 1, 2).contiguous()

    def forward(self, latents: Tensor, *, field: Tensor | None = None) -> Quantized:
        """Quantize; the gradient of the values passes straight through to the latents.

        The commitment loss is ``|z - sg(e)|^2``, summed over channels, averaged over the tokens of a cube that lie in
        the field, then over cubes (a cube without such tokens adds 0). The caller weights it.

        ``latents`` are ``(n, d, h, w)`` of any float type; ``field``, bool ``(n, 1, h, w)``, marks valid tokens (None:
        all).
        """
        exact = latents.float()
        indices = self.find_nearest(latents)
        vectors = self.lookup(indices)
        is_valid = torch.ones_like(exact[:, :1], dtype=torch.bool) if field is None else field.bool()
        # where, not a product: an invalid latent, even an infinite one, reaches neither loss nor gradient.
        errors = torch.where(is_valid, exact - vectors, 0).square()
        per_cube = errors.sum(dim=(1, 2, 3)) / is_valid.sum(dim=(1, 2, 3)).clamp(min=1)
        # The difference is an exact zero with a gradient: the values equal the vectors bit for bit.
        return Quantized(vectors + (exact - exact.detach()), indices, per_cube.mean())

    @torch.no_grad()
    def update(
        self, latents: Tensor, indices: Tensor, field: Tensor | None, *, ranks: Ranks, step: int, seed: int
    ) -> None:
        """Update the vectors by the global batch, and revive dead ones every ``revive_every`` steps.

        An uninitialized codebook is filled from the batch instead. One latent that is not finite corrupts the
        averages permanently: check first that the losses are finite.

        ``latents`` ``(n, d, h, w)`` are this rank's part of the batch, in rank order; ``indices`` ``(n, h, w)`` are
        those of :meth:`forward`; ``field``, bool ``(n, 1, h, w)``, marks valid tokens (None: all). All ranks end with
        the same codebook. Random draws depend on (seed, step).
        """
        tokens = _flatten_tokens(latents, field)
        if not bool(self.initialised):
            self._fill(tokens, ranks, step, seed)
            return
        sums = torch.zeros_like(self.sums, dtype=torch.float64)
        sums.index_add_(0, _select_inside(indices, field), tokens.double())
        counts = self.count_codes(indices, field)
        ranks.sum_(sums, counts)
        self.counts.lerp_(counts.to(self.counts), 1 - self.decay)
        self.sums.lerp_(sums.to(self.sums), 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + SMOOTHING) / (total + len(self.counts) * SMOOTHING) * total
        self.vectors.copy_(torch.where(total > 0, self.sums / smoothed[:, None], self.vectors))
        if step > 0 and step % self.revive_every == 0:
            self._revive(tokens, ranks, step, seed)

    @torch.no_grad()
    def initialize(self, latents: Tensor, field: Tensor | None, *, ranks: Ranks, step: int, seed: int) -> None:
        """Fill an uninitialized codebook with latents of the global batch; do nothing to an initialized one."""
        if not bool(self.initialised):
            self._fill(_flatten_tokens(latents, field), ranks, step, seed)

    @torch.no_grad()
    def set_clusters(self, clusters: KMeansResult, *, tokens: float) -> None:
        """Take the centers of k-means, and reset the averages to their steady state for its clusters.

        ``tokens`` is the number of tokens of a global batch inside the field: the counts are scaled to it, because the
        averages combine them with the counts of one batch. A center without rows gets a small count and is dead at the
        next revival unless latents are assigned to it.
        """
        counts = clusters.counts.to(self.counts)
        mean = tokens / len(counts)
        self.counts.copy_((counts * (tokens / counts.sum())).clamp(min=UNUSED_COUNT_SHARE * mean))
        self.vectors.copy_(clusters.centers)
        self.sums.copy_(self.vectors * self.counts[:, None])
        self.initialised.fill_(True)

    def count_codes(self, indices: Tensor, field: Tensor | None = None) -> Tensor:
        """Return the number of tokens in the field per index: ``(n, h, w)`` to ``(k,)`` int64."""
        return torch.bincount(_select_inside(indices, field), minlength=len(self.vectors))

    def _fill(self, tokens: Tensor, ranks: Ranks, step: int, seed: int) -> None:
        sampled, total = _draw_tokens(tokens, len(self.vectors), ranks, step, seed)
        if not len(sampled):
            return  # no token in the field
        # Fewer tokens than vectors are repeated; a duplicate is never the first nearest, and is revived later.
        self.vectors.copy_(sampled[torch.arange(len(self.vectors), device=sampled.device) % len(sampled)])
        self.counts.fill_(total / len(self.vectors))
        self.sums.copy_(self.vectors * self.counts[:, None])
        self.initialised.fill_(True)

    def _revive(self, tokens: Tensor, ranks: Ranks, step: int, seed: int) -> None:
        mean = self.counts.mean()
        # Lowest counts first, where a batch has too few tokens for all.
        dead = self.counts.argsort(stable=True)[: int((self.counts < self.threshold * mean).sum())]
        sampled, _ = _draw_tokens(tokens, len(dead), ranks, step, seed)
        dead = dead[: len(sampled)]
        self.vectors[dead] = sampled
        self.counts[dead] = mean
        self.sums[dead] = sampled * mean


def compute_usage(counts: Tensor) -> tuple[float, int]:
    """Return the perplexity of a histogram ``(k,)``, the exponential of its entropy, and how many codes it uses.

    Perplexity is between 1 and k; 0 if all counts are 0.
    """
    used = counts[counts > 0].double()
    if not len(used):
        return 0.0, 0
    shares = used / used.sum()
    return math.exp(float(-(shares * shares.log()).sum())), len(used)


def _flatten_tokens(latents: Tensor, field: Tensor | None) -> Tensor:
    """Return the latents inside the field as float32 rows ``(m, d)``: cube by cube, line by line."""
    rows = latents.detach().float().permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    return rows if field is None else rows[field.reshape(-1).bool()]


def _select_inside(indices: Tensor, field: Tensor | None) -> Tensor:
    flat = indices.reshape(-1)
    return flat if field is None else flat[field.reshape(-1).bool()]


def _draw_tokens(tokens: Tensor, count: int, ranks: Ranks, step: int, seed: int) -> tuple[Tensor, int]:
    """Return up to ``count`` distinct tokens of the global batch, the same on every rank, and its number of tokens."""
    token_counts = ranks.gather(torch.tensor([len(tokens)])).tolist()
    total, first = sum(token_counts), sum(token_counts[: ranks.rank])
    picks = create_rng(seed, "ldm-codebook", step).choice(total, min(count, total), replace=False)
    indices = torch.from_numpy(picks).to(tokens.device) - first
    is_local = (indices >= 0) & (indices < len(tokens))
    sampled = tokens.new_zeros(len(indices), tokens.shape[1])
    sampled[is_local] = tokens[indices[is_local]]
    ranks.sum_(sampled)  # each token is on one rank, and zero on the others
    return sampled, total
