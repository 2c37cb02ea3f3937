"""Words: names that are literals as arguments of certain parameters.

In ``sum(over = channels)`` and ``conv(8, padding = same)``, the names ``channels`` and ``same`` are
words, even if a definition has the same name. The parser decides this by the parameter alone, and
makes a ``Word`` node.
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.first_weights import DRAW_WORDS, FIRST_WEIGHTS, MODES

AXES = ("channels", "rows", "columns", "pixels", "time")
"""Axes of a value; ``pixels`` are rows and columns together."""

BASES = ("haar", "dct")
"""Matrices of ``transform``."""

LEARNT_PER = ("layer", "channel", "step", "neuron")
"""Values of ``per``: the units that have separate learnable numbers."""

OF_PARAMETER: Mapping[str, tuple[str, ...]] = {
    "over": AXES,
    "evaluate": DRAW_WORDS["evaluate"],
    "init": tuple(FIRST_WEIGHTS),
    "gives": ("analog", "spikes"),
    "mode": ("nearest", "bilinear", *MODES),
    "padding": ("same",),
    "per": (*LEARNT_PER, "sample"),
    "statistics": ("step", "cumulative"),
}
"""Words that are allowed for each parameter."""
OF_CALL: Mapping[str, tuple[str, ...]] = {"swap": AXES, "transform": BASES}
"""Words that are allowed as positional arguments of each function."""
