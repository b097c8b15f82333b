"""Metrics: from two sets of rows to a score; pure numerics beside the classes that declare them."""
