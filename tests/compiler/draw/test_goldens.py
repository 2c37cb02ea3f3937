"""What small pictures are made of, as text that can be read and reviewed.

Places are left out: those of ``block`` and ``op`` come from Graphviz, whose versions differ. To
write the files anew: ``DANETC_WRITE_GOLDENS=1 pytest tests/compiler/draw/test_goldens.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.draw import LEVELS
from danetc.compiler.draw.block import comparison
from danetc.compiler.draw.equations import equations, scalars
from danetc.compiler.draw.sheet import Sheet

GOLDENS = Path(__file__).parent / "goldens"


def structure(sheet: Sheet) -> str:
    lines = []
    for box in sheet.boxes:
        text = " | ".join(" ; ".join(c.text for c in row if c.text) for row in box.rows)
        marks = f"{box.shape}{' double' * box.double}{' dashed' * box.dashed} {box.fill}"
        lines.append(f"{box.key} [{marks}] {text}".rstrip())
    for wire in sheet.wires:
        look = f"{wire.look.colour}{' hollow' * wire.look.hollow}"
        lines.append(f"{wire.tail} -> {wire.head} [{look}] {wire.tooltip}".rstrip())
    return "\n".join(lines) + "\n"


def check(name: str, text: str) -> None:
    path = GOLDENS / f"{name}.txt"
    if os.environ.get("DANETC_WRITE_GOLDENS"):
        GOLDENS.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("level", LEVELS)
def test_danet_c_small(level: str) -> None:
    graph = graph_of(check_file("danet_c_small"))
    check(f"danet_c_small_{level}", structure(LEVELS[level](graph)))


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("spiking_densenet121", "stage"),
        ("own_rule", "stage"),
        ("own_neuron", "neuron"),
        ("danet_a_r152", "op"),
    ],
)
def test_shipped_networks(name: str, level: str) -> None:
    check(f"{name}_{level}", structure(LEVELS[level](graph_of(check_file(name)))))


def test_figure_1() -> None:
    names = ("origin", "tdbn", "baa", "sew", "danet_a", "danet_b")
    graphs = [graph_of(check_file(f"{name}_r18")) for name in names]
    check("figure_1", structure(comparison(graphs)))


NEURONS = {
    "IF": ["v[2] = u[1] + x[2]", "s[2] = heaviside(v[2] - 1)", "u[2] = v[2] * (1 - s[2])"],
    "LIF(tau = 4.0, detach_reset = true)": [
        "v[2] = 0.75 * u[1] + 0.25 * x[2]",
        "s[2] = heaviside(v[2] - 1)",
        "r[2] = detach(s[2])",
        "u[2] = v[2] * (1 - r[2])",
    ],
    "PLIF": [
        "v[2] = u[1] + sigmoid(w) * (x[2] - u[1])",
        "s[2] = heaviside(v[2] - 1)",
        "u[2] = v[2] * (1 - s[2])",
    ],
}


@pytest.mark.parametrize("neuron", NEURONS)
def test_equations_read_as_they_were_written(neuron: str) -> None:
    graph = graph_of(check_file("danet_c_small"), settings={"neuron": neuron})
    program = next(iter(graph.neurons.values()))
    assert [f"{e.name}[2] = {e.at(2)}" for e in equations(program)] == NEURONS[neuron]


def test_equations_with_brackets_and_conditions() -> None:
    text = """neuron odd {
      state u = 0.5
      a = x - (u - (x - 2))
      b = -(a + 1) / (a * (a / 3))
      c = (a if a < b else b) * 2
      s = heaviside(c)
      u = max(a, b) - detach(s)
    }
    network net {
      input = image(1, 8, 8); steps = 2; neuron = odd; surrogate = sigmoid(alpha = 4)
      stem = conv(2) -> spike
      head = avgpool -> mean_over_time -> linear(2)
    }"""
    program = graph_of(check_text(f"use std\n{text}")).neurons["odd"]
    shown = {e.name: e for e in equations(program)}
    assert shown["a"].at(1) == "x[1] - (u[0] - (x[1] - 2))"
    assert shown["b"].at(1) == "-(a[1] + 1) / (a[1] * (a[1] / 3))"
    assert shown["c"].at(1) == "(a[1] if a[1] < b[1] else b[1]) * 2"
    assert shown["u"].at(1) == "max(a[1], b[1]) - detach(s[1])"
    detached = {read.name: read.detached for read in shown["u"].reads}
    assert detached == {"a": False, "b": False, "s": True}
    assert [name for name, e in shown.items() if e.fires] == ["s"]
    assert scalars(program) == []
