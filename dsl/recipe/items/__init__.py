"""Items of recipes, one table per family: optimizers, losses, schedules, image transforms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from danetc.dsl.recipe.items.images import AUGMENT, EVALUATE
from danetc.dsl.recipe.items.losses import LOSSES
from danetc.dsl.recipe.items.optimizers import GRADIENTS, OPTIMIZERS
from danetc.dsl.recipe.items.over_time import CHANGES, SCHEDULES
from danetc.dsl.recipe.schema import ItemSpec

ITEMS: Mapping[str, Mapping[str, ItemSpec]] = MappingProxyType(
    {
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "change": CHANGES,
        "loss": LOSSES,
        "gradient": GRADIENTS,
        "augment": AUGMENT,
        "evaluate": EVALUATE,
    }
)
"""Items by family."""
