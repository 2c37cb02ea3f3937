"""What danetc takes of torch that torch keeps for itself: one table, and nothing elsewhere.

Such names come and go between releases. Each is looked up when it is first needed. Where one is
not there, what needs it is left out, which is said once, and everything else works: ``InternalUse`` says
what is lost. The rest of danetc stays within torch's documented interface, which a test sees to.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.profiler import profile

_PLAIN = (Tensor, nn.Parameter)
Function = TypeVar("Function", bound=Callable[..., Any])


class InternalUse(Enum):
    """What internals are for, as what is lost without them."""

    COMPILE = "kernels run uncompiled, operation by operation"
    ONCE = "kernels are traced three times over before they are compiled, which takes longer"
    KEEP = "kernels are not kept on disk, and each process compiles its own"
    LIGHT = (
        "a process that runs kernels of an earlier one imports the compiler for it, a second or two"
    )
    STACK = "on a GPU a fusion group of a few steps runs as two kernels"
    HEADERS = "the C++ compiler reads torch's headers again for each kernel, which takes longer"
    BELIEF = (
        "the C++ compiler is tried with each kind of vector instructions before the first kernel"
    )
    DIRECT = "kernels are called through what torch puts around them, some microseconds later"
    PACKED_WEIGHTS = "a folded model lays out the weights of its convolutions anew in each call"
    INTEGERS = "a folded model convolves spikes as float32, also where integers would be faster"
    ALLOCATIONS = "bytes saved for the backward pass, and at a step's peak, cannot be measured"
    SHARED_BITS = "a tensor that several layers save for the backward pass is saved by each of them"
    PASSES = "gradients of what several layers read beside others are added up by autograd, which takes longer"
    COMMUNICATION = "how long processes wait for each other in the backward pass is not known"
    GLOBAL_HOOKS = "hooks on all modules do not run for norms that are part of a fused layer"
    TRANSFORMS = "torch.func and forward-mode differentiation do not work on models"
    LOADERS = "loader processes end with the program, not with the training"

    __hash__ = object.__hash__  # (each layer asks; an Enum's own takes longer than the answer)


@dataclass(frozen=True, slots=True)
class Internal:
    """A name in a module of torch; ``path`` may go on to an attribute of it."""

    module: str
    path: str
    use: InternalUse

    def __str__(self) -> str:
        return f"{self.module}.{self.path}"


def _table(*rows: tuple[InternalUse, str, tuple[str, ...]]) -> Mapping[str, Internal]:
    return MappingProxyType(
        {path: Internal(module, path, use) for use, module, paths in rows for path in paths}
    )


CONCATENATION = ("max_pointwise_cat_inputs", "max_complex_pointwise_cat_inputs")
"""Up to how many tensors Inductor, on a GPU, puts together in a kernel of its own."""

TABLE = _table(
    (InternalUse.COMPILE, "torch._inductor", ("standalone_compile",)),
    (InternalUse.COMPILE, "torch._inductor.config", ("patch", "cpp.vec_isa_ok")),
    (InternalUse.COMPILE, "torch._inductor.cpp_builder", ("get_cpp_compiler",)),
    (InternalUse.COMPILE, "torch._inductor.exc", ("InvalidCxxCompiler",)),
    (InternalUse.COMPILE, "torch.utils._triton", ("has_triton",)),
    (InternalUse.COMPILE, "torch._guards", ("TracingContext", "tracing")),
    (InternalUse.COMPILE, "torch._subclasses", ("FakeTensorMode", "FakeTensorMode.from_tensor")),
    (InternalUse.COMPILE, "torch.fx.experimental.proxy_tensor", ("make_fx",)),
    (
        InternalUse.COMPILE,
        "torch.fx.experimental.symbolic_shapes",
        ("DimDynamic", "ShapeEnv", "StatelessSymbolicContext"),
    ),
    (InternalUse.ONCE, "torch._inductor.compile_fx", ("compile_fx_inner",)),
    (InternalUse.ONCE, "torch._inductor.decomposition", ("select_decomp_table",)),
    (InternalUse.KEEP, "torch._inductor.config", ("get_hash",)),
    (
        InternalUse.LIGHT,
        "torch",
        (
            "_C._dynamo.guards.assert_alignment",
            "_C._dynamo.guards.assert_size_stride",
            "_C._dynamo.guards._empty_strided_cpu",
            "_C._dynamo.guards._reinterpret_tensor",
            "_C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr",
        ),
    ),
    (InternalUse.STACK, "torch._inductor.config", CONCATENATION),
    (
        InternalUse.KEEP,
        "torch._inductor.standalone_compile",
        ("CompiledArtifact.load", "CompiledArtifact.save"),
    ),
    (
        InternalUse.HEADERS,
        "torch._inductor.codecache",
        ("_HEADER_DIR", "_HEADER_LOCK_DIR", "_precompile_header.__wrapped__"),
    ),
    (
        InternalUse.BELIEF,
        "torch._inductor.cpu_vec_isa",
        ("VecISA.check_build", "supported_vec_isa_list", "valid_vec_isa_list.cache_clear"),
    ),
    (InternalUse.DIRECT, "torch._inductor.output_code", ("CompiledFxGraph",)),
    (
        InternalUse.PACKED_WEIGHTS,
        "torch",
        (
            "ops.mkldnn._reorder_convolution_weight",
            "ops.mkldnn._convolution_pointwise",
            "ops.mkldnn._reorder_linear_weight",
            "ops.mkldnn._linear_pointwise",
        ),
    ),
    (
        InternalUse.INTEGERS,
        "torch",
        (
            "cpu._is_amx_tile_supported",
            "ops.onednn.qconv_prepack",
            "ops.onednn.qconv2d_pointwise",
        ),
    ),
    (InternalUse.ALLOCATIONS, "torch._C._profiler", ("_EventType.Allocation",)),
    (InternalUse.ALLOCATIONS, "torch.utils._python_dispatch", ("TorchDispatchMode",)),
    (InternalUse.ALLOCATIONS, "torch.utils._pytree", ("tree_leaves",)),
    (InternalUse.ALLOCATIONS, "torch._C._autograd", ("_ProfilerResult.experimental_event_tree",)),
    (InternalUse.SHARED_BITS, "torch", ("Tensor._version", "Tensor._base")),
    (InternalUse.PASSES, "torch", ("_C._current_graph_task_id",)),
    (
        InternalUse.COMMUNICATION,
        "torch.nn.parallel",
        ("DistributedDataParallel._get_ddp_logging_data",),
    ),
    (
        InternalUse.GLOBAL_HOOKS,
        "torch.nn.modules.module",
        (
            "_global_forward_pre_hooks",
            "_global_forward_hooks",
            "_global_backward_pre_hooks",
            "_global_backward_hooks",
        ),
    ),
    (
        InternalUse.TRANSFORMS,
        "torch",
        (
            "_C._are_functorch_transforms_active",
            "_C._functorch.is_functorch_wrapped_tensor",
            "_C._functorch.is_legacy_batchedtensor",
            "_C._get_tracing_state",
            "_C._len_torch_dispatch_stack",
            "_C._len_torch_function_stack",
            "autograd.forward_ad._current_level",
        ),
    ),
    (
        InternalUse.LOADERS,
        "torch.utils.data.dataloader",
        ("_MultiProcessingDataLoaderIter._shutdown_workers",),
    ),
)
"""Every internal by its path."""


class MissingInternal(RuntimeError):
    """This torch has no such internal."""


def find(path: str) -> Any:
    """The internal of this path in ``TABLE``. Raises MissingInternal."""
    row = TABLE[path]
    try:
        return attrgetter(row.path)(importlib.import_module(row.module))
    except (ImportError, AttributeError) as error:
        raise MissingInternal(f"torch {torch.__version__} has no {row}: {row.use.value}") from error


@lru_cache(maxsize=len(InternalUse))
def missing(use: InternalUse) -> str | None:
    """What torch lacks of that which a use needs, and what is lost by it; None where it is all
    there."""
    try:
        for path, row in TABLE.items():
            if row.use is use:
                find(path)
    except MissingInternal as error:
        return str(error)
    return None


def has(use: InternalUse) -> bool:
    """Whether there is all that a use needs. Where not, what is lost is said, once."""
    message = missing(use)
    if message is not None:
        notice(message)
    return message is None


@lru_cache(maxsize=64)
def notice(text: str) -> None:
    """Warn; each text once."""
    warnings.warn(text, RuntimeWarning, stacklevel=3)


# -- compiled kernels ------------------------------------------------------------------------------


def inner_call(run: Callable[..., Any]) -> Callable[[list[Tensor]], Sequence[Tensor]] | None:
    """What a compiled function comes to call, without what stands around it for autograd, aliases
    and subclasses of tensors, of which kernels have none. None where none or several are found."""
    if not has(InternalUse.DIRECT):
        return None
    graph = find("CompiledFxGraph")
    found: list[Callable[[list[Tensor]], Sequence[Tensor]]] = []
    around: list[Any] = [run]
    seen: set[int] = set()
    while around:
        each = around.pop()
        if id(each) in seen or isinstance(each, type) or not callable(each):
            continue
        seen.add(id(each))
        if isinstance(each, graph):
            call = getattr(each, "current_callable", None)
            found += [] if call is None else [call]
            continue
        around += [cell.cell_contents for cell in getattr(each, "__closure__", None) or ()]
        around += [getattr(each, name, None) for name in ("_compiled_fn", "__wrapped__")]
    return found[0] if len(found) == 1 else None


@contextmanager
def headers_in(folder: Path) -> Iterator[dict[str, Any]]:
    """Have Inductor precompile torch's headers in ``folder``; else, by the settings that are given,
    not at all. (Its own place for them is below the system's temporary folder, whatever
    TORCHINDUCTOR_CACHE_DIR says.)"""
    if not has(InternalUse.HEADERS):
        yield {"cpp_cache_precompile_headers": False}
        return
    codecache: Any = importlib.import_module(TABLE["_HEADER_DIR"].module)
    ours = {
        "_HEADER_DIR": str(folder),
        "_HEADER_LOCK_DIR": str(folder / "locks"),
        "_precompile_header": _precompiling(folder),
    }
    before = {name: getattr(codecache, name) for name in ours}
    vars(codecache).update(ours)
    try:
        yield {}
    finally:
        vars(codecache).update(before)


@lru_cache(maxsize=8)
def _precompiling(folder: Path) -> Any:
    """What precompiles headers in ``folder``. It remembers those: to look whether they have changed takes
    0.3 s, which would be spent for each kernel, also one that is there."""
    return cache(find("_precompile_header.__wrapped__"))


@contextmanager
def believing() -> Iterator[dict[str, Any]]:
    """Have Inductor believe that the C++ compiler knows the vector instructions of this processor, by the
    settings that are given: else it is started for each kind of them, and Python for each result, which
    takes longer than several kernels. Not where the user has said that it does not."""
    if find("cpp.vec_isa_ok") is False:
        yield {}
        return
    if not has(InternalUse.BELIEF):
        yield {"cpp.vec_isa_ok": True}
        return
    tried: Any = importlib.import_module(TABLE["VecISA.check_build"].module).VecISA
    before = tried.check_build
    tried.check_build = lambda *_: True
    try:
        yield {"cpp.vec_isa_ok": True}
    finally:
        tried.check_build = before


def doubt() -> None:
    """Have Inductor forget what it was made to believe."""
    if not has(InternalUse.BELIEF):
        return
    for kind in find("supported_vec_isa_list"):
        for base in type(kind).__mro__:
            for member in vars(base).values():
                if hasattr(member, "cache_clear"):
                    member.cache_clear()
    find("valid_vec_isa_list.cache_clear")()


def constant(function: Function) -> Function:
    """Have a compiler that traces the caller run ``function`` right away. (This is what the decorator
    `torch.compiler.assume_constant_result` does, which imports the compiler for it: a second.)"""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


# -- tensors ---------------------------------------------------------------------------------------


def version(x: Tensor) -> int | None:
    """How often ``x`` was written to; None where torch does not tell."""
    return x._version if has(InternalUse.SHARED_BITS) else None


def base(x: Tensor) -> Tensor | None:
    """The tensor of which ``x`` is a view; None where it is none, or torch does not tell."""
    return x._base if has(InternalUse.SHARED_BITS) else None


# -- transforms and modes --------------------------------------------------------------------------


def is_transformed() -> bool:
    """True inside a transform of torch.func or forward-mode differentiation, which see the operations of
    torch alone and need a derivative of each."""
    if torch.compiler.is_compiling() or not has(InternalUse.TRANSFORMS):
        return False
    return (
        torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    )


def in_torch_func() -> bool:
    """True inside a transform of torch.func."""
    return has(InternalUse.TRANSFORMS) and torch._C._are_functorch_transforms_active()


def is_traced() -> bool:
    """True where all that runs must be operations that torch knows: while it compiles, exports, traces
    (torch.jit) or transforms the caller."""
    if torch.compiler.is_compiling():
        return True
    return has(InternalUse.TRANSFORMS) and (  # (in one function: each layer asks)
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


def is_backward_transformed(grad: Tensor) -> bool:
    """True in a backward pass that is to be differentiated again or transformed, by its ``grad``."""
    if torch.is_grad_enabled():  # with create_graph=True
        return True
    if torch.compiler.is_compiling() or not has(InternalUse.TRANSFORMS):
        return False
    found: bool = (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._functorch.is_legacy_batchedtensor(grad)  # is_grads_batched=True
    )
    return found


def is_wrapped(x: Tensor) -> bool:
    """True if ``x`` belongs to a transform of torch.func."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(x)
    return wrapped


