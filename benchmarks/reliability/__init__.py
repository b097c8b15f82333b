"""What breaks hseval: mutated inputs, kills and faults, exits of torchrun, and mutations of its code."""
