"""Recordings of event cameras: data sets of SpikingJelly and tonic by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.sources.options import Placed, placed
from danetc.runtime.sources.places import existing
from danetc.runtime.system.errors import DataError


@dataclass(frozen=True, slots=True)
class Set:
    """A class of spikingjelly.datasets, and what it calls its splits."""

    title: str
    kind: str
    split: str = "train"
    train: object = True
    test: object = False


SETS: Mapping[str, Set] = MappingProxyType(
    {
        "dvs128gesture": Set("DVS128 Gesture", "DVS128Gesture"),
        # It comes without a split; this is the usual one: of each class the first 100 are tested.
        "cifar10dvs": Set("CIFAR10-DVS", "CIFAR10DVSTEBNSplit"),
        "nmnist": Set("N-MNIST", "NMNIST"),
        "dvslip": Set("DVS-Lip", "DVSLip"),
        "hardvs": Set("HARDVS", "HARDVS", "train_test_val", "train", "test"),
        "esimagenet": Set("ES-ImageNet", "ESImageNet"),
        "bullying10k": Set("Bullying10k", "Bullying10kClassification"),
    }
)


def named_set(text: str) -> tuple[str, str] | None:
    """The set and the folder of ``NAME:DIR``; None where ``text`` is a folder of frames.

    Raises DataError for a name that there is not.
    """
    head, mark, directory = text.partition(":")
    if head in SETS and (mark or not Path(head).exists()):
        return head, directory
    if mark and "/" not in head and not Path(text).exists():
        hint = instead(head, SETS)
        raise DataError(f"there is no set of event data `{head}`; {hint}")
    return None


def tonic_place(text: str) -> tuple[Placed, str, str]:
    """The options, the set and the folder of ``tonic:NAME:DIR``. Raises DataError."""
    asked = placed(text, "tonic", ("train", "test", "size", "by"))
    name, _, directory = asked.place.partition(":")
    if not name.isidentifier():
        raise DataError(f"`tonic` needs a set and a folder: tonic:NMNIST:DIR, not `{asked.place}`")
    what = f"{name}/ with the published files of {name}, as tonic's save_to has it"
    return asked, name, str(existing(directory, f"tonic:{name}", what))


def set_folder(name: str, directory: str) -> Path:
    """The folder of a set by its name. Raises DataError where it is missing or empty."""
    what = (
        f"{SETS[name].title}: its published files in DIR/download, or SpikingJelly's DIR/events_np"
    )
    return existing(directory, f"events:{name}", what).resolve()
