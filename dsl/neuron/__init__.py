"""Compilation of neuron and surrogate equations: values, derivatives, ranges, kernel text."""
