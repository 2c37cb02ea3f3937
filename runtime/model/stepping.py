"""One time step of a model as code: written from the graphs of its scopes, run without them.

Every value is a sequence of one step, [1, N, ...], or [N, ...] where it does not vary. A layer with a
state takes it out of what is remembered before the step, and puts the next one into what is
remembered after it, by its qualified name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from danetc.runtime.kernels.torch_internals import HOOKS, notice
from danetc.runtime.layers.learnt import Learnt
from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.registered import has_hooks

States = dict[str, Any]
"""What a network remembers between two steps: the states of its neurons by qualified name, and
under ``STEP`` how many steps it has taken."""

STEP = "#step"
StepCode = Callable[..., Any]
"""Takes the model, what is remembered before, where to put what is remembered after, and the frames."""


_UNDER_WAY: ContextVar[bool | None] = ContextVar("whether a step is not the first", default=None)


@contextmanager
def step_under_way(first: bool) -> Iterator[None]:
    """Within it, layers may do what is faster for one step than for all at once."""
    before = _UNDER_WAY.set(not first)
    try:
        yield
    finally:
        _UNDER_WAY.reset(before)


def is_step_under_way() -> bool:
    return _UNDER_WAY.get() is not None


def is_later_step() -> bool:
    """Whether a step is under way that is not the first of its stream."""
    return _UNDER_WAY.get() is True


@runtime_checkable
class Stepping(Protocol):
    """A layer that can run one time step after the other, with a state in between."""

    rank: int

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """One time step of what the layer takes, each [N, ...]: its output, and the state to hand to
        the next step. The state before the first is None."""


_CODES: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], StepCode]] = WeakKeyDictionary()
"""The code of a model, and of which layers it is (which it holds, so that no other has their number)."""


def step_code(model: fx.GraphModule, first: bool) -> StepCode:
    """The code of one step, written for the layers that the model has when it takes its ``first``."""
    known = _CODES.get(model)
    if known is None or first:
        named = dict(model.named_modules())
        _say_which_hooks_rest(named)
        layers = tuple(map(id, named.values()))
        if known is None or known[0] != layers:
            known = _CODES[model] = layers, _written(model)
    return known[1]


def _say_which_hooks_rest(named: Mapping[str, nn.Module]) -> None:
    for name, scope in named.items():
        if isinstance(scope, fx.GraphModule) and any(scope.__dict__[each] for each in HOOKS):
            notice(
                f"hooks of {f'`{name}`' if name else 'the model'} do not run in a stream, which calls the "
                "layers in it one by one: register them on a layer"
            )


def frame(y: Tensor, rank: int) -> Tensor:
    """[1, N, ...] without its one step; [N, ...] as it is."""
    return y.squeeze(0) if y.dim() == rank + 2 else y


def _written(model: fx.GraphModule) -> StepCode:
    for scope in model.modules():
        regroup: Callable[[], bool] | None = getattr(scope, "_regroup", None)
        if regroup is not None:
            regroup()
    writer = _Writer()
    inputs = [writer.graph.placeholder(node.name) for node in _placeholders(model)]
    for taken in inputs:  # its name in the code: an input may be called `before`
        taken.target = taken.name
    writer.graph.output(writer.scope(model, "", inputs))
    code = writer.graph.python_code("self")
    namespace: dict[str, Any] = dict(code.globals)
    exec(compile(code.src, "<one time step>", "exec"), namespace)
    written: StepCode = namespace["forward"]
    return written


def _placeholders(scope: fx.GraphModule) -> list[fx.Node]:
    return scope.graph.find_nodes(op="placeholder")


class _Writer:
    """The graph of a step as it grows: the scopes of a model, one inside the other, laid out flat."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.before = self.graph.placeholder("before")
        self.after = self.graph.placeholder("after")

    def scope(self, scope: fx.GraphModule, prefix: str, inputs: Sequence[Any]) -> Any:
        """Write a scope whose modules have ``prefix`` before their names; what it gives."""
        values: dict[fx.Node, Any] = dict(zip(_placeholders(scope), inputs, strict=True))

        def known(given: Any) -> Any:
            return fx.map_arg(given, values.__getitem__)

        for node in scope.graph.nodes:
            match node.op:
                case "placeholder":
                    pass
                case "output":
                    return known(node.args[0])
                case "call_module":
                    values[node] = self._module(scope, prefix, node, known(node.args))
                case "get_attr":
                    values[node] = self.graph.create_node("get_attr", f"{prefix}{node.target}")
                case "call_method" if node.target in _LEADING:
                    call = _LEADING[str(node.target)]
                    values[node] = self.graph.call_function(call, known(node.args))
                case "call_function" if node.target is operator.getitem:
                    values[node] = self._item(node, *known(node.args))
                case "call_function" if node.target is torch.ops.danetc.latency.default:
                    args = (self.before, *known(node.args))
                    values[node] = self.graph.call_function(_code_now, args)
                case _:
                    values[node] = self.graph.node_copy(node, values.__getitem__)
        raise ValueError("a scope gives nothing")

    def _item(self, node: fx.Node, values: Any, index: Any) -> Any:
        """What a scope gave is at hand here, one by one."""
        if isinstance(values, tuple | list):
            return values[index]
        return self.graph.call_function(operator.getitem, (values, index))

    def _module(
        self, scope: fx.GraphModule, prefix: str, node: fx.Node, args: Sequence[Any]
    ) -> Any:
        target = str(node.target)
        module, name = scope.get_submodule(target), prefix + target
        if isinstance(module, fx.GraphModule):
            return self.scope(module, f"{name}.", args)
        match module:
            case Stepping():
                call = _advanced(module, name, bool(node.kwargs.get("is_driven")))
            case _ if hasattr(module, "over_time"):
                call = _looped(module, name.removesuffix(name.rpartition(".")[2]))
            case Learnt():
                call = _learnt(module)
            case nn.GroupNorm() | nn.InstanceNorm2d() | nn.SyncBatchNorm():
                call = _called_on_maps(module)
            case nn.BatchNorm2d() if not isinstance(module, StaticBatchNorm2d):
                call = _called_on_maps(module)
            case _:
                call = _called(module)
        return self.graph.call_function(call, (self.before, self.after, *args))


