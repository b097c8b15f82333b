"""The three training stages, their loop, checkpoints and logs."""
