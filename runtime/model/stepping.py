"""One time step of a model as generated code, written from the graphs of all its scopes.

Every value is a sequence of one step [1, N, ...], or [N, ...] if it does not vary. A layer with a state reads it from
the states before the step and writes the next one to those after it, under its qualified name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from operator import getitem
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from danetc.runtime.kernels.torch_internals import HOOKS, notice
from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.registered import has_hooks
from danetc.runtime.layers.time import Learnt

States = dict[str, Any]
"""States of a network between two steps: those of its neurons by qualified name, and the number of steps so far
under ``STEP``."""

STEP = "#step"
StepCode = Callable[..., Any]
"""Function of the model, the states before, a dictionary for the states after, and the frames."""


_UNDER_WAY: ContextVar[bool | None] = ContextVar("whether a step is not the first", default=None)


@contextmanager
def step_under_way(first: bool) -> Iterator[None]:
    """Mark a single step, for which layers may use a faster implementation."""
    before = _UNDER_WAY.set(not first)
    try:
        yield
    finally:
        _UNDER_WAY.reset(before)


def is_step_under_way() -> bool:
    return _UNDER_WAY.get() is not None


def is_later_step() -> bool:
    """True during a step that is not the first of its stream."""
    return _UNDER_WAY.get() is True


_CODES: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], StepCode]] = WeakKeyDictionary()
"""Ids of the layers of a model, and the code that calls them."""


def step_code(model: fx.GraphModule, first: bool) -> StepCode:
    """Return the code of one step, for the layers that the model has at the ``first`` step."""
    known = _CODES.get(model)
    if known is None or first:
        named = dict(model.named_modules())
        for name, scope in named.items():
            if isinstance(scope, fx.GraphModule) and any(scope.__dict__[each] for each in HOOKS):
                notice(
                    f"hooks of {f'`{name}`' if name else 'the model'} do not run in a stream, which "
                    "calls the layers in it one by one: register them on a layer"
                )
        layers = tuple(map(id, named.values()))
        if known is None or known[0] != layers:
            known = _CODES[model] = layers, _written(model)
    return known[1]


def frame(y: Tensor, rank: int) -> Tensor:
    """Remove the time dimension of [1, N, ...]; [N, ...] is returned unchanged."""
    return y.squeeze(0) if y.dim() == rank + 2 else y


def _written(model: fx.GraphModule) -> StepCode:
    writer = _Writer()
    given = model.graph.find_nodes(op="placeholder")
    inputs = [writer.graph.placeholder(node.name) for node in given]
    for placed in inputs:  # an input may be called `before`
        placed.target = placed.name
    writer.graph.output(writer.scope(model, "", inputs))
    return compiled_graph(writer.graph)


def compiled_graph(graph: fx.Graph) -> Callable[..., Any]:
    """Return the code of a graph, which takes a module before the inputs."""
    code = graph.python_code("self")
    namespace: dict[str, Any] = dict(code.globals)
    exec(compile(code.src, "<graph>", "exec"), namespace)
    found: Callable[..., Any] = namespace["forward"]
    return found


class _Writer:
    """Writes the nested scopes of a model as one flat graph."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.before = self.graph.placeholder("before")
        self.after = self.graph.placeholder("after")

    def scope(self, scope: fx.GraphModule, prefix: str, inputs: Sequence[Any]) -> Any:
        """Write the nodes of a scope, with ``prefix`` before the names of modules; return its output."""
        placeholders = scope.graph.find_nodes(op="placeholder")
        values: dict[fx.Node, Any] = dict(zip(placeholders, inputs, strict=True))
        for node in scope.graph.nodes:
            args: Any = fx.map_arg(node.args, values.__getitem__)
            is_item = node.target is getitem and isinstance(args[0], tuple | list)  # of a scope's
            match node.op:
                case "placeholder":
                    pass
                case "output":
                    return args[0]
                case "call_module":
                    values[node] = self._module(scope, prefix, node, args)
                case "get_attr":
                    values[node] = self.graph.create_node("get_attr", f"{prefix}{node.target}")
                case "call_method" if node.target in _LEADING:
                    values[node] = self.graph.call_function(_LEADING[str(node.target)], args)
                case "call_function" if is_item:
                    values[node] = args[0][args[1]]
                case "call_function" if node.target is torch.ops.danetc.latency.default:
                    values[node] = self.graph.call_function(_code_now, (self.before, *args))
                case _:
                    values[node] = self.graph.node_copy(node, values.__getitem__)
        raise ValueError("a scope has no output")

    def _module(
        self, scope: fx.GraphModule, prefix: str, node: fx.Node, args: Sequence[Any]
    ) -> Any:
        target = str(node.target)
        module, name = scope.get_submodule(target), prefix + target
        if isinstance(module, fx.GraphModule):
            return self.scope(module, f"{name}.", args)
        match module:
            case _ if hasattr(module, "advance") and hasattr(module, "rank"):
                call = _advanced(module, name)
            case _ if hasattr(module, "over_time"):
                call = _looped(module, name.removesuffix(name.rpartition(".")[2]))
            case Learnt():
                call = lambda before, after: module.at(before.get(STEP, 0))  # noqa: E731
            case nn.GroupNorm() | nn.InstanceNorm2d() | nn.SyncBatchNorm():
                call = _called_on_maps(module)
            case nn.BatchNorm2d() if not isinstance(module, StaticBatchNorm2d):
                call = _called_on_maps(module)
            case _:
                call = lambda before, after, *inputs: module(*inputs)  # noqa: E731
        return self.graph.call_function(call, (self.before, self.after, *args))


