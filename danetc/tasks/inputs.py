"""The input of a network that is given images of a data set, or random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from danetc.errors import UserError

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph, Value


def taken(graph: Graph) -> Value:
    """Return the value that holds all inputs, side by side along their channels. Raises UserError."""
    if graph.packed is None:
        raise UserError(f"{graph.name} {why_apart(graph)}")
    return graph.packed


def why_apart(graph: Graph) -> str:
    """Return why a network does not have exactly one input."""
    sizes = ", ".join(
        f"{node.name} {' x '.join(map(str, node.value.shape))}"
        f"{' at each step' if node.value.varies else ''}"
        for node in graph.inputs
    )
    return (
        f"takes inputs that one image cannot hold ({sizes}); give them one size and kind, or call the "
        f"model in Python: model({', '.join(node.name for node in graph.inputs)})"
    )
