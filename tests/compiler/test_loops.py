"""Loops over time: how definitions that depend on themselves through a delay become graphs."""

from __future__ import annotations

import pytest

from danetc.compiler import Checked, check_text, graph_of
from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loops
from danetc.compiler.ir.segment import resized
from danetc.compiler.ir.text import write
from danetc.compiler.lowering.networks import lower
from danetc.compiler.passes import run
from danetc.compiler.passes.recompute import plan_segments
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, SpecError
from danetc.dsl.loading import load_module
from danetc.dsl.syntax.source import SourceFile
from danetc.tasks.equivalence import equivalence

END = "avgpool -> mean_over_time -> linear(3)"


def network(lines: str, more: str = "", source: str = "events(2, 8, 8)") -> str:
    return f"""use std
{more}
network n {{
  input = {source}; steps = 3; neuron = LIF; surrogate = atan
  {lines}
}}"""


def checked(lines: str, more: str = "", source: str = "events(2, 8, 8)") -> Checked:
    return check_text(network(lines, more, source))


def lowered(lines: str, more: str = "", source: str = "events(2, 8, 8)") -> Graph:
    return checked(lines, more, source).graphs["n"]


def errors(lines: str, more: str = "", source: str = "events(2, 8, 8)") -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        checked(lines, more, source)
    return list(caught.value.diagnostics)


def node(graph: Graph, path: str) -> Node:
    (found,) = (node for node in graph.nodes.values() if node.path == path)
    return found


def value(graph: Graph, path: str) -> str:
    return str(node(graph, path).value)


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
    assert value(graph, "h.delay") == expected
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


def test_blocks_of_a_stage_have_loops_of_their_own() -> None:
    graph = lowered(
        f"out = in -> conv(4) -> stage(cell, 3) -> {END}",
        "block cell { h = (in + (h -> delay(1))) -> spike; out = in + h }",
    )
    assert [loop.scope for loop in loops(graph)] == [
        ("stages", "0", "blocks", str(i), "h") for i in range(3)
    ]


def test_a_copied_block_is_what_it_would_be() -> None:
    """Its input is of another kind than the block's that it might be copied from."""
    graph = lowered(
        f"out = in -> conv(4) -> spike -> stage(cell, 3) -> {END}",
        "block cell { h = max(in, h -> delay(1)); out = in + h }",
    )
    delays = [n for n in graph.nodes.values() if n.name == "delay"]
    assert [str(n.value.kind) for n in delays] == ["spike", "0 .. 2", "0 .. 4"]


def test_a_loop_in_a_loop_of_which_no_shape_is_known_at_first() -> None:
    graph = lowered(
        f"h = (in -> conv(4)) * (h -> delay(1) -> cell -> avgpool -> sigmoid)\n  out = h -> {END}",
        "block cell { h = in + (h -> delay(1)); out = h }",
    )
    carried = [str(n.value) for n in graph.nodes.values() if n.id in graph.carries]
    assert carried == ["4x8x8 analog varying"] * 2


def test_an_image_that_is_delayed_varies() -> None:
    graph = run(lowered(f"out = in -> delay(1) -> {END}", source="image(2, 8, 8)"))
    assert node(graph, "delay").value.varies
    assert graph[node(graph, "delay").inputs[0]].op == "repeat"


def test_passes_keep_loops() -> None:
    checked_ = checked(
        f"dead = in -> conv(3)\n  a = in -> conv(4) -> norm\n  h = (a + (h -> delay(1) -> conv(4)) + a)"
        f" -> spike\n  out = outputs(y = h -> {END}, z = dead -> {END})"
    )
    graph = graph_of(checked_)
    assert len(graph.carries) == 1
    assert "carry %" in write(graph)
    ((id, source),) = graph.carries.items()
    assert (graph[id].path, graph[source].path) == ("h.delay", "h.spike")
    assert resized(graph, 4, 4) is None


def test_a_segment_has_a_whole_loop_or_none_of_it() -> None:
    graph = lowered(
        f"a = in -> conv(4)\n  b = (a + (top -> delay(1))) -> stage(single(4), 2) via sewn\n"
        f"  top = b -> conv(4) -> spike\n  c = top -> stage(cell, 2)\n  out = c -> {END}",
        "block cell { h = (in + (h -> delay(1) -> conv(4))) -> spike; out = in + h }\n"
        "connection sewn { each = conv -> spike; out = shortcut + branch }",
    )
    of = plan_segments(graph).of
    kinds = [{of.get(id) for id in loop.members} for loop in loops(graph)]
    assert all(len(kind) == 1 for kind in kinds)
    assert {None} in kinds
    assert {None} not in kinds[1:]


def test_the_summary_counts_each_step() -> None:
    graph = lowered(f"h = (in + (h -> delay(1) -> conv(2))) -> spike\n  out = h -> {END}")
    summary = summarise(graph)
    assert summary.neuron_layers == 1
    assert summary.additions == 3 * 2 * 2 * 9 * 64  # spikes enter the convolution


# -- errors ----------------------------------------------------------------------------------------


def test_a_circle_without_a_delay_says_how_to_write_one() -> None:
    (found,) = errors("h = (in + (h -> conv(2))) -> spike\n  out = h -> linear(3)")
    assert found.code == "E0211"
    assert found.hint is not None
    assert "h -> delay(1)" in found.hint
    (found,) = errors("a = in + b\n  b = a -> conv(2)\n  out = b -> linear(3)")
    assert found.code == "E0211"
    assert "-> delay(1)" in (found.hint or "")


