"""Cubes as pictures, contact sheets and animations."""
