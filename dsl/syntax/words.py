"""Words: names that are literals as arguments of some parameters.

In ``sum(over = channels)`` and ``conv(8, padding = same)``, a listed name is a word, whatever else
has that name; other names are read as anywhere. The parameter alone decides, so the tree has a
node for words.
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES

AXES = ("channels", "rows", "columns", "pixels", "time")
"""Axes of a value; ``pixels`` are rows and columns together."""

LEARNT_PER = ("layer", "channel", "step", "neuron")
"""Units for which ``learn`` has separate numbers."""

OF_PARAMETER: Mapping[str, tuple[str, ...]] = {
    "over": AXES,
    "init": tuple(FIRST_WEIGHTS),
    "mode": ("nearest", "bilinear", *MODES),
    "padding": ("same",),
    "per": (*LEARNT_PER, "sample"),
    "statistics": ("step", "cumulative"),
}
"""Words by name of the parameter."""
OF_CALL: Mapping[str, tuple[str, ...]] = {"swap": AXES}
"""Words by name of the function, for arguments without names."""
