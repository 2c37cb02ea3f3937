"""The verifier catches graphs that are broken by hand. (Good ones pass after each pass in ``test_passes``.)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from danetc.compiler import check_text
from danetc.compiler.analysis.verify import InvariantError, verify
from danetc.compiler.ir.graph import Graph
from danetc.dsl.kinds import SPIKE, Kind
from danetc.dsl.ranges import constant
from tests.compiler.lowered import node as node_of

SPEC = """use std

network n {
  input = image(3, 8, 8)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  norm = batchnorm
  stem = conv(4) -> norm -> spike
  stages = (stage(basic(4), 4) -> stage(basic(8), 3, stride = 2)) via origin by RULE
  head = avgpool -> mean_over_time -> linear(10)
}
"""
LOOPED = """use std
network n {
  input = events(2, 4, 4); steps = 2; neuron = IF; surrogate = atan
  h = (in + (h -> delay(1) -> conv(2))) -> spike
  out = h -> linear(2)
}"""


def spec(rule: str = "densely_additive") -> str:
    return SPEC.replace("RULE", rule)


# -- broken by hand --------------------------------------------------------------------------------


def _with(path: str, text: str = "", **fields: Any) -> Callable[[], Graph]:
    """Return the graph in which one node has other fields; those of ``Value`` change its value."""

    def broken() -> Graph:
        graph = check_text(text or spec()).graphs["n"]
        node = node_of(graph, path)
        of_value = {name: fields[name] for name in ("shape", "kind", "varies") if name in fields}
        value = replace(node.value, **of_value)
        others = {name: each for name, each in fields.items() if name not in of_value}
        changed = replace(node, value=value, **others)
        return replace(graph, nodes={**graph.nodes, node.id: changed})

    return broken


def _key() -> Graph:
    graph = check_text(spec()).graphs["n"]
    return replace(graph, nodes={id + 1: node for id, node in graph.nodes.items()})


def _late() -> Graph:
    graph = check_text(spec()).graphs["n"]
    return replace(graph, nodes=dict(reversed(graph.nodes.items())))


def _carries(source: str) -> Graph:
    graph = check_text(LOOPED).graphs["n"]
    found = {node_of(graph, "h.delay").id: node_of(graph, source).id} if source else {}
    return replace(graph, carries=found)


def _shares(op: str) -> Graph:
    """Two layers of other operations or sizes share their weights."""
    graph = check_text(spec()).graphs["n"]
    first = node_of(graph, "stem.conv")
    last = [node for node in graph.nodes.values() if node.op == op][-1]
    if op == "conv":
        graph = replace(graph, nodes={**graph.nodes, last.id: replace(last, attrs=first.attrs)})
    return replace(graph, shares={last.id: first.id})


BROKEN: dict[str, tuple[Callable[[], Graph], str, str]] = {
    "key": (_key, "input", "under the key"),
    "name": (_with("stem.norm", name="conv"), "stem.conv", "name of another node"),
    "scope": (_with("stem.norm", scope=("stages", "0"), name="blocks"), "stages.0.blocks", "scope"),
    "order": (_late, "head.linear", "does not come before it"),
    "operand": (_with("stem.conv", inputs=(0, 0)), "stem.conv", "2 operands"),
    "no operand": (_with("stem.conv", inputs=()), "stem.conv", "0 operands"),
    "attribute": (_with("stem.conv", attrs={"width": 4}), "stem.conv", "attributes"),
    "operation": (_with("stem.conv", op="convolve"), "stem.conv", "unknown operation"),
    "shape": (_with("stem.norm", shape=(5, 8, 8)), "stem.norm", "its operands give"),
    "kind": (_with("stem.norm", kind=SPIKE), "stem.norm", "its operands give"),
    "time": (_with("stem.norm", varies=False), "stem.norm", "its operands give"),
    "carried kind": (_with("h.delay", LOOPED, kind=Kind.of(constant(0.0))), "h.delay", "carries"),
    "carried shape": (_with("h.delay", LOOPED, shape=(3, 4, 4)), "h.delay", "carries"),
    "carried time": (_with("h.delay", LOOPED, varies=False), "h.conv", "its operands give"),
    "carries nothing": (lambda: _carries(""), "h.delay", "must carry a value"),
    "carries the input": (lambda: _carries("input"), "h.delay", "carries"),
    "shares another": (lambda: _shares("batchnorm"), "", "another layer"),
    "shares another size": (lambda: _shares("conv"), "", "its operands give"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_graph_broken_by_hand_is_caught(name: str) -> None:
    broken, path, words = BROKEN[name]
    with pytest.raises(InvariantError, match=words) as caught:
        verify(broken(), after="testing")
    assert str(caught.value).startswith(f"after testing: `{path}")


def test_a_fault_names_its_source_line() -> None:
    with pytest.raises(InvariantError, match=r"`stem\.norm` \(<text>:8:\d+\)"):
        verify(BROKEN["shape"][0]())


def test_a_norm_that_starts_at_zero_beside_a_shortcut_does_not_silence_the_block() -> None:
    verify(check_text(spec("chain").replace("via origin", "via ms")).graphs["n"])
    verify(check_text(spec("chain").replace("steps = 2", "zero_init = true")).graphs["n"])
