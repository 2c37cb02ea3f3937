"""What the layers of a segment note at its first run, to be given again at the second.

Neurons whose output is whole-numbered note it in bits and do not compute it again; norms note what
they do to the batch.
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
    """A layer's output in bits, to be given again at the second run.

    It is packed by who keeps it first: the layer that reads it, or else ``settle(force=True)``.
    """

    __slots__ = ("_fresh", "_kept", "_packed")

    def __init__(self, x: Tensor, kind: Kind) -> None:
        self._kept = SavedTensor(x, kind)
        self._fresh: Tensor | None = x  # not detached: its bits are remembered with it
        self._packed: Tensor | None = None

    @staticmethod
    def of(x: Tensor, kind: Kind) -> Output | None:
        """None where ``x`` is not kept in bits: it is computed again."""
        return Output(x, kind) if kind.bits else None

    def settle(self, force: bool) -> None:
        """Let go of the values themselves, once their bits are there."""
        if self._fresh is not None:
            bits = self._kept.save(self._fresh) if force else self._kept.known(self._fresh)
            if bits is not None:
                self._fresh, self._packed = None, bits.detach()

    def forget(self) -> None:
        """Nobody reads it at the second run."""
        self._fresh = self._packed = None

    def restore(self, like: Tensor, shape: Sequence[int]) -> Tensor:
        """The output again, or any tensor of its shape where nobody reads it."""
        return like.new_empty(shape) if self._packed is None else self._kept.restore(self._packed)


@dataclass(frozen=True, slots=True)
class Note:
    """What a fused neuron notes: what each norm does, and its output."""

    affines: Sequence[Affine]
    output: Output | None


BY_OPERATION = Note((), None)
"""What a fused neuron notes that called its norms, the sum and the neuron one by one."""


class Tape:
    """What layers note at the first run of a segment, to be read in order at the second.

    ``saved`` counts the tensors that autograd wanted to keep so far.
    """

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.replaying = False
        self.saved = 0
        self._place = 0
        self._saved_at_last = -1

    def write(self, note: Note) -> None:
        self.settle(force=True)
        self.notes.append(note)
        self._saved_at_last = self.saved

    def settle(self, force: bool = False) -> None:
        """Have the last output in bits, where they are there or by ``force``."""
        if self.notes and self.notes[-1].output is not None:
            self.notes[-1].output.settle(force)

    def read(self) -> Note:
        self._place += 1
        return self.notes[self._place - 1]

    def rewind(self) -> None:
        """Start the second run."""
        self.replaying, self._place = True, 0

    def finish(self) -> None:
        """End the first run. What the last layer gave is read by nobody if nothing is wanted of
        what comes after it: the second run ends there."""
        last = self.notes[-1].output if self.notes else None
        if last is not None and self._saved_at_last == self.saved:
            last.forget()
        self.settle(force=True)


_local = threading.local()


def tape() -> Tape | None:
    """The tape of the segment that runs now in this thread, if one does."""
    return getattr(_local, "tape", None)


@contextmanager
def with_tape(tape: Tape) -> Iterator[None]:
    """Have layers that run in this thread use a tape."""
    outer = getattr(_local, "tape", None)
    _local.tape = tape
    try:
        yield
    finally:
        _local.tape = outer
