"""Equivalence of two networks: of their graphs or, if those differ, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from danetc.compiler.analysis.equivalence import (
    Different,
    Pairs,
    Same,
    compare_graphs,
    paired_weights,
    resized,
    smallest_map,
)
from danetc.compiler.ir.at_node import taken, why_apart
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import ANALOG
from danetc.errors import UserError

if TYPE_CHECKING:
    from danetc.runtime.checks.agreement import Agreement

SIZES = (16, 32, 64, 96, 128)  # image sizes for the numeric comparison. Small images save time
SMALLEST_MAP = 9
"""Smallest map, in pixels, on which agreement is evidence. On a single pixel, all kernels give the
same result."""
IMAGES = 2


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison.

    Attributes:
        found: Result of the comparison of the graphs.
        by: Criterion that was used to pair weights for the numerical comparison.
        numbers: Agreement of a training step, or None if there was no numerical comparison.
        skipped: Reason why different graphs were not compared numerically.
    """

    left: Graph = field(repr=False)
    right: Graph = field(repr=False)
    found: Same | Different
    by: Literal["name", "order"] | None = None
    numbers: Agreement | None = None
    skipped: str | None = None

    @property
    def word(self) -> Literal["equal", "equal in numbers", "different"]:
        if isinstance(self.found, Same):
            return "equal"
        return "equal in numbers" if self.numbers and self.numbers.proves else "different"

    def pairs(self) -> list[tuple[str, str]]:
        """Return the paths of corresponding layers of equal graphs: those with weights or random draws."""
        found = self.found.weights if isinstance(self.found, Same) else ()
        return [(self.left[a].path, self.right[b].path) for a, b in found]

    def as_dict(self) -> dict[str, object]:
        """Return the record that ``--json`` prints."""
        record: dict[str, object] = {"verdict": self.word}
        record |= {"left": self.left.name, "right": self.right.name}
        if isinstance(self.found, Same):
            record["weights"] = [list(pair) for pair in self.pairs()]
        else:
            record["reason"] = self.found.reason
            record["first"] = {"left": _place(self.found.left), "right": _place(self.found.right)}
        if self.numbers is not None:
            record["numbers"] = {"weights_by": self.by, **asdict(self.numbers)}
        if self.skipped is not None:
            record["no_numbers"] = self.skipped
        return record


def _place(node: Node | None) -> dict[str, object] | None:
    if node is None:
        return None
    span = node.origin
    place = {"path": span.source.name, "line": span.line, "column": span.column}
    return {"node": node.path, "op": node.op, **place}


def equivalence(
    left: Graph,
    right: Graph,
    *,
    numbers: bool = True,
    seed: int = 0,
    on_progress: Callable[[str], object] = lambda what: None,
) -> Verdict:
    """Compare two graphs as written (``graph_of(..., passes=())``).

    ``on_progress`` gets the next step. Imports torch only if the graphs differ, the weights of one fit
    the other, and ``numbers`` is True; raises UserError if it is not installed then.
    """
    found = compare_graphs(left, right)
    if isinstance(found, Same) or not found.comparable:
        return Verdict(left, right, found)
    by, pairs = paired_weights(left, right)
    skipped = _no_numbers(left, right, by) if numbers else "not asked for"
    if skipped is not None:
        return Verdict(left, right, found, skipped=skipped)
    if find_spec("torch") is None:
        raise UserError(
            f"the graphs of {left.name} and {right.name} differ: {found.reason}. Whether a "
            "training step gives the same numbers needs torch, which is not installed; "
            "--no-numbers compares the graphs alone"
        )
    return Verdict(left, right, found, by, _in_numbers(left, right, pairs, seed, on_progress))


def _no_numbers(left: Graph, right: Graph, by: str | None) -> str | None:
    """Return why a numerical comparison is not possible, or None."""
    for graph in (left, right):
        inner = (node for layer in graph.weight_layers.values() for node in layer.nodes.values())
        nodes = [*graph.nodes.values(), *inner]
        node = next((n for n in nodes if OPS[n.op].random or OPS[n.op].drawn), None)
        if node is not None:
            what = "is a layer in Python" if OPS[node.op].opaque else "draws random numbers"
            return f"`{node.path}` of {graph.name} {what}"
        if graph.packed is None:
            return f"{graph.name} {why_apart(graph)}"
    return "the weights of one do not fit the other" if by is None else None


def _in_numbers(
    left: Graph, right: Graph, pairs: Pairs, seed: int, on_progress: Callable[[str], object]
) -> Agreement:
    """Compare a training step of both with the same weights, on the smallest images that are evidence."""
    from danetc.compiler.emit.fx import emit
    from danetc.compiler.emit.names import dotted
    from danetc.runtime.checks.agreement import agreement

    shape = taken(left).shape
    for side in (side for side in SIZES if len(shape) == 3 and side < min(shape[1:])):
        small, other = resized(left, side, side), resized(right, side, side)
        if small and other and min(map(smallest_map, (small, other))) >= SMALLEST_MAP:
            left, right = small, other
            break
    value = taken(left)
    on_progress(f"a training step of both on {' x '.join(map(str, value.shape))}")
    models = emit(left, seed), emit(right, seed)
    names = (
        [
            f"{path}.{name}"
            for node in nodes
            for path in [dotted(*node.scope, node.name)]
            for name, _ in model.get_submodule(path).named_parameters()
        ]
        for model, nodes in zip(models, zip(*pairs, strict=True), strict=True)
    )
    size = (*((left.steps,) if value.varies else ()), IMAGES, *value.shape)
    integers = [kind for graph in (left, right) if (kind := taken(graph).kind).is_integer]
    narrow = min(integers, key=lambda kind: kind.most, default=ANALOG)
    return agreement(*models, dict(zip(*names, strict=True)), size, seed, narrow)
