"""Measurements behind the numbers in the docs; run from the checkout as ``python -m benchmarks.FOLDER.NAME``."""
