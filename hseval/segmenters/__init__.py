"""Segmenters: they find structures in cubes without masks."""
