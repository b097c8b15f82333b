"""Readers: from a path to a CubeSet, each format by its own library."""
