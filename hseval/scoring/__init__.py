"""Scores: from sets of cubes to a report."""
