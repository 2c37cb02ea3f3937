"""THE terms of losses: a new one is one row here and its function in ``runtime.training.losses``."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.recipe.schema import (
    NEURON,
    OUTPUT,
    POSITIVE,
    PROBABILITY,
    SMOOTHING,
    Argument,
    FloatType,
    FunctionType,
    LossSpec,
    PathType,
    family,
)

LOSSES: Mapping[str, LossSpec] = family(
    LossSpec(
        "cross_entropy",
        "cross-entropy of the mean over time of the output, for the class of an image or of each of its "
        "pixels",
        (SMOOTHING, OUTPUT),
        targets=("classes", "pixels"),
    ),
    LossSpec(
        "mse",
        "mean squared distance of the mean over time of the output to the numbers that are "
        "wanted; of classes to 1 for the image's class and 0 for the others",
        (OUTPUT,),
        targets=("classes", "numbers"),
    ),
    LossSpec(
        "tet",
        "cross-entropy of each time step's output, averaged over time: (1 - weight) of it and "
        "weight of the mean squared distance to `target` (Deng et al., ICLR 2022)",
        (
            Argument("weight", PROBABILITY, 0.05, "share of the squared distance"),
            Argument("target", FloatType(-1000.0, 1000.0), 1.0, "what every output shall be"),
            SMOOTHING,
            OUTPUT,
        ),
        targets=("classes", "pixels"),
    ),
    LossSpec(
        "distill",
        "distillation: temperature^2 times the Kullback-Leibler divergence from a teacher's classes to "
        "the network's, both softened by the temperature (Hinton et al., 2015)",
        (
            Argument("teacher", PathType(), None, "the directory of a built or trained network"),
            Argument("temperature", POSITIVE, 4.0, "by which the outputs are divided"),
            OUTPUT,
        ),
        reads="teacher",
        training=True,
        targets=("classes",),
        example='cross_entropy + 0.5 * distill(teacher = "runs/teacher")',
    ),
    LossSpec(
        "firing_rate",
        "distance of each neuron layer's firing rate to `target`, to a power, mean over the layers",
        (
            Argument("target", FloatType(0.0, 1000.0), 0.0, "spikes a step and neuron"),
            Argument("power", FloatType(1.0, 4.0), 2.0, "to which the distance is raised"),
            NEURON,
        ),
        reads="neurons",
        training=True,
        example="cross_entropy + 0.1 * firing_rate(target = 0.1)",
    ),
    LossSpec(
        "membrane",
        "squared distance of each neuron layer's mean membrane potential before the reset "
        "to `target`, mean over the layers (at the threshold: Guo et al., NeurIPS 2022)",
        (
            Argument("target", FloatType(-1000.0, 1000.0), 1.0, "potential to be near to"),
            NEURON,
        ),
        reads="potentials",
        training=True,
        example="cross_entropy + 0.01 * membrane(target = 1.0)",
    ),
    LossSpec(
        "python",
        "what a function of a Python file gives of the output and the labels, and of numbers "
        "by their names",
        (Argument("function", FunctionType(), None, "the file and its function"), OUTPUT),
        training=True,
        others=True,
        example='python("my_loss.py:focal", gamma = 2.0)',
    ),
    LossSpec(
        "python_membrane",
        "what a function of a Python file gives of the membrane potentials before the reset "
        "of a neuron layer, mean over the layers",
        (Argument("function", FunctionType(), None, "the file and its function"), NEURON),
        reads="potentials",
        training=True,
        others=True,
        example='cross_entropy + 0.1 * python_membrane("my_loss.py:near_the_threshold")',
    ),
)
