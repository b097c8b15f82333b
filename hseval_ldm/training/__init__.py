"""The three training stages, their training loop, checkpoints and logs."""
