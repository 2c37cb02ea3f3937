"""Loops over time: how definitions that depend on themselves through a delay become graphs."""

from __future__ import annotations

import pytest

from danetc.compiler import check_text
from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.loops import loops
from danetc.dsl.diagnostics.diagnostic import Diagnostic
from tests.compiler import error_cases
from tests.compiler.lowered import node

END = "avgpool -> mean_over_time -> linear(3)"


def network(lines: str, more: str = "") -> str:
    return f"""use std
{more}
network n {{
  input = events(2, 8, 8); steps = 3; neuron = LIF; surrogate = atan
  {lines}
}}"""


def lowered(lines: str, more: str = "") -> Graph:
    return check_text(network(lines, more)).graphs["n"]


def errors(lines: str, more: str = "") -> list[Diagnostic]:
    return list(error_cases.errors(network(lines, more)))


# -- shapes and kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
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
    ],
)
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
    """By its text a loop, but the condition says otherwise."""
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
    """By its text the first delay may close a loop, so the kind of the second one is not known at first."""
    rule = "in[0] = in + (in -> delay(1)); in[i] = max(out[i - 1], out[n - 1] -> delay(1))"
    graph = check_text(f"""use std
rule back {{ {rule}; result = out[n - 1] + (out[0] -> delay(1)) }}
network n {{
  input = image(2, 6, 6) -> poisson; steps = 2; neuron = IF; surrogate = atan; norm = groupnorm(groups = 1)
  stem = conv(4) -> norm -> spike; stages = stage(basic(4), 2) via sew by back; head = {END}
}}""").graphs["n"]
    delays = [each for each in graph.nodes.values() if each.op == "delay"]
    assert [str(each.value) for each in delays] == ["4x6x6 spike varying", "4x6x6 0 .. 3 varying"]
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


# -- errors ----------------------------------------------------------------------------------------


def test_a_circle_without_a_delay_says_how_to_write_one() -> None:
    """Also where the delay stands inside of a block."""
    late = "block late { out = in -> delay(1) }"
    for line in ("h = (in + (h -> conv(2))) -> spike", "h = (in + (h -> late)) -> spike"):
        (found,) = errors(f"{line}\n  out = h -> linear(3)", late)
        assert (found.code, "h -> delay(1)" in (found.hint or "")) == ("E0211", True)


@pytest.mark.parametrize(
    ("lines", "code", "place"),
    [
        ("h = (h -> delay(1)) -> spike", "E0507", "delay(1)"),
        ("h = (in -> conv(4)) + (h -> delay(1) -> conv(3))", "E0501", ""),
        ("h = concat(in, h -> delay(1, like = in))", "E0507", "delay(1, like = in)"),
        ("h = (in + (h -> delay(1))) -> conv(2) -> norm", "E0506", "norm"),
        ("h = (in + (h -> delay(1))) -> tebn", "E0506", "tebn"),
        ("h = in + (h -> delay(1) -> mean_over_time)", "E0506", "mean_over_time"),
        ("h = in + (h -> delay(1) -> droppath(0.2))", "E0506", "droppath(0.2)"),
        ("h = in + (h -> delay(1) -> conv(kernel = 2, over = time))", "E0506", ""),
        ("h = in + (h -> delay(1) -> poisson)", "E0506", "poisson"),
        ("h = in + (h -> delay(0))", "E0305", "0"),
        ("h = in -> delay(1, like = 3)", "E0304", "3"),
        ("h = in -> delay(1, like = in -> avgpool)", "E0501", ""),
        ("g = g -> delay(1)\n  h = in", "E0308", "g"),
        ("h = conv(2) -> (h -> delay(1))", "E0401", ""),
    ],
)
def test_what_a_loop_may_not_be(lines: str, code: str, place: str) -> None:
    found = errors(f"{lines}\n  out = h -> {END}")
    assert [item.code for item in found] == [code]
    assert place in found[0].span.text
    assert found[0].hint or code in ("E0304", "E0305")


def test_a_loop_that_nothing_feeds() -> None:
    (found,) = errors(
        f"h = (h -> delay(1, like = in)) -> conv(2, bias = true)\n  out = (h + in) -> {END}"
    )
    assert (found.code, "reads only itself" in found.message) == ("E0506", True)


def test_a_loop_that_is_wrong_in_two_networks_is_reported_once() -> None:
    lines = """a = in -> conv(1) -> spike
  h = (a + (b -> delay(1, like = a))) -> tanh
  b = h -> conv(2)
  out = h -> linear(3)"""
    found = errors(lines, "network two = n { steps = 4 }")
    assert [each.code for each in found] == ["E0507"]


@pytest.mark.parametrize(
    "lines",
    [
        "g = (init = g -> delay(1))\n  out = g -> avgpool",  # the second `=` is the error
        "a = in + (b -> delay(1))\n  b = a -> nodewidth)\n  out = a -> avgpool",
        "a = in + (b -> delay(1))\n  b = a -> nodewidth)\n  out = in -> avgpool",
    ],
)
def test_a_loop_of_a_name_that_a_syntax_error_explains(lines: str) -> None:
    """Nothing is reported of the name, and what is left of the loop is no graph."""
    found = errors(f"{lines} -> mean_over_time -> linear(10)")
    assert {item.code for item in found} in ({"E0104"}, {"E0112"})


def test_nodes_grow_with_the_number_of_loops() -> None:
    """Also those of many looped blocks: not faster than their number."""
    cell = "block cell { h = (in + (h -> delay(1))) -> tanh; out = in + h }"
    few, many = (
        len(lowered(f"out = in -> stage(cell, {count}) -> conv(2)", cell).nodes)
        for count in (10, 1000)
    )
    assert (few - 2) * 100 == many - 2
