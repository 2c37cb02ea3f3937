"""Training: the loop, its parts, and checkpoints that let a killed run go on."""
