"""Numerical checks of a model: against autograd, the paper's formulas, another model."""
