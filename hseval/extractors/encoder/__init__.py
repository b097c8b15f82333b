"""An encoder fitted on the user's own cubes, and the features that it gives."""
