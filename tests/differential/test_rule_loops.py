"""Rules that feed blocks with what later ones gave at earlier steps: models in all their forms against
the interpreter, and the rules of std against plain loops of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from danetc.compiler import check_text
from tests.differential.helpers import assert_close, built, text
from tests.differential.plain_loops import (
    LIF,
    STEPS,
    Plain,
    Weights,
    conv,
    frames,
    gradients,
    norm_of_step,
    readout,
)
from tests.fuzzing.compare import Case, Subject, compiling
from tests.fuzzing.forms import FORMS, _check_form

NETWORK = """use std
{rule}
network net {{
  input = events(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  norm = batchnorm(statistics = step)
  stem = 2 * (in -> conv(3) -> norm)
  x = stem -> (stage(basic(4), 3, stride = 2) via {connection} by {use})
  out = x -> avgpool -> linear(3)
}}"""

RULES = {
    "feedback after the opening block": ("origin", "feedback_after_opening", ""),
    "a sum of all, two steps before": (
        "sew",
        "mine",
        """rule mine(k = 2) {
  in[i]  = out[i-1] + ((learn(0.3) * sum(out[0 .. n-1])) -> delay(k))
  result = mean(out[0], out[n-1] -> delay(1))
}""",
    ),
    "inputs and shortcuts": (
        "pa_a",
        "mine",
        """rule mine {
  in[0]       = max(in, in -> delay(1))
  in[i]       = sum(0.5 * (in[j] -> delay(j)) for j in 1 .. n-1) + (out[i-1] -> delay(1))
  shortcut[0] = in -> delay(1) -> delay(1)
  shortcut[i] = out[n-1] -> delay(1)
  result      = concat(out[0], in[n-1] -> delay(1))
}""",
    ),
}

NESTED = """use std
connection sewn { each = conv -> spike; out = shortcut + branch }
block inner { out = in -> (stage(single(3), 2) via sewn by feedback) }
network net {
  input = events(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  a = in -> conv(3)
  h = a * (h -> delay(1) -> inner -> avgpool -> sigmoid) + (h -> delay(2))
  g = ((g -> delay(1) -> (stage(single(3), 2) via sewn by feedback)) + a) -> spike
  out = (h + g) -> avgpool -> linear(3)
}"""
"""Stages in loops of lines, of which the first reading knows no shape."""

TEXTS = {
    "stages within loops": NESTED,
    **{
        name: NETWORK.format(connection=connection, use=use, rule=rule)
        for name, (connection, use, rule) in RULES.items()
    },
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", TEXTS)
def test_rules_with_delays_are_as_the_interpreter_has_them(name: str) -> None:
    checked = check_text(TEXTS[name])
    subject, case = Subject(checked, "net", 3, torch.float64), Case()
    with compiling(False):
        fused = subject.emitted("fused")
        for training in (False, True):
            subject.check(subject.model, training, "eager", case)
            subject.check(fused, training, "fused", case)
        for form in FORMS:
            _check_form(subject, form, fused, case)
    assert case.compared["eager, training"] == 1
    assert case.near == case.unstable == case.infinite == 0
    assert case.compared["python, training"] == 1
    assert case.compared["stream"] == 1


# -- the rules of std ------------------------------------------------------------------------------


def _block(w: Weights, i: int, neuron: LIF, x: Tensor) -> Tensor:
    """A block of one convolution via sew."""
    name = f"x.0.blocks.{i}.branch"
    return x + neuron(norm_of_step(w, f"{name}.norm", conv(w, f"{name}.conv", x)))


def feedback(w: Weights, xs: Tensor) -> Tensor:
    """The first of three blocks is fed by what comes in and by the last, two steps before."""
    neurons, ys = [LIF() for _ in range(3)], []
    back = [torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)] * 2
    for x in xs:
        h = conv(w, "stem.conv", x) + back[-2]
        for i, neuron in enumerate(neurons):
            h = _block(w, i, neuron, h)
        back.append(h)
        ys.append(h)
    return readout(w, ys)


def feedback_after_opening(w: Weights, xs: Tensor) -> Tensor:
    """The second of three blocks is fed by the first and by the last, one step before."""
    neurons, ys = [LIF() for _ in range(3)], []
    h = torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)
    for x in xs:
        h = _block(w, 0, neurons[0], conv(w, "stem.conv", x)) + h
        h = _block(w, 2, neurons[2], _block(w, 1, neurons[1], h))
        ys.append(h)
    return readout(w, ys)


PLAIN: dict[str, Plain] = {
    "feedback(steps = 2)": feedback,
    "feedback_after_opening": feedback_after_opening,
}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", PLAIN)
def test_rules_of_std_equal_a_plain_loop(rule: str, steps: int) -> None:
    graph = text(
        f"""network n(T = 2) {{
  input = events(2, 6, 6); steps = T; neuron = LIF; surrogate = atan
  norm = batchnorm(statistics = step)
  stem = in -> conv(4)
  x = stem -> (stage(single(4), 3) via sew by {rule})
  out = x -> avgpool -> mean_over_time -> linear(3)
}}""",
        T=steps,
    )
    model = built(graph).train()
    x = frames(steps).requires_grad_()
    y, expected = model(x), PLAIN[rule](dict(model.named_parameters()), x)
    assert y.std() > 0.01
    assert_close(y.detach(), expected.detach(), 1e-12)
    mine, other = gradients(model, y, x), gradients(model, expected, x)
    for each in mine:
        assert_close(mine[each], other[each], 1e-9, each, floor=1e-6)
