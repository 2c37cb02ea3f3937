"""Fusion groups in C++, for float32 and bfloat16 on a CPU.

A library holds a neuron and the sum of terms before it, for T steps, with the statistics of the norms and all
gradients. It processes a few channels after the others, so that each value is loaded once (``group.hpp``).
It compiles in about a second.
"""

from __future__ import annotations

import ctypes
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from danetc.dsl.neuron.kernel_cpp import neuron_source
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.kernels.announcing import announce
from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.kernels.native import compiler, is_compiled, library, source
from danetc.runtime.system.machine import usable_cores
from danetc.runtime.system.torchrun import processes_here

RUNNING, BATCH = range(2)
"""Where a norm takes its statistics from: enum ``Mode`` in ``group.hpp``."""

_OPTION = "-ffp-contract=off"  # each operation is rounded, as torch's are


class GroupKey(NamedTuple):
    """What a library is compiled for."""

    program: str
    """Text of the neuron."""
    terms: tuple[Term, ...]
    steps: int
    channels_last: bool
    """True if values are [T, N, L, C] in memory."""
    bfloat16: bool = False
    """True if inputs and output are bfloat16 rather than float32."""
    added: bool = False
    """True if the first term is added to the spikes and not to the neuron's input. No backward pass."""
    carries: bool = False
    """True if the states come from the step before and go to the next. No backward pass."""

    def __str__(self) -> str:
        return repr((self.program, [tuple(term) for term in self.terms], *self[2:]))

    @staticmethod
    def parse(text: str) -> GroupKey:
        """The inverse of ``str``."""
        program, terms, *rest = literal_eval(text)
        return GroupKey(program, tuple(Term(*term) for term in terms), *rest)


@dataclass(frozen=True, slots=True)
class NativeGroup:
    """The functions of a library; ``group.hpp`` lists their arguments."""

    forward: Callable[..., None]
    backward: Callable[..., None]
    per_channel: bool
    """True if a learnable has a value per channel."""


_known: dict[GroupKey, NativeGroup | None] = {}


def forget() -> None:
    """Forget all libraries of this process."""
    _known.clear()


def group_form(key: GroupKey) -> NativeGroup | None:
    """Return the group for fake tensors, which is not compiled and cannot run."""
    return None if compiler() is None else NativeGroup(_never, _never, _per_channel(key))


def _never(*_: object) -> None:
    raise RuntimeError("a group for fake tensors was run")


def _per_channel(key: GroupKey) -> bool:
    return any(not item.is_scalar for item in read_program(key.program).learnables)


def native_group(key: GroupKey, others: Iterable[GroupKey] = ()) -> NativeGroup | None:
    """Return a group, compiled if it is not on disk; None if it cannot be compiled.

    If it has to be compiled, so are ``others``, as many at once as this process has cores.
    """
    if key not in _known:
        sources = {each: group_source(each) for each in dict.fromkeys([key, *others])}
        todo = {k: text for k, text in sources.items() if not is_compiled(text, _OPTION)}
        if key in todo:
            _compile(todo)
        else:
            _known[key] = _load(key, sources[key])
    return _known[key]


def _compile(sources: Mapping[GroupKey, str]) -> None:
    announce(len(sources))
    most = max(1, usable_cores() // processes_here())
    with ThreadPoolExecutor(min(len(sources), most)) as pool:
        _known.update(zip(sources, pool.map(_load, sources, sources.values()), strict=True))


def _load(key: GroupKey, text: str) -> NativeGroup | None:
    made = library(f"the kernel of {read_program(key.program).name}", text, _OPTION)
    if made is None:
        return None
    backward = _never if key.added or key.carries else _caller(made.backward)
    return NativeGroup(_caller(made.forward), backward, _per_channel(key))


def _caller(function: Any) -> Callable[..., None]:
    function.restype = None

    def call(tensors: Sequence[int], sizes: Sequence[int], *numbers: Sequence[float]) -> None:
        of_norms = [(ctypes.c_double * len(each))(*each) for each in numbers]
        function(_addresses(len(tensors))(*tensors), _sizes(len(sizes))(*sizes), *of_norms)

    return call


@lru_cache(maxsize=256)
def _addresses(count: int) -> type[ctypes.Array[ctypes.c_void_p]]:
    return ctypes.c_void_p * count


@lru_cache(maxsize=256)
def _sizes(count: int) -> type[ctypes.Array[ctypes.c_int64]]:
    return ctypes.c_int64 * count


def _pointers(program: NeuronProgram, steps: int) -> int:
    return sum(steps if item.per_step else 1 for item in program.learnables)


@lru_cache(maxsize=256)
def group_source(key: GroupKey) -> str:
    """Return the C++ of a group."""
    program, terms = read_program(key.program), key.terms
    norms = iter(range(len(terms)))
    norm_of = [str(next(norms)) if term.normed else "-1" for term in terms]
    channels = [not item.is_scalar for item in program.learnables]
    summed = terms[key.added :]
    constants = "\n".join(
        (
            "#define FORWARD_ONLY" * (key.added or key.carries),
            "namespace {",
            f"typedef {'BFloat16' if key.bfloat16 else 'float'} Value;",
            f"constexpr int T = {key.steps}, TERMS = {len(terms)};",
            f"constexpr int NORMS = {sum(term.normed for term in terms)};",
            f"constexpr int POINTERS = {_pointers(program, key.steps)};",
            f"constexpr bool LAST = {_truths([key.channels_last])};",
            f"constexpr bool ADDED = {_truths([key.added])};",
            f"constexpr bool CARRIES = {_truths([key.carries])};",
            f"constexpr bool VARIES[] = {{{_truths(not term.static for term in terms)}}};",
            f"constexpr int NORM_OF[] = {{{', '.join(norm_of)}}};",
            f"constexpr bool PER_CHANNEL[] = {{{_truths([*channels, False])}}};",
            f"constexpr bool HAS_STEPS = {_truths([program.per_step])};",
            f"constexpr bool VARYING = {_truths([not all(term.static for term in summed)])};",
            f"constexpr bool STATIC = {_truths([any(term.static for term in summed)])};",
            "}",
        )
    )
    text = source("group.hpp").replace("//%% group\n", f"{constants}\n")
    return text.replace("//%% neuron\n", f"namespace {{\n{neuron_source(program)}}}\n")


def _truths(values: Iterable[bool]) -> str:
    return ", ".join(str(value).lower() for value in values)
