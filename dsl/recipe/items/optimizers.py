"""Optimizers, a row for each class of ``torch.optim``, and methods of backpropagation."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.recipe.schema import (
    DECAY,
    DECAYED,
    FRACTION,
    RATE,
    Argument,
    BoolType,
    IntType,
    ItemSpec,
    OptimizerSpec,
    family,
)

OPTIMIZERS: Mapping[str, OptimizerSpec] = family(
    OptimizerSpec(
        "sgd",
        "stochastic gradient descent: `torch.optim.SGD`",
        (
            RATE,
            Argument("momentum", FRACTION, 0.0, "momentum factor"),
            DECAY,
            Argument("nesterov", BoolType(), False, "if true, use Nesterov momentum"),
            DECAYED,
        ),
        torch="SGD",
        largest_rate=30.0,  # linear scaling of 0.1 gives 25.6 for a batch of 65,536
        example="sgd(lr = 0.1, momentum = 0.9)",
    ),
    OptimizerSpec(
        "adamw",
        "Adam with decoupled weight decay: `torch.optim.AdamW`",
        (
            RATE,
            DECAY,
            Argument("beta1", FRACTION, 0.9, "decay of the running mean of the gradients"),
            Argument(
                "beta2", FRACTION, 0.999, "decay of the running mean of the squared gradients"
            ),
            DECAYED,
        ),
        torch="AdamW",
        largest_rate=1.0,  # each weight changes by about the rate at each step
        example="adamw(lr = 0.01)",
    ),
)

GRADIENTS: Mapping[str, ItemSpec] = family(
    ItemSpec("bptt", "backpropagates through all time steps"),
    ItemSpec(
        "truncated",
        "backpropagates through segments of `steps` time steps, so that memory does not grow with T",
        (Argument("steps", IntType(1, 10_000), None, "number of time steps per segment"),),
        example="truncated(2)",
    ),
    ItemSpec(
        "online",
        "backpropagates through each time step separately; the temporal part of the gradient is dropped "
        "(SLTT: Meng et al., ICCV 2023) or replaced by a trace of the inputs of each layer (OTTT: Xiao "
        "et al., NeurIPS 2022)",
        (
            Argument(
                "trace",
                FRACTION,
                0.0,
                "decay factor of the trace per step, usually the leak of the neuron, 1 - 1 / tau",
            ),
        ),
    ),
)
"""Methods of backpropagation through time."""
