"""Runs the kernels of a GPU in Triton's interpreter, on tensors of the CPU.

Beyond the results of a kernel, ``run`` checks what the hardware does not: that each access lies within an
argument, that promises of alignment and of 32-bit indices are kept, and that no program reads or overwrites
what another one wrote.
"""

import itertools
import linecache
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from torch._inductor.runtime.triton_helpers import libdevice
from torch._inductor.runtime.triton_heuristics import GridExpr
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, TensorHandle
from triton.runtime.jit import JITFunction

from danetc.runtime.kernels import compiled
from danetc.runtime.kernels.compiled import CompiledFunction
from tests.runtime.triton_source import on_gpu, written

# -- modules that Inductor wrote for a GPU, loaded where there is none -------------------------------


@dataclass(frozen=True)
class Kernel:
    name: str
    text: str

    @cached_property
    def launcher(self) -> Any:
        """Inductor's launcher: the function for Triton, its metadata and the configurations to try."""
        place = f"<{self.name} {hash(self.text)}>"
        linecache.cache[place] = (len(self.text), None, self.text.splitlines(True), place)
        scope = {"__name__": self.name, "__file__": place}
        with mock.patch("torch._inductor.runtime.triton_helpers.set_driver_to_gpu"):
            exec(compile(self.text, place, "exec"), scope)
        return scope[self.name]

    @property
    def signature(self) -> dict[str, str]:
        """The type of each parameter, such as ``*bf16``, ``i32`` or ``constexpr``."""
        return self.launcher.triton_meta["signature"]  # type: ignore[no-any-return]

    @property
    def blocks(self) -> dict[str, int]:
        """Block sizes of the first configuration."""
        return self.launcher.configs[0].kwargs  # type: ignore[no-any-return]

    def divisible(self) -> set[str]:
        """Return the parameters that are promised to be multiples of 16 (pointers: of 16 bytes)."""
        names, (promises,) = list(self.signature), self.launcher.triton_meta["configs"]
        return {
            names[place] for (place,), known in promises.items() if ["tt.divisibility", 16] in known
        }


class Module:
    """A module that Inductor wrote, to run on tensors of the CPU.

    ``launch(kernel, *args)`` runs each kernel, whose text ``change`` may edit. New memory is
    filled with NaN (integers: 77).
    """

    def __init__(
        self, text: str, launch: Callable[..., None], change: Callable[[str], str] = str
    ) -> None:
        self.kernels: list[Kernel] = []
        self._scope: dict[str, Any] = {"__name__": "written"}

        def triton(name: str, text: str, **_: Any) -> Any:
            self.kernels.append(Kernel(name, change(text)))
            return SimpleNamespace(run=partial(launch, self.kernels[-1]))

        compiler = SimpleNamespace(triton=triton, wait=lambda scope: None)
        imported = {
            "torch._inductor.async_compile.AsyncCompile": lambda: compiler,
            "torch._C._cuda_getCurrentRawStream": lambda index: 0,
            "torch._C._dynamo.guards._empty_strided_cuda": _fresh,
        }
        with ExitStack() as patches:
            for name, value in imported.items():
                patches.enter_context(mock.patch(name, value, create=True))
            exec(compile(text, "<written>", "exec"), self._scope)

    def __call__(self, *args: Tensor) -> Sequence[Tensor]:
        device = {"_DeviceGuard": nullcontext, "set_device": lambda index: None}
        with mock.patch.multiple("torch.cuda", **device):
            return self._scope["call"]([*args])  # type: ignore[no-any-return]


def _fresh(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    value = float("nan") if dtype.is_floating_point else 77
    return torch.empty_strided(size, stride, dtype=dtype).fill_(value)


# -- Triton's interpreter ---------------------------------------------------------------------------

BUILDER = triton_interpreter.interpreter_builder
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rsqrt": lambda x: 1 / np.sqrt(x), "erf": lambda x: torch.tensor(x).erf().numpy(), "pow": np.power, "nearbyint": np.rint,
    **{name: getattr(np, name) for name in
       ("exp", "exp2", "log", "log2", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "floor", "ceil", "trunc", "isnan", "isinf", "signbit")},
}  # fmt: skip
"""Functions of CUDA's libdevice."""


