"""What torch exports of a built model needs no danetc: registered operators are written out."""

from __future__ import annotations

import io
import warnings

import onnxruntime
import pytest
import torch
from torch import Tensor

import danetc
from danetc.runtime.model.built import Model

SPEC = """
use std
network net {
  input = image(1, 6, 6); steps = 3; neuron = PLIF; surrogate = atan
  out = in -> conv(3) -> norm -> spike -> conv(3) -> norm -> spike
    -> avgpool(2) -> mean_over_time -> linear(4)
}
"""
BATCH = torch.export.Dim("batch", min=1)


@pytest.fixture
def plain() -> Model:
    """A model whose norms are warm."""
    made = danetc.build(text=SPEC, backend="eager")
    with torch.no_grad():
        for seed in range(3):
            made(images(8, seed))
    return made.eval()


@pytest.fixture
def model(plain: Model) -> Model:
    made = danetc.build(text=SPEC, backend="fused").eval()
    made.load_state_dict(plain.state_dict())
    return made


def images(count: int, seed: int) -> Tensor:
    """Each brighter than the one before."""
    noise = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (1 + torch.arange(count).view(-1, 1, 1, 1)) * noise


@pytest.mark.thorough
def test_torch_writes_onnx_of_a_built_model(plain: Model, model: Model) -> None:
    x = images(5, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        program = torch.onnx.export(
            model, (x,), dynamo=True, dynamic_shapes=({0: BATCH},), verbose=False
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for given in (x, x[3:]):
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        with torch.no_grad():
            expected = plain(given)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-5)
        assert expected.std(0).max() > 0.01


@pytest.mark.thorough
def test_a_program_without_gradients_has_torchs_operations_alone(model: Model) -> None:
    x = torch.rand(2, 1, 6, 6)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=({0: BATCH},))
    program = program.run_decompositions()  # of what is composed of torch's operations
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("danetc" in target for target in targets)
    torch.export.save(program, io.BytesIO())
    trained = torch.export.export(model, (x,))
    assert "danetc" in str(trained.graph)  # whose backward pass knows the surrogate
