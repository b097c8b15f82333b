"""Renderers: they turn a report into text."""
