"""Small networks and their counterparts in plain PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler.emit.layout import layout_of
from danetc.compiler.ir.graph import Graph
from danetc.runtime.measure import Layout
from danetc.runtime.model.built import Model
from danetc.tasks.measuring import measure as measuring

SPEC = """\
use std

network small {{
  input = image(2, 6, 6); steps = {steps}; neuron = LIF(tau = 2.0); surrogate = sigmoid(alpha = 4)
  stem = conv(3, kernel = 3) -> norm -> spike
  stages = stage(basic(3), 3) via {wiring}
  head = avgpool -> mean_over_time -> linear(4)
}}
"""
DENSE, SEW = "origin by densely_additive", "sew"


def build(
    wiring: str = DENSE, steps: int = 3, backend: str = "eager", memory: str = "none"
) -> Model:
    """A small network with weights of such a size that all its neurons fire."""
    text = SPEC.format(steps=steps, wiring=wiring)
    model = danetc.build(text=text, seed=1, backend=backend, memory=memory)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.copy_(0.8 + 0.6 * torch.rand(value.shape, generator=generator))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            elif name.endswith("running_var"):
                value.copy_(0.1 + 0.2 * torch.rand(value.shape, generator=generator))
            elif name.endswith("tracked"):
                value.fill_(1)
    return model.eval()


def measure(model: Model, data: Any, **options: Any) -> Any:
    """Return the measures, without a type, so that no test checks that each was taken."""
    return measuring.measure(model, data, **options)


def layout(model: Model) -> Layout:
    assert isinstance(model.topology, Graph)
    return layout_of(model.topology)


def batch(images: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(images, 2, 6, 6, generator=generator),
        torch.randint(0, 4, (images,), generator=generator),
    )


@pytest.fixture(params=[DENSE, SEW], ids=["danet_c", "sew"])
def wiring(request: pytest.FixtureRequest) -> str:
    return str(request.param)
