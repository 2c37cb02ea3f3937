"""Graphs of torch.fx as lists, which pickle takes at any length.

GraphModule itself traces the code again when it is unpickled, which loses names, the order of children, indexing and
the meta of nodes. Here a graph is the list of its nodes; functions are pickled by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate, map_arg

Packed = list[tuple[Any, ...]]
"""Op, name, target, args, kwargs, type and meta of each node; references to nodes are ``_Node``."""

_OPERATOR = type(torch.ops.aten.relu.default)


@dataclass(frozen=True, slots=True)
class _Node:
    """A node by its number."""

    number: int


@dataclass(frozen=True, slots=True)
class _Operator:
    """An operator of ``torch.ops`` by its name."""

    namespace: str
    name: str
    overload: str


def pack(graph: fx.Graph) -> Packed:
    """A graph as a list."""
    number = {node: place for place, node in enumerate(graph.nodes)}

    def plain(value: Any) -> Any:
        return map_arg(value, lambda node: _Node(number[node]))  # type: ignore[arg-type, return-value]

    return [
        (
            node.op,
            node.name,
            _named(node.target),
            plain(node.args),
            plain(node.kwargs),
            node.type,
            dict(node.meta),
        )
        for node in graph.nodes
    ]


def unpack(packed: Packed) -> fx.Graph:
    """The graph of a list that ``pack`` made."""
    graph = fx.Graph()
    nodes: list[fx.Node] = []

    def node_of(value: Any) -> Any:
        return nodes[value.number] if isinstance(value, _Node) else value

    for op, name, target, args, kwargs, kind, meta in packed:
        if isinstance(target, _Operator):
            packet = getattr(getattr(torch.ops, target.namespace), target.name)
            target = getattr(packet, target.overload)
        args, kwargs = map_aggregate(args, node_of), map_aggregate(kwargs, node_of)
        node = graph.create_node(op, target, args, kwargs, name, kind)
        node.meta.update(meta)
        nodes.append(node)
    return graph


def _named(target: Any) -> Any:
    return _Operator(*str(target).split(".")) if type(target) is _OPERATOR else target
