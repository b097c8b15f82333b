"""An encoder fitted on the user's own cubes, and its features."""
