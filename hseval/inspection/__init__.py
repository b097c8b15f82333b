"""Summaries of sets of cubes, and checks for suspicious content (``hseval info``)."""
