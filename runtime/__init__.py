"""Everything that a built model needs for running, training and measuring."""
