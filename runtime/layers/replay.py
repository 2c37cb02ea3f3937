"""What layers of a recomputed segment record in its first run and replay in the second.

Neurons with a whole-numbered output record it in bits and do not compute it again; norms record what they do to
the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.layers.statistics import Affine


class Output:
    """The output of a layer in bits, for the second run.

    The layer that reads it packs it, or else ``resolve(force=True)``.
    """

    __slots__ = ("_fresh", "_packed", "_saved")

    def __init__(self, x: Tensor, kind: Kind) -> None:
        self._saved = SavedTensor(x, kind)
        self._fresh: Tensor | None = x  # not detached: it shares its bits
        self._packed: Tensor | None = None

    @staticmethod
    def of(x: Tensor, kind: Kind) -> Output | None:
        """Return None if ``x`` is not packed: it is computed again."""
        return Output(x, kind) if kind.bits else None

    def resolve(self, force: bool) -> None:
        """Release the values if their bits exist or, with ``force``, after packing them."""
        if self._fresh is not None:
            bits = self._saved.save(self._fresh) if force else self._saved.known(self._fresh)
            if bits is not None:
                self._fresh, self._packed = None, bits.detach()

    def restore(self) -> Tensor:
        """Return the output."""
        assert self._packed is not None
        return self._saved.restore(self._packed)


@dataclass(frozen=True, slots=True)
class ReplayEntry:
    """The record of a fused neuron: what its norms do, and its output."""

    affines: Sequence[Affine]
    output: Output | None


BY_OPERATION = ReplayEntry((), None)
"""The record of a fused neuron that ran operation by operation."""


class ReplayLog:
    """The entries of a segment's layers in the order of their calls."""

    def __init__(self) -> None:
        self.entries: list[ReplayEntry] = []
        self.replaying = False
        self._place = 0

    def write(self, entry: ReplayEntry) -> None:
        self.resolve(force=True)
        self.entries.append(entry)

    def resolve(self, force: bool = False) -> None:
        """Resolve the last output."""
        if self.entries and self.entries[-1].output is not None:
            self.entries[-1].output.resolve(force)

    def read(self) -> ReplayEntry:
        self._place += 1
        return self.entries[self._place - 1]

    def rewind(self) -> None:
        """Start the second run."""
        self.replaying, self._place = True, 0


_local = threading.local()


def replay_log() -> ReplayLog | None:
    """Return the log of the segment that runs in this thread, if any."""
    return getattr(_local, "log", None)


@contextmanager
def with_log(log: ReplayLog) -> Iterator[None]:
    """Have layers that run in this thread use a log."""
    outer = replay_log()
    _local.log = log
    try:
        yield
    finally:
        _local.log = outer
