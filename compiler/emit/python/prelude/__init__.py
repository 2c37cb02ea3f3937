"""Layers that a standalone ``model.py`` is made of; what a model needs of them is copied into it.

Values that vary over time are [T, N, C, H, W] (or [T, N, C]), static ones [N, C, H, W]; ``rank``
is the number of dimensions of one sample, 3 for maps and 1 for vectors. These files are read as
text: they may use torch and the standard library, nothing of danetc but each other.
"""
