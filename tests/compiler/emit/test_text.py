"""The text of a graph leaves nothing out."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from danetc.compiler.ir.rule_forms import StageInput
from danetc.compiler.ir.text import write
from danetc.dsl.kinds import ANALOG, SPIKE, Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.source import Span
from tests.compiler.emit.graphs import resnet

GOLDENS = Path(__file__).parent / "goldens"


def test_golden() -> None:
    path = GOLDENS / "small.graph"
    assert write(resnet()) == path.read_text()


def changed(value: Any) -> list[Any]:
    """Other values of a field of a graph, each wrong in one place."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1]
        case float():
            return [value + 1e-9]
        case str():
            return [f"{value}_"]
        case None:
            return [0]
        case NeuronProgram():
            state = replace(value.states[0], init=value.states[0].init + 1e-9)
            texts = [
                ("sub v 1.0", "sub v 2.0"),
                ("out s", "out v"),
                ("sigmoid;", "tan;"),
                ("; u_next", "; w"),
            ]
            others = [value.text().replace(*pair) for pair in texts]
            others[-1] = others[-1].replace("next u = u_next", "next u = w")
            return [replace(value, states=(state,)), *map(read_program, others)]
        case Kind():
            return [SPIKE if value != SPIKE else ANALOG, Kind(0, 77, 1.0), Kind(-1, 1, 0.5)]
        case tuple():
            others = [
                (*value[:at], other, *value[at + 1 :])
                for at, item in enumerate(value)
                for other in changed(item)
            ]
            return others + ([value[:-1]] if value and not isinstance(value[0], str) else [])
        case dict():
            others = [{**value, key: other} for key in value for other in changed(value[key])]
            return [*others, *([dict(list(value.items())[:-1])] if value else [])]
        case Span():
            return []
    return [
        replace(value, **{field.name: other})
        for field in fields(value)
        for other in _others(field.name, getattr(value, field.name))
    ]


def _others(name: str, value: Any) -> list[Any]:
    return [(0, StageInput())] if name == "shortcut" and value is None else changed(value)


def test_whatever_is_changed_in_a_graph_changes_its_text() -> None:
    """Each field of each node, stage and block, each attribute and each operand."""
    graph = resnet(widths=(4,))
    text = write(graph)
    others = changed(graph)
    assert len(others) > 400
    for other in others:
        assert write(other) != text


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, -0.0, 1e22, 1 / 3])
def test_floats_are_exact(value: float) -> None:
    graph = resnet()
    node = replace(graph[2], attrs={"factor": value})
    text = write(replace(graph, nodes={**graph.nodes, 2: node}))
    assert float(re.findall(r"factor=(\S+)\)", text)[0]).hex() == value.hex()
