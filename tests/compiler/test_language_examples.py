"""The examples of the language's description lower as they stand."""

from __future__ import annotations

import pytest

from danetc.compiler import check_text
from danetc.dsl.kinds import ANALOG
from tests.compiler.lowered import flow, graph, output, spec
from tests.dsl.examples import EXAMPLES

USED = {
    "Three independent axes, one line": "",
    "Blocks and backbones": "IF, sigmoid, origin, dense_layer, densely_concatenated",
    "Connections: the figure of the paper as equations": "resnet18",
    "Rules: the equation of the paper as text": "resnet18",
    "Neurons and surrogates: the equations of the paper as text": "resnet18",
    "Recipes": "",
}
"""What a section reads of the standard library beside its own declarations."""


@pytest.mark.parametrize("title", USED)
def test_examples_of_the_language_lower_as_they_stand(title: str) -> None:
    used = USED[title] and f"use std ({USED[title]})\n"
    checked = check_text(used + EXAMPLES[title])
    assert len(checked.graphs) == EXAMPLES[title].count("\nnetwork ")


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
    assert {*USED, "Forms that stand in the text"} == set(EXAMPLES)
