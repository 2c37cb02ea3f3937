"""Table of all private interfaces of torch that danetc uses.

Such names change between releases. Each is looked up at its first use. If it is missing, one notice
says what is lost (``InternalUse``), and everything else works. A test checks that other code uses
only the documented interface of torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from functools import lru_cache, wraps
from pkgutil import resolve_name
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn

_PLAIN = (Tensor, nn.Parameter)
Function = TypeVar("Function", bound=Callable[..., Any])


class InternalUse(Enum):
    """Uses of private interfaces, described by what is lost without them."""

    COMPILE = "kernels run uncompiled, operation by operation"
    KEEP = "kernels are not stored on disk, and each process compiles its own"
    FUSE = "on a GPU a fusion group of a few steps and the packing of counts run as several kernels"
    ROUND = (
        "kernels for a GPU round a product and a sum once, which may move spikes near a threshold"
    )
    PACKED_WEIGHTS = "a folded model lays out the weights of its convolutions again in each call"
    INTEGERS = "a folded model convolves spikes in float32 even if integers would be faster"
    ALLOCATIONS = "the memory of a training step cannot be computed"
    SHARED_BITS = "a tensor that several layers save for the backward pass is saved by each of them"
    COMMUNICATION = "the time that processes wait for each other in the backward pass is not known"
    GLOBAL_HOOKS = "hooks on all modules do not run for norms that are part of a fused layer"
    TRANSFORMS = "torch.func and forward-mode differentiation do not work on models"
    LOADERS = "loader processes end with the program, not with the training"

    __hash__ = object.__hash__  # faster than that of Enum, which is called for every layer


FUSION = {
    "max_pointwise_cat_inputs": 0,
    "max_complex_pointwise_cat_inputs": 0,
    "score_fusion_memory_threshold": 0,
    "max_fusion_size": 1024,
}
"""Settings of Inductor: maximum number of tensors to concatenate in a separate kernel, minimum number of shared bytes
to compute two values in one kernel, and maximum number of operations in it (a neuron of 16 steps has over 64)."""
ROUNDING = "emulate_precision_casts"
"""Setting of Inductor that disables fused multiply-adds in Triton code."""

HOOKS = "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"
"""Attributes of a module that hold the hooks of its calls."""

TABLE: Mapping[str, tuple[InternalUse, str]] = {
    "config.patch": (InternalUse.COMPILE, "torch._inductor"),
    "compile_fx_inner": (InternalUse.COMPILE, "torch._inductor.compile_fx"),
    "select_decomp_table": (InternalUse.COMPILE, "torch._inductor.decomposition"),
    "FakeTensorMode": (InternalUse.COMPILE, "torch._subclasses"),
    "FakeTensorMode.from_tensor": (InternalUse.COMPILE, "torch._subclasses"),
    "make_fx": (InternalUse.COMPILE, "torch.fx.experimental.proxy_tensor"),
    "DimDynamic": (InternalUse.COMPILE, "torch.fx.experimental.symbolic_shapes"),
    "ShapeEnv": (InternalUse.COMPILE, "torch.fx.experimental.symbolic_shapes"),
    "StatelessSymbolicContext": (InternalUse.COMPILE, "torch.fx.experimental.symbolic_shapes"),
    "has_triton": (InternalUse.COMPILE, "torch.utils._triton"),
    "PyCodeCache.load": (InternalUse.KEEP, "torch._inductor.codecache"),
    "get_hash": (InternalUse.KEEP, "torch._inductor.config"),
    **dict.fromkeys(FUSION, (InternalUse.FUSE, "torch._inductor.config")),
    ROUNDING: (InternalUse.ROUND, "torch._inductor.config"),
    "ops.mkldnn._convolution_pointwise": (InternalUse.PACKED_WEIGHTS, "torch"),
    "ops.mkldnn._reorder_convolution_weight": (InternalUse.PACKED_WEIGHTS, "torch"),
    "cpu._is_amx_tile_supported": (InternalUse.INTEGERS, "torch"),
    "ops.onednn.qconv2d_pointwise": (InternalUse.INTEGERS, "torch"),
    "ops.onednn.qconv_prepack": (InternalUse.INTEGERS, "torch"),
    "TorchDispatchMode": (InternalUse.ALLOCATIONS, "torch.utils._python_dispatch"),
    "tree_leaves": (InternalUse.ALLOCATIONS, "torch.utils._pytree"),
    "Tensor._base": (InternalUse.SHARED_BITS, "torch"),
    "Tensor._version": (InternalUse.SHARED_BITS, "torch"),
    "DistributedDataParallel._get_ddp_logging_data": (
        InternalUse.COMMUNICATION,
        "torch.nn.parallel",
    ),
    **{f"_global{name}": (InternalUse.GLOBAL_HOOKS, "torch.nn.modules.module") for name in HOOKS},
    "_C._are_functorch_transforms_active": (InternalUse.TRANSFORMS, "torch"),
    "_C._functorch.is_legacy_batchedtensor": (InternalUse.TRANSFORMS, "torch"),
    "_C._get_tracing_state": (InternalUse.TRANSFORMS, "torch"),
    "_C._len_torch_dispatch_stack": (InternalUse.TRANSFORMS, "torch"),
    "_C._len_torch_function_stack": (InternalUse.TRANSFORMS, "torch"),
    "autograd.forward_ad._current_level": (InternalUse.TRANSFORMS, "torch"),
    "_MultiProcessingDataLoaderIter._shutdown_workers": (
        InternalUse.LOADERS,
        "torch.utils.data.dataloader",
    ),
}
"""The use of each internal, and its module. A name may include attributes."""


class MissingInternal(RuntimeError):
    """This torch has no such internal."""


@lru_cache(maxsize=len(TABLE))
def find(name: str) -> Any:
    """Return the internal of this name in ``TABLE``. Raises MissingInternal."""
    use, module = TABLE[name]
    try:
        return resolve_name(f"{module}:{name}")
    except (ImportError, AttributeError) as error:
        reason = f"torch {torch.__version__} has no {module}.{name}: {use.value}"
        raise MissingInternal(reason) from error


def names_of(use: InternalUse) -> list[str]:
    return [name for name, (own, _) in TABLE.items() if own is use]


@lru_cache(maxsize=len(InternalUse))
def missing(use: InternalUse) -> str | None:
    """Return a message on the internal that a use lacks, or None if all are there."""
    try:
        for name in names_of(use):
            find(name)
    except MissingInternal as error:
        return str(error)
    return None


def has(use: InternalUse) -> bool:
    """True if all internals of a use are there; otherwise one notice says what is lost."""
    message = missing(use)
    if message is not None:
        notice(message)
    return message is None


@lru_cache(maxsize=64)
def notice(text: str) -> None:
    """Warn, once per text."""
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def hooking(register: Function) -> Function:
    """Make a method of a fused layer that registers hooks warn of the inputs that a user's hook sees."""

    @wraps(register)
    def call(layer: Any, hook: Any, *args: Any, **kwargs: Any) -> Any:
        module = str(getattr(getattr(hook, "func", hook), "__module__", ""))
        if layer._is_group and not module.startswith("danetc."):
            notice(
                "this layer also computes the norms and the sum before its neuron: hooks see the terms of the sum "
                "before the norms as its inputs, not the input of the neuron; the output is that of the neuron. "
                'Build the model with backend="eager" to see both'
            )
        return register(layer, hook, *args, **kwargs)

    return cast(Function, call)


