"""Metrics: from two feature tables to a score; the numerics are pure functions, the classes declare them."""
