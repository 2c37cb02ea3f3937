"""Checks of a model by numbers: against autograd, the paper's formulas, another model."""