def test_a_delay_inside_of_a_block_closes_no_loop() -> None:
    (found,) = errors(
        "h = (in + (h -> late)) -> spike\n  out = h -> linear(3)",
        "block late { out = in -> delay(1) }",
    )
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
    assert (found.code, "reads nothing but itself" in found.message) == ("E0506", True)


def test_a_loop_that_is_wrong_in_two_networks_is_reported_once() -> None:
    text = """use std
network one(classes = 3) {
  input     = events(2, 4, 4)
  steps     = 3
  neuron    = IF
  surrogate = atan
  a         = in -> conv(1) -> spike
  h         = (a + (b -> delay(1, like = a))) -> tanh
  b         = h -> conv(2)
  out       = h -> linear(classes)
}
network two = one {
  steps = 4
}
"""
    with pytest.raises(SpecError) as raised:
        check_text(text)
    assert [each.code for each in raised.value.diagnostics] == ["E0507"]


# -- equivalence -----------------------------------------------------------------------------------


LOOPED = """
  h   = (in + (h -> delay(1) -> conv(2)) + (k -> delay(2))) -> spike
  k   = (h -> conv(2, kernel = 1)) + (k -> delay(1))
  out = (h + k) -> linear(3)"""


def test_loops_are_one_however_they_are_written() -> None:
    """Other names, another order of lines and terms, and a value in the middle."""
    other = lowered("""
  out  = (late + now) -> linear(3)
  mine = late -> delay(1)
  late = mine + (now -> conv(2, kernel = 1))
  now  = ((late -> delay(2)) + in + back) -> spike
  back = now -> delay(1) -> conv(2)""")
    found = compare_graphs(lowered(LOOPED), other)
    assert isinstance(found, Same)
    ops = [(lowered(LOOPED)[a].op, other[b].op) for a, b in found.weights]
    assert sorted(ops) == [("conv", "conv")] * 2 + [("linear", "linear")]
    assert equivalence(lowered(LOOPED), other, numbers=False).word == "equal"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("k -> delay(2)", "k -> delay(1)", "delay"),
        ("h -> delay(1)", "k -> delay(1)", None),
        ("(k -> delay(1))", "(h -> delay(1))", None),
        ("(h -> delay(1) -> conv(2))", "(h -> groupnorm(1) -> delay(1) -> conv(2))", "groupnorm"),
        ("conv(2, kernel = 1)", "conv(2, kernel = 3)", "conv"),
        ("+ (k -> delay(1))", "- (k -> delay(1))", None),
    ],
)
def test_other_loops_are_different(old: str, new: str, why: str | None) -> None:
    graph, other = lowered(LOOPED), lowered(LOOPED.replace(old, new))
    found = compare_graphs(graph, other)
    assert isinstance(found, Different)
    assert why is None or f"a {why}" in found.reason
    assert equivalence(graph, other).word == "different"


def test_a_delay_on_the_other_side_of_a_layer_is_the_same_in_numbers() -> None:
    other = lowered(LOOPED.replace("(h -> delay(1) -> conv(2))", "(h -> conv(2) -> delay(1))"))
    assert isinstance(compare_graphs(lowered(LOOPED), other), Different)
    assert equivalence(lowered(LOOPED), other).word == "equal in numbers"


def test_a_loop_may_carry_what_another_delay_gives() -> None:
    """Two delays in a row, and a layer behind the second: what is carried stands before what reads it."""
    lines = (
        "a = in -> conv(4) -> norm -> spike\n"
        "b = (a + (c -> delay(1) -> conv(4))) -> spike\n"
        "c = b -> groupnorm(2) -> delay(2)\n"
        "d = (a - (d -> delay(1))) -> groupnorm(1) -> delay(1) -> maxpool(3, stride = 1)\n"
        f"out = (b + c + d) -> {END}"
    )
    graph = graph_of(checked(lines))
    assert sorted(len(loop.members) for loop in loops(graph)) == [5, 6]
    assert len(graph.carries) == 4


def test_a_loop_that_was_reported_before_is_no_graph_either() -> None:
    """A variant has its base's errors, each reported once: what they leave behind is not verified."""
    text = (
        "use std\nnetwork a {\n  input = events(3, 8, 8); steps = 3; neuron = IF; surrogate = atan\n"
        "  loop = (in + (loop -> delay(1, like = in)) - (back -> delay(2, like = in))) -> tanh\n"
        "  back = (loop + (back -> delay(1))) -> nothing\n"
        "  out  = loop -> avgpool -> linear(5)\n}\n"
    )
    reporter = Reporter()
    module = load_module(SourceFile("a.danet", text), reporter)
    for _ in range(2):
        assert lower(module.own["a"], module, {}, reporter) is None
    assert [item.code for item in reporter.diagnostics] == ["E0210"]


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
    head = "input = events(2, 8, 8); steps = 4; neuron = IF; surrogate = atan"
    with pytest.raises(SpecError) as caught:
        check_text(f"use std\nnetwork n {{\n  {head}\n  {lines} -> mean_over_time -> linear(10) }}")
    assert {item.code for item in caught.value.diagnostics} <= {"E0104", "E0112"}
