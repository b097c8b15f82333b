"""Sweeps: configurations of generators trained, sampled, timed and scored, each step once.

:mod:`.toml` reads what is wanted, :mod:`.keys` says what decides each step's result, :mod:`.steps` does a step unless
its result is there, :mod:`.queue` (Optuna's journal) deals runs to the workers of :mod:`.workers` (submitit's jobs).
"""
