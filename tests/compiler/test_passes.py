"""Passes: each pass, and all of them together, keep the results of the original graph."""

import pytest
import torch

from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import PIPELINE, Pass, run
from danetc.compiler.passes.simplify import merge_duplicates
from danetc.compiler.passes.static import hoist_static
from tests.alternating import alternating
from tests.differential.helpers import all_zero, assert_same, built, observe, randn, text
from tests.differential.networks import VARIETY, small, variety

CHOICES: dict[str, tuple[Pass, ...]] = {
    **{item.name: (item,) for item in PIPELINE},
    "all": PIPELINE,
    "all_twice": PIPELINE * 2,
    "backwards": PIPELINE[::-1],
}


@pytest.mark.parametrize("name", alternating(VARIETY, 1))
def test_passes_keep_what_a_network_computes(name: str) -> None:
    """Outputs are equal bit for bit if the passes keep the order of the arithmetic, else up to rounding.
    Gradients are equal up to rounding, because they are summed in another order. A graph that is
    unchanged, or that was already compared, does not run again."""
    written = variety(name, ())
    leading = (3, 2) if taken(written).varies else (2,)
    x = randn(*leading, *taken(written).shape).sigmoid()
    torch.manual_seed(0)
    expected = observe(built(written), x)
    assert not all_zero(expected.outputs)
    compared: list[tuple[Graph, bool]] = []
    for choice, passes in CHOICES.items():
        graph = run(written, passes)
        exact = all(item.order_kept for item in passes)
        if graph == written or (graph, exact) in compared:
            continue
        compared.append((graph, exact))
        verify(graph)
        torch.manual_seed(0)
        seen = observe(built(graph), x)
        assert list(seen.gradients) == list(expected.gradients), choice
        rounding = 0 if exact else 1e-12
        assert_same(seen, expected, outputs=rounding, gradients=1e-12, buffers=rounding)


def test_running_sums_keep_a_value_that_is_added_to_itself() -> None:
    twice = "connection twice { each = conv -> norm -> spike; out = branch + branch + shortcut }"
    written = text(small("stage(basic(4), 1) via twice", more=twice), ())
    rewritten = merge_duplicates(written)
    joins = [node for node in rewritten.nodes.values() if node.op == "add"]
    assert any(node.inputs[0] == node.inputs[1] for node in joins)
    x = randn(2, 3, 8, 8)
    assert_same(observe(built(rewritten), x), observe(built(written), x), gradients=1e-12)


def test_an_image_that_meets_what_varies_is_not_repeated() -> None:
    skip = """network net {
      input = image(3, 8, 8); steps = 3; neuron = IF; surrogate = atan
      a = in -> conv(4) -> norm
      out = concat(a, a -> spike) -> avgpool -> mean_over_time -> linear(5)
    }"""
    written = text(skip, ())
    graph = hoist_static(written)
    assert "repeat" not in [node.op for node in graph.nodes.values()]
    (joined,) = (node for node in graph.nodes.values() if node.op == "concat")
    assert [node.value.varies for node in graph.inputs_of(joined)] == [False, True]


def test_a_static_output_keeps_its_time() -> None:
    """An analog network without ``mean_over_time`` still returns [T, N, classes]."""
    analog = small(
        "stage(basic(4), 1) via sew", settings="neuron = ReLU", head="avgpool -> linear(5)"
    )
    written = text(analog, ())
    graph = run(written, PIPELINE)
    image = randn(2, 3, 8, 8)
    assert built(graph)(image).shape == built(written)(image).shape == (3, 2, 5)


@pytest.mark.parametrize("after", ["norm", "norm -> norm", "spike -> norm"])
def test_a_norm_per_step_after_a_static_join_gets_its_copies(after: str) -> None:
    """One repeat between the join of a block and the interblock norm that needs it."""
    wired = f"connection wired {{ each = conv; projection = conv; out = (branch + shortcut) -> {after} }}"
    ends = {"stem": "conv(2)", "head": "avgpool -> linear(3)"}
    own = {"settings": "neuron = ReLU; norm = tebn", "more": wired}
    spec = small("stage(basic(2), 2) via wired", **own, **ends)
    written = text(spec, ())
    graph = run(written)
    assert [node.op for node in graph.nodes.values()].count("repeat") == 1
    x = randn(2, 3, 8, 8)
    expected = observe(built(written), x)
    assert_same(observe(built(graph), x), expected, outputs=1e-12, gradients=1e-12, buffers=1e-12)
