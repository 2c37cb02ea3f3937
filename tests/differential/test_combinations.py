"""Generated networks through every combination of passes, every backend and memory policy.

All against the graph as written, run operation by operation, in float64: spikes identical, outputs
and gradients to 1e-9; and ``recompute`` bit for bit against ``none``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import pytest
import torch
from hypothesis import event, given
from torch import Tensor

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.compiler.emit.text import write
from danetc.compiler.graph import Graph
from danetc.compiler.memory import POLICIES
from danetc.compiler.passes import PIPELINE, run
from danetc.dsl import syntax as s
from danetc.dsl.diagnostics import SpecError
from danetc.dsl.printer import print_program
from danetc.runtime import compiled as compiler
from danetc.runtime.model import Model
from danetc.runtime.neuron import Neuron
from tests.compiler.test_generated import programs
from tests.differential.helpers import Seen, assert_same, observe, randn, shake
from tests.generating import examples

ROUNDING = 1e-9


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "COMPILE", False)


@dataclass
class Run:
    """A training step, and what each neuron gave by its name."""

    seen: Seen
    neurons: dict[str, Tensor]


def trained(graph: Graph, backend: str = "eager", memory: str = "none") -> tuple[Run, Model]:
    """A step in float64, from the same weights for every form of a graph."""
    model = emit(graph, 0, backend, memory).double()
    shake(model)
    names = [name for name, module in model.named_modules() if isinstance(module, Neuron)]
    seen = observe(model, randn(2, 2, 8, 8))
    return Run(seen, dict(zip(names, seen.spikes, strict=True))), model


def compare(found: Run, expected: Run, tolerance: float = ROUNDING) -> None:
    """A neuron that a pass merged with an equal one is not there; one of a value that does not
    vary gives it once."""
    assert found.neurons.keys() <= expected.neurons.keys()
    for name, value in found.neurons.items():
        theirs = expected.neurons[name]
        if bool(((theirs == 0) | (theirs == 1)).all()):
            assert torch.equal(value.expand_as(theirs), theirs), name
    assert found.seen.gradients.keys() == expected.seen.gradients.keys()
    assert_same(
        found.seen, expected.seen, outputs=tolerance, gradients=tolerance, buffers=tolerance
    )


def written(program: s.Program) -> Graph | None:
    """The graph without any pass, None where the program is refused."""
    try:
        return graph_of(check_text(print_program(program)), passes=())
    except SpecError as error:
        event(f"refused with {error.diagnostics[0].code}")
        return None


@examples(4)
@given(programs())
def test_every_combination_of_passes(program: s.Program) -> None:
    graph = written(program)
    if graph is None:
        return
    expected, _ = trained(graph)
    done = {write(graph)}
    for size in range(1, len(PIPELINE) + 1):
        for passes in combinations(PIPELINE, size):
            rewritten = run(graph, passes)
            text = write(rewritten)
            if text not in done:
                done.add(text)
                compare(trained(rewritten)[0], expected)
    event(f"{len(done)} different graphs")


@examples(4)
@given(programs())
def test_every_backend_and_memory_policy(program: s.Program) -> None:
    graph = written(program)
    if graph is None:
        return
    expected, plain = trained(graph)
    graph = run(graph)
    for backend in ("eager", "fused", "spikingjelly"):
        runs = {memory: trained(graph, backend, memory) for memory in POLICIES}
        compare(runs["none"][0], expected)
        compare(runs["recompute"][0], runs["none"][0], tolerance=0)
        model = runs["none"][1].eval()
        y = fold(model)(randn(2, 2, 8, 8))
        torch.testing.assert_close(
            y, plain.eval()(randn(2, 2, 8, 8)).detach(), rtol=ROUNDING, atol=ROUNDING
        )