# -- what the code calls ---------------------------------------------------------------------------


Call = Callable[..., Any]
"""A function of the states before, a dictionary for the states after, and the inputs of its layer. (A look-up of the
layer by name would take longer than many layers.)"""


def _advanced(module: Any, name: str) -> Call:
    """One step of a layer with a state."""
    rank = getattr(module, "input_rank", module.rank)

    def step(before: States, after: States, *inputs: Tensor) -> Tensor:
        y, state = module.advance([frame(x, rank) for x in inputs], before.get(name))
        if state is not None:
            after[name] = state
        result: Tensor = y.unsqueeze(0)
        return result

    def advanced(before: States, after: States, *inputs: Tensor) -> Tensor:
        if has_hooks(module):
            return _hooked(module, partial(step, before, after), inputs)
        return step(before, after, *inputs)

    return advanced


def _hooked(module: Any, forward: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Call a layer with its hooks for one step; they get sequences of that step."""
    own = module.__dict__
    before = {"forward": own["forward"]} if "forward" in own else {}
    own["forward"] = forward
    try:
        result: Tensor = module(*inputs)
    finally:
        del own["forward"]
        own.update(before)
    return result


def _looped(loop: Any, scope: str) -> Call:
    """One step of a loop over time, whose states are named relative to its scope."""

    def looped(before: States, after: States, *inputs: Tensor) -> Any:
        frames = [frame(x, rank) for x, rank in zip(inputs, loop.ranks, strict=True)]
        known = {name: before[scope + name] for name in loop.memory if scope + name in before}
        values, memory = loop.stream(frames, known)
        after.update({scope + name: value for name, value in memory.items()})
        steps = [value.unsqueeze(0) for value in values]
        return steps[0] if len(steps) == 1 else tuple(steps)

    return looped


def _called_on_maps(module: nn.Module) -> Call:
    """Call a norm of torch, which takes maps [N, C, H, W] only."""

    def called(before: States, after: States, x: Tensor) -> Any:
        return module(x.squeeze(0)).unsqueeze(0) if x.dim() == 5 else module(x)

    return called


def _flatten(x: Tensor, start: int, end: int) -> Tensor:
    """``x.flatten(0, end)``, but by ``squeeze`` for one step, which keeps the strides of channels last."""
    return x.squeeze(0) if len(x) == 1 and x.dim() + end == 1 else x.flatten(start, end)


def _unflatten(x: Tensor, start: int, lead: torch.Size) -> Tensor:
    """``x.unflatten(0, lead)``."""
    return x.unsqueeze(0) if len(lead) == 2 and lead[0] == 1 else x.unflatten(start, lead)


_LEADING: dict[str, Call] = {"flatten": _flatten, "unflatten": _unflatten}
"""Replacements of ``flatten`` and ``unflatten``, with which scopes join and split T and N."""


def _code_now(before: States, x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """The current step of the code of a whole sequence."""
    now = before.get(STEP, 0)
    code: Tensor = torch.ops.danetc.latency(frame(x, rank), steps, rank, tau)
    return code[now : now + 1] if now < steps else torch.zeros_like(code[:1])
