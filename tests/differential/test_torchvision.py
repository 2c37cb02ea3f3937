"""With ``neuron = ReLU`` and one step, ``origin`` and the DenseNets are torchvision's networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tests.differential.helpers import (
    assert_same,
    built,
    observe,
    randn,
    shake,
    spec,
    with_weights_of,
)


def pair(ours: str, theirs: str, *, thorough: bool) -> object:
    """Deeper ones have other counts of the same blocks."""
    return pytest.param(ours, theirs, id=ours, marks=[pytest.mark.thorough] if thorough else [])


PAIRS = (
    *(pair(f"origin_r{d}", f"resnet{d}", thorough=d != 18) for d in (18, 34, 50, 101, 152)),
    *(pair(f"spiking_densenet{d}", f"densenet{d}", thorough=d != 121) for d in (121, 161, 201)),
)
TOLERANCE = 1e-9


def torchvision_model(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: Any = getattr(torchvision.models, name)(weights=None, num_classes=10)
    model.double()
    shake(model)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_analog_networks_are_those_of_torchvision(ours: str, theirs: str) -> None:
    reference = torchvision_model(theirs)
    size = 64 if "densenet" in ours else 48
    model = built(spec(ours, neuron="ReLU", steps=1, classes=10, image=size))
    names = with_weights_of(model, reference)
    # the training step fills the buffers that evaluation reads
    for training, x in ((True, randn(2, 3, size, size)), (False, randn(1, 3, size, size))):
        model.train(training)
        reference.train(training)
        assert_same(
            observe(model, x),
            observe(reference, x),
            names,
            outputs=TOLERANCE,
            gradients=TOLERANCE,
            buffers=TOLERANCE,
        )
