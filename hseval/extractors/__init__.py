"""Extractors: from cubes to rows."""
