"""ONNX files return the same outputs in onnxruntime as the model."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.onnx import NotInOnnx, emit_onnx
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of, random_input
from tests.alternating import alternating
from tests.compiler.emit.onnx_files import ran, written
from tests.compiler.emit.test_fx import CALLED, of_one_operation
from tests.differential.helpers import shake, streamed, text
from tests.differential.networks import VARIETY, small


def inputs_of(graph: Graph, samples: int, seed: int = 1) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        random_input(
            node.value.kind,
            (*[graph.steps] * node.value.varies, samples, *node.value.shape),
            generator,
        )
        for node in graph.inputs
    )


@torch.no_grad()
def warmed(graph: Graph) -> Model:
    """The model in eval mode, with changed 1-dimensional parameters and the statistics of three batches."""
    model = emit(graph)
    shake(model)
    for seed in range(3):
        model.train()(*inputs_of(graph, 8, seed))
    return model.eval()


@torch.no_grad()
def expected(model: Model, inputs: tuple[Tensor, ...], streaming: bool) -> list[Tensor]:
    """The outputs of the model, or of its stream step by step."""
    if not streaming:
        return [*outputs_of(model(*inputs))]
    graph, frames = model.topology, []
    for t in range(graph.steps):
        read = [x[t] if n.value.varies else x for x, n in zip(inputs, graph.inputs, strict=True)]
        frames.append(tuple(read) if len(read) > 1 else read[0])
    found = map(outputs_of, streamed(model, frames))
    return [torch.stack(values) for values in zip(*found, strict=True)]


def assert_same(model: Model, inputs: tuple[Tensor, ...], streaming: bool) -> list[Tensor]:
    graph = model.topology
    assert isinstance(graph, Graph)
    theirs = ran(written(model, streaming), graph, inputs, streaming)
    mine = expected(model, inputs, streaming)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    return mine


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("varies", [False, True], ids=["static", "varying"])
def test_every_operation_has_a_form(name: str, varies: bool) -> None:
    """The table is the list of cases, so new rows are included."""
    graph, _ = of_one_operation(name, varies)
    model = emit(graph).eval()
    shake(model)
    inputs = tuple(x.abs() + 0.1 if x.is_floating_point() else x for x in inputs_of(graph, 2))
    for streaming in (False,) if model.signature.whole else (False, True):
        if name == "poisson":
            (drawn,) = ran(written(model, streaming), graph, inputs, streaming)
            assert set(drawn.unique().tolist()) == {0.0, 1.0}
        else:
            assert_same(model, inputs, streaming)


@pytest.mark.parametrize("name", alternating([name for name in VARIETY if name != "random"]))
def test_every_kind_of_network(name: str) -> None:
    model = warmed(text(VARIETY[name]))
    assert isinstance(model.topology, Graph)
    inputs = inputs_of(model.topology, 5)
    for streaming in (False,) if model.signature.whole else (False, True):
        assert max(output.std() for output in assert_same(model, inputs, streaming)) > 0.01


@pytest.mark.parametrize("opcode", OPCODES)
def test_every_function_of_neurons_has_a_form(opcode: str) -> None:
    assert OPCODES[opcode].onnx is not None


def test_names_are_those_of_the_spec_and_of_the_weights() -> None:
    model = warmed(text(VARIETY["origin_chain"]))
    made = written(model)
    names = {node.name for node in made.graph.node}
    nodes = model.topology.nodes.values()  # type: ignore[attr-defined]
    assert names.issuperset(node.path for node in nodes if node.op != "input")
    stored = {item.name for item in made.graph.initializer}
    wanted = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert wanted <= stored


def test_what_has_no_form_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = text(small(head="gelu -> avgpool -> mean_over_time -> linear(5)"))
    monkeypatch.setitem(OPS, "gelu", replace(OPS["gelu"], onnx=None))  # type: ignore[arg-type]
    weights: dict[str, Any] = {k: v.numpy() for k, v in emit(graph).state_dict().items()}
    with pytest.raises(NotInOnnx, match=r"^head.gelu: gelu has no form in ONNX"):
        emit_onnx(graph, weights)
