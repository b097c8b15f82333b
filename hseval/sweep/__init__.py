"""Sweeps: configurations of generators trained, sampled, timed and scored, each step once.

:mod:`.config` reads the TOML file, :mod:`.keys` computes the key of each step's result from all that determines it,
:mod:`.run_steps` executes the steps without a stored result, and :mod:`.queue` (Optuna's journal) distributes the runs
to the workers of :mod:`.workers` (submitit's jobs).
"""
