"""Data: data sets by name (``open_data``), batches, and checks that data fit a network.

Importing this package does not import torch; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danetc.runtime.data.batch import Batch
    from danetc.runtime.data.batches import Batches, Prepared, prepared, worker_death
    from danetc.runtime.data.dataset import DataSet, Memory, Source
    from danetc.runtime.data.fit import check_fit
    from danetc.runtime.data.registry import draw_classes, open_data, with_channels
    from danetc.runtime.data.request import Policy, Split, Target
    from danetc.runtime.system.errors import DataError, UnreadableError
    from danetc.runtime.system.seeds import derive

_MODULES = {
    "data.batch": ("Batch",),
    "data.batches": ("Batches", "Prepared", "prepared", "worker_death"),
    "data.dataset": ("DataSet", "Memory", "Source"),
    "data.fit": ("check_fit",),
    "data.registry": ("draw_classes", "open_data", "with_channels"),
    "data.request": ("Policy", "Split", "Target"),
    "system.errors": ("DataError", "UnreadableError"),
    "system.seeds": ("derive",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "Batch", "Batches", "DataError", "DataSet", "Memory", "Policy", "Prepared", "Source", "Split",
    "Target", "UnreadableError", "check_fit", "derive", "draw_classes", "open_data",
    "prepared", "with_channels", "worker_death",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"danetc.runtime.{_HOMES[name]}"), name)
    return value
