"""Measures of a built or trained network, taken by hooks that do not change its results.

``measure(model, layout, batches)`` runs batches through a model and returns ``Measures``.
``observers`` and ``operations`` watch forward passes, ``gradients`` runs backward passes of its own.
"""

from __future__ import annotations

from danetc.runtime.measure.layout import (
    BlockOutput,
    Layout,
    NeuronLayer,
    ProductLayer,
    StageLayout,
    WeightLayer,
)
from danetc.runtime.measure.observe import MeasureError
from danetc.runtime.measure.operations import HOROWITZ_45NM, EnergyModel
from danetc.runtime.measure.run import MEASURES, MeasureOptions, Measures, measure

__all__ = [
    "HOROWITZ_45NM",
    "MEASURES",
    "BlockOutput",
    "EnergyModel",
    "Layout",
    "MeasureError",
    "MeasureOptions",
    "Measures",
    "NeuronLayer",
    "ProductLayer",
    "StageLayout",
    "WeightLayer",
    "measure",
]
