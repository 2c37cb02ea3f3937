"""The examples of the language's description lower as they stand."""

from __future__ import annotations

import pytest

from danetc.compiler import Checked, check_text
from danetc.dsl.kinds import ANALOG
from tests.compiler.lowered import flow, graph, output, spec
from tests.dsl.examples import EXAMPLES

# What is added to a section so that its declarations are used: names of std, and networks.
NETWORK = """
network a_network {{
  input = image(3, 32, 32)
  steps = 2
  neuron = {neuron}
  surrogate = {surrogate}
  stem = conv(64) -> norm -> spike
  stages = {stages}
  head = avgpool -> mean_over_time -> linear(10)
}}
"""


def use(*names: str) -> str:
    return f"use std ({', '.join(names)})\n"


def a_network(stages: str, neuron: str = "IF", surrogate: str = "sigmoid", name: str = "n") -> str:
    text = NETWORK.format(stages=stages, neuron=neuron, surrogate=surrogate)
    return text.replace("a_network", name)


SECTIONS = {
    "Three independent axes, one line": ("", ""),
    "Blocks and backbones": (
        use("IF", "sigmoid", "origin", "dense_layer", "densely_concatenated"),
        a_network("resnet50 via origin")
        + a_network("resnet50(block = basic) via origin", name="thin")
        + a_network("densenet121 via dense_layer by densely_concatenated", name="dense_one")
        + a_network("stage(inception(64), 3)", name="self_wired"),
    ),
    "Connections: the figure of the paper as equations": (
        use("IF", "sigmoid", "resnet18", "densenet121", "densely_concatenated"),
        "".join(
            a_network(f"resnet18 via {name}", name=f"n_{name}")
            for name in ("origin", "tdbn", "baa", "sew", "pa_a", "pa_b", "sew_iand", "ms")
        )
        + a_network("densenet121 via dense_layer by densely_concatenated"),
    ),
    "Rules: the equation of the paper as text": (
        use("IF", "sigmoid", "resnet18", "resnet34", "origin", "densenet121", "dense_layer"),
        "".join(
            a_network(f"resnet34 via origin by {name}", name=f"n_{name}")
            for name in ("chain", "densely_additive", "densely_additive_all", "window", "powers_of_two")
        )
        + a_network("resnet34 via origin by window(k = 2)", name="narrow")
        + a_network("densenet121 via dense_layer by densely_concatenated"),
    ),
    "Neurons and surrogates: the equations of the paper as text": (
        use("resnet18", "origin"),
        "".join(
            a_network("resnet18 via origin", neuron, surrogate, f"n_{neuron}_{surrogate}")
            for neuron in ("LIF", "PLIF", "LIF_learnt")
            for surrogate in ("sigmoid", "rectangle")
        ),
    ),
    "Recipes": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize("title", SECTIONS)
def test_examples_of_the_language_lower_as_they_stand(title: str) -> None:
    before, after = SECTIONS[title]
    checked: Checked = check_text(before + EXAMPLES[title] + after)
    assert len(checked.graphs) == after.count("network ") + EXAMPLES[title].count("\nnetwork ")


def test_forms_that_stand_in_the_text() -> None:
    mixed = "resnet50[0 .. 1] via pa_a -> resnet50[2 .. 3] via origin by densely_additive with (neuron = PLIF)"
    assert f"  stages = {mixed}\n" in EXAMPLES["Forms that stand in the text"]
    lowered = graph(spec(stages=mixed, norm="batchnorm(init = 0.5)"))
    assert "PLIF" in lowered.neurons
    assert graph(flow("d1 = in -> stage(basic(64), 2) via sew\n  out = d1"))
    assert graph(spec(neuron="mine") + "neuron mine { s = max(x, 0) }\n").neurons.keys() == {"mine"}
    readout = "neuron mine(tau = 2.0) { state u = 0.0; u = u + (x - u) / tau; s = u }\n"
    assert output(graph(spec(head="avgpool -> linear(3) -> mine") + readout)).value.kind == ANALOG


def test_every_section_is_tested() -> None:
    assert {*SECTIONS, "Forms that stand in the text"} == set(EXAMPLES)
