"""Scores and their numerics beside named peers."""
