"""Tensors that are given by a formula: orthogonal transforms and sinusoidal positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct, idct

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.differential.helpers import randn
from tests.reference.functions import orthogonal, positions

AXES = {"channels": -3, "rows": -2, "columns": -1}


def network(line: str, size: str = "4, 8, 16") -> Graph:
    return graph_of(
        check_text(f"""use std
    network net {{
      input = events({size}); steps = 3; neuron = IF; surrogate = atan
      out = {line}
    }}""")
    )


@pytest.mark.parametrize("over", AXES)
@pytest.mark.parametrize("by", ["haar", "dct"])
def test_transforms_are_those_of_scipy_and_of_wavelets(by: str, over: str) -> None:
    model = emit(network(f"in -> transform({by}, over = {over})")).double()
    back = emit(network(f"in -> transform({by}, over = {over}, inverse = true)")).double()
    x, axis = randn(3, 2, 4, 8, 16), AXES[over]
    if by == "dct":
        expected = dct(x.numpy(), norm="ortho", axis=axis)
        inverse = idct(x.numpy(), norm="ortho", axis=axis)
    else:
        matrix = orthogonal(by, x.shape[axis])
        moved = np.moveaxis(x.numpy(), axis, -1)
        expected, inverse = (
            np.moveaxis(each, -1, axis) for each in (moved @ matrix.T, moved @ matrix)
        )
    assert np.allclose(model(x).numpy(), expected, rtol=1e-12, atol=1e-13)
    assert np.allclose(back(x).numpy(), inverse, rtol=1e-12, atol=1e-13)
    assert torch.allclose(back(model(x)), x, atol=1e-13)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(model(x).square().sum(), x)
    assert torch.allclose(grad, 2 * x, atol=1e-12)  # it is orthogonal


def test_a_vector_is_transformed_and_a_wrong_size_is_refused() -> None:
    x = randn(3, 2, 12)
    model = emit(network("in -> flatten -> transform(dct, over = channels)", "12, 1, 1")).double()
    expected = dct(x.numpy(), norm="ortho")
    assert np.allclose(model(x[..., None, None]).numpy(), expected, atol=1e-13)
    for line, words in (
        ("in -> transform(haar, over = channels)", "power of two, but there are 12 channels"),
        ("in -> flatten -> transform(dct, over = rows)", "its input is a vector of 12"),
        ("in -> flatten -> sinusoidal", "its input is a vector of 12"),
        ("in -> transform(fourier, over = rows)", "unknown name `fourier`"),
        ("in -> transform(haar, over = time)", "`channels`, `rows`"),
    ):
        with pytest.raises(SpecError) as caught:
            network(line, "12, 1, 1")
        found = caught.value.diagnostics[0]
        assert words in f"{found.message} {found.hint}"


@pytest.mark.parametrize("over", ["pixels", "rows", "columns"])
@pytest.mark.parametrize("channels", [6, 5])
def test_positions_are_those_of_the_transformer(over: str, channels: int) -> None:
    model = emit(network(f"in + (in -> sinusoidal(over = {over}))", f"{channels}, 4, 3")).double()
    expected = positions((channels, 4, 3), over)
    x = randn(3, 2, channels, 4, 3)
    assert np.allclose((model(x) - x).numpy(), expected, rtol=1e-12, atol=1e-13)


LINE = """((in -> conv(4) -> transform(haar, over = rows) -> transform(dct, over = columns)
    -> transform(dct, over = channels, inverse = true)) + (in -> sinusoidal(over = rows)))
    -> spike -> flatten -> transform(haar, over = channels) -> linear(3)"""


def test_backends_and_model_py_give_the_same() -> None:
    graph = network(LINE)
    file: dict[str, Any] = {}
    exec(compile(emit_python(graph), "model.py", "exec", dont_inherit=True), file)
    models = [emit(graph, 1), emit(graph, 1, "fused"), file["Model"]()]
    models[2].load_state_dict(models[0].state_dict())
    x = randn(3, 2, 4, 8, 16).float()
    results = []
    for model in models:
        y = model(x)
        y.square().sum().backward()
        results.append([y, *(parameter.grad for parameter in model.parameters())])
    for mine, fused, written in zip(*results, strict=True):
        assert torch.equal(mine, fused)
        assert torch.allclose(mine, written, rtol=1e-4, atol=1e-5)
