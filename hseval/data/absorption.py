"""Absorption of blood, melanin and water: the table that comes with hseval."""

from __future__ import annotations

import csv
import functools
from importlib import resources

import numpy as np

from hseval.utils.arrays import Float64Array

HEMOGLOBIN_GRAMS_PER_MOLE = 64500.0


@functools.cache
def load_absorption_table() -> dict[str, Float64Array]:
    """Return it by column: ``nm``; ``hbo2``, ``hb`` in 1/(cm M), base 10; ``melanin``, ``water`` in 1/cm, base e."""
    text = resources.files("hseval").joinpath("resources/absorption.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    return dict(zip(header, np.asarray(rows, dtype=np.float64).T, strict=True))
