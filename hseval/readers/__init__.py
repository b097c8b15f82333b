"""Readers: from a path to a CubeSet, each format by the library made for it."""
