"""The text form leaves nothing of a graph out, and stays one line a node whatever names it holds."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danetc.compiler.ir.graph import Block, Graph, Node, Stage, Value
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import (
    Form,
    InputOf,
    Join,
    OutputOf,
    Scaled,
    ScaledByLearnt,
    StageInput,
)
from danetc.compiler.ir.text import write
from danetc.dsl.kinds import ANALOG, SPIKE, Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.ranges import NumberRange
from danetc.dsl.syntax.source import NOWHERE, SourceFile, Span
from tests.compiler.emit.small import IF, resnet
from tests.generating import examples

GOLDENS = Path(__file__).parent / "goldens"


def test_golden() -> None:
    path = GOLDENS / "small.graph"
    assert write(resnet((2, 4), (4, 8))) == path.read_text()


def test_without_origins_the_text_names_no_source() -> None:
    text = write(resnet(), origins=False)
    assert "@" not in text
    assert "source" not in text


def test_long_sums_are_written_as_ranges() -> None:
    graph = resnet((6,), (4,))
    assert "fed by sum(out[0 .. 4])" in write(graph)
    assert "fed by sum(out[0], out[1])" in write(graph)


# -- any graph ------------------------------------------------------------------------------------

names = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True),
    st.sampled_from(["lambda", "nothing", "in", "true", "a.b", "", "-", '"', "\\", "\n", "é", "0"]),
    st.text(max_size=4),
)
floats = st.floats(allow_nan=False)
attributes = st.one_of(st.booleans(), st.integers(), floats, names, st.none())
kinds = st.one_of(
    st.just(SPIKE),
    st.just(ANALOG),
    st.builds(
        lambda low, size, power: Kind.of(
            NumberRange(low * 2.0**power, (low + size) * 2.0**power, 2.0**power)
        ),
        st.integers(-(2**23), 2**23),
        st.integers(1, 2**23),
        st.integers(-60, 60),
    ),
)
values = st.builds(
    Value, st.lists(st.integers(1, 2**20), max_size=3).map(tuple), kinds, st.booleans()
)
blocks = st.integers(0, 9)
forms: st.SearchStrategy[Form] = st.recursive(
    st.one_of(st.builds(StageInput), st.builds(InputOf, blocks), st.builds(OutputOf, blocks)),
    lambda inner: st.one_of(
        st.builds(
            Join,
            st.sampled_from(["sum", "concat", "max", "min"]),
            st.lists(inner, min_size=1, max_size=5).map(tuple),
        ),
        st.builds(Scaled, floats, inner),
        st.builds(ScaledByLearnt, st.sampled_from(["feeds.1.out0", "feeds.2.sum"]), inner),
    ),
    max_leaves=12,
)
texts = st.text(st.one_of(st.characters(), st.sampled_from("\n ab")), max_size=30)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    sources = [SourceFile(draw(names), draw(texts)) for _ in range(2)]

    def span() -> Span:
        source = draw(st.sampled_from([*sources, NOWHERE.source]))
        if source is NOWHERE.source:
            return NOWHERE
        start = draw(st.integers(0, len(source.text)))
        return Span(source, start, draw(st.integers(start, len(source.text))))

    ids = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True))
    paths = draw(
        st.lists(
            st.lists(names, min_size=1, max_size=4).map(tuple),
            min_size=len(ids),
            max_size=len(ids),
            unique=True,
        )
    )
    nodes: dict[int, Node] = {}
    for id, path in zip(ids, paths, strict=True):
        inputs = draw(st.lists(st.sampled_from(list(nodes)), max_size=3)) if nodes else []
        attrs = draw(st.dictionaries(names, attributes, max_size=4))
        op = draw(st.sampled_from(list(OPS)))
        nodes[id] = Node(id, op, tuple(inputs), attrs, draw(values), path[:-1], path[-1], span())
    id = st.sampled_from(ids)
    scopes = st.lists(names, max_size=3).map(tuple)
    after = st.lists(names, max_size=3).map(tuple)
    blocks = st.lists(st.builds(Block, scopes, id, id, id, after, forms), max_size=3).map(tuple)
    stages = [
        replace(stage, origin=span())
        for stage in draw(
            st.lists(st.builds(Stage, scopes, names, names, id, blocks, id, forms), max_size=2)
        )
    ]
    return Graph(
        draw(names),
        draw(st.integers(1, 99)),
        nodes,
        draw(st.dictionaries(names, id, min_size=1, max_size=3)),
        tuple(stages),
        draw(st.dictionaries(names, st.just(IF), max_size=2)),
        draw(id),
    )


@examples(25)
@given(graphs())
def test_a_node_is_one_line(graph: Graph) -> None:
    lines = write(graph).split("\n")
    assert sum(line.startswith("%") for line in lines) == len(graph.nodes)
    assert sum(line.startswith("stage ") for line in lines) == len(graph.stages)
    for node in graph.nodes.values():
        (line,) = (line for line in lines if re.match(rf"%{node.id}\s", line))
        if node.origin is not NOWHERE:
            assert line.endswith(f" {node.origin.line}:{node.origin.column}")


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
                ("atan", "tan"),
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
    graph = resnet((3,), (4,))
    text = write(graph)
    others = changed(graph)
    assert len(others) > 400
    for other in others:
        assert write(other) != text


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, -0.0, 1e22, 1 / 3])
def test_floats_are_exact(value: float) -> None:
    graph = resnet()
    node = replace(graph[2], attrs={"factor": value})
    (line,) = re.findall(r"factor=(\S+)\)", write(replace(graph, nodes={**graph.nodes, 2: node})))[
        :1
    ]
    assert float(line).hex() == value.hex()


def test_neither_torch_nor_networkx_is_imported() -> None:
    code = (
        "import sys, danetc.compiler.ir.text; "
        "assert not {'torch', 'networkx'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
