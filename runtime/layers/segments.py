"""Scopes that run segment by segment, each of which saves only its inputs (``recompute``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.kernels.torch_internals import constant, is_known, is_traced, notice
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.recompute import recomputed
from danetc.runtime.model.built import ScopeModule

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


class _Piece:
    """Consecutive nodes of a scope's graph: a segment, or nodes that belong to none."""

    def __init__(self, nodes: Sequence[fx.Node], segment: Segment | None) -> None:
        members = set(nodes)
        self.nodes = tuple(nodes)
        self.segment = segment
        reads = {source: None for node in nodes for source in node.all_input_nodes}
        self.inputs = tuple(source for source in reads if source not in members)
        self.outputs = tuple(n for n in nodes if any(user not in members for user in n.users))
        self.kinds: tuple[Kind, ...] = tuple(s.meta.get(KIND, ANALOG) for s in self.inputs)
        # Values to release after each node.
        last: dict[fx.Node, fx.Node] = {}
        for node in nodes:
            last[node] = node
            for source in node.all_input_nodes:
                last[source] = node
        self.done: dict[fx.Node, list[fx.Node]] = {node: [] for node in nodes}
        for source, node in last.items():
            if source not in self.outputs:
                self.done[node].append(source)
        self.targets = tuple(str(n.target) for n in nodes if n.op == "call_module")

    def run(self, scope: nn.Module, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the outputs for these inputs."""
        known: dict[fx.Node, Any] = dict(zip(self.inputs, values, strict=True))
        del values
        for node in self.nodes:
            args = fx.node.map_arg(node.args, known.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, known.__getitem__)
            match node.op:
                case "call_module":
                    known[node] = scope.get_submodule(str(node.target))(*args, **kwargs)
                case "call_function":
                    assert callable(node.target)
                    known[node] = node.target(*args, **kwargs)
                case "get_attr":
                    known[node] = attrgetter(str(node.target))(scope)
                case "call_method":
                    known[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
                case op:
                    raise ValueError(f"unexpected {op} inside a scope")
            del args, kwargs
            for source in self.done[node]:
                del known[source]
        return tuple(known[node] for node in self.outputs)


class _Plan:
    """A scope's graph, split at the borders of segments."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.inputs = tuple(node for node in graph.nodes if node.op == "placeholder")
        self.output = graph.output_node()
        nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
        self.pieces = tuple(
            _Piece(tuple(run), segment)
            for segment, run in groupby(nodes, lambda node: node.meta.get(SEGMENT))
        )
        last = {source: piece for piece in self.pieces for source in piece.inputs}
        # Values that a piece is the last to read.
        self.done = {
            piece: [source for source in piece.inputs if last[source] is piece]
            for piece in self.pieces
        }
        kept = set(self.output.all_input_nodes)
        self.done = {p: [n for n in done if n not in kept] for p, done in self.done.items()}


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
        return self._run(inputs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """Called by ``nn.Module.__call__``, and directly by torch.compile."""
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            _notice_plain("torch.export" if torch.compiler.is_exporting() else "torch.compile")
        return super()._call_impl(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScopeModule:
        self.__dict__.pop("_plan", None)  # it is made of this graph's nodes
        return super().__deepcopy__(memo)

    def __reduce__(self) -> tuple[Any, ...]:
        self.__dict__.pop("_plan", None)
        return super().__reduce__()

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        self._regroup()
        plan: _Plan | None = self.__dict__.get("_plan")
        if plan is None or plan.graph is not self.graph:
            plan = self.__dict__["_plan"] = _Plan(self.graph)
        known: dict[fx.Node, Any] = dict(zip(plan.inputs, inputs, strict=True))
        del inputs
        for piece in plan.pieces:
            values = [known[source] for source in piece.inputs]
            for source in plan.done[piece]:
                del known[source]
            known.update(zip(piece.outputs, self._run_piece(piece, values), strict=True))
        return fx.node.map_arg(plan.output.args[0], known.__getitem__)

    def _run_piece(self, piece: _Piece, values: list[Any]) -> tuple[Any, ...]:
        if piece.segment is None:
            return piece.run(self, values)
        called = [self.get_submodule(target) for target in piece.targets]
        modules = [each.step if isinstance(each, Loop) else each for each in called]
        groups = [self._groups[target] for target in piece.targets if target in self._groups]
        modules += [norm for group in groups for norm in group._norms if norm is not None]
        return recomputed(
            lambda given: piece.run(self, given),
            values,
            piece.kinds,
            modules,
            piece.segment.random,
        )