# -- compiled kernels ------------------------------------------------------------------------------


Boxed = Callable[[list[Tensor]], Sequence[Tensor]]
"""A compiled function, which empties the list of its arguments."""


def generate(graph: Any, examples: Sequence[Tensor], settings: dict[str, Any]) -> tuple[str, Boxed]:
    """Have Inductor compile a graph in this process; return its code and the code's function."""
    with find("config.patch")({**settings, "compile_threads": 1}):
        made = find("compile_fx_inner")(graph, examples, is_inference=True)
    return made.source_code, made.current_callable


def load_code(text: str) -> Boxed:
    """Return the function of code that ``generate`` wrote; this process compiles what Triton has not stored."""
    with find("config.patch")(compile_threads=1):
        run: Boxed = find("PyCodeCache.load")(text).call
    return run


def constant(function: Function) -> Function:
    """As ``torch.compiler.assume_constant_result``, without importing the compiler, which takes a second."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


# -- tensors ---------------------------------------------------------------------------------------


def version(x: Tensor) -> int | None:
    """Return the version counter of ``x``, or None if it is not known."""
    return x._version if has(InternalUse.SHARED_BITS) else None


def base(x: Tensor) -> Tensor | None:
    """Return the tensor that ``x`` is a view of, or None."""
    return x._base if has(InternalUse.SHARED_BITS) else None


# -- transforms and modes --------------------------------------------------------------------------


def is_transformed() -> bool:
    """True inside a transform of torch.func or forward-mode differentiation."""
    if torch.compiler.is_compiling() or not has(InternalUse.TRANSFORMS):
        return False
    return (
        torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    )


def is_traced(*values: object) -> bool:
    """True while torch compiles, exports, traces (torch.jit, or torch.fx by one of the ``values``) or transforms the
    caller, which must then run operations of torch alone."""
    if torch.compiler.is_compiling() or any([isinstance(x, fx.Proxy) for x in values]):  # noqa: C419
        return True
    return has(InternalUse.TRANSFORMS) and (  # (in one function: each layer asks)
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


def is_backward_transformed(grad: Tensor) -> bool:
    """True in a backward pass that will be differentiated again or transformed."""
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


def has_modes() -> bool:
    """True inside a mode that observes or replaces each operation, such as FakeTensorMode."""
    return has(InternalUse.TRANSFORMS) and (
        torch._C._len_torch_dispatch_stack() > 0 or torch._C._len_torch_function_stack() > 0
    )


def is_fake(x: Tensor) -> bool:
    """True for a tensor of FakeTensorMode."""
    return type(x) not in _PLAIN and getattr(x, "fake_mode", None) is not None


def is_known(x: Tensor) -> bool:
    """True unless ``x`` is of a tensor subclass other than that of fake tensors."""
    return type(x) in _PLAIN or is_fake(x)


def has_values(x: Tensor) -> bool:
    """True if native code may access the memory of ``x``: no subclass, and no mode that observes operations."""
    return type(x) in _PLAIN and not has_modes()


# -- modules ---------------------------------------------------------------------------------------


def blank(module: nn.Module) -> Any:
    """Return an empty module of the same class."""
    kind: Any = type(module)
    return kind.__new__(kind)


def fill(
    twin: Any,
    module: nn.Module,
    tensor: Callable[[Tensor], Tensor],
    child: Callable[[nn.Module], nn.Module],
) -> None:
    """Make ``twin`` a copy of ``module`` without hooks, with tensors and children mapped by two functions."""
    twin.__dict__.update(module.__dict__)
    twin.__dict__.update({name: {} for name in HOOKS})
    twin.__dict__.pop("forward", None)  # one that was set on this object alone
    for name in ("_parameters", "_buffers"):
        own = module.__dict__[name]
        twin.__dict__[name] = {k: v if v is None else tensor(v) for k, v in own.items()}
    twin.__dict__["_modules"] = {k: child(v) for k, v in module.named_children()}


@lru_cache(maxsize=1)
def global_hooks() -> tuple[Mapping[int, Any], ...]:
    """Return the tables of hooks that run for every module; torch updates them in place."""
    if not has(InternalUse.GLOBAL_HOOKS):
        return ()
    return tuple(map(find, names_of(InternalUse.GLOBAL_HOOKS)))


# -- measuring -------------------------------------------------------------------------------------


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
    """Return the seconds of a backward pass that DDP waited for other processes."""
    if not has(InternalUse.COMMUNICATION):
        return None
    found: Mapping[str, Any] = shared._get_ddp_logging_data()
    total = found.get("avg_backward_comm_time", 0)
    hidden = found.get("avg_backward_compute_comm_overlap_time", 0)
    return max(0.0, float(total) - float(hidden)) / 1e9


def end_workers(loader: Any) -> None:
    """End the persistent workers of a DataLoader. Raises RuntimeError if one of them has died."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is None or not has(InternalUse.LOADERS):
        return
    try:
        iterator._shutdown_workers()
    finally:
        loader._iterator = None
