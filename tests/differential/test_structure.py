"""What a line of a spec changes in a network: zero_init, ``with``, identities of connections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
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
