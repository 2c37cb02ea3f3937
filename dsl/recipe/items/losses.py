"""Terms of losses. A new term is a row here and a function in ``runtime.training.losses``."""

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
        "cross-entropy of the output averaged over time, for the class of each image or pixel",
        (SMOOTHING, OUTPUT),
        targets=("classes", "pixels"),
    ),
    LossSpec(
        "mse",
        "mean squared error of the output averaged over time; for classes, the target is 1 for the "
        "class of the image and 0 for the others",
        (OUTPUT,),
        targets=("classes", "numbers"),
    ),
    LossSpec(
        "tet",
        "temporal efficient training: (1 - weight) times the cross-entropy of each time step, averaged "
        "over time, plus weight times the mean squared error to `target` (Deng et al., ICLR 2022)",
        (
            Argument("weight", PROBABILITY, 0.05, "weight of the squared error"),
            Argument(
                "target",
                FloatType(-1000.0, 1000.0),
                1.0,
                "target of all outputs in the squared error",
            ),
            SMOOTHING,
            OUTPUT,
        ),
        targets=("classes", "pixels"),
    ),
    LossSpec(
        "distill",
        "distillation: temperature^2 times the Kullback-Leibler divergence between the predictions of a "
        "teacher and of the network, both softened by the temperature (Hinton et al., 2015)",
        (
            Argument("teacher", PathType(), None, "directory of a built or trained network"),
            Argument("temperature", POSITIVE, 4.0, "divisor of the outputs before the softmax"),
            OUTPUT,
        ),
        reads="teacher",
        training=True,
        targets=("classes",),
        example='cross_entropy + 0.5 * distill(teacher = "runs/teacher")',
    ),
    LossSpec(
        "firing_rate",
        "difference between the firing rate of each layer of neurons and `target`, raised to a power and "
        "averaged over the layers",
        (
            Argument(
                "target",
                FloatType(0.0, 1000.0),
                0.0,
                "target rate, in spikes per neuron and time step",
            ),
            Argument("power", FloatType(1.0, 4.0), 2.0, "exponent of the absolute difference"),
            NEURON,
        ),
        reads="neurons",
        training=True,
        example="cross_entropy + 0.1 * firing_rate(target = 0.1)",
    ),
    LossSpec(
        "membrane",
        "squared difference between the mean membrane potential of each layer of neurons before the "
        "reset and `target`, averaged over the layers (at the threshold: Guo et al., NeurIPS 2022)",
        (
            Argument("target", FloatType(-1000.0, 1000.0), 1.0, "target potential"),
            NEURON,
        ),
        reads="potentials",
        training=True,
        example="cross_entropy + 0.01 * membrane(target = 1.0)",
    ),
    LossSpec(
        "python",
        "loss computed by a Python function of the output, the labels and named numbers",
        (
            Argument("function", FunctionType(), None, "Python file and name of the function"),
            OUTPUT,
        ),
        training=True,
        others=True,
        example='python("my_loss.py:focal", gamma = 2.0)',
    ),
    LossSpec(
        "python_membrane",
        "loss computed by a Python function of the membrane potentials of a layer of neurons before the "
        "reset, averaged over the layers",
        (
            Argument("function", FunctionType(), None, "Python file and name of the function"),
            NEURON,
        ),
        reads="potentials",
        training=True,
        others=True,
        example='cross_entropy + 0.1 * python_membrane("my_loss.py:near_the_threshold")',
    ),
)
