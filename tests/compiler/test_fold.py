"""Which norms can be folded, and what becomes of the graph."""

from __future__ import annotations

import pytest

from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.fold import Scaling, plan_folding
from danetc.compiler.passes.fusion_groups import FusionPlan, add_epilogues, plan_fusion
from tests.compiler.emit.graphs import Net


def names(graph: Graph, ids: tuple[int, ...]) -> list[str]:
    return [graph[id].path for id in ids]


def new(graph: Graph, path: str) -> tuple[str, list[str]]:
    """Op and operands of a node by name."""
    nodes = {node.path: node for node in graph.nodes.values()}
    return nodes[path].op, [graph[i].path for i in nodes[path].inputs]


@pytest.mark.parametrize("reader", ["output", "conv", "second norm"])
def test_a_convolution_that_something_else_reads_keeps_its_norm(reader: str) -> None:
    net = Net()
    conv = net("conv", 0, name="conv", width=4)
    ends = [net("batchnorm", conv, name="norm")]
    if reader == "output":
        ends.append(conv)
    elif reader == "conv":
        ends.append(net("conv", conv, name="other", width=4))
    else:
        ends.append(net("batchnorm", conv, name="norm2"))
    graph = net.finish(*ends)
    folding = plan_folding(graph)
    verify(folding.graph)
    assert not folding.scalings
    assert "norm" in names(graph, folding.kept)
    assert new(folding.graph, "norm") == ("batchnorm", ["conv"])


@pytest.mark.parametrize("norm", ["groupnorm", "tebn"])
def test_norms_that_are_not_constant_stay(norm: str) -> None:
    net = Net(varies=True)
    graph = net.finish(net(norm, net("conv", 0, width=4), name="norm"))
    folding = plan_folding(graph)
    verify(folding.graph)
    assert names(graph, folding.kept) == ["norm"]
    assert not folding.scalings


def test_a_norm_behind_a_sum_of_convolutions_goes_into_all_of_them() -> None:
    """BAA with a projection: the shortcut's own norm first, the sum's norm then; one takes b."""
    net = Net()
    a = net("conv", 0, name="a", width=4)
    b = net("conv", 0, name="b", width=4)
    own = net("batchnorm", b, name="own")
    norm = net("batchnorm", net("add", a, own, name="add"), name="norm")
    graph = net.finish(net.spike(norm))
    folding = plan_folding(graph)
    verify(folding.graph)
    assert folding.scalings == {
        a: (Scaling(norm, True),),
        b: (Scaling(own, True), Scaling(norm, False)),
    }
    assert new(folding.graph, "add") == ("add", ["a", "b"])
    assert new(folding.graph, "spike") == ("neuron", ["add"])


def test_a_norm_moves_onto_the_one_addend_that_is_no_convolution() -> None:
    """BAA with an identity shortcut: norm(conv + x) = a conv + norm(x)."""
    net = Net()
    x = net.spike(0, "first")
    conv = net("conv", x, name="conv", width=3)
    other = net("conv", x, name="other", width=3)
    total = net("add", other, net("add", x, conv, name="add"), name="whole")
    norm = net("batchnorm", total, name="norm")
    graph = net.finish(net.spike(norm))
    folding = plan_folding(graph)
    verify(folding.graph)
    assert names(graph, folding.moved) == ["norm"]
    assert not folding.folded
    assert folding.scalings[conv] == (Scaling(norm, False),)
    assert new(folding.graph, "norm") == ("batchnorm", ["first"])
    assert new(folding.graph, "add") == ("add", ["norm", "conv"])
    assert new(folding.graph, "spike") == ("neuron", ["whole"])
    assert folding.graph[conv].attrs["bias"] is False
    assert folding.scalings[other] == (Scaling(norm, False),)


def test_a_sum_takes_over_the_readers_of_a_norm_that_moved() -> None:
    """Two read the first norm, so the second one goes no further than its sum."""
    net = Net()
    x = net.spike(0, "x")
    first = net("add", net("conv", x, name="a", width=3), x, name="first")
    norm = net("batchnorm", first, name="norm")
    second = net("add", net("conv", norm, name="b", width=3), norm, name="second")
    graph = net.finish(net.spike(net("batchnorm", second, name="last")), norm)
    folding = plan_folding(graph)
    verify(folding.graph)
    assert names(graph, folding.moved) == ["norm", "last"]
    assert new(folding.graph, "norm") == ("batchnorm", ["x"])
    assert new(folding.graph, "first") == ("add", ["a", "norm"])
    assert new(folding.graph, "last") == ("batchnorm", ["first"])
    assert new(folding.graph, "second") == ("add", ["b", "last"])


def test_two_addends_that_are_no_convolutions_keep_the_norm() -> None:
    net = Net()
    x, y = net.spike(0, "x"), net.spike(0, "y", "PLIF")
    conv = net("conv", x, name="conv", width=3)
    for operands in ((conv, x, y), (x, conv, x)):
        for id in [id for id in net.nodes if id > conv]:
            del net.nodes[id]
        norm = net("batchnorm", net("add", *operands), name="norm")
        folding = plan_folding(net.finish(norm, y))
        verify(folding.graph)
        assert folding.kept == (norm,)
        assert not folding.scalings


def test_an_addend_of_one_channel_cannot_take_a_factor_of_many() -> None:
    net = Net()
    gate = net("conv", 0, name="gate", width=1)
    conv = net("conv", 0, name="conv", width=4)
    norm = net("batchnorm", net("add", conv, gate), name="norm")
    folding = plan_folding(net.finish(norm))
    verify(folding.graph)
    assert folding.kept == (norm,)


# -- additions behind neurons ---------------------------------------------------------------------


def summed(graph: Graph) -> FusionPlan:
    result = add_epilogues(plan_fusion(graph))
    seen: set[int] = set()
    for node in result.graph.nodes.values():
        assert seen.issuperset(node.inputs), node.path
        seen.add(node.id)
    assert seen.issuperset(result.graph.outputs.values())
    return result


@pytest.mark.parametrize("why", ["read twice", "an output", "a wider sum", "itself", "of three"])
def test_an_addition_that_stays(why: str) -> None:
    net = Net(varies=True)
    spike = net.spike(net("global_avgpool", 0) if why == "a wider sum" else 0, "spike")
    if why == "itself":
        add = net("add", spike, spike, name="add")
    elif why == "of three":
        add = net("add", spike, 0, net("sigmoid", 0), name="add")
    else:
        add = net("add", spike, 0, name="add")
    more = [spike] if why == "an output" else []
    if why == "read twice":
        more = [net("sigmoid", spike)]
    result = summed(net.finish(add, *more))
    assert not result.sums
    assert new(result.graph, "add")[0] == "add"
