"""Measurements behind the docs' numbers; run from the checkout as ``python -m benchmarks.FOLDER.NAME``."""
