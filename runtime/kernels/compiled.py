"""Functions of tensors that Inductor compiles for a GPU (Triton). On a CPU they run operation by operation.

A function is traced and compiled once for each combination of dtypes, device and layout. N is symbolic, so
that a batch may have any size; T and the sizes of a sample are constants, which makes indexing cheaper. There
are no guards: a call costs some microseconds.

Kernels are stored on disk (``kernels.cache``) as the Python code that Inductor writes, named by the text of what they
compute, and loaded from there without tracing; Triton stores the machine code. If one has to be compiled, so are all
others that the same call of a model needs (``prefetch``), in several processes (``workers``), while the other
processes of a training wait for the files. All private interfaces of torch are listed in ``torch_internals``; if a
torch lacks them, functions run uncompiled, with one notice.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from danetc.runtime.kernels import native, prefetch, workers
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.announcing import announce
from danetc.runtime.kernels.cache import VARIABLE, kernel_folder, making_kernels, one_process
from danetc.runtime.kernels.prefetch import KernelRequest
from danetc.runtime.kernels.torch_internals import FUSION, ROUNDING, Boxed, InternalUse
from danetc.runtime.system.files import FULL, explain_os_error, replace_file

Run = Callable[..., Sequence[Tensor]]
P = ParamSpec("P")
Made = TypeVar("Made")

COMPILE = True
"""True if code is compiled at all, by Inductor or by a C++ compiler (``native``)."""
DEVICES = ("cuda",)
"""Types of devices that Inductor compiles for."""
FMA = os.environ.get("DANETC_FMA") == "1"
"""True if GPU kernels may use fused multiply-adds, which torch and our C++ code do not use."""

# Example sizes for the compiler, which affect vectorisation but not results. They differ from each other
# because the compiler treats equal sizes as one symbol.
_BATCH, _CHANNELS, _LENGTH = 24, 96, 392
_MAX_INDEX = 2**31 - 2**13  # indices up to a block after the last value fit in 32 bits

_SOURCES = (
    "kernels/bit_packing.py", "kernels/compiled.py", "kernels/fusion_group.py",
    "kernels/neuron.py", "layers/statistics.py",
)  # fmt: skip
"""The files that define kernels."""


def is_compiled(x: Tensor) -> bool:
    """True if Inductor compiles functions of ``x``."""
    return COMPILE and x.device.type in DEVICES


class CompiledFunction:
    """A function of tensors that is compiled at its first call.

    Its first arguments are [T, N, C, L] or, where ``varying`` is False, [N, C, L]; the following ones are
    [C, 1] or scalars. With channels last they are [T, N, L, C] and [C]. All are contiguous. ``text`` identifies
    what the function computes: functions of the same text share a kernel on disk.
    """

    def __init__(self, function: Run, name: str, varying: Sequence[bool], text: str) -> None:
        self.function = function
        self.name = name
        self.varying = tuple(varying)
        self.text = text
        self.origin: tuple[Any, ...] | None = None  # (``shared``)
        self._runs: dict[tuple[object, ...], Run] = {}
        self._called: set[tuple[object, ...]] = set()

    def __call__(self, *args: Tensor) -> Sequence[Tensor]:
        if not is_compiled(args[0]):
            return self.function(*args)
        requests = prefetch.requests
        if requests is not None and any(isinstance(x, requests.fake) for x in args):
            return requests.run(self, args)
        if not internals.has_values(args[0]):
            return self.function(*args)
        key = self.key(args)
        run = self._runs.get(key) or self._make(args)
        if key not in self._called:
            self._called.add(key)
            with making_kernels():  # Triton tunes a kernel at its first call
                return run(*args)
        return run(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _found_again, self.origin or ()

    def key(self, args: Sequence[Tensor]) -> tuple[object, ...]:
        """Return what distinguishes the kernels of this function."""
        deterministic = torch.are_deterministic_algorithms_enabled()
        types = [(x.dtype, x.dim()) for x in args]
        lengths = [x.shape[0] for x, varies in zip(args, self.varying, strict=False) if varies]
        return (
            args[0].device,
            *types,
            *lengths,
            self.constants(args),
            self.is_wide(args),
            deterministic,
        )

    def constants(self, args: Sequence[Tensor]) -> tuple[int, ...]:
        """Return the last sizes of [T, N, C, L] that are constants of the kernel."""
        if not self.varying:
            return ()
        first, second = args[0].shape[-2:]
        if first == 1:  # a flat row of values
            return ()
        return (second,) if self.is_last(args) and self._affine(args) else (first, second)

    def is_wide(self, args: Sequence[Tensor]) -> bool:
        """True if the kernel needs 64-bit indices."""
        return max(x.numel() for x in args) >= _MAX_INDEX

    def is_last(self, args: Sequence[Tensor]) -> bool:
        """True if the arguments per channel have the layout of channels last."""
        return all(x.dim() < 2 for x in self._affine(args))

    def _affine(self, args: Sequence[Tensor]) -> list[Tensor]:
        """The arguments per channel."""
        return [x for x in args[len(self.varying) :] if x.dim()]

    def _make(self, args: Sequence[Tensor]) -> Run:
        """Load or compile the kernel for arguments like these."""
        missing = missing_compiler(args[0].device.type)
        if missing is not None:
            internals.notice(f"there is {missing} on this machine: {InternalUse.COMPILE.value}")
            return self._runs.setdefault(self.key(args), self.function)
        with making_kernels():
            if not self.load(args):
                with one_process():
                    if not self.load(args):
                        _compile_all(KernelRequest(self, tuple(args)))
        return self._runs[self.key(args)]

    def load(self, args: Sequence[Tensor]) -> bool:
        """Take the kernel from the disk; return True if it is there."""
        key, place = self.key(args), _place(self, args)
        if key not in self._runs and place.is_file() and internals.has(InternalUse.KEEP):
            try:
                text = on_device(place.read_text("utf-8"), args[0].device.index)
                with _plain(args[0].device):
                    self._runs[key] = _unboxed(internals.load_code(text))
            except Exception:  # a damaged file: compile it again
                pass
        return key in self._runs

    def compile(self, args: Sequence[Tensor]) -> None:
        """Compile the kernel, or let the function take its place if that fails."""
        run = self.function
        try:
            with _plain(args[0].device):
                text, made = _compiled(self, args)
            if internals.has(InternalUse.KEEP):
                _save(text, _place(self, args))
            run = _unboxed(made)
        except Exception as error:  # the compiler may raise anything
            _notice_failed(self.name, _reason(error))
        self._runs[self.key(args)] = run


def shared(make: Callable[P, Made]) -> Callable[P, Made]:
    """Let other processes find what ``make`` returns, a kernel or an object of kernels, by its arguments."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Made:
        found = make(*args, **kwargs)
        for name in [each.name for each in fields(found)] if is_dataclass(found) else [""]:
            part: Any = getattr(found, name) if name else found
            part.origin = make.__module__, make.__name__, args, kwargs, name
        return found

    return made


