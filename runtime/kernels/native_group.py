"""Fusion groups in C++: float32 on a CPU, with channels before the pixels or behind them.

A library has a neuron behind a sum of terms, for T steps, with the statistics of the norms and their
gradients, some channels after the others, so that values come from memory once (``group.hpp``). It needs
none of torch's headers: it compiles in about a second, where Inductor's kernels take many.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from danetc.dsl.neuron.kernel_cpp import neuron_source
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.kernels import native
from danetc.runtime.kernels.announcing import announcer
from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.kernels.native import is_there, library, parallel, text
from danetc.runtime.system.machine import usable_cores
from danetc.runtime.system.torchrun import processes_here

GIVEN, RUNNING, BATCH = range(3)
"""Where a norm's mean and variance come from (``Mode`` in ``group.hpp``)."""

ALONE, NOTED, KNOWN = range(3)
"""What is known of the statistics of a part (``Share`` there)."""

FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
MOST_STEPS = 32
"""Steps that a library runs through without a loop."""


@dataclass(frozen=True, slots=True)
class NativeGroup:
    """The functions of a library, by addresses (see ``group.hpp``)."""

    forward: Callable[[Sequence[int], Sequence[int], Sequence[float]], None]
    backward: Callable[[Sequence[int], Sequence[int]], None]
    per_channel: bool
    """Whether there are learnables of each channel."""


class Wanted(NamedTuple):
    """What a library is made of: the text of a neuron, the terms before it, T, and whether channels come
    last in memory."""

    program: str
    terms: tuple[Term, ...]
    steps: int
    last: bool


_known: dict[Wanted, NativeGroup | None] = {}


def forget() -> None:
    """As if no library had been asked for in this process."""
    _known.clear()


def group_form(wanted: Wanted) -> NativeGroup | None:
    """The group for tensors without values, whose library is not compiled: it never runs."""
    if not native.LIBRARIES or native.compiler() is None or _source_of(wanted) is None:
        return None
    program = read_program(wanted.program)
    return NativeGroup(_never, _never, any(not item.is_scalar for item in program.learnables))


def _never(*_: object) -> None:
    raise RuntimeError("a group for tensors without values was run")


def native_group(wanted: Wanted, others: Iterable[Wanted] = ()) -> NativeGroup | None:
    """None where there is no library for it.

    Where it has to be compiled ``others`` are with it, as many at once as this process has cores; it is said
    how many (``announcing``).
    """
    if wanted not in _known:
        sources = {key: _source_of(key) for key in dict.fromkeys([wanted, *others])}
        todo = [key for key, source in sources.items() if not _is_there(source)]
        if wanted in todo:
            _compile({key: sources[key] for key in todo})
        else:
            _known[wanted] = _made(wanted, sources[wanted])
    return _known[wanted]


def _is_there(source: str | None) -> bool:
    return source is None or is_there(source, _flags())


def _compile(sources: Mapping[Wanted, str | None]) -> None:
    display = announcer()
    try:
        display.begin(len(sources))
        most = max(1, usable_cores() // processes_here())
        with ThreadPoolExecutor(min(len(sources), most)) as pool:
            for done, (key, made) in enumerate(
                zip(sources, pool.map(_made, sources, sources.values()), strict=True), 1
            ):
                _known[key] = made
                display.compiled(done)
    finally:
        display.end()


def _source_of(wanted: Wanted) -> str | None:
    """The C++ of a group; None of one that no library is made for."""
    program = read_program(wanted.program)
    if sys.platform != "linux" or wanted.steps > MOST_STEPS:
        return None
    return group_source(program, wanted.terms, wanted.steps, wanted.last)


def _flags() -> tuple[str, ...]:
    return *FLAGS, *parallel()


def _made(wanted: Wanted, source: str | None) -> NativeGroup | None:
    program = read_program(wanted.program)
    name = f"the kernel of {program.name}"
    made = None if source is None else library(name, source, _flags())
    if made is None:
        return None
    made.forward.restype = made.backward.restype = None
    first, second = made.forward, made.backward

    def forward(tensors: Sequence[int], sizes: Sequence[int], numbers: Sequence[float]) -> None:
        of_norms = (ctypes.c_double * len(numbers))(*numbers)
        first(_addresses(len(tensors))(*tensors), _sizes(len(sizes))(*sizes), of_norms)

    def backward(tensors: Sequence[int], sizes: Sequence[int]) -> None:
        second(_addresses(len(tensors))(*tensors), _sizes(len(sizes))(*sizes))

    per_channel = any(not item.is_scalar for item in program.learnables)
    return NativeGroup(forward, backward, per_channel)


@lru_cache(maxsize=256)
def _addresses(count: int) -> type[ctypes.Array[ctypes.c_void_p]]:
    return ctypes.c_void_p * count


@lru_cache(maxsize=256)
def _sizes(count: int) -> type[ctypes.Array[ctypes.c_int64]]:
    return ctypes.c_int64 * count


def _pointers(program: NeuronProgram, steps: int) -> int:
    return sum(steps if item.per_step else 1 for item in program.learnables)


def group_source(program: NeuronProgram, terms: Sequence[Term], steps: int, last: bool) -> str:
    """The C++ of a group."""
    norm_of, norms = [], 0
    for term in terms:
        norm_of.append(norms if term.normed else -1)
        norms += term.normed
    channels = [not item.is_scalar for item in program.learnables]
    known = "\n".join(
        (
            f"constexpr int T = {steps}, TERMS = {len(terms)}, NORMS = {norms};",
            f"constexpr int POINTERS = {_pointers(program, steps)};",
            f"constexpr bool LAST = {_truths([last])};",
            f"constexpr bool VARIES[] = {{{_truths(not term.static for term in terms)}}};",
            f"constexpr int NORM_OF[] = {{{', '.join(map(str, norm_of))}}};",
            f"constexpr bool PER_CHANNEL[] = {{{_truths([*channels, False])}}};",
            f"constexpr bool HAS_STEPS = {_truths([program.per_step])};",
            f"constexpr bool VARYING = {_truths([not all(term.static for term in terms)])};",
            f"constexpr bool STATIC = {_truths([any(term.static for term in terms)])};",
        )
    )
    source = text("group.hpp").replace("//%% group\n", f"namespace {{\n{known}\n}}\n")
    return source.replace("//%% neuron\n", f"namespace {{\n{neuron_source(program)}}}\n")


def _truths(values: Iterable[bool]) -> str:
    return ", ".join(str(value).lower() for value in values)
