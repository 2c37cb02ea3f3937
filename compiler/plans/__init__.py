"""How a training step will use memory, from the graph alone."""
