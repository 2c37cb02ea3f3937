"""Functions of tensors compiled by Inductor: C++ on a CPU, Triton on a GPU.

A function is traced and compiled once for each combination of dtypes, device and layout, with
symbols for all sizes but T: batch and size of an image may change, and be 1, without another
compilation. There are no guards: a call costs some microseconds.

On a GPU the sizes of a sample are numbers, too: what divides by them costs less, and each step of a
sequence is known to begin at a multiple of 16 bytes, which is read and written whole. There is a kernel
for each shape of map then. The steps of an output are written where they belong (Inductor's own way
makes a second kernel that puts them together, and states go through memory to it).

Compiled kernels are kept on disk (``kernels.cache``), by the text of what they compute: where that is
known, a kernel is loaded without being traced and lowered again. Where one has to be compiled, those
that the same call of a model needs are compiled with it (``look_ahead``), on a CPU by several processes
(``helpers``), and it is said (``announcing``). What is used of torch's private interfaces stands in ``torch_internals``; a torch
that has them otherwise runs uncompiled, with one notice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from danetc.runtime.kernels import saved, upcoming
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.announcing import announcer
from danetc.runtime.kernels.cache import VARIABLE, kernel_folder, making_kernels
from danetc.runtime.kernels.helpers import compile_all, started_ahead
from danetc.runtime.kernels.look_ahead import look_ahead
from danetc.runtime.kernels.saved import Run
from danetc.runtime.kernels.torch_internals import CONCATENATION, InternalUse
from danetc.runtime.kernels.upcoming import Job
from danetc.runtime.system.files import explain_os_error, is_full

COMPILE = True
"""Whether kernels are compiled; without it the same functions run operation by operation."""

# Sizes given to the compiler as typical: they decide on vectors and threads, not on results.
# All different, since dimensions of equal size count as one.
_BATCH, _CHANNELS, _LENGTH = 24, 96, 392
_MAX_INDEX = 2**31  # kernels for a GPU count in 32 bits


class CompiledFunction:
    """A function of tensors that is compiled at its first call; as it is, with a notice, if that
    fails.

    Its first arguments are [T, N, C, L] or, where ``varying`` says False, [N, C, L]; what follows
    is [C, 1] or a scalar. Channels may come last: [T, N, L, C] and [C]. All are contiguous. ``last``
    says so where it is not to be seen, since what follows is [C] either way.

    ``text`` says what the function computes, whole: functions of one text are one kernel in the
    cache on disk. Without it the kernel is traced in every process. ``recipe`` makes it in another
    process, which may compile it for this one (``helpers``).
    """

    def __init__(
        self,
        function: Run,
        name: str,
        varying: Sequence[bool],
        text: str = "",
        last: bool | None = None,
        recipe: Callable[[], CompiledFunction] | None = None,
    ) -> None:
        self.function = function
        self.recipe = recipe
        self.name = name
        self.varying = tuple(varying)
        self.text = text
        self.last = last
        self._runs: dict[tuple[object, ...], Run] = {}
        self._called: set[tuple[object, ...]] = set()

    def __call__(self, *args: Tensor) -> Sequence[Tensor]:
        if not COMPILE:
            return self.function(*args)
        notes = upcoming.notes
        if notes is not None and any(isinstance(x, notes.fake) for x in args):
            return notes.run(self, args)
        if args[0].device.type not in ("cpu", "cuda") or not internals.has_values(args[0]):
            return self.function(*args)
        on_gpu = args[0].device.type == "cuda"
        if on_gpu and max(x.numel() for x in args) >= _MAX_INDEX:
            return self.function(*args)
        key = self.key(args)
        run = self._runs.get(key) or self._made(args)
        if on_gpu and key not in self._called:
            self._called.add(key)
            with making_kernels():  # at its first call, Triton tries what is fastest
                return run(*args)
        return run(*args)

    def key(self, args: Sequence[Tensor]) -> tuple[object, ...]:
        """What tells kernels of this function apart."""
        given = args[0].device, *[(x.dtype, x.dim()) for x in args]
        return (*given, self.fixed(args)) if args[0].device.type == "cuda" else given

    def fixed(self, args: Sequence[Tensor]) -> tuple[int, ...]:
        """The last sizes of [T, N, C, L] that are numbers in the kernel; the others are symbols."""
        if args[0].device.type != "cuda" or not self.varying:
            return ()
        first, second = args[0].shape[-2:]
        if first == 1:  # a plain row of numbers, as many as there are
            return ()
        return (second,) if self.channels_last(args) and self._affine(args) else (first, second)

    def channels_last(self, args: Sequence[Tensor]) -> bool:
        """Whether channels come last, as far as that is to be seen."""
        return all(x.dim() < 2 for x in self._affine(args)) if self.last is None else self.last

    def _affine(self, args: Sequence[Tensor]) -> list[Tensor]:
        """The arguments of each channel."""
        return [x for x in args[len(self.varying) :] if x.dim()]

    def _made(self, args: Sequence[Tensor]) -> Run:
        """The kernel for arguments like these, made now."""
        many = args[0].device.type == "cpu" and upcoming.is_under_way() and saved.is_first()
        with started_ahead(kernel_folder()) if many else nullcontext():
            return self._found(args)

    def _found(self, args: Sequence[Tensor]) -> Run:
        """The kernel, from the disk or compiled."""
        if self.load(args):
            return self._runs[self.key(args)]
        missing = missing_compiler(args[0].device.type)
        if missing is not None:
            internals.notice(f"there is {missing} on this machine: {InternalUse.COMPILE.value}")
            return self._runs.setdefault(self.key(args), self.function)
        with making_kernels() as settings:
            if self.key(args) not in self._runs:  # another thread may have made it meanwhile
                _make(Job(self, tuple(args)), settings)
        return self._runs[self.key(args)]

    def load(self, args: Sequence[Tensor], settings: dict[str, Any] | None = None) -> bool:
        """Take the kernel from the disk, without these settings of Inductor if that is not needed for
        it; whether it is there now."""
        if self.key(args) not in self._runs:
            try:
                run = _load(self.text, args, self.fixed(args), settings)
            except Exception:  # damaged, or of what is no longer there: then it is written anew
                run = None
            if run is not None:
                self._runs[self.key(args)] = run
        return self.key(args) in self._runs

    def compile(self, args: Sequence[Tensor], settings: dict[str, Any]) -> None:
        """Compile it."""
        run = self.function
        try:
            run = _direct(_compile(self, args, settings))
        except Exception as error:  # whatever the compiler fails of: the function is there
            _notice_failed(self.name, _reason(error))
        self._runs[self.key(args)] = run


def _reason(error: Exception) -> str:
    """Why a kernel could not be compiled, in a line."""
    of_disk = getattr(error, "inner_exception", error)  # Inductor wraps what it fails of
    if isinstance(of_disk, OSError) and is_full(of_disk):
        of_disk.filename = of_disk.filename or str(kernel_folder())
        return explain_os_error(of_disk, f"free some space, or name another folder with {VARIABLE}")
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


@lru_cache(maxsize=64)
def _failed(reason: str) -> list[str]:
    """The kernels that have failed for a reason."""
    return []


def _notice_failed(name: str, reason: str) -> None:
    """Say what a kernel has failed of; where others fail of the same, that once more."""
    names = _failed(reason)
    names.append(name)
    if len(names) == 1:
        internals.notice(
            f"the kernel of {name} could not be compiled and runs uncompiled: {reason}"
        )
    elif len(names) == 2:
        internals.notice(
            f"other kernels could not be compiled either, for the same reason: {reason}"
        )


def _make(first: Job, settings: dict[str, Any]) -> None:
    """Have a kernel from the disk; else compile it, and with it what else the call under way needs."""
    if first.kernel.load(first.args, settings):
        return
    known = look_ahead()
    jobs = {(job.kernel, job.kernel.key(job.args)): job for job in (first, *(known or ()))}
    todo = [job for job in jobs.values() if job is first or not job.kernel.load(job.args, settings)]
    todo.sort(key=lambda job: len(job.kernel.text))  # while torch's headers are read, all wait
    display = announcer()
    try:
        display.begin(None if known is None else len(todo))
        compile_all(
            todo,
            lambda job: job.kernel.compile(job.args, settings),
            lambda job: job.kernel.load(job.args, settings),
            display.compiled,
            kernel_folder(),
        )
    finally:
        display.end()


def compile_to_disk(job: Job) -> bool:
    """Have a kernel on the disk; whether it is there now."""
    kernel = job.kernel
    assert isinstance(kernel, CompiledFunction)
    with making_kernels() as settings:
        if not kernel.load(job.args, settings):
            kernel.compile(job.args, settings)
    return saved.place_of(kernel.text, job.args, kernel.fixed(job.args)).exists()


def _compile(kernel: CompiledFunction, args: Sequence[Tensor], settings: dict[str, Any]) -> Run:
    """Trace and compile, and write the result to the disk if its text says what it is."""
    keep = kernel.text and internals.has(InternalUse.KEEP)
    place = saved.place_of(kernel.text, args, kernel.fixed(args)) if keep else None
    believed: dict[str, Any] = {}
    with _plain(args[0].device):
        try:
            with internals.believing() as believed:
                return _compiled(kernel, args, place, {**believed, **settings})
        except Exception:
            if not believed:
                raise
            internals.doubt()  # with what the compiler can do
            return _compiled(kernel, args, place, settings)


@contextmanager
def _plain(device: torch.device) -> Iterator[None]:
    """A compilation is the same in every mode that its first caller may be in."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _in_place(device: torch.device) -> dict[str, Any]:
    """Have what is stacked on a GPU written to where it belongs, whatever it is made of."""
    kept = device.type == "cuda" and internals.has(InternalUse.STACK)
    return dict.fromkeys(CONCATENATION, 0) if kept else {}


