"""Graded ways to spoil real cubes; :mod:`hseval.degradations.base` says what one is."""
