"""The one training loop: stages, checkpoints and exact resumption, averages of weights, metrics of a run."""
