"""Cubes of a generator sampled into a file, in chunks from which an interrupted run resumes."""
