"""Data: sets by name (``open_data``), batches of them, and whether they fit a network."""

from danetc.runtime.data.batch import Batch
from danetc.runtime.data.batches import Batches, worker_death
from danetc.runtime.data.channels import with_channels
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.prepared import Prepared, prepared
from danetc.runtime.data.registry import draw_classes, open_data
from danetc.runtime.data.source import DataSet, Memory, Source, Split
from danetc.runtime.sources.request import Policy
from danetc.runtime.sources.target import Target
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.seeds import derive, mix_seed

__all__ = [
    "Batch",
    "Batches",
    "DataError",
    "DataSet",
    "Memory",
    "Policy",
    "Prepared",
    "Source",
    "Split",
    "Target",
    "UnreadableError",
    "check_fit",
    "derive",
    "draw_classes",
    "mix_seed",
    "open_data",
    "prepared",
    "with_channels",
    "worker_death",
]
