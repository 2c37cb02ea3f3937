"""Errors of neurons with several inputs: `a -> gated(gate = b)`."""

from __future__ import annotations

import pytest

from danetc.compiler import check_text
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.compiler.error_cases import errors

NETWORK = """use std
neuron gated(gate, kick = 0.1, tau = 2.0) {
  v = sigmoid(gate) * delay(v, 1) * (1 - delay(s, 1)) + x / tau + kick
  s = heaviside(v - 0.5)
}
network n {
  input = image(3, 8, 8); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  a = in -> conv(4) -> norm
  out = (a -> FLOW) -> avgpool -> linear(5)
}
"""


@pytest.mark.parametrize(
    ("flow", "code", "said"),
    [
        ("gated", "E0307", "needs `gate` | write `gated(gate = ...)`"),
        ("gated(a)", "E0304", "given by name: `gated(gate = ...)`"),
        ("LIF(a)", "E0304", "with `->`"),
        ("gated(gate = conv(4))", "E0304", "not the layer `conv`"),
        ("gated(gate = (a -> conv(3)))", "E0501", "4 x 8 x 8 and 3 x 8 x 8"),
        ("gated(gate = a, tau = learn(a))", "E0304", ""),
    ],
)
def test_errors(flow: str, code: str, said: str) -> None:
    (error,) = errors(NETWORK.replace("FLOW", flow))
    assert error.code == code
    assert said in f"{error.message} | {error.hint}"


def test_an_input_that_nothing_reads_is_an_error() -> None:
    with pytest.raises(SpecError) as caught:
        check_text(NETWORK.replace(" + kick", "").replace("FLOW", "gated(gate = a, kick = a)"))
    assert "does not depend on `kick`, its input" in str(caught.value)