def _direct(run: Run) -> Run:
    """What ``run`` comes to call, where that is to be found."""
    call = internals.inner_call(run)
    return run if call is None else lambda *args: call([*args])


def _compiled(
    kernel: CompiledFunction, args: Sequence[Tensor], place: Path | None, patches: dict[str, Any]
) -> Run:
    """Trace and compile by these settings of Inductor, and write the result to ``place``."""
    # Cached code must not hold the number of threads of whoever compiled it. The patterns that the
    # compiler looks for are of matrix products and attention; to set them up takes a second.
    patches = {
        "cpp.dynamic_threads": True,
        "pattern_matcher": False,
        **_in_place(args[0].device),
        **patches,
    }
    if not args[0].is_cuda and internals.has(InternalUse.ONCE):
        run = _by_inductor(kernel, args, patches)
        if place is None or _is_kept(lambda: saved.write(internals.inner_call(run), place)):
            return run
    run = _standalone(kernel, args, patches)
    if place is not None:
        _is_kept(lambda: _save(run, place))
    return run


def _save(run: Any, place: Path) -> bool:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not saved.write(internals.inner_call(run), place):
        run.save(path=str(place))
    return True


def _is_kept(write: Callable[[], bool]) -> bool:
    """Whether a kernel was written to the disk, or cannot be, which is said."""
    try:
        return write()
    except Exception as error:  # the kernel is there all the same, but will be traced again
        internals.notice(
            "kernels could not be written to the cache, and the next process makes them again: "
            f"{_reason(error)}"
        )
        return True


