"""THE optimizers: a new one of ``torch.optim`` is one row here."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.recipe.items.arguments import DECAY, DECAYED, FRACTION, RATE
from danetc.dsl.recipe.schema import Argument, OptimizerSpec, family
from danetc.dsl.recipe.value_types import BoolType

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
