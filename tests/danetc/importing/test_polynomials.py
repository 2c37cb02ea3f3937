"""Equations of neurons multiplied out."""

from __future__ import annotations

import pytest

from danetc.compiler import check_text, graph_of
from danetc.dsl.neuron.program import NeuronProgram
from danetc.tasks.importing.polynomials import NoForm, polynomial_form

USUAL = ("u = 0.0", "0.5 * u + 0.5 * x", "v - 1.0", "v * (1 - s)")


def program(state: str, potential: str, fires: str, after: str) -> NeuronProgram:
    text = f"""
use std
neuron drawn {{
  state {state}
  v = {potential}
  s = heaviside({fires})
  u = {after}
}}
network n {{ input = image(1, 2, 2); steps = 2; neuron = drawn; surrogate = atan
  out = in -> spike -> avgpool -> linear(2) }}
"""
    (found,) = graph_of(check_text(text)).neurons.values()
    return found


@pytest.mark.parametrize(
    "other",
    [
        ("u = 0.0", "u + (x - u) / 2", "v - 1.0", "v * (1 - s)"),
        ("u = 0.0", "(x + u) / 2", "v - 1.0", "v - s * v"),
        ("u = 0.0", "x - (x - u) * 0.5", "-1 + v", "s * 0.0 + (1 - s) * v"),
    ],
)
def test_the_order_of_arithmetic_does_not_count(other: tuple[str, str, str, str]) -> None:
    assert polynomial_form(program(*USUAL)) == polynomial_form(program(*other))


@pytest.mark.parametrize(
    "other",
    [
        ("u = 0.1", "0.5 * u + 0.5 * x", "v - 1.0", "v * (1 - s)"),
        ("u = 0.0", "0.5 * u + 0.5001 * x", "v - 1.0", "v * (1 - s)"),
        ("u = 0.0", "0.5 * u + 0.5 * x", "v - 0.9", "v * (1 - s)"),
        ("u = 0.0", "0.5 * u + 0.5 * x", "v - 1.0", "v - s"),
        ("u = 0.0", "0.5 * u + 0.5 * tanh(x)", "v - 1.0", "v * (1 - s)"),
        ("u = 0.0", "0.5 * u + 0.5 * x", "v - 1.0", "v / (1 + s)"),
    ],
)
def test_other_equations_have_another_form(other: tuple[str, str, str, str]) -> None:
    assert polynomial_form(program(*USUAL)) != polynomial_form(program(*other))


def test_what_is_too_long_has_none() -> None:
    factors = " * ".join(f"(x + {i} * u + {i} * x * u + tanh(x))" for i in range(1, 8))
    with pytest.raises(NoForm):
        polynomial_form(program("u = 0.0", factors, "v - 1.0", "v"))
