"""Small networks and their counterparts in plain PyTorch."""

from typing import Any

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler.emit.layout import layout_of
from danetc.runtime.measure import Layout
from danetc.runtime.model.built import Model
from danetc.tasks.measuring import measure as measuring

SPEC = """\
use std

network small {{
  input = image(2, 6, 6); steps = 3; neuron = LIF(tau = 2.0); surrogate = sigmoid(alpha = 4)
  stem = conv(3, kernel = 3) -> norm -> spike
  stages = stage(basic(3), 3) via {wiring}
  head = avgpool -> mean_over_time -> linear(4)
}}
"""
DENSE, SEW = "origin by densely_additive", "sew"
NORMS = {"weight": (0.8, 0.6), "bias": (0.8, 0.6), "num_batches_tracked": (1, 0)}
NORMS |= {"running_mean": (-0.3, 0.6), "running_var": (0.1, 0.2)}
"""The least value and the range of each parameter and buffer of norms."""


def build(
    wiring: str = DENSE, backend: str = "eager", memory: str = "none", **changes: object
) -> Model:
    """A small network whose norms have such values that all its neurons fire."""
    text = SPEC.format(wiring=wiring)
    model = danetc.build(text=text, set=changes, seed=1, backend=backend, memory=memory)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if "norm" in name:
            low, width = NORMS[name.rpartition(".")[2]]
            value.copy_(low + width * torch.rand(value.shape, generator=generator))
    return model.eval()


measure: Any = measuring.measure
"""Typed as Any, so that tests need not check that each measure was taken."""


def layout(model: Model) -> Layout:
    return layout_of(model.topology)  # type: ignore[arg-type]


def batch(images: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(images, 2, 6, 6, generator=generator),
        torch.randint(0, 4, (images,), generator=generator),
    )


@pytest.fixture(params=[DENSE, SEW], ids=["danet_c", "sew"])
def wiring(request: pytest.FixtureRequest) -> str:
    return str(request.param)
