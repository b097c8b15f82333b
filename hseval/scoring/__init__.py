"""Scores: from described sets to a report."""