def _found_again(module: str, make: str, args: Any, kwargs: Any, part: str) -> CompiledFunction:
    found = getattr(importlib.import_module(module), make)(*args, **kwargs)
    kernel: CompiledFunction = getattr(found, part) if part else found
    return kernel


def scalar(value: float, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a number on the device of ``like``, as an argument of a kernel that does not depend on it."""
    dtype = like.dtype if dtype is None else dtype
    if internals.has_values(like):
        return _cached_scalar(value, dtype, like.device)
    return like.new_full((), value, dtype=dtype)  # a fake tensor must not be cached


@cache  # CUDA graphs refer to these tensors
def _cached_scalar(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


def _compile_all(first: KernelRequest) -> None:
    """Compile a kernel, and all other kernels that the current call needs."""
    found = prefetch.prefetch()
    requests = {(r.kernel, r.kernel.key(r.args)): r for r in (first, *(found or ()))}
    todo = [r for r in requests.values() if r is first or not r.kernel.load(r.args)]
    announce(None if found is None else len(todo))
    if first.args[0].device.type != "cpu":
        workers.compile_elsewhere([request for request in todo if request.kernel.origin])
    for request in todo:
        if not request.kernel.load(request.args):
            request.kernel.compile(request.args)


_INDEX = re.compile(r"(_DeviceGuard\(|set_device\(|get_raw_stream\(|stream|, index=|'cuda:)\d+")


def on_device(text: str, index: int | None) -> str:
    """Return generated code for another device of the same type."""
    return text if index is None else _INDEX.sub(rf"\g<1>{index}", text)


def _place(kernel: CompiledFunction, args: Sequence[Tensor]) -> Path:
    """The file of a kernel, named by everything that its code depends on."""
    key = (
        kernel.text,
        kernel.key(args)[1:],
        FMA,
        _machine(args[0].device),
        (torch.__version__, torch.version.git_version, sys.version),
        internals.find("get_hash")() if internals.has(InternalUse.KEEP) else None,
        _digest_of_sources(),
    )
    return kernel_folder() / hashlib.sha256(repr(key).encode()).hexdigest()


_PROPERTIES = (
    "name", "major", "minor", "gcnArchName", "multi_processor_count", "warp_size",
    "regs_per_multiprocessor", "max_threads_per_multi_processor", "max_threads_per_block",
)  # fmt: skip


def _machine(device: torch.device) -> tuple[object, ...]:
    """The type and architecture of a device, and what else of it Inductor looks at."""
    if device.type == "cpu":
        return (device.type,)
    found = torch.get_device_module(device).get_device_properties(device)
    own = [getattr(found, name, None) for name in _PROPERTIES]
    return device.type, *own, torch.version.cuda, torch.version.hip


@lru_cache(maxsize=1)
def _digest_of_sources() -> str:
    """A digest of the code that defines kernels: after a change all are compiled again."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((Path(__file__).parents[1] / name).read_bytes())
    return digest.hexdigest()


def _save(text: str, place: Path) -> None:
    try:
        replace_file(place, text.encode())
    except Exception as error:
        internals.notice(
            "kernels could not be written to the cache, and the next process compiles them again: "
            f"{_reason(error)}"
        )


def _reason(error: Exception) -> str:
    """Why a kernel could not be compiled, in a line."""
    of_disk = getattr(error, "inner_exception", error)  # Inductor wraps errors
    if isinstance(of_disk, OSError) and of_disk.errno in FULL:
        of_disk.filename = of_disk.filename or str(kernel_folder())
        return explain_os_error(of_disk, f"free some space, or name another folder with {VARIABLE}")
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


_FAILURES: set[str] = set()
"""Reasons that have been reported."""


def _notice_failed(name: str, reason: str) -> None:
    """Report the first kernel that fails to compile for a reason."""
    if reason not in _FAILURES:
        _FAILURES.add(reason)
        internals.notice(
            f"the kernel of {name} could not be compiled and runs uncompiled, as do others that fail for "
            f"the same reason: {reason}"
        )


@contextmanager
def _plain(device: torch.device) -> Iterator[None]:
    """A compilation does not depend on the modes that its caller is in."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _unboxed(call: Boxed) -> Run:
    """A compiled function with separate arguments, which are copied where they are not aligned as it expects."""
    return lambda *args: call([x if x.data_ptr() % 16 == 0 else x.clone() for x in args])


def _compiled(
    kernel: CompiledFunction, args: Sequence[Tensor], settings: dict[str, Any] | None = None
) -> tuple[str, Boxed]:
    """Trace a kernel, once, and have Inductor write its code, with further ``settings`` (``internals.generate``)."""
    find = internals.find
    symbol, context_of = find("DimDynamic"), find("StatelessSymbolicContext")
    mode = find("FakeTensorMode")(
        shape_env=find("ShapeEnv")(specialize_zero_one=False, duck_shape=True)
    )

    def example(x: Tensor, shape: tuple[int, ...], constant: tuple[bool, ...]) -> Tensor:
        """A fake tensor like ``x`` with symbols for sizes that vary."""
        none = [None] * len(shape)
        context = context_of(
            [
                symbol.STATIC if known or extent == 1 else symbol.DUCK
                for extent, known in zip(shape, constant, strict=True)
            ],
            [symbol.INFER_STRIDE] * len(shape),
            constraint_sizes=none,
            constraint_strides=none,
        )
        sized = mode.from_tensor(torch.empty(shape, device="meta"), symbolic_context=context)
        with mode:  # a storage of its own, which is known to be aligned
            return torch.empty(sized.shape, dtype=x.dtype, device=x.device)

    examples = [example(x, *each) for x, each in zip(args, _typical(kernel, args), strict=True)]
    with mode:
        trace = find("make_fx")(
            lambda *values: [*kernel.function(*values)], find("select_decomp_table")()
        )
        graph = trace(*examples)
    patches: dict[str, Any] = {
        # It is for matrix products and attention, and takes a second to initialise.
        "pattern_matcher": False,
        "fx_graph_cache": False,  # kernels have their own
        "triton.cudagraphs": False,
        # Sums and their operands keep their form, so that they are one kernel.
        "split_reductions": False,
        "pick_loop_orders": False,
        "unroll_reductions_threshold": 1,
        **(settings or {}),
    }
    if internals.has(InternalUse.ROUND):
        patches[ROUNDING] = not FMA
    if internals.has(InternalUse.FUSE):  # write the steps of an output where they belong
        patches |= FUSION
    return internals.generate(graph, examples, patches)


def _typical(
    kernel: CompiledFunction, args: Sequence[Tensor]
) -> Iterator[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """For each argument a shape in typical sizes, and which of them are constants of the kernel."""
    last, constants = kernel.is_last(args), kernel.constants(args)
    free = (_LENGTH, _CHANNELS) if last else (_CHANNELS, _LENGTH)
    sample = (*free[: 2 - len(constants)], *constants)
    # From 2^31 values on the compiler chooses 64-bit indices; an odd number differs from the other sizes.
    wide = 2**31 // math.prod(sample) * 2 + _BATCH + 1
    sizes = (wide if kernel.is_wide(args) else _BATCH, *sample)
    known = tuple(place + len(constants) >= 3 for place in range(3))
    for x, varies in zip(args, kernel.varying, strict=False):
        yield ((x.shape[0], *sizes), (True, *known)) if varies else (sizes, known)
    channels = 2 if last else 1
    for x in args[len(kernel.varying) :]:
        yield (sizes[channels], 1)[: x.dim()], (known[channels], True)[: x.dim()]


@lru_cache(maxsize=8)
def missing_compiler(device: str) -> str | None:
    """Return what this machine lacks to compile kernels for a device, or None."""
    if device not in DEVICES:
        return native.missing_compiler()
    with making_kernels():
        lacks = internals.missing(InternalUse.COMPILE)
    if lacks is not None:
        return f"no compiler that danetc can use ({lacks.partition(':')[0]})"
    return None if internals.find("has_triton")() or device == "cpu" else f"no Triton for {device}"
