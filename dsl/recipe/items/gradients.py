"""Ways of gradients through time."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.recipe.items.arguments import FRACTION
from danetc.dsl.recipe.schema import Argument, ItemSpec, family
from danetc.dsl.recipe.value_types import IntType

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
