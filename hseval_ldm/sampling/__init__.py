"""Noise schedules, samplers, and the pipeline from noise to cubes."""
