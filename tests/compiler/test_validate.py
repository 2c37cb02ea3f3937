"""What networkx finds wrong in a graph as a whole; every model that is built was looked at so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from danetc.compiler import check_text
from danetc.compiler.analysis.validate import validate
from danetc.compiler.analysis.verify import InvariantError
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph

from .test_verify import changed, node_of, spec

FREE = "stages.1.blocks.0.shortcut.conv"


@pytest.fixture
def graph() -> Graph:
    return check_text(spec()).graphs["n"]


@pytest.mark.parametrize(
    "rule",
    ["chain", "densely_additive", "densely_additive_all", "densely_additive_after_opening"],
)
def test_good_graphs_pass(rule: str) -> None:
    validate(check_text(spec(rule)).graphs["n"])


def _cycle(graph: Graph) -> Graph:
    return changed(
        graph,
        replace(node_of(graph, "stem.conv"), inputs=(node_of(graph, "stem.norm").id,)),
    )


def _unfed(graph: Graph) -> Graph:
    """A part of a sum that reads nothing."""
    return changed(graph, replace(node_of(graph, FREE), op="poisson", inputs=()))


def _apart(graph: Graph) -> Graph:
    """Two operations that read each other's values alone, and nobody theirs."""
    last, norm = max(graph.nodes), node_of(graph, "stem.norm")
    first = replace(norm, id=last + 1, inputs=(), name="alone")
    second = replace(norm, id=last + 2, inputs=(last + 1,), name="beside")
    return replace(graph, nodes={**graph.nodes, first.id: first, second.id: second})


def _output(graph: Graph) -> Graph:
    return replace(graph, outputs={"out": 9999})


BROKEN: dict[Callable[[Graph], Graph], str] = {
    _cycle: "no cycle: `stem.conv` (<text>:9:10) reads its own value, by way of stem.conv, stem.norm",
    _unfed: f"everything depends on the input: `{FREE}` (std/connections.danet:10:3) does not depend on the input",
    _apart: "`stem.alone` (<text>:8:10) does not depend on the input",
    _output: "`out` (<text>:4:11) does not depend on the input",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda item: item.__name__.strip("_"))
def test_a_graph_broken_by_hand_is_not_built(
    broken: Callable[[Graph], Graph], graph: Graph
) -> None:
    wrong = broken(graph)
    with pytest.raises(InvariantError) as caught:
        emit(wrong)
    assert BROKEN[broken] in str(caught.value)
