"""Numbers that are learnt among values: of each step, shared, and those that a spec cannot have."""

from __future__ import annotations

import pytest
import torch

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.initial_values import initial_values
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import weights_of
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.differential.helpers import randn, streamed, text
from tests.differential.networks import ANALOG_STEM, small

BY_STEP = """
neuron decaying {
  state u = 0.0
  leak = learn(0.6, above = 0, below = 1, per = step)
  th = learn(0.7, per = channel, per_step = true)
  v = leak * u + x
  s = heaviside(v - th)
  u = v * (1 - s)
}
network net {
  input = image(2, 6, 6); steps = 3; surrogate = sigmoid(alpha = 4); neuron = decaying
  out = in -> conv(4) -> norm -> spike -> conv(3) -> norm -> spike
}"""


def test_numbers_of_each_step_stream_and_fix_how_many_there_are() -> None:
    model = emit(graph_of(check_text(f"use std\n{BY_STEP}")), 0).double().eval()
    with torch.no_grad():
        model.spike2.th.add_(torch.arange(3.0).view(3, 1, 1, 1) / 4)
    x = randn(2, 2, 6, 6)
    assert torch.equal(torch.stack(streamed(model, [x] * 3)), model(x))
    with pytest.raises(ValueError, match="has numbers for 3 time steps, not for more"):
        streamed(model, [x] * 4)
    with pytest.raises(ValueError, match="spike1 has parameters for each of them"):
        model(x.expand(4, *x.shape))
    graph = graph_of(check_text(f"use std\n{BY_STEP}"), None, {"steps": 5})
    assert sum(weights_of(graph, node) for node in graph.nodes.values()) == (
        2 * 4 * 9 + 4 * 3 * 9 + 2 * (4 + 3) + 5 * (1 + 4) + 5 * (1 + 3)
    )


def test_a_name_stands_for_one_number_and_each_place_for_another() -> None:
    text = """use std
network net {{
  input = image(1, 4, 4); steps = 1; neuron = IF; surrogate = atan
  {}
}}"""
    shared = text.format("a = learn(0.5)\n  out = a * in + (1 - a) * (in -> tanh)")
    twice = text.format("out = learn(0.5) * in + (1 - learn(0.5)) * (in -> tanh)")
    one, two = (emit(graph_of(check_text(source)), 0).double() for source in (shared, twice))
    assert [*one.state_dict()] == ["a.weight"]
    assert [*two.state_dict()] == ["learn1.weight", "learn2.weight"]
    x = randn(2, 1, 4, 4)
    assert torch.equal(one(x), two(x))
    one(x).sum().backward()
    two(x).sum().backward()
    gradients = [each.grad for each in two.parameters() if each.grad is not None]
    (whole,) = one.parameters()
    assert torch.allclose(whole.grad, gradients[0] + gradients[1], rtol=1e-12)  # type: ignore[arg-type]


TWICE = "g = learn(1.0, per = channel); b = (g * a) -> conv(8); out = b * g"
RULE = "rule r {{ in[i] = {}; result = out[n - 1] }}"
STAGE = "out = a -> (stage(basic(4), 3) via sew by r)"


@pytest.mark.parametrize(
    ("line", "more", "code", "words"),
    [
        ("out = learn(1.0) * learn(0.5) * a", "", "E0410", "`*` of two learnable parameters"),
        ("out = (1 / learn(1.0)) * a", "", "E0410", "`/` cannot be applied"),
        (TWICE, "", "E0410", "`g` is learnt as 4 x 1 x 1, and 8 x 1 x 1 are required here"),
        ("out = a * learn(1.0, per = sample)", "", "E0304", "`neuron`, not the word `sample`"),
        ("out = a * learn(2.0, below = 1)", "", "E0305", "is 2, which is not below 1"),
        ("out = a + learn", "", "E0405", "`learn` is called with arguments"),
        (
            "out = a -> own",
            "neuron own { s = learn(1.0, per = sample) * x }",
            "E0711",
            "a neuron cannot have parameters per sample",
        ),
        ("out = a * learn(uniform(2, 1))", "", "E0305", "its `low` is not below its `high`"),
        ("out = a * learn(normal(1, 0))", "", "E0305", "its `std` is not above 0"),
        ("out = a * learn(uniform(0, 2), below = 1)", "", "E0305", "uniform(0, 2), which is not"),
        ("out = a * learn(normal(2, 1), below = 1)", "", "E0305", "normal(2, 1), which is not"),
        ("out = a * learn(normal(2))", "", "E0307", "takes two numbers, `mean` and `std`"),
        ("out = a * learn(uniform(0, 1, 2))", "", "E0303", "takes at most 2 arguments"),
        ("out = a * learn(uniform(0, hi = 1))", "", "E0301", "has no parameter `hi`"),
        ("out = a -> LIF(tau = uniform(1))", "", "E0304", "not the initialization `uniform`"),
        (STAGE, RULE.format("learn(1.0) + out[i - 1]"), "E0608", "must be factors"),
        (STAGE, RULE.format("(1 - learn(0.5)) * out[i - 1]"), "E0608", "can only be factors"),
        (
            "out = a -> (stage(own(4), 3) by r)",
            RULE.format("out[i - 1]; shortcut[i] = out[i - 1]")
            + "block own(w) { out = in -> conv(w) -> spike }",
            "E0610",
            "has no `shortcut`",
        ),
    ],
)
def test_what_cannot_be_learnt_is_named(line: str, more: str, code: str, words: str) -> None:
    text = f"""use std
{more}
network net {{
  input = image(2, 6, 6); steps = 2; neuron = IF; surrogate = atan
  a = in -> conv(4) -> norm -> spike
  {line}
}}"""
    with pytest.raises(SpecError) as caught:
        check_text(text)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert words in found.message


def test_a_branch_scaled_by_zero_starts_as_the_identity() -> None:
    """ReZero: Proposition 1 holds of a learnt factor as of a norm that starts at 0."""
    rezero = (
        "connection rezero { each = spike -> conv -> norm; out = learn(0.0) * branch + shortcut }"
    )
    graph = text(small("stage(basic(4), 2) via rezero", more=rezero, **ANALOG_STEM))
    known = initial_values(graph)
    (stage,) = graph.stages
    assert [known[block.output] for block in stage.blocks] == [stage.entry, stage.entry]