def has_modes() -> bool:
    """True inside a mode that is to see each operation, or to run it in another way (fake tensors)."""
    return has(InternalUse.TRANSFORMS) and (
        torch._C._len_torch_dispatch_stack() > 0 or torch._C._len_torch_function_stack() > 0
    )


def is_fake(x: Tensor) -> bool:
    """True for the tensors of FakeTensorMode, which have a form and no values."""
    return type(x) not in _PLAIN and getattr(x, "fake_mode", None) is not None


def is_known(x: Tensor) -> bool:
    """True unless ``x`` is of a subclass with a meaning of its own."""
    return type(x) in _PLAIN or is_fake(x)


def has_values(x: Tensor) -> bool:
    """True if native code may read and write the memory of ``x``, a tensor of the CPU: no subclass, and no
    mode is active that would have to see it."""
    return type(x) in _PLAIN and not has_modes()


# -- backward passes -------------------------------------------------------------------------------


def tells_passes() -> bool:
    """Whether torch tells one backward pass from another."""
    return has(InternalUse.PASSES)


def backward_pass() -> int:
    """The number of the backward pass that is under way."""
    number: int = torch._C._current_graph_task_id()
    return number


HOOKS = "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"
"""Where a module has the hooks that run when it is called."""


# -- modules ---------------------------------------------------------------------------------------


