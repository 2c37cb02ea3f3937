"""Equivalence of two networks: of their graphs or, if those differ, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from danetc.compiler.analysis.equivalence import (
    Different,
    Same,
    compare_graphs,
    weights_by_name_or_order,
)
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.segment import resized, smallest_map
from danetc.dsl.kinds import ANALOG
from danetc.errors import UserError
from danetc.tasks.inputs import taken, why_apart

if TYPE_CHECKING:
    from danetc.runtime.checks.agreement import Agreement

SIZES = (16, 32, 64, 96, 128)
"""Image sizes at which numbers are compared if the networks take images smaller than their own."""

SMALLEST_MAP = 9
"""Smallest number of pixels of a map with which agreement proves something: on a single pixel all
kernels look alike."""

IMAGES = 2


@dataclass(frozen=True)
class Numbers:
    """A numerical comparison, with weights paired by name or by order."""

    by: Literal["name", "order"]
    agreement: Agreement


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison. ``difference`` is None if the graphs are equal.

    ``skipped`` says why no numbers were compared although they could decide.
    """

    left: Graph = field(repr=False)
    right: Graph = field(repr=False)
    same: Same | None = None
    difference: Different | None = None
    numbers: Numbers | None = None
    skipped: str | None = None

    @property
    def word(self) -> Literal["equal", "equal in numbers", "different"]:
        if self.same is not None:
            return "equal"
        proved = self.numbers is not None and self.numbers.agreement.proves
        return "equal in numbers" if proved else "different"

    def pairs(self) -> list[tuple[Node, Node]]:
        """Return the corresponding layers of equal graphs: those with weights or random draws."""
        return [(self.left[a], self.right[b]) for a, b in self.same.weights] if self.same else []

    def as_dict(self) -> dict[str, object]:
        """Return the record that ``--json`` prints."""
        record: dict[str, object] = {
            "verdict": self.word,
            "left": self.left.name,
            "right": self.right.name,
        }
        if self.same is not None:
            nodes = [*self.same.weights, *self.same.nodes]
            record["to_the_bit"] = self.same.to_the_bit
            record["weights"] = [[a.path, b.path] for a, b in self.pairs()]
            record["nodes"] = [[self.left[a].path, self.right[b].path] for a, b in nodes]
        if self.difference is not None:
            found = self.difference
            record["reason"] = found.reason
            record["only_starts"] = found.only_starts
            record["first"] = {"left": _place(found.left), "right": _place(found.right)}
        if self.numbers is not None:
            seen = self.numbers.agreement
            record["numbers"] = {
                "weights_by": self.numbers.by,
                "input": list(seen.size),
                "outputs": seen.outputs,
                "gradients": seen.gradients,
                "unseen": list(seen.silent),
            }
        if self.skipped is not None:
            record["no_numbers"] = self.skipped
        return record


def _place(node: Node | None) -> dict[str, object] | None:
    if node is None:
        return None
    span = node.origin
    return {
        "node": node.path,
        "op": node.op,
        "path": span.source.name,
        "line": span.line,
        "column": span.column,
    }


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
    result = compare_graphs(left, right)
    if isinstance(result, Same):
        return Verdict(left, right, same=result)
    if not result.comparable:
        return Verdict(left, right, difference=result)
    why = _no_numbers(left, right, result) if numbers else "not asked for"
    if why is not None:
        return Verdict(left, right, difference=result, skipped=why)
    if find_spec("torch") is None:
        raise UserError(
            f"the graphs of {left.name} and {right.name} differ: {result.reason}. Whether a "
            "training step gives the same numbers needs torch, which is not installed; "
            "--no-numbers compares the graphs alone"
        )
    return Verdict(
        left, right, difference=result, numbers=_in_numbers(left, right, seed, on_progress)
    )


def _no_numbers(left: Graph, right: Graph, difference: Different) -> str | None:
    """Return why a numerical comparison would prove nothing, or None."""
    if difference.only_starts:
        return "with the same weights they are equal; they start from others"
    for graph in (left, right):
        node = next((n for n in graph.nodes.values() if OPS[n.op].random), None)
        if node is not None:
            return f"`{node.path}` of {graph.name} draws random numbers"
        if graph.packed is None:
            return f"{graph.name} {why_apart(graph)}"
    if weights_by_name_or_order(left, right) is None:
        return "the weights of one do not fit the other"
    return None


def _in_numbers(
    left: Graph, right: Graph, seed: int, on_progress: Callable[[str], object]
) -> Numbers:
    """Compare a training step of both with the same weights, first on small images, which show most
    differences, then on larger ones."""
    from torch import nn

    from danetc.compiler.emit.fx import emit
    from danetc.compiler.emit.names import dotted
    from danetc.runtime.checks.agreement import agreement

    matched = weights_by_name_or_order(left, right)
    assert matched is not None
    by, nodes = matched

    def parameters(model: nn.Module, node: Node) -> list[str]:
        path = dotted(*node.scope, node.name)
        return [f"{path}.{name}" for name, _ in model.get_submodule(path).named_parameters()]

    numbers: Numbers | None = None
    for small, other in _sizes(left, right):
        on_progress(f"a training step of both on {' x '.join(map(str, taken(small).shape))}")
        mine, twin = emit(small, seed), emit(other, seed)
        pairs = {
            name: matching
            for a, b in nodes
            for name, matching in zip(
                parameters(mine, small[a]), parameters(twin, other[b]), strict=True
            )
        }
        value = taken(small)
        size = (*((small.steps,) if value.varies else ()), IMAGES, *value.shape)
        kinds = [taken(graph).kind for graph in (small, other)]
        integers = [kind for kind in kinds if kind.is_integer]
        narrow = min(integers, key=lambda kind: kind.most, default=ANALOG)
        numbers = Numbers(by, agreement(mine, twin, pairs, size, seed, narrow))
        if not numbers.agreement.same:
            break
    assert numbers is not None
    return numbers


def _sizes(left: Graph, right: Graph) -> Iterator[tuple[Graph, Graph]]:
    """Yield the networks at the smallest size they take, and at one at which agreement proves something."""
    shape = taken(left).shape
    first = True
    for size in (size for size in SIZES if len(shape) == 3 and size < min(shape[1:])):
        small, other = resized(left, size, size), resized(right, size, size)
        if small is None or other is None:
            continue
        enough = min(smallest_map(small), smallest_map(other)) >= SMALLEST_MAP
        if first or enough:
            yield small, other
        first = False
        if enough:
            return
    yield left, right
