"""Tracing of a model by torch.fx that computes the shape of every value.

Modules with a row in ``torch_model.MODULES`` are leaves; the code of other modules is traced. It can
use the shapes of tensors, but not their values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd import Function
from torch.fx.node import map_arg

from danetc.errors import UserError
from danetc.runtime.system.user_code import where_it_failed

VALUE, STEPS = "value", "steps"
"""Keys in the ``meta`` of a node: its value, and the nodes of its time steps by index."""

IsLeaf = Callable[[nn.Module], bool]
Check = Callable[[nn.Module, str], None]
"""Function of a module and its path that raises UserError if the module cannot be read."""


class ShapedProxy(fx.Proxy):
    """A value of a trace, with a known shape."""

    @property
    def value(self) -> Any:
        return self.node.meta[VALUE]

    @property
    def shape(self) -> torch.Size:
        shape: torch.Size = self.value.shape
        return shape

    @property
    def ndim(self) -> int:
        return int(self.value.ndim)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.value.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def size(self, dim: int | None = None) -> Any:
        return self.value.size() if dim is None else self.value.size(dim)

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return int(self.value.numel())

    def __getitem__(self, place: Any) -> Any:
        """Return a part. Reading a time step again returns the same node."""
        steps = self.node.meta.setdefault(STEPS, {})
        if not isinstance(place, int):
            return super().__getitem__(place)  # type: ignore[misc]
        if place not in steps:
            steps[place] = super().__getitem__(place)  # type: ignore[misc]
        return steps[place]

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))


@dataclass(frozen=True, eq=False)
class Spike:
    """A step function at 0, with the derivative of a ``torch.autograd.Function`` of the model.

    ``numbers`` contains the numbers in its other arguments.
    """

    derivative: Callable[[Tensor], Tensor]
    numbers: tuple[float, ...]
    __name__: str = "spike"

    def __call__(self, x: Tensor) -> Tensor:
        return (x >= 0).to(x.dtype)

    def slopes(self, places: Sequence[float]) -> tuple[float, ...]:
        """Return the derivative at some points."""
        return tuple(self.derivative(torch.tensor(places, dtype=torch.float64)).tolist())


class ShapedTracer(fx.Tracer):
    """Traces a model on the meta device, together with the shapes of its values."""

    def __init__(self, is_leaf: IsLeaf, check: Check, example: Tensor) -> None:
        super().__init__(autowrap_functions=())
        self.is_leaf = is_leaf
        self.check = check
        self.example = example
        self.computing = False  # True while values are computed, without tracing

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.is_leaf(m)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ShapedProxy(node, self)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self.computing:
            return forward(*args, **kwargs)
        self.check(m, self.path_of_module(m))
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:  # fmt: skip
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        node = proxy.node
        if kind == "placeholder":
            node.meta[VALUE] = node.args[0] if node.args else self.example
        elif kind != "output":
            self.computing = True
            try:
                self.value_of(node)
            finally:
                self.computing = False
        return proxy

    def value_of(self, node: fx.Node) -> Any:
        """Return the value of a node, computing it if necessary."""
        if VALUE not in node.meta:
            node.meta[VALUE] = self._computed(node)
        return node.meta[VALUE]

    def _computed(self, node: fx.Node) -> Any:
        args: Any = map_arg(node.args, self.value_of)
        kwargs: Any = map_arg(node.kwargs, self.value_of)
        target: Any = node.target
        with torch.no_grad():
            if node.op == "get_attr":
                return attrgetter(target)(self.root)
            if node.op == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            called = self.root.get_submodule(target) if node.op == "call_module" else target
            return called(*args, **kwargs)


def traced(
    model: nn.Module, is_leaf: IsLeaf, check: Check, example: Tensor, *, stateful: bool = False
) -> fx.Graph:
    """Return the graph of a model on the meta device, a ``stateful`` one without a given state. Raises
    UserError if it cannot be traced."""
    tracer = ShapedTracer(is_leaf, check, example)
    try:
        with _spikes_traced(tracer, model):
            parameters = [*inspect.signature(model.forward).parameters.values()]
            states = {item.name: None for item in parameters[1:] if item.default is None}
            return tracer.trace(model, concrete_args=states if stateful and states else None)
    except UserError:
        raise
    except fx.proxy.TraceError as error:
        raise UserError(
            f"the control flow depends on the values of a tensor ({error}), but danetc reads "
            "networks that run the same operations for every input. Move this code out of "
            "`forward`"
        ) from error
    except Exception as error:
        size = "x".join(map(str, example.shape))
        raise UserError(
            f"the model cannot be traced with an input of {size}: {where_it_failed(error)}"
        ) from error


# -- spike functions of a model --------------------------------------------------------------------


@contextmanager
def _spikes_traced(tracer: ShapedTracer, model: nn.Module) -> Iterator[None]:
    """Trace each ``torch.autograd.Function`` as one operation."""
    kinds = {
        kind
        for module in model.modules()
        for kind in getattr(type(module).forward, "__globals__", {}).values()
        if isinstance(kind, type) and issubclass(kind, Function) and kind is not Function
    }
    applied = {kind: kind.apply for kind in kinds}
    for kind in kinds:
        kind.apply = partial(_apply, tracer, kind.__name__, applied[kind])  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind in kinds:
            del kind.apply


def _apply(tracer: ShapedTracer, name: str, apply: Callable[..., Any], *given: Any) -> Any:
    if not any(isinstance(item, fx.Proxy) for item in given):
        return apply(*given)
    x, *others = given
    if not isinstance(x, fx.Proxy) or any(isinstance(item, fx.Proxy) for item in others):
        raise UserError(f"{name}: a custom autograd function must read one value")
    places = torch.tensor([-2.0, -1e-3, 0.0, 1e-3, 2.0], dtype=torch.float64)
    with torch.no_grad():
        steps = apply(places, *others)
    if not torch.equal(steps, (places >= 0).to(steps)):
        raise UserError(f"{name}: a custom autograd function must be a step function at 0")

    def derivative(at: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = at.clone().requires_grad_()
            (found,) = torch.autograd.grad(apply(leaf, *others).sum(), leaf)
        return found

    return tracer.create_proxy(
        "call_function", Spike(derivative, tuple(_numbers(others))), (x,), {}
    )


def _numbers(given: Sequence[Any]) -> Iterator[float]:
    """Yield the numbers in arguments, and in the attributes of modules."""
    for item in given:
        held = vars(item).values() if isinstance(item, nn.Module) else (item,)
        yield from (float(x) for x in held if isinstance(x, (int, float)) and type(x) is not bool)
