"""Segments of a network that save only their inputs and run again in the backward pass.

The policy ``recompute`` runs each segment of a scope under ``torch.utils.checkpoint``. The autograd graph is the same as
with the policy ``none``, so outputs, gradients and buffers are equal bit for bit.

Inputs are packed into bits if they are whole numbers. The second run uses the random state, autocast and buffers of the
first, and does not write to buffers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.torch_internals import constant, is_known, is_traced, notice
from danetc.runtime.layers.leaf import ReadsWhatItMoves
from danetc.runtime.layers.loop import Loop
from danetc.runtime.model.built import ScopeModule
from danetc.runtime.model.stepping import compiled_graph

SEGMENT = "segment"
"""Key of a node's ``Segment`` in its meta."""
KIND = "kind"
"""Key of the ``Kind`` of a node's value in its meta."""
PLACE = "place"
"""Key of the name that messages give a node, in its meta."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by number. ``random`` says that it draws random numbers in training."""

    index: int
    random: bool = False


def _recomputed(
    run: Callable[..., tuple[Any, ...]],
    inputs: Sequence[Any],
    kinds: Sequence[Kind],
    modules: Sequence[nn.Module],
    random: bool,
) -> tuple[Any, ...]:
    """Return ``run(*inputs)``, saving only the inputs, packed according to their ``kinds``. ``modules`` are those that it
    calls; ``random`` says that it draws random numbers."""
    saved = [_save(value, kind) for value, kind in zip(inputs, kinds, strict=True)]
    device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
    owners = [module for top in modules for module in top.modules()]
    before: dict[tuple[nn.Module, str], Tensor] = {
        (module, name): buffer.clone()
        for module in owners
        if isinstance(module, ReadsWhatItMoves)
        for name, buffer in module.named_buffers(recurse=False)
    }
    modes = {module: module.training for module in owners}
    first = [inputs]

    def body(place: Tensor) -> tuple[Any, ...]:
        return run(*(first.pop() if first else [restore() for restore in saved]))

    outputs: tuple[Any, ...] = checkpoint(
        body,
        torch.empty(0, device=device),  # tells whose random state to save
        use_reentrant=False,
        preserve_rng_state=random,
        context_fn=lambda: (nullcontext(), SecondRun(modes, before)),
    )
    return outputs


class SecondRun:
    """Context of a second run of modules: they work on copies of their buffers, with the values ``before`` if those matter.

    ``modes`` are the modules with the mode (training or not) of their first run.
    """

    running: ClassVar[int] = 0
    """Number of contexts that are entered at this moment."""

    def __init__(
        self, modes: Mapping[nn.Module, bool], before: Mapping[tuple[nn.Module, str], Tensor]
    ) -> None:
        self.modes, self.before = modes, before

    def __enter__(self) -> None:
        if any(module.training != training for module, training in self.modes.items()):
            raise RuntimeError(
                "a segment runs again for the backward pass in another mode than before: change neither "
                "the mode (train, eval) nor the modules in between"
            )
        self.originals = {
            (module, name): buffer
            for module in self.modes
            for name, buffer in module.named_buffers(recurse=False)
        }
        for (module, name), buffer in self.originals.items():
            setattr(module, name, self.before.get((module, name), buffer).clone())
        SecondRun.running += 1

    def __exit__(self, *error: object) -> None:
        SecondRun.running -= 1
        for (module, name), buffer in self.originals.items():
            setattr(module, name, buffer)


def _save(value: Any, kind: Kind) -> Callable[[], Any]:
    """Save an input of a segment, packed if possible, and return a function that restores it."""
    if not isinstance(value, Tensor):
        return lambda: value
    needs = value.requires_grad
    saved = SavedTensor(value, kind)
    held = saved.save(value).detach()

    def restore() -> Tensor:
        x = saved.restore(held).detach()
        if saved.packs:
            saved.remember(x, held)
        return x.requires_grad_(needs)

    return restore