def blank(module: nn.Module) -> Any:
    """A module of the same class without anything in it."""
    kind: Any = type(module)
    return kind.__new__(kind)


def fill(
    twin: Any,
    module: nn.Module,
    tensor: Callable[[Tensor], Tensor],
    child: Callable[[nn.Module], nn.Module],
) -> None:
    """Have ``twin`` be as ``module``, with other parameters, buffers and children, and without hooks.
    (``module`` may be in use in other threads, so nothing of it is touched.)"""
    twin.__dict__.update(module.__dict__)
    twin.__dict__.update({name: {} for name in HOOKS})
    twin.__dict__.pop("forward", None)  # one that was set on this object alone
    for name in ("_parameters", "_buffers"):
        own = module.__dict__[name]
        twin.__dict__[name] = {k: v if v is None else tensor(v) for k, v in own.items()}
    twin.__dict__["_modules"] = {k: child(v) for k, v in module.named_children()}


@lru_cache(maxsize=1)
def global_hooks() -> tuple[Mapping[int, Any], ...]:
    """The tables of hooks that run for every module, which torch fills and empties in place."""
    if not has(InternalUse.GLOBAL_HOOKS):
        return ()
    return tuple(find(path) for path, row in TABLE.items() if row.use is InternalUse.GLOBAL_HOOKS)


