"""What a line of a spec changes in a network: zero_init, ``with``, slices, rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.differential.helpers import randn, text
from tests.differential.networks import ANALOG_STEM, small


def norms(graph: Graph, *scope: str) -> dict[str, float]:
    """The first weights of the norms below a scope."""
    return {
        node.path: float(node.attrs["init"] or 0.0)
        for node in graph.nodes.values()
        if OPS[node.op].norm is not None and node.scope[: len(scope)] == scope
    }


def codes(source: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        text(source)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


# -- zero_init ------------------------------------------------------------------------------------


def test_zero_init_starts_the_last_norm_of_each_branch_at_zero() -> None:
    with_zero = norms(text(small("tiny via origin", settings="neuron = IF; zero_init = true")))
    assert set(with_zero) == set(norms(text(small("tiny via origin", settings="neuron = IF"))))
    zeros = {path for path, init in with_zero.items() if init == 0.0}
    assert zeros == {
        f"stages.{stage}.blocks.{block}.branch.norm2"
        for stage, blocks in enumerate((2, 3))
        for block in range(blocks)
    }
    assert {init for path, init in with_zero.items() if path not in zeros} == {1.0}


@pytest.mark.parametrize("connection", ["sew", "pa_a", "pa_b", "ms"])
def test_a_zero_initialised_block_starts_as_its_shortcut(connection: str) -> None:
    stem = {} if connection == "sew" else ANALOG_STEM

    def model(zero: str) -> Callable[[Tensor], Tensor]:
        settings = f"neuron = IF; zero_init = {zero}"
        network = emit(text(small(f"tiny via {connection}", settings=settings, **stem))).double()
        block: Callable[[Tensor], Tensor] = network.stages[0].blocks[1]
        return block

    x = randn(3, 2, 4, 4, 4).abs() + 1.0
    assert (model("true")(x) == x).all()
    if connection != "ms":  # whose own last norm starts at 0
        assert not (model("false")(x) == x).all()


@pytest.mark.parametrize("connection", ["baa", "plain", "dense_layer"])
def test_zero_init_may_not_silence_a_block(connection: str) -> None:
    """BAA's norm stands behind the addition; the others have no way past the branch."""
    rule = " by densely_concatenated" if connection == "dense_layer" else ""
    settings = "neuron = IF; zero_init = true"
    stage = f"stage(basic(4), 2) via {connection}{rule}"
    assert codes(small(stage, settings=settings)) == ["E0503"]
    text(small(stage, settings="neuron = IF; zero_init = false"))


# -- with, slices ---------------------------------------------------------------------------------


def neurons(graph: Graph, *scope: str) -> set[str]:
    """The names of the neurons below a scope."""
    keys = (
        str(node.attrs["neuron"])
        for node in graph.nodes.values()
        if node.op == "neuron" and node.scope[: len(scope)] == scope
    )
    return {graph.neurons[key].name for key in keys}


def test_with_changes_its_stages_alone() -> None:
    graph = text(
        small(
            "tiny[0] via origin with (neuron = PLIF, norm = batchnorm(init = 0.5)) "
            "-> tiny[1] via origin with (zero_init = true)",
            settings="neuron = IF",
        )
    )
    assert neurons(graph, "stem") == neurons(graph, "stages", "1") == {"IF"}
    assert neurons(graph, "stages", "0") == {"PLIF"}
    assert set(norms(graph, "stem").values()) == {1.0}
    assert set(norms(graph, "stages", "0").values()) == {0.5}
    second = norms(graph, "stages", "1")
    assert {path.rpartition(".")[2] for path, init in second.items() if init == 0.0} == {"norm2"}


def test_the_identity_of_a_connection_stands_where_the_shape_stays() -> None:
    graph = text(small("tiny via tdbn_identity(0.5)", settings="neuron = IF(v_threshold = 0.8)"))
    shortcuts = {path: init for path, init in norms(graph).items() if ".shortcut." in path}
    assert len(shortcuts) == 5, "the projection's and the identities'"
    assert set(shortcuts.values()) == {0.5 * 0.8}


# -- rules ----------------------------------------------------------------------------------------


def feeds(graph: Graph) -> list[tuple[str, list[int | str]]]:
    """For each block of the one stage, and for its result: the join and what it reads."""
    (stage,) = graph.stages
    names: dict[int, int | str] = {block.output: i for i, block in enumerate(stage.blocks)}
    names[stage.entry] = "in"

    def parts(id: int) -> tuple[str, list[int | str]]:
        node: Node = graph[id]
        if id in names:
            return "is", [names[id]]
        return node.op, [names[operand] for operand in node.inputs]

    return [parts(id) for id in (*(block.input for block in stage.blocks), stage.result)]


def stage_of(blocks: int, rule: str, more: str) -> Graph:
    """The lowered graph as it was written, of one stage whose blocks keep the shape."""
    return text(small(f"stage(basic(4), {blocks}) via origin by {rule}", more=more), ())


def expected(blocks: int, reads: Callable[[int], list[int]], join: str = "add") -> object:
    """The stage's input, then for each block what ``reads`` says, then the last block."""
    first: list[tuple[str, list[int | str]]] = [("is", ["in"])]
    for i in range(1, blocks):
        terms: list[int | str] = [*reads(i)]
        first.append((join if len(terms) > 1 else "is", terms))
    return [*first, ("is", [blocks - 1])]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_a_window_reads_the_last_k_blocks(k: int) -> None:
    rule = "rule window(k = 3) { in[i] = sum(out[max(0, i - k) .. i - 1]); result = out[n - 1] }"
    graph = stage_of(7, f"window(k = {k})", rule)
    assert feeds(graph) == expected(7, lambda i: [j for j in range(i) if i - j <= k])


def test_a_condition_picks_the_blocks_that_are_read() -> None:
    rule = """rule powers_of_two {
      in[i] = sum(out[j] for j in 0 .. i-1 if (i - j) == 1 or (i - j) == 2 or (i - j) == 4)
      result = out[n-1]
    }"""
    graph = stage_of(9, "powers_of_two", rule)
    assert feeds(graph) == expected(9, lambda i: [j for j in range(i) if i - j in (1, 2, 4)])