def _by_inductor(kernel: CompiledFunction, args: Sequence[Tensor], patches: dict[str, Any]) -> Run:
    """Have Inductor compile what is traced here. (Before it, torch would trace that twice more, for
    gradients and for inputs that share memory, of which there are none.)"""
    decompositions = internals.find("select_decomp_table")()
    graph, examples, mode = _traced(kernel, args, decompositions)
    context = internals.find("TracingContext")(mode)
    with internals.find("tracing")(context), internals.find("patch")(patches):
        made = internals.find("compile_fx_inner")(graph, examples, is_inference=True)
    return lambda *args: made([*args])


def _standalone(kernel: CompiledFunction, args: Sequence[Tensor], patches: dict[str, Any]) -> Run:
    """Have torch compile it as a whole program that it can keep on the disk."""
    graph, examples, mode = _traced(kernel, args)
    context = internals.find("TracingContext")(mode)
    with internals.find("tracing")(context):  # all releases find the examples' mode there
        run: Run = internals.find("standalone_compile")(
            graph,
            examples,
            dynamic_shapes="from_tracing_context",
            options={"config_patches": patches},
        )
        return run


def _traced(
    kernel: CompiledFunction,
    args: Sequence[Tensor],
    decompositions: Mapping[Any, Callable[..., Any]] | None = None,
) -> tuple[fx.GraphModule, list[Tensor], Any]:
    """The graph of a kernel, arguments without values that it was traced by, and their mode."""
    shape_env, symbol = internals.find("ShapeEnv"), internals.find("DimDynamic")
    context_of = internals.find("StatelessSymbolicContext")
    mode = internals.find("FakeTensorMode")(
        shape_env=shape_env(specialize_zero_one=False, duck_shape=True)
    )

    def symbolic(x: Tensor, typical: _Typical) -> Tensor:
        """A tensor like ``x`` with symbols for its sizes where they are not fixed."""
        shape, fixed = typical
        sizes = [
            symbol.STATIC if known or extent == 1 else symbol.DUCK
            for extent, known in zip(shape, fixed, strict=True)
        ]
        none = [None] * len(shape)
        context = context_of(
            sizes,
            [symbol.INFER_STRIDE] * len(shape),
            constraint_sizes=none,
            constraint_strides=none,
        )
        sized = mode.from_tensor(torch.empty(shape, device="meta"), symbolic_context=context)
        with mode:  # the first of its storage, so that it is known to be aligned
            return torch.empty(sized.shape, dtype=x.dtype, device=x.device)

    examples = [
        symbolic(x, typical) for x, typical in zip(args, _typical(kernel, args), strict=True)
    ]
    trace = internals.find("make_fx")
    with mode:  # without the function's annotations, which would stand in the way of keeping it
        graph = trace(lambda *values: [*kernel.function(*values)], decompositions)(*examples)
    return graph, examples, mode


