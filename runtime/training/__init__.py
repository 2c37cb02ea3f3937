"""Training: the loop, its parts, and checkpoints for resuming."""