# -- measuring -------------------------------------------------------------------------------------


def allocations(recorder: profile) -> list[tuple[int, int, int]]:
    """What a profiler saw of the CPU's allocator: (nanoseconds, address, bytes), bytes below 0 for
    memory given back. Raises MissingInternal."""
    results = getattr(recorder.profiler, "kineto_results", None)
    if (message := missing(InternalUse.ALLOCATIONS)) is not None or results is None:
        raise MissingInternal(
            message or f"torch {torch.__version__}: {InternalUse.ALLOCATIONS.value}"
        )
    kind = find("_EventType.Allocation")
    found: list[tuple[int, int, int]] = []
    waiting = list(results.experimental_event_tree())
    waiting.reverse()
    while waiting:  # depth first: those of one moment stay in their order
        event = waiting.pop()
        waiting.extend(reversed(event.children))
        if event.tag == kind:
            fields: Any = event.extra_fields
            if fields.device.type == "cpu" and fields.ptr is not None:
                found.append((event.start_time_ns, fields.ptr, fields.alloc_size))
    return found


def watching(see: Callable[[Tensor], None]) -> AbstractContextManager[object]:
    """Return a context in which ``see`` gets each tensor that an operator returns.

    Statistics of norms are float32, as those of real tensors are: fake kernels give them the type
    of the input. Raises MissingInternal.
    """
    tree_leaves = find("tree_leaves")
    aten = torch.ops.aten
    norms = {
        norm.default
        for norm in (aten.native_batch_norm, aten.native_group_norm, aten.native_layer_norm)
    }

    class Watching(find("TorchDispatchMode")):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if func in norms:
                result = (result[0], *(value.float() for value in result[1:]))
            for value in tree_leaves(result):
                if isinstance(value, Tensor):
                    see(value)
            return result

    found: AbstractContextManager[object] = Watching()
    return found


def waited(shared: nn.parallel.DistributedDataParallel) -> float | None:
    """Seconds of a backward pass that DDP waited for others, as it has sampled them."""
    if not has(InternalUse.COMMUNICATION):
        return None
    found: Mapping[str, Any] = shared._get_ddp_logging_data()
    total = found.get("avg_backward_comm_time", 0)
    hidden = found.get("avg_backward_compute_comm_overlap_time", 0)
    return max(0.0, float(total) - float(hidden)) / 1e9


def end_workers(loader: Any) -> None:
    """End the processes of a DataLoader that keeps them; the next epoch would start new ones.

    Raises RuntimeError where one of them has died before.
    """
    iterator = getattr(loader, "_iterator", None)
    if iterator is None or not has(InternalUse.LOADERS):
        return
    try:
        iterator._shutdown_workers()
    finally:
        loader._iterator = None
