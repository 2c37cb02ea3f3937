"""Optimizers, a row for each class of ``torch.optim``, and ways of gradients."""

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
            Argument("momentum", FRACTION, 0.0, "share of the last update that is kept"),
            DECAY,
            Argument("nesterov", BoolType(), False, "whether momentum is Nesterov's"),
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
            Argument("beta1", FRACTION, 0.9, "decay of the running mean of gradients"),
            Argument("beta2", FRACTION, 0.999, "decay of that of their squares"),
            DECAYED,
        ),
        torch="AdamW",
        largest_rate=1.0,  # each weight changes by about the rate at each step
        example="adamw(lr = 0.01)",
    ),
)

GRADIENTS: Mapping[str, ItemSpec] = family(
    ItemSpec("bptt", "through all time steps at once"),
    ItemSpec(
        "truncated",
        "through parts of `steps` time steps, one part after the other: memory does not grow "
        "with T",
        (Argument("steps", IntType(1, 10_000), None, "time steps of a part"),),
        example="truncated(2)",
    ),
    ItemSpec(
        "online",
        "through each time step by itself, without its temporal part (SLTT: Meng et al., "
        "ICCV 2023), or with a trace of each layer's inputs in place of it (OTTT: Xiao et "
        "al., NeurIPS 2022)",
        (
            Argument(
                "trace",
                FRACTION,
                0.0,
                "how much of the trace is left after a step; a neuron's leak, 1 - 1 / tau",
            ),
        ),
    ),
)
"""Ways of gradients through time."""
