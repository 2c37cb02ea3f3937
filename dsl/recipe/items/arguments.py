"""Ranges and arguments that several items have."""

from __future__ import annotations

from danetc.dsl.recipe.schema import Argument
from danetc.dsl.recipe.value_types import ChoiceType, FloatType, IntType, NameType

PROBABILITY = FloatType(0.0, 1.0)
FRACTION = FloatType(0.0, 1.0, open_high=True)  # below 1
POSITIVE = FloatType(0.0, open_low=True)
SIZE = IntType(1, 10_000)  # of an image, in pixels
RATE = Argument("lr", FloatType(0.0, 1000.0, open_low=True), None, "learning rate")
DECAY = Argument("weight_decay", FloatType(0.0, 1.0), 0.0, "weight decay")
DECAYED = Argument(
    "decay",
    ChoiceType(("all", "weights")),
    "all",
    "what decays: all parameters, or those of convolutions and linear layers without their biases",
)
SMOOTHING = Argument(
    "label_smoothing", FRACTION, 0.0, "share of the target spread over all classes"
)
ANY = FloatType(-1e6, 1e6)
UNTIL = Argument(
    "epochs", FloatType(0.0, 100_000.0), 0.0, "how many it takes, then it stays; 0 takes all"
)
OUTPUT = Argument(
    "output", NameType(), "", "the output that it is of; by default the one that is trained"
)
NEURON = Argument("neuron", NameType(), "", "the neuron whose layers count; all by default")
