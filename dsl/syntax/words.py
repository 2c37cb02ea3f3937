"""Words: names that are literals if they are the arguments of certain parameters.

In ``sum(over = channels)`` and ``conv(8, padding = same)``, the names ``channels`` and ``same`` are
words, even if something else has the same name. This depends only on the parameter, so the tree has
a node for words.
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES

AXES = ("channels", "rows", "columns", "pixels", "time")
"""Axes of a value; ``pixels`` are rows and columns together."""

LEARNT_PER = ("layer", "channel", "step", "neuron")
"""Values of ``per``: the units that have separate learnable numbers."""

OF_PARAMETER: Mapping[str, tuple[str, ...]] = {
    "over": AXES,
    "init": tuple(FIRST_WEIGHTS),
    "mode": ("nearest", "bilinear", *MODES),
    "padding": ("same",),
    "per": (*LEARNT_PER, "sample"),
    "statistics": ("step", "cumulative"),
}
"""Words for each parameter."""
OF_CALL: Mapping[str, tuple[str, ...]] = {"swap": AXES}
"""Words for the unnamed arguments of each function."""
