"""Measures of a built or trained network, taken by hooks that do not change its results.

``measure(model, layout, batches)`` runs batches through a model and returns ``Measures``.
``observers`` and ``operations`` watch forward passes, ``gradients`` runs its own backward passes.
"""

from __future__ import annotations

from danetc.runtime.measure.layout import Layout, NeuronLayer, StageLayout, WeightLayer
from danetc.runtime.measure.observe import MeasureError
from danetc.runtime.measure.run import MEASURES, Measures, Statistics, measure

__all__ = [
    "MEASURES", "Layout", "MeasureError", "Measures", "NeuronLayer", "StageLayout", "Statistics",
    "WeightLayer", "measure",
]  # fmt: skip
