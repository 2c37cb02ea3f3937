"""Layers with a separate form for ``model.py``, which gets copies of those that it needs.

Values that vary over time are [T, N, C, H, W] (or [T, N, C]), static ones [N, C, H, W]; ``rank``
is the number of dimensions of one sample, 3 for maps and 1 for vectors. These files are read as
text. They may use torch, the standard library, each other, and layers of the runtime that are
copied as well (see ``prelude_parts``).
"""
