"""Extractors: feature vectors of cubes."""
