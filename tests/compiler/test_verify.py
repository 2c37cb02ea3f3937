"""The fields of the table of operations, and graphs broken by hand, which the verifier catches."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.analysis.verify import InvariantError, verify
from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS, REQUIRED
from danetc.dsl.kinds import SPIKE, Kind
from danetc.dsl.ranges import constant
from tests.compiler.test_lower import node as node_of
from tests.differential.helpers import text
from tests.differential.networks import small

SPEC = "use std\n" + small(
    "(stage(basic(4), 4) -> stage(basic(8), 3, stride = 2)) via origin by densely_additive"
)
LOOPED = """use std
network n {
  input = events(2, 4, 4); steps = 2; neuron = IF; surrogate = atan
  h = (in + (h -> delay(1) -> conv(2))) -> spike
  out = h -> linear(2)
}"""


def _with(path: str, text: str = SPEC, **fields: Any) -> Callable[[], Graph]:
    """Build the graph with other fields of one node. Fields of ``Value`` change the value of the node."""

    def broken() -> Graph:
        graph = graph_of(check_text(text), passes=())
        node = node_of(graph, path)
        names = fields.keys() & {"shape", "kind", "varies"}
        value = replace(node.value, **{name: fields[name] for name in names})
        others = {name: fields[name] for name in fields.keys() - names}
        changed = replace(node, value=value, **others)
        return replace(graph, nodes={**graph.nodes, node.id: changed})

    return broken


def _key() -> Graph:
    graph = check_text(SPEC).graphs["net"]
    return replace(graph, nodes={id + 1: node for id, node in graph.nodes.items()})


def _late() -> Graph:
    graph = check_text(SPEC).graphs["net"]
    return replace(graph, nodes=dict(reversed(graph.nodes.items())))


def _carries(source: str) -> Graph:
    graph = check_text(LOOPED).graphs["n"]
    found = {node_of(graph, "h.delay").id: node_of(graph, source).id} if source else {}
    return replace(graph, carries=found)


def _shares(op: str) -> Graph:
    """A graph in which two layers of different operations or sizes share their weights."""
    graph = check_text(SPEC).graphs["net"]
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
    "shape": (_with("stem.norm", shape=(5, 8, 8)), "stem.norm` (<text>:6:9)", "its operands give"),
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


def test_every_row_says_what_a_reader_asks() -> None:
    for row in OPS.values():
        assert row.meaning, row.name
        for parameter in row.parameters:
            assert parameter.meaning, f"{row.name}: {parameter.name}"
        if row.bare:
            assert row.bare in OPS
            assert any(item.default is REQUIRED for item in row.parameters), row.name
        joins = row.operands[1] not in (0, 1) and not row.arguments
        assert joins == bool(row.sign), f"{row.name}: a join has a sign"


FLOW = """network n {{
  input = image(4, 6, 6); steps = 3; neuron = IF; surrogate = atan
  s = in -> latency -> conv(4) -> spike
  out = {flow} -> linear(2) -> mean_over_time
}}"""
ROWS = [
    ("conv(4, over = time)", "conv 3 over T, 4", 1728, 0.0),
    ("conv(4, 5, over = time, padding = same, groups = 2)", "conv 5 over T, 2 ahead, 4 groups 2", 1440, 0.0),
    ("linear(over = time)", "linear over T ", 432, None),
    ("linear(over = time, window = 2)", "linear over T, window 2", 288, None),
    ("linear(over = time, window = 2, masked = 0.5)", "linear over T, window 2 masked 0.5", 432, None),
    ("linear(over = time, bias = false)", "linear over T ", 432, 0.0),
    ("conv_transposed(2)", "conv T 2×2 2 ×2", 1152, 0.0),
    ("batchnorm(pad = 1)", "BN ", 0, 0.0),
    ("batchnorm(init = 0.5, per_step = true)", "BN per step ×0.5", 0, 0.0),
    ("batchnorm(statistics = cumulative)", "BN of steps 0 to t ", 0, 0.0),
    ("groupnorm(2)", "GN 2", 0, 0.0),
    ("pad(1, 2)", "pad 1, 2 ", 0, 0.0),
    ("upsample(rows = 9, columns = 9)", "resize 9×9 ", 0, 0.0),
    ("softmax(over = time)", "softmax over T ", 0, None),
    ("pad(1, 2, over = rows) -> swap(rows, columns)", "rows ↔ columns ", 0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "label", "macs", "of_zero"), ROWS)
def test_label_cost_and_zero(flow: str, label: str, macs: int, of_zero: float | None) -> None:
    graph = text(FLOW.format(flow=f"s -> {flow}"))
    nodes = list(graph.nodes.values())
    node = nodes[[each.op for each in nodes].index("flatten") - 1]
    row = OPS[node.op]
    assert " ".join(row.label(node.attrs)) == label
    assert macs_of(graph, node) == macs
    assert row.of_constant(node.attrs, 0.0) == of_zero


def test_like_branches_are_paired_by_a_guess_that_is_proved() -> None:
    flow = "(s -> conv(4) -> spike) + (s -> conv(4) -> spike)"
    graph = text(FLOW.format(flow=f"({flow})"), ())
    found = compare_graphs(graph, graph)
    assert isinstance(found, Same)
    assert len(found.weights) == 4
