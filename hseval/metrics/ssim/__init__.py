"""Multi-scale structural similarity on numpy arrays, inside a field of view."""

from hseval.metrics.ssim.ssim import ms_ssim

__all__ = ["ms_ssim"]
