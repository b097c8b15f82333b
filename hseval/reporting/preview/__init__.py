"""Cubes as images, contact sheets and animations."""
