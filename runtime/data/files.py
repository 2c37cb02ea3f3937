"""Samples that lie in files and are read when they are asked for."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.dsl.files import open_regular
from danetc.runtime.data.source import Selected, label_of
from danetc.runtime.sources.request import Policy
from danetc.runtime.system.errors import DataError


@contextmanager
def numpy_file(where: str) -> Iterator[Any]:
    """What numpy loads of a file; nothing is unpickled. Raises NumpyError, while it is open too."""
    try:
        with open_regular(where) as stream:
            yield np.load(stream, allow_pickle=False)
    except DataError:  # of who reads it
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        if "pickled" in reason or "allow_pickle" in reason:
            reason = "it holds Python objects, not numbers (what is pickled is not read)"
        raise NumpyError(reason) from error


class NumpyError(Exception):
    """A file of numpy cannot be read; the message says why."""


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
