"""Compiled kernels, the operators they are called through, and what they need of torch."""
