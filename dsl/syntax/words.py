"""Words: names that mean themselves where an operation's parameter takes them.

``sum(over = channels)``, ``conv(8, padding = same)``: in these places a name of the list is a word,
whatever else of that name there is, and other names are read as anywhere. The reader of a spec
sees it by the parameter alone, so the tree has a node of its own for a word.
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES

AXES = ("channels", "rows", "columns", "pixels", "time")
"""The axes of a value; ``pixels`` are rows and columns together."""

LEARNT_PER = ("layer", "channel", "step", "neuron")
"""What ``learn`` has a number of its own for."""

OF_PARAMETER: Mapping[str, tuple[str, ...]] = {
    "over": AXES,
    "init": tuple(FIRST_WEIGHTS),
    "mode": ("nearest", "bilinear", *MODES),
    "padding": ("same",),
    "per": (*LEARNT_PER, "sample"),
    "statistics": ("step", "cumulative"),
    "order": ("exact", "keys_first", "queries_first"),
}
"""By the names of parameters."""
OF_CALL: Mapping[str, tuple[str, ...]] = {"swap": AXES}
"""By the names of functions, whose arguments have no names."""
