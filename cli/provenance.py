"""The facts of a run: what it was made with and of, beside the settings that decide its numbers."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from danetc.plan import Plan
    from danetc.runtime.training.distributed import World

MACHINE = {
    "device": "the device",
    "torch": "torch",
    "threads": "the number of threads",
}
"""Facts that a run may go on under when they change, and that may change its numbers. (That of
processes is told by the training itself.)"""


def facts(plan: Plan, world: World) -> dict[str, Any]:
    """What run.json says of a run on rank 0, as JSON data."""
    from danetc import __version__

    device = world.device
    return {
        "danetc": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processes": world.size,
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "data": plan.data.describe(),
        "recipe": plan.recipe.as_dict(),
    }
