"""Functions of tensors compiled by Inductor: C++ on a CPU, Triton on a GPU.

A function is traced and compiled once for each combination of dtypes, device and layout, with
symbols for all sizes but T: batch and size of an image may change, and be 1, without another
compilation. There are no guards: a call costs some microseconds. Inductor keeps compiled kernels
on disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., Sequence[Tensor]]

COMPILE = True
"""Whether kernels are compiled; without it the same functions run operation by operation."""

# Sizes that the compiler is told as typical: they decide on vectors and threads, not on results.
# All different, since dimensions of equal size count as one.
_BATCH, _CHANNELS, _LENGTH = 24, 96, 392
_MAX_INDEX = 2**31  # kernels for a GPU count in 32 bits


class Compiled:
    """A function of tensors that is compiled at its first call; as it is, with a notice, if that
    fails.

    Its first arguments are [T, N, C, L] or, where ``varying`` says False, [N, C, L]; what follows
    is [C, 1] or a scalar. Channels may come last: [T, N, L, C] and [C]. All are contiguous.
    """

    def __init__(self, function: Run, name: str, varying: Sequence[bool]) -> None:
        self.function = function
        self.name = name
        self.varying = tuple(varying)
        self._runs: dict[tuple[object, ...], Run] = {}

    def __call__(self, *args: Tensor) -> Sequence[Tensor]:
        if not COMPILE:
            return self.function(*args)
        device = args[0].device
        key = (device, *[(x.dtype, x.dim()) for x in args])
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = self._compile(args)
        if device.type == "cuda" and max(x.numel() for x in args) >= _MAX_INDEX:
            return self.function(*args)
        return run(*args)

    def _compile(self, args: Sequence[Tensor]) -> Run:
        device = args[0].device
        missing = missing_compiler(device.type)
        if missing is not None:
            _notice_missing(missing)
            return self.function
        try:
            return _compile(self.function, args, self.varying)
        except Exception as error:  # whatever the compiler fails of: the function is there
            reason = str(error).strip().splitlines() or [""]
            warnings.warn(
                f"the kernel of {self.name} could not be compiled and runs uncompiled: "
                f"{type(error).__name__}: {reason[0]}",
                RuntimeWarning,
                stacklevel=3,
            )
            return self.function


def _compile(function: Run, args: Sequence[Tensor], varying: Sequence[bool]) -> Run:
    # The compiler takes seconds to import, and no other backend needs it.
    from torch._inductor import standalone_compile
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import (
        DimDynamic,
        ShapeEnv,
        StatelessSymbolicContext,
    )

    def symbolic(x: Tensor, fixed: int) -> Tensor:
        """``x`` with symbols for its sizes behind the first ``fixed``."""
        sizes = [
            DimDynamic.STATIC if place < fixed or extent == 1 else DimDynamic.DUCK
            for place, extent in enumerate(x.shape)
        ]
        none: list[Any] = [None] * x.dim()
        context: Any = StatelessSymbolicContext(
            sizes, [DimDynamic.INFER_STRIDE] * x.dim(), constraint_sizes=none,
            constraint_strides=none,
        )  # fmt: skip
        return mode.from_tensor(x, symbolic_context=context)

    mode = FakeTensorMode(shape_env=ShapeEnv(specialize_zero_one=False, duck_shape=True))
    device = args[0].device
    # A compilation is the same in every mode that its first caller may be in.
    plain = torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False)
    with plain[0], plain[1], plain[2]:
        examples: list[Any] = [
            symbolic(torch.empty(shape, dtype=x.dtype, device=device), fixed)
            for x, (shape, fixed) in zip(args, _typical(args, varying), strict=True)
        ]
        with mode:
            graph = make_fx(function)(*examples)
        # Cached code must not hold the number of threads of whoever compiled it.
        threads = {"config_patches": {"cpp.dynamic_threads": True}}
        run: Run = standalone_compile(graph, examples, options=threads)
    return run


def _typical(
    args: Sequence[Tensor], varying: Sequence[bool]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """For each argument its shape in typical sizes, and how many of the first are T."""
    affine = args[len(varying) :]
    channels_last = all(x.dim() < 2 for x in affine)
    sizes = (_BATCH, _LENGTH, _CHANNELS) if channels_last else (_BATCH, _CHANNELS, _LENGTH)
    for x, varies in zip(args, varying, strict=False):
        yield ((x.shape[0], *sizes), 1) if varies else (sizes, 0)
    for x in affine:
        yield (_CHANNELS, 1)[: x.dim()], 0


@lru_cache(maxsize=8)
def missing_compiler(device: str) -> str | None:
    """What is missing on this machine to compile kernels for a device, or None."""
    if device == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "no C++ compiler (set CXX, or install g++ or clang++)"
        return None
    from torch.utils._triton import has_triton

    return None if has_triton() else f"no Triton for {device}"


@lru_cache(maxsize=8)
def _notice_missing(what: str) -> None:
    """Said once."""
    warnings.warn(
        f"there is {what} on this machine: kernels run uncompiled, operation by operation",
        RuntimeWarning,
        stacklevel=4,
    )
