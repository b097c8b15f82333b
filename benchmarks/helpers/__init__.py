"""Helpers shared by all benchmarks."""