def _load(
    text: str, args: Sequence[Tensor], fixed: tuple[int, ...], settings: dict[str, Any] | None
) -> Run | None:
    """The kernel of a text from the disk; None where there is none."""
    if not text:
        return None
    place = saved.place_of(text, args, fixed)
    run = saved.read(place)
    if run is not None or settings is None or not place.is_file():
        return run
    if not internals.has(InternalUse.KEEP):
        return None
    patch = internals.find("patch")
    with (
        _plain(args[0].device),
        internals.believing() as believed,
        patch({"cpp.dynamic_threads": True, **believed, **settings}),
    ):
        return _direct(internals.find("CompiledArtifact.load")(path=str(place)))


_Typical = tuple[tuple[int, ...], tuple[bool, ...]]


def _typical(kernel: CompiledFunction, args: Sequence[Tensor]) -> Iterator[_Typical]:
    """For each argument its shape in typical sizes, and which of them are numbers in the kernel."""
    last, fixed = kernel.channels_last(args), kernel.fixed(args)
    free = (_BATCH, _LENGTH, _CHANNELS) if last else (_BATCH, _CHANNELS, _LENGTH)
    sizes = (*free[: 3 - len(fixed)], *fixed)
    known = tuple(place + len(fixed) >= 3 for place in range(3))
    for x, varies in zip(args, kernel.varying, strict=False):
        yield ((x.shape[0], *sizes), (True, *known)) if varies else (sizes, known)
    channels = 2 if last else 1
    for x in args[len(kernel.varying) :]:
        yield (sizes[channels], 1)[: x.dim()], (known[channels], True)[: x.dim()]


def compiles(device: str) -> bool:
    """Whether functions are compiled for a device here."""
    return COMPILE and lacking_compiler(device) is None


def lacking_compiler(device: str) -> str | None:
    """As ``missing_compiler``, which imports the compiler: it is not asked where an earlier process had
    one, and there is still a C++ compiler."""
    known = device == "cpu" and saved.has_had_compiler() and _finds_cpp()
    return None if known else missing_compiler(device)


@lru_cache(maxsize=1)
def _finds_cpp() -> bool:
    names = os.environ.get("CXX") or "g++", "clang++", "cl"
    return any(map(shutil.which, names))


@lru_cache(maxsize=8)
def missing_compiler(device: str) -> str | None:
    """What is missing on this machine to compile kernels for a device, or None."""
    with suppress(internals.MissingInternal):
        saved.settings()
    with making_kernels():
        lacks = internals.missing(InternalUse.COMPILE)
    if lacks is not None:
        return f"no compiler that danetc knows to use ({lacks.partition(':')[0]})"
    if device == "cpu":
        try:
            internals.find("get_cpp_compiler")()
        except internals.find("InvalidCxxCompiler"):
            return "no C++ compiler (set CXX, or install g++ or clang++)"
        saved.remember_settings()
        return None
    return None if internals.find("has_triton")() else f"no Triton for {device}"
