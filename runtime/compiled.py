"""Functions of tensors compiled by Inductor: C++ on a CPU, Triton on a GPU.

A function is traced and compiled once for each combination of dtypes, device and layout, with
symbols for all sizes but T: batch and size of an image may change, and be 1, without another
compilation. There are no guards: a call costs some microseconds.

Compiled kernels are kept on disk, in Inductor's own cache folder, by the text of what they compute:
where that is known, a kernel is loaded without being traced and lowered again. All use of torch's
private interfaces for compiling is in this file; a torch that has them otherwise runs uncompiled,
with one notice.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
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
    is [C, 1] or a scalar. Channels may come last: [T, N, L, C] and [C]. All are contiguous. ``last``
    says so where it is not to be seen, since what follows is [C] either way.

    ``text`` says what the function computes, whole: functions of one text are one kernel in the
    cache on disk. Without it the kernel is traced in every process.
    """

    def __init__(
        self,
        function: Run,
        name: str,
        varying: Sequence[bool],
        text: str = "",
        last: bool | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.varying = tuple(varying)
        self.text = text
        self.last = last
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
            typical = [*_typical(args, self.varying, self.last)]
            return _direct(_compile(self.function, args, typical, self.text))
        except Exception as error:  # whatever the compiler fails of: the function is there
            reason = str(error).strip().splitlines() or [""]
            warnings.warn(
                f"the kernel of {self.name} could not be compiled and runs uncompiled: "
                f"{type(error).__name__}: {reason[0]}",
                RuntimeWarning,
                stacklevel=3,
            )
            return self.function


_Typical = Sequence[tuple[tuple[int, ...], int]]


def _compile(function: Run, args: Sequence[Tensor], typical: _Typical, text: str) -> Run:
    # The compiler takes seconds to import, and no other backend needs it.
    from torch._inductor import config

    # A processor with vector instructions of a kind is believed to run them: else the compiler is
    # started for each kind, and Python for each result, which takes longer than many a kernel.
    believed = {} if config.cpp.vec_isa_ok is not None else {"cpp.vec_isa_ok": True}
    # A compilation is the same in every mode that its first caller may be in.
    with ExitStack() as plain:
        plain.enter_context(torch.inference_mode(False))
        plain.enter_context(torch.no_grad())
        plain.enter_context(torch.autocast(args[0].device.type, enabled=False))
        place = _place(text, args) if text else None
        if place is not None and place.is_file():
            known = _load(place, believed)
            if known is not None:
                return known
        try:
            return _compiled(function, args, typical, place, believed)
        except Exception:
            if not believed:
                raise
            return _compiled(function, args, typical, place, {})  # with what the compiler can do


def _direct(run: Run) -> Run:
    """What ``run`` comes to call, without what stands around it.

    Those layers serve autograd, aliases and subclasses of tensors, of which kernels have none, and
    take longer than many a kernel. Where none or several are found, it is ``run``.
    """
    from torch._inductor.output_code import CompiledFxGraph

    found: list[Callable[[list[Tensor]], Sequence[Tensor]]] = []
    around: list[Any] = [run]
    seen: set[int] = set()
    while around:
        each = around.pop()
        if id(each) in seen or isinstance(each, type) or not callable(each):
            continue
        seen.add(id(each))
        if isinstance(each, CompiledFxGraph):
            if each.current_callable is not None:
                found.append(each.current_callable)
            continue
        around += [cell.cell_contents for cell in getattr(each, "__closure__", None) or ()]
        around += [getattr(each, name, None) for name in ("_compiled_fn", "__wrapped__")]
    if len(found) != 1:
        return run
    (call,) = found
    return lambda *args: call([*args])


def _compiled(
    function: Run,
    args: Sequence[Tensor],
    typical: _Typical,
    place: Path | None,
    patches: dict[str, Any],
) -> Run:
    """Trace and compile, and write the result to ``place``."""
    from torch._guards import TracingContext, tracing
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
    examples: list[Any] = [
        symbolic(torch.empty(shape, dtype=x.dtype, device=device), fixed)
        for x, (shape, fixed) in zip(args, typical, strict=True)
    ]
    with mode:  # without the function's annotations, which would stand in the way of keeping it
        graph = make_fx(lambda *values: function(*values))(*examples)
    # Cached code must not hold the number of threads of whoever compiled it. The patterns that the
    # compiler looks for are of matrix products and attention; to set them up takes a second.
    patches = {"cpp.dynamic_threads": True, "pattern_matcher": False, **patches}
    with tracing(TracingContext(mode)):  # all releases find the examples' mode there
        run: Any = standalone_compile(
            graph,
            examples,
            dynamic_shapes="from_tracing_context",
            options={"config_patches": patches},
        )
    if place is not None:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            run.save(path=str(place))
        except Exception as error:  # the kernel is there all the same, but will be traced again
            _notice_not_kept(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return run  # type: ignore[no-any-return]


def _place(text: str, args: Sequence[Tensor]) -> Path | None:
    """The file of a kernel: its name tells apart all that may make compiled code differ."""
    from torch._inductor import config
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    device = args[0].device
    if device.type == "cuda":
        machine: tuple[object, ...] = (
            torch.cuda.get_device_name(device),
            torch.cuda.get_device_capability(device),
            torch.version.cuda,
        )
    else:
        machine = platform.machine(), torch.backends.cpu.get_cpu_capability()
    key = (
        text,
        tuple((x.dtype, x.dim()) for x in args),
        machine,
        (torch.__version__, torch.version.git_version, sys.version),
        config.get_hash().hex(),
        _sources(),
    )
    digest = hashlib.sha256(repr(key).encode()).hexdigest()
    return Path(cache_dir(), "danetc", digest)


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of the code that makes kernels of texts: after a change all are made anew."""
    digest = hashlib.sha256()
    for name in ("compiled", "inference", "kernel", "packing", "region", "statistics"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def _load(place: Path, patches: dict[str, Any]) -> Run | None:
    """The kernel of a file; None where it cannot be read, and is to be compiled again."""
    from torch._inductor import config
    from torch._inductor.standalone_compile import CompiledArtifact

    try:
        with config.patch({"cpp.dynamic_threads": True, **patches}):
            return CompiledArtifact.load(path=str(place))
    except Exception:  # damaged, or of what is no longer there: whatever it is, it is written anew
        return None


def _typical(
    args: Sequence[Tensor], varying: Sequence[bool], last: bool | None
) -> Iterator[tuple[tuple[int, ...], int]]:
    """For each argument its shape in typical sizes, and how many of the first are T."""
    affine = args[len(varying) :]
    channels_last = all(x.dim() < 2 for x in affine) if last is None else last
    sizes = (_BATCH, _LENGTH, _CHANNELS) if channels_last else (_BATCH, _CHANNELS, _LENGTH)
    for x, varies in zip(args, varying, strict=False):
        yield ((x.shape[0], *sizes), 1) if varies else (sizes, 0)
    for x in affine:
        yield (_CHANNELS, 1)[: x.dim()], 0


@lru_cache(maxsize=1)
def _notice_not_kept(why: str) -> None:
    """Said once."""
    warnings.warn(
        f"kernels could not be written to the cache, and the next process makes them again: {why}",
        RuntimeWarning,
        stacklevel=5,
    )


def compiles(device: str) -> bool:
    """Whether functions are compiled for a device here."""
    return COMPILE and missing_compiler(device) is None


@lru_cache(maxsize=8)
def missing_compiler(device: str) -> str | None:
    """What is missing on this machine to compile kernels for a device, or None."""
    try:
        from torch._inductor import standalone_compile  # noqa: F401
        from torch.fx.experimental.symbolic_shapes import StatelessSymbolicContext  # noqa: F401
    except ImportError as error:
        return f"no compiler that danetc knows to use in torch {torch.__version__} ({error})"
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
