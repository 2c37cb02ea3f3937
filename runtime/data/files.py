"""Samples that lie in files and are read when they are asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from danetc.dsl.files import open_regular
from danetc.runtime.data.source import Selected, label_of
from danetc.runtime.sources.request import Policy
from danetc.runtime.system.errors import DataError, UnreadableError


def read_numpy(
    where: str, wanted: Callable[[Sequence[str]], Iterable[str]]
) -> np.ndarray | dict[str, np.ndarray]:
    """Return the array of an npy file, or those arrays of an npz file that ``wanted`` chooses from
    their names. Nothing is unpickled.

    Raises UnreadableError, which names the file and, of an npz file, the array.
    """
    found: dict[str, np.ndarray] = {}
    place = where
    try:
        with open_regular(where) as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            for name in wanted(loaded.files):
                place = f"`{name}` of {where}"
                found[name] = loaded[name]
                if not isinstance(found[name], np.ndarray):
                    raise UnreadableError(f"{place} cannot be read: it is not an array of numpy")
    except DataError:
        raise
    except Exception as error:  # a damaged header raises whatever its text leads numpy to
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        if "pickled" in reason or "allow_pickle" in reason:
            reason = "it holds Python objects, not numbers (what is pickled is not read)"
        raise UnreadableError(f"{place} cannot be read: {reason or 'it is damaged'}") from error
    return found


class Strings(Sequence[str]):
    """Many short texts in two buffers.

    A list of a million paths is a million objects, and every loader process that touches their
    reference counts gets a copy of its own; buffers stay shared.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = torch.tensor([0, *map(len, parts)], dtype=torch.int64).cumsum(0)
        self._ends = ends
        self._bytes = torch.frombuffer(bytearray(b"".join(parts) or b"\0"), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's overloads
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start, end = int(self._ends[place]), int(self._ends[place + 1])
        return self._bytes[start:end].numpy().tobytes().decode("utf-8", "surrogateescape")

    def digest(self) -> str:
        """A checksum of all the texts."""
        parts = (self._ends.numpy().data, self._bytes.numpy().data)
        return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class Files(ABC):
    """Samples that are read when they are asked for."""

    names: Strings
    labels: Tensor
    on_unreadable: Policy

    @property
    def draws(self) -> bool:
        return False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        return self.read(index), label_of(self.labels, index)

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """A sample. Raises UnreadableError."""

    @abstractmethod
    def where(self, index: int) -> str:
        """The sample's file."""

    def select(self, indices: Tensor, labels: Tensor) -> Selected:
        return Selected(self, indices, labels)


@dataclass(frozen=True, eq=False)
class FilesBelow(Files):
    """One sample a file, the names being paths below ``root``."""

    root: Path

    def where(self, index: int) -> str:
        return str(self.root / self.names[index])
