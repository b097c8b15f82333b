"""Cubes drawn from a generator into a file, in parts that a run cut off goes on from."""
