"""Loops over time: lowering of definitions that depend on themselves through a delay."""

import pytest

from danetc.compiler import check_text
from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.loops import loops
from tests.compiler.error_cases import LOOP, errors
from tests.compiler.test_lower import node
from tests.differential.helpers import text
from tests.differential.networks import small

END = "avgpool -> mean_over_time -> linear(3)"


def lowered(lines: str, more: str = "") -> Graph:
    return check_text(LOOP.replace("LINES", lines) + more).graphs["n"]


CARRIED = [
    ("h = ((in -> conv(4)) + (h -> delay(1) -> conv(4))) -> spike", "4x8x8 spike varying"),
    ("h = (h -> delay(1) -> conv(2)) + in", "2x8x8 analog varying"),
    ("h = concat(in, h -> delay(1)) -> conv(5, stride = 1) -> spike", "5x8x8 spike varying"),
    ("h = max(in, h -> delay(1))", "2x8x8 analog varying"),
    ("h = (in -> conv(4)) * (h -> delay(1) -> avgpool -> sigmoid)", "4x8x8 analog varying"),
    ("h = ((in -> linear(6)) + (h -> delay(1) -> linear(6))) -> spike", "6 spike varying"),
    ("h = (in -> spike) * (h -> delay(1, like = in))", "2x8x8 0 .. 0 varying"),
    ("h = (in -> spike) + 0.5 * (h -> delay(1))", "2x8x8 analog varying"),
    ("h = max(in -> spike, h -> delay(1))", "2x8x8 spike varying"),
    ("h = (in -> spike) - (h -> delay(1)) * (in -> spike)", "2x8x8 analog varying"),
]


@pytest.mark.parametrize(("lines", "expected"), CARRIED)
def test_what_a_loop_carries(lines: str, expected: str) -> None:
    graph = lowered(f"{lines}\n  out = h -> {'linear(3)' if 'linear' in lines else END}")
    assert str(node(graph, "h.delay").value) == expected
    verify(graph)


def test_a_network_of_several_lines_is_one_loop() -> None:
    graph = lowered(f"a = in + (b -> delay(2) -> conv(2))\n  b = a -> spike\n  out = b -> {END}")
    (loop,) = loops(graph)
    assert [graph[id].path for id in loop.members] == ["a.delay", "a.conv", "a.add", "b.spike"]
    assert loop.scope == ()
    assert graph.carries == {node(graph, "a.delay").id: node(graph, "b.spike").id}


def test_what_is_delayed_twice_is_carried_once() -> None:
    graph = lowered(
        "a = (in + (h -> delay(1))) -> conv(2)\n  h = (a + (h -> delay(1)) + (h -> delay(2))) -> spike"
        f"\n  out = h -> {END}"
    )
    assert sorted(graph[id].attrs["steps"] for id in graph.carries) == [1, 2]  # type: ignore[type-var]


def test_a_delay_that_closes_no_loop_is_one_as_any_other() -> None:
    """The names form a loop in the text, but the condition removes it."""
    graph = lowered(
        f"a = in + (b -> delay(1))\n  b = (a if steps > 5 else in) -> conv(2)\n  out = a -> {END}"
    )
    assert not graph.carries
    found = node(graph, "a.delay")
    assert (found.op, [graph[i].path for i in found.inputs]) == ("delay", ["b.conv"])
    order = list(graph.nodes)
    assert all(order.index(i) < order.index(n.id) for n in graph.nodes.values() for i in n.inputs)
    verify(graph)


def test_the_kind_of_a_delay_in_no_loop_is_that_of_its_value() -> None:
    """In the text the first delay may close a loop, so the kind of the second one is unknown at first."""
    back = """rule back {
      in[0] = in + (in -> delay(1)); in[i] = max(out[i - 1], out[n - 1] -> delay(1))
      result = out[n - 1] + (out[0] -> delay(1)) }"""
    settings = "neuron = IF; norm = groupnorm(groups = 1)"
    graph = text(small("stage(basic(4), 2) via sew by back", settings=settings, more=back), ())
    delays = [each for each in graph.nodes.values() if each.op == "delay"]
    assert [str(each.value) for each in delays] == ["4x8x8 spike varying", "4x8x8 0 .. 3 varying"]
    verify(graph)


def test_blocks_of_a_stage_have_loops_of_their_own() -> None:
    graph = lowered(
        f"out = in -> conv(4) -> stage(cell, 3) -> {END}",
        "block cell { h = (in + (h -> delay(1))) -> spike; out = in + h }",
    )
    assert [loop.scope for loop in loops(graph)] == [
        ("stages", "0", "blocks", str(i), "h") for i in range(3)
    ]


def test_a_loop_in_a_loop_of_which_no_shape_is_known_at_first() -> None:
    graph = lowered(
        f"h = (in -> conv(4)) * (h -> delay(1) -> cell -> avgpool -> sigmoid)\n  out = h -> {END}",
        "block cell { h = in + (h -> delay(1)); out = h }",
    )
    carried = [str(n.value) for n in graph.nodes.values() if n.id in graph.carries]
    assert carried == ["4x8x8 analog varying"] * 2


BROKEN = [
    "g = (init = g -> delay(1))\n  out = g -> avgpool",  # the second `=` is the error
    "a = in + (b -> delay(1))\n  b = a -> nodewidth)\n  out = a -> avgpool",
    "a = in + (b -> delay(1))\n  b = a -> nodewidth)\n  out = in -> avgpool",
]


@pytest.mark.parametrize("lines", BROKEN)
def test_a_loop_of_a_name_that_a_syntax_error_explains(lines: str) -> None:
    """Only the syntax error is reported, and no error about the name or the rest of the loop."""
    found = errors(LOOP.replace("LINES", f"{lines} -> mean_over_time -> linear(10)"))
    assert {item.code for item in found} in ({"E0104"}, {"E0112"})
