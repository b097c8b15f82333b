"""Cubes as training batches: normalization, augmentation, order, cached latents."""
