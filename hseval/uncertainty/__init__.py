"""Floors, intervals, and two scores held against each other: how far a number can be trusted."""
