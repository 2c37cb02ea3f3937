"""Training: the loop, what it is made of, and what makes a killed run whole again."""
