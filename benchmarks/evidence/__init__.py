"""Experiments behind the docs' statements about intervals, verdicts, copies, segmenters and generators."""