# -- what the code calls ---------------------------------------------------------------------------


Call = Callable[..., Any]
"""Takes what is remembered before, where to put what is remembered after, and what a layer takes. It knows
its layer: to look layers up by their names in each step takes longer than many of them compute."""


def _advanced(module: Any, name: str, is_driven: bool = False) -> Call:
    """One step of a layer with a state; ``is_driven``: of a neuron that takes what drives it."""
    rank = getattr(module, "input_rank", module.rank)

    def step(before: States, after: States, *inputs: Tensor) -> Tensor:
        frames, known = [frame(x, rank) for x in inputs], before.get(name)
        if is_driven:
            y, state = module._advance_by(*frames, known)
        else:
            y, state = module.advance(frames, known)
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
    """Call a layer, with all of its hooks, for one step. They get sequences of that step."""
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
    """One step of a loop over time, whose memory has names from its scope on."""

    def looped(before: States, after: States, *inputs: Tensor) -> Any:
        frames = [frame(x, rank) for x, rank in zip(inputs, loop.ranks, strict=True)]
        known = {name: before[scope + name] for name in loop.memory if scope + name in before}
        values, memory = loop.stream(frames, known)
        after.update({scope + name: value for name, value in memory.items()})
        steps = [value.unsqueeze(0) for value in values]
        return steps[0] if len(steps) == 1 else tuple(steps)

    return looped


def _learnt(module: Learnt) -> Call:
    def learnt(before: States, after: States) -> Tensor:
        return module.at(before.get(STEP, 0))

    return learnt


def _called(module: nn.Module) -> Call:
    def called(before: States, after: States, *inputs: Any) -> Any:
        return module(*inputs)

    return called


def _called_on_maps(module: nn.Module) -> Call:
    """A norm of torch's that takes maps [N, C, H, W], in place of one that takes sequences as well."""

    def called(before: States, after: States, x: Tensor) -> Any:
        return module(x.squeeze(0)).unsqueeze(0) if x.dim() == 5 else module(x)

    return called


def _flatten(x: Tensor, start: int, end: int) -> Tensor:
    """``x.flatten(0, end)``. One step is taken off: its channels are seen to come last then, which
    ``flatten`` hides of one image."""
    return x.squeeze(0) if len(x) == 1 and x.dim() + end == 1 else x.flatten(start, end)


def _unflatten(x: Tensor, start: int, lead: torch.Size) -> Tensor:
    """``x.unflatten(0, lead)``."""
    return x.unsqueeze(0) if len(lead) == 2 and lead[0] == 1 else x.unflatten(start, lead)


_LEADING: dict[str, Call] = {"flatten": _flatten, "unflatten": _unflatten}
"""What scopes do to time and batch, T and N of [T, N, ...], for layers that know of neither."""


def _code_now(before: States, x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """This step's part of the code of a whole sequence."""
    now = before.get(STEP, 0)
    code: Tensor = torch.ops.danetc.latency(frame(x, rank), steps, rank, tau)
    return code[now : now + 1] if now < steps else torch.zeros_like(code[:1])
