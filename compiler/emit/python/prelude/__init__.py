"""Layers that ``model.py`` has in a form of its own; what a model needs is copied into it.

Values that vary over time are [T, N, C, H, W] (or [T, N, C]), static ones [N, C, H, W]; ``rank``
is the number of dimensions of one sample, 3 for maps and 1 for vectors. These files are read as
text: they may use torch and the standard library, and of danetc each other and the layers of the
runtime that are copied too (``prelude_parts``).
"""
