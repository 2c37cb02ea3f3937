"""What a model makes of inputs of another type: converted where that is exact, else told what to do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import danetc

TEXT = """
use std
network net { input = %s(2, 4, 4); steps = 3; neuron = LIF(v_threshold = 0.1); surrogate = atan
              out = in -> conv(3) -> norm -> spike -> avgpool -> mean_over_time -> linear(2) }
"""
IMAGE, EVENTS = (
    danetc.build(text=TEXT % kind, backend="eager").eval() for kind in ("image", "events")
)
torch.manual_seed(0)


def test_images_are_converted_where_their_numbers_stay() -> None:
    images = torch.rand(6, 2, 4, 4)
    for given in (images.half(), images.bfloat16(), images > 0.5):
        assert torch.equal(IMAGE(given), IMAGE(given.float()))
    wide = danetc.build(text=TEXT % "image", backend="eager").eval().double()
    assert torch.equal(wide(images), wide(images.double()))
    given = images.half().requires_grad_()
    IMAGE(given).sum().backward()
    assert given.grad is not None
    assert given.grad.dtype == torch.float16


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.zeros(1, 2, 4, 4, dtype=torch.uint8), r"x.float\(\) / 255"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.int64), r"take x.to\(torch.float32\)"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.float64), r"or model.to\(torch.float64\)"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.complex64), "not complex64"),
        (torch.zeros(2, 4, 4), "set the network's input|not \\[2, 4, 4\\]"),
        (torch.zeros(1, 3, 4, 4), r"set the network's input to image\(3, 4, 4\)"),
    ],
)
def test_what_is_not_exact_is_refused_with_what_to_do(given: Tensor, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        IMAGE(given)


def test_a_summary_prints_and_has_its_facts() -> None:
    found = IMAGE.summary()
    assert found.parameters == sum(each.numel() for each in IMAGE.parameters())
    text = str(found)
    assert text.startswith("net, T = 3\n")
    assert f"parameters  {found.parameters:,}" in text
    deep = danetc.build("danet_c_small", backend="eager").summary()
    assert str(deep).count("densely_additive") == 3