class Broken(AssertionError):
    """A kernel breaks a rule, even if its results are correct."""


@dataclass
class Launch:
    """The memory accesses of a kernel: for each program the addresses, with the size of an element."""

    kernel: Kernel
    tensors: Sequence[Tensor]
    program: int = 0
    loads: list[tuple[int, Any, int]] = field(default_factory=list)
    stores: list[tuple[int, Any, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        spans = sorted((x.data_ptr(), x.data_ptr() + _extent(x)) for x in self.tensors)
        self._starts, ends = np.array(spans, dtype=np.uint64).reshape(-1, 2).T
        self._ends = np.maximum.accumulate(ends)

    def see(self, known: list[tuple[int, Any, int]], pointers: Any, mask: Any) -> None:
        """Record the addresses of a load or store. Raises Broken if one is outside of all arguments."""
        addresses = pointers.data[np.broadcast_to(mask.data, pointers.data.shape)].ravel()
        size = pointers.get_element_ty().primitive_bitwidth // 8 or 1
        span = np.searchsorted(self._starts, addresses, side="right") - 1
        if addresses.size and (span.min() < 0 or (addresses + size > self._ends[span]).any()):
            raise Broken(f"{self.kernel.name} accesses memory outside of its arguments")
        known.append((self.program, addresses, size))

    def check_races(self) -> None:
        """Raise Broken if a program reads or overwrites what another one has written."""
        if not self.stores:
            return
        written = np.concatenate([addresses for _, addresses, _ in self.stores])
        by = np.concatenate([np.full(a.size, program) for program, a, _ in self.stores])
        places, first = np.unique(written, return_index=True)
        for program, addresses, _ in [*self.loads, *self.stores]:
            found = np.searchsorted(places, addresses).clip(max=places.size - 1)
            other = (places[found] == addresses) & (by[first[found]] != program)
            if other.any():
                raise Broken(f"{self.kernel.name}: a program accesses what another one writes")

    @property
    def traffic(self) -> int:
        """Bytes read and written, each address once."""
        return sum(
            np.unique(np.concatenate([a for _, a, size in accesses if size == width])).size * width
            for accesses in (self.loads, self.stores)
            for width in {size for _, _, size in accesses}
        )


def _extent(x: Tensor) -> int:
    places = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return (places + 1) * x.element_size() if x.numel() else 0


class Interpreter:
    """Runs kernels; ``change`` edits the text of each before it runs. ``launches`` lists what ran."""

    def __init__(self, change: Callable[[str], str] = str) -> None:
        self.change = change
        self.launches: list[Launch] = []
        self._modules: dict[object, Module] = {}

    def call(self, function: CompiledFunction, args: Sequence[Tensor]) -> Sequence[Tensor]:
        """Call a function of the package with its GPU kernels."""
        key = function, function.key(args)
        if key not in self._modules:
            text = _written(function, args, key[1])
            self._modules[key] = Module(text, self.run, self.change)
        return self._modules[key](*args)

    def run(self, kernel: Kernel, *args: Any, stream: object = None) -> None:
        """Run a kernel as its launcher does, in the first configuration."""
        names = [name for name in kernel.signature if name not in kernel.blocks]
        given = dict(zip(names, args, strict=True))
        _check_promises(kernel, given)
        values = given | kernel.blocks
        form = GridExpr.from_meta(kernel.launcher.inductor_meta, kernel.launcher.configs[0])
        grid = form.eval_slow(values)
        launch = Launch(kernel, [x for x in args if isinstance(x, Tensor)])
        function = InterpretedFunction(kernel.launcher.fn.fn).rewrite()
        with _interpreting(function, launch):
            inputs = {
                name: value if name in kernel.blocks else triton_interpreter._implicit_cvt(value)
                for name, value in values.items()
            }
            BUILDER.set_grid_dim(*grid)
            for launch.program, place in enumerate(itertools.product(*map(range, grid))):
                BUILDER.set_grid_idx(*place)
                function(**inputs)
        launch.check_races()
        self.launches.append(launch)


_texts: dict[object, str] = {}


def _written(function: CompiledFunction, args: Sequence[Tensor], key: object) -> str:
    """The code of a function, written once for all interpreters."""
    if (function.text, key) not in _texts:
        fakes = [on_gpu(*x.shape, dtype=x.dtype) for x in args]
        with compiled._plain(torch.device("cpu")):
            _texts[function.text, key] = written(function, fakes)
    return _texts[function.text, key]


def _check_promises(kernel: Kernel, given: dict[str, Any]) -> None:
    divisible = kernel.divisible()
    for name, value in given.items():
        number = value.data_ptr() if isinstance(value, Tensor) else value
        if name in divisible and number % 16:
            raise Broken(f"{kernel.name}: {name} is not a multiple of 16")
        if kernel.signature[name] == "i32" and number >= 2**31:
            raise Broken(f"{kernel.name}: {name} does not fit in 32 bits")


@contextmanager
def _interpreting(function: Callable[..., None], launch: Launch) -> Iterator[None]:
    """Within the context, Triton's functions compute with NumPy."""
    builder = InterpreterBuilder
    load, store, cast = builder.create_masked_load, builder.create_masked_store, builder.cast_impl

    def seen_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        launch.see(launch.loads, pointers, mask)
        return load(self, pointers, mask, *rest)

    def seen_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        launch.see(launch.stores, pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def rounded(self: Any, source: Any, to: Any) -> Any:
        """Round float32 to the nearest bfloat16, as a GPU does; the interpreter truncates."""
        if source.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            nearest = torch.tensor(source.data).bfloat16().view(torch.int16).numpy()
            return TensorHandle(nearest.view(np.uint16), to.scalar)
        return cast(self, source, to)

    def called(self: Any, *args: Any, **named: Any) -> Any:
        return InterpretedFunction(self.fn).rewrite()(*args, **named)

    methods = {
        "create_masked_load": seen_load, "create_masked_store": seen_store, "cast_impl": rounded,
    }  # fmt: skip
    with (
        mock.patch.multiple(builder, **methods),
        mock.patch.object(JITFunction, "__call__", called),
        np.errstate(all="ignore"),
        ExitStack() as stack,
    ):
        for each in (function, tl.standard.sum.fn):  # it uses ``tl.core``
            language = triton_interpreter._patch_lang(each)
            stack.callback(language.restore)
        for name, compute in FUNCTIONS.items():
            language.set_attr(libdevice, name, partial(_by_numpy, compute))
        yield


def _by_numpy(compute: Callable[..., Any], *args: Any) -> Any:
    data, kind = compute(*[x.handle.data for x in args]), args[0].type
    if data.dtype == bool:
        return tl.tensor(TensorHandle(data, tl.int1), kind.with_element_ty(tl.int1))
    return tl.tensor(TensorHandle(data.astype(args[0].handle.data.dtype), kind.scalar), kind)


@contextmanager
def _calling(call: Callable[..., Sequence[Tensor]]) -> Iterator[None]:
    """Within the context, the package runs on the CPU as on a GPU, with ``call`` in place of its kernels."""
    with (
        mock.patch.multiple(compiled, COMPILE=True, DEVICES=("cpu",)),
        mock.patch.object(CompiledFunction, "__call__", call),
    ):
        yield


def uncompiled() -> AbstractContextManager[None]:
    return _calling(lambda self, *args: self.function(*args))


@contextmanager
def interpreted(change: Callable[[str], str] = str) -> Iterator[Interpreter]:
    found = Interpreter(change)
    with _calling(lambda self, *args: found.call(self, args)):
        yield found