def _by_segments(graph: fx.Graph) -> Callable[..., Any]:
    """The code of a scope, which takes the scope twice and its inputs, and runs each segment by ``_recomputed``."""
    result = fx.Graph()
    scope = result.placeholder("scope_")
    known: dict[fx.Node, Any] = {}
    for segment, members in groupby(list(graph.nodes), lambda node: node.meta.get(SEGMENT)):
        nodes = list(members)
        if segment is None:
            for node in nodes:
                known[node] = result.node_copy(node, known.__getitem__)
            continue
        reads = dict.fromkeys(source for node in nodes for source in node.all_input_nodes)
        inputs = [source for source in reads if source not in nodes]
        outputs = [node for node in nodes if any(user not in nodes for user in node.users)]
        run = _segment(nodes, inputs, outputs, segment)
        values = result.call_function(run, (scope, *[known[source] for source in inputs]))
        for place, node in enumerate(outputs):
            known[node] = result.call_function(operator.getitem, (values, place))
    return compiled_graph(result)


def _segment(
    nodes: Sequence[fx.Node],
    inputs: Sequence[fx.Node],
    outputs: Sequence[fx.Node],
    segment: Segment,
) -> Callable[..., tuple[Any, ...]]:
    """A function of the scope and the inputs of a segment."""
    graph = fx.Graph()
    known = {source: graph.placeholder(source.name) for source in inputs}
    for node in nodes:
        known[node] = graph.node_copy(node, known.__getitem__)
    graph.output(tuple(known[node] for node in outputs))
    code = compiled_graph(graph)
    kinds = [source.meta.get(KIND, ANALOG) for source in inputs]
    targets = [str(node.target) for node in nodes if node.op == "call_module"]

    def segment_run(scope: Recomputed, *values: Any) -> tuple[Any, ...]:
        called = [scope.get_submodule(target) for target in targets]
        modules = [each.step if isinstance(each, Loop) else each for each in called]
        norms = [norm for each in called for norm in getattr(each, "_norms", ())]
        modules += [norm for norm in norms if norm is not None]
        return _recomputed(partial(code, scope), values, kinds, modules, segment.random)

    return segment_run


@constant
def _notice_plain(what: str) -> bool:
    """Report, once, that the policy has no effect."""
    notice(
        f"the memory policy `recompute` has no effect in what {what} makes of a model: nothing "
        "runs again there by our plan. Call the model itself to keep little (the backend `fused` "
        "compiles its kernels), or build it with memory='none'"
    )
    return True


class Recomputed(ScopeModule):
    """A scope that runs by segments, marked in the meta of its graph's nodes.

    It is a plain scope if no gradients are needed and, with a notice, if fx, torch.compile or torch.export trace the
    model: their result saves what its backward pass needs, or what their compiler chooses.
    """

    def __call__(self, *inputs: Any) -> Any:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return super().__call__(*inputs)
        if any([isinstance(x, Tensor) and not is_known(x) for x in inputs]):  # noqa: C419
            return super().__call__(*inputs)  # (a tensor subclass may not be packed)
        is_proxy = any(isinstance(x, fx.Proxy) for x in inputs)
        if is_traced() or is_proxy:
            _notice_plain("torch.fx" if is_proxy else "torch.func or torch.jit")
            return super().__call__(*inputs)
        graph, code = self.__dict__.get("_plan") or (None, None)
        if graph is not self.graph:
            graph, code = self.__dict__["_plan"] = self.graph, _by_segments(self.graph)
        assert code is not None
        return code(self, self, *inputs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """Called by ``nn.Module.__call__``, and directly by torch.compile."""
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            _notice_plain("torch.export" if torch.compiler.is_exporting() else "torch.compile")
        return super()._call_impl(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScopeModule:
        self.__dict__.pop("_plan", None)  # it is made of this graph's nodes
        return super().__deepcopy__(memo)
