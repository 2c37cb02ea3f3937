"""Encoded inputs from end to end: the code, and networks that learn from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from danetc.compiler.emit.fx import Model, emit
from tests.differential.helpers import text


def code(encoder: str, steps: int) -> Model:
    """A network that gives its encoded input, [T, N, 1, 4, 4]."""
    source = f"network net {{ input = image(1, 4, 4) -> {encoder}; steps = {steps}; out = in }}"
    return emit(text(source))


def test_poisson_spikes_at_the_rate_of_the_pixel() -> None:
    steps = 4000
    rates = torch.linspace(-0.2, 1.2, 16).view(1, 1, 4, 4)
    torch.manual_seed(0)
    spikes: Tensor = code("poisson", steps)(rates)
    assert spikes.shape == (steps, 1, 1, 4, 4)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    p = rates.clamp(0, 1)
    sigma = (p * (1 - p) / steps).sqrt()
    assert ((spikes.mean(0) - p).abs() <= 5 * sigma).all()
    # steps are independent: a pixel spikes twice in a row with the square of its rate
    twice = (spikes[1:] * spikes[:-1]).mean(0)
    assert ((twice - p * p).abs() <= 10 * sigma).all()


def test_poisson_draws_anew_at_each_call_from_torch_s_generator() -> None:
    model, image = code("poisson", 20), torch.full((2, 1, 4, 4), 0.5)
    torch.manual_seed(3)
    first, second = model(image), model(image)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:, 0], first[:, 1])
    torch.manual_seed(3)
    assert torch.equal(model(image), first)


def test_latency_spikes_once_the_earlier_the_brighter() -> None:
    steps, tau = 12, 3.0
    image = torch.linspace(0.0, 1.0, 16, dtype=torch.float64).view(1, 1, 4, 4)
    spikes: Tensor = code(f"latency(tau = {tau})", steps)(image)
    for pixel, train in zip(image.flatten(), spikes.flatten(1).T, strict=True):
        when = math.floor(tau * math.log(1 / pixel)) if pixel > 0 else steps
        assert train.tolist() == [float(step == when) for step in range(steps)]
