"""Ranks and precision."""
