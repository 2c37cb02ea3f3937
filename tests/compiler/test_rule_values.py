"""Rules are held against what a graph computes, not against how it does so."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import pytest

from danetc.compiler import check_text
from danetc.compiler.analysis.propositions import NotApplicable, plan_chain, plan_dense
from danetc.compiler.analysis.verify import InvariantError, verify
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter
from danetc.compiler.ir.rule_forms import Form, Join, OutputOf, Scaled
from danetc.compiler.ir.rule_values import StageValues
from danetc.compiler.passes import PIPELINE

SPEC = """use std

network n {{
  input = image(1, 8, 8)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 4) via {connection} by mine
  head = avgpool -> mean_over_time -> linear(3)
}}
rule mine {{ in[i] = {feed}; result = {result} }}
connection scaled {{
  each = conv -> norm -> spike
  out = (1.0 * branch + 1.0 * shortcut) -> maxpool(1) -> upsample(1) -> norm -> avgpool(1) -> spike
}}
"""


def checked(feed: str, result: str = "out[n - 1]", connection: str = "sew") -> Graph:
    text = SPEC.format(feed=feed, result=result, connection=connection)
    return check_text(text).graphs["n"]


# -- passes that keep all values, and change how they are computed ----------------------------------

Change = Callable[[Rewriter, Node, tuple[int, ...]], int | None]
"""What takes the place of a node whose operands are rewritten; None leaves it as it is."""


@dataclass(frozen=True)
class Rewrite:
    """A pass of a test."""

    change: Change
    name: str = "testing"
    order_kept: bool = True

    def apply(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes.values():
            inputs = tuple(rewriter.mapping[i] for i in node.inputs)
            made = self.change(rewriter, node, inputs)
            if made is None:
                rewriter.keep(node, inputs)
            else:
                rewriter.mapping[node.id] = made
        return rewriter.finish()


def drop_what_does_nothing(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    """``1.0 * x`` is x, and so is a pool over windows of one."""
    return inputs[0] if OPS[node.op].same(node.attrs) and len(node.value.shape) == 3 else None


def swap(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    """``a + b`` is ``b + a``."""
    swaps = node.op in ("add", "maximum", "minimum") and len(inputs) == 2
    return rewriter.keep(node, inputs[::-1]) if swaps else None


def double(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    """``2 * x`` is ``x + x``."""
    if node.op == "affine" and node.attrs == {"factor": 2.0, "offset": 0.0}:
        return rewriter.new("add", inputs * 2, {}, node)
    return None


def flatten(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    """``concat(concat(a, b), c)`` is ``concat(a, b, c)``."""
    nested = node.op == "concat" and any(rewriter.nodes[i].op == "concat" for i in inputs)
    if not nested:
        return None
    flat: list[int] = []
    for id in inputs:
        inner = rewriter.nodes[id]
        flat += inner.inputs if inner.op == "concat" else (id,)
    return rewriter.keep(node, flat)


KEEPS: dict[str, tuple[Change, str, str]] = {
    "a factor of one": (drop_what_does_nothing, "1.0 * out[i-1]", "1.0 * out[n-1]"),
    "a factor of one in a sum": (drop_what_does_nothing, "1.0 * out[i-1] + in[0] / 1", "out[n-1]"),
    "a factor of one in a join": (drop_what_does_nothing, "max(1.0 * out[0 .. 0], out[i-1])", "out[n-1]"),
    "the order of two": (swap, "out[i-1] + in[0]", "max(out[n-1], out[0])"),
    "the order in a longer sum": (swap, "out[i-1] + in[0] + out[0]", "out[n-1]"),
    "twice": (double, "2 * out[i-1] + in[0]", "2 * out[n-1]"),
    "twice a half": (double, "2 * (0.25 * out[i-1]) + in[0]", "2 * out[n-1]"),
    "an input of a block": (swap, "in[i-1] + out[i-1]", "in[n-1] + out[n-1]"),
    "nested concatenations": (flatten, "out[i-1]", "concat(concat(out[0], out[1]), concat(out[2], out[3]))"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEEPS)
def test_a_pass_may_compute_the_same_in_another_way(name: str) -> None:
    change, feed, result = KEEPS[name]
    graph = checked(feed, result)
    rewritten = Rewrite(change).apply(graph)
    assert rewritten.nodes != graph.nodes, "the pass has something to do"
    assert rewritten.stages, "the stage is still checked"
    verify(rewritten, after="testing")
    verify(Rewrite(change).apply(PIPELINE[2].apply(rewritten)), after="testing")


def test_what_does_nothing_may_go_after_a_join() -> None:
    graph = checked("1.0 * out[i-1]", connection="scaled")
    assert any(block.after for stage in graph.stages for block in stage.blocks)
    rewritten = Rewrite(drop_what_does_nothing).apply(graph)
    ops = [node.op for node in rewritten.nodes.values()]
    assert not {"affine", "upsample", "maxpool", "avgpool"} & set(ops)
    verify(rewritten, after="testing")


def test_a_norm_after_a_join_may_not_go() -> None:
    graph = checked("out[i-1]", connection="scaled")
    (norm,) = (n for n in graph.nodes.values() if n.op == "batchnorm" and n.scope[-1:] == ("1",))
    drop = Rewrite(lambda rewriter, node, inputs: inputs[0] if node is norm else None)
    with pytest.raises(InvariantError, match="interblock modules"):
        verify(drop.apply(graph), after="testing")


def test_blocks_that_give_what_they_read() -> None:
    """Their outputs are what the rule feeds them with, and so on."""
    feed, result = "1 * sum(out[0 .. i-1])", "sum(out[0 .. n-1])"
    text = SPEC.format(feed=feed, result=result, connection="sew").replace("via sew", "")
    text = text.replace("basic(4)", "still") + "block still { out = in }\n"
    graph = check_text(text).graphs["n"]
    assert {block.output == block.input for block in graph.stages[0].blocks} == {True}
    verify(Rewrite(drop_what_does_nothing).apply(graph), after="testing")
    with pytest.raises(InvariantError, match="rule's equation"):
        verify(Rewrite(one_less).apply(graph), after="testing")


# -- what changes a value is caught ----------------------------------------------------------------


def other_order(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    """Sums of three from the right: the same but for roundings, so not the same."""
    if node.op != "add" or len(inputs) < 3:
        return None
    return rewriter.keep(node, inputs[::-1])


def other_factor(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    return inputs[0] if node.op == "affine" else None


def one_less(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    return inputs[0] if node.op in ("add", "maximum") and "branch" not in node.scope else None


CHANGES: dict[str, tuple[Change, str, str]] = {
    "the order of a longer sum": (other_order, "sum(out[0], in[0], out[i-1])", "out[n-1]"),
    "a factor": (other_factor, "0.5 * out[i-1]", "out[n-1]"),
    "an operand of a feed": (one_less, "out[i-1] + in[0]", "out[n-1]"),
    "an operand of a maximum": (one_less, "max(out[i-1], in[0])", "out[n-1]"),
    "an operand of the result": (one_less, "out[i-1]", "out[n-1] + out[0]"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_pass_that_changes_a_value_is_caught(name: str) -> None:
    change, feed, result = CHANGES[name]
    with pytest.raises(InvariantError, match="rule's equation"):
        verify(Rewrite(change).apply(checked(feed, result, "plain")), after="testing")


# -- values themselves -----------------------------------------------------------------------------

A, B, C = OutputOf(0), OutputOf(1), OutputOf(2)


def joined(name: str, *parts: Form) -> Form:
    return Join(name, parts)


SAME: list[tuple[Form, Form]] = [
    (Scaled(1.0, A), A),
    (joined("sum", A, B), joined("sum", B, A)),
    (joined("sum", A, B, C), joined("sum", joined("sum", B, A), C)),
    (joined("sum", A, A), Scaled(2.0, A)),
    (Scaled(2.0, Scaled(0.3, A)), Scaled(0.3, Scaled(2.0, A))),
    (Scaled(0.5, Scaled(2.0, A)), A),
    (joined("max", A, A), A),
    (joined("max", A, B), joined("max", B, A)),
    (joined("concat", joined("concat", A, B), C), joined("concat", A, joined("concat", B, C))),
]
DIFFERENT: list[tuple[Form, Form]] = [
    (A, B),
    (Scaled(0.5, A), A),
    (joined("sum", A, B, C), joined("sum", A, joined("sum", B, C))),
    (joined("sum", A, B), joined("max", A, B)),
    (joined("max", A, B), joined("min", A, B)),
    (Scaled(0.3, Scaled(0.7, A)), Scaled(0.3 * 0.7, A)),
    (joined("concat", A, B), joined("concat", B, A)),
    (joined("concat", A, A), A),
]


def computed(form: Form, outputs: list[list[float]]) -> list[float]:
    """A form of outputs, in floating-point numbers."""
    match form:
        case OutputOf(block):
            return outputs[block]
        case Scaled(factor, inner):
            return [factor * x for x in computed(inner, outputs)]
        case Join(name, parts):
            lists = [computed(part, outputs) for part in parts]
            if name == "concat":
                return [x for part in lists for x in part]
            fold = {"sum": lambda a, b: a + b, "max": max, "min": min}[name]
            return [reduce(fold, column) for column in zip(*lists, strict=True)]
    raise AssertionError(form)


@pytest.mark.parametrize("same", [True, False])
def test_what_is_the_same_is_so_in_floating_point_numbers(same: bool) -> None:
    draw = random.Random(1)
    outputs = [[draw.gauss(0, 1) for _ in range(200)] for _ in range(3)]
    for one, other in SAME if same else DIFFERENT:
        assert (computed(one, outputs) == computed(other, outputs)) == same, (one, other)


@pytest.fixture(scope="module")
def values() -> StageValues:
    graph = checked("out[i-1]")
    return StageValues(graph, graph.stages[0])


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_value(values: StageValues, one: Form, other: Form) -> None:
    assert values.form(one) == values.form(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_value(values: StageValues, one: Form, other: Form) -> None:
    assert values.form(one) != values.form(other)


@pytest.mark.thorough
def test_long_chains_cost_no_recursion_and_linear_time() -> None:
    """Each input is the sum of the one before and of the block's output."""
    text = SPEC.format(feed="in[i-1] + out[i-1]", result="out[n-1]", connection="plain")
    graph = check_text(text.replace("stage(basic(4), 4)", "stage(single(4), 1500)")).graphs["n"]
    values = StageValues(graph, graph.stages[0])
    last = graph.stages[0].blocks[-1]
    assert values.node(last.input) == values.form(last.feed)
    assert len(values._keys) < 2 * 1501


# -- the propositions ask for values too -----------------------------------------------------------


@pytest.mark.parametrize("feed", ["out[i-1]", "1.0 * out[i-1]", "0.5 * out[i-1] + out[i-1] / 2"])
def test_a_chain_is_one_however_it_is_written(feed: str) -> None:
    graph = checked(feed, connection="ms_conv")
    plan_chain(graph, graph.stages[0])


def test_a_dense_stage_is_one_however_it_is_written() -> None:
    feed = "in[i-1] + out[i-1] if i > 1 else 1.0 * out[0]"
    graph = checked(feed, connection="ms_conv")
    plan_dense(graph, graph.stages[0])
    with pytest.raises(NotApplicable, match="feeds block 2"):
        plan_chain(graph, graph.stages[0])
