"""The text form reads back to the same graph, and whatever else it is given is a clear error."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danetc.compiler.emit.text import GraphTextError, read, write
from danetc.compiler.graph import ANALOG, SPIKE, Block, Graph, Kind, Node, Stage, Value
from danetc.compiler.ops import OPS
from danetc.dsl.source import NOWHERE, SourceFile, Span
from tests.compiler.emit.small import SOURCE, resnet
from tests.generating import examples

GOLDENS = Path(__file__).parent / "goldens"


def origins(graph: Graph) -> list[tuple[str, int, int, int, int]]:
    spans = [item.origin for item in (*graph.nodes.values(), *graph.stages)]
    return [(s.source.name, s.start, s.end, s.line, s.column) for s in spans]


def test_golden() -> None:
    path = GOLDENS / "small.graph"
    assert write(resnet((2, 4), (4, 8))) == path.read_text()


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_residual_networks_read_back(dense: bool, bottleneck: bool) -> None:
    graph = resnet((3, 6), (4, 8), dense=dense, bottleneck=bottleneck)
    text = write(graph)
    again = read(text)
    assert again == graph
    assert list(again.nodes) == list(graph.nodes)
    assert origins(again) == origins(graph)
    assert write(again) == text


def test_origins_point_into_the_given_source() -> None:
    graph = resnet()
    again = read(write(graph), {SOURCE.name: SOURCE})
    assert all(node.origin.source is SOURCE for node in again.nodes.values())
    assert again[0].origin.text == "head = avgpool"


def test_an_edited_source_is_an_error() -> None:
    text = write(resnet())
    with pytest.raises(GraphTextError, match="edited"):
        read(text, {SOURCE.name: SourceFile(SOURCE.name, "network small { head = avgpool }\n")})


def test_without_origins_the_text_names_no_source() -> None:
    text = write(resnet(), origins=False)
    assert "@" not in text
    assert "source" not in text
    assert read(text) == resnet()
    assert all(node.origin == NOWHERE for node in read(text).nodes.values())


def test_long_sums_are_written_as_ranges() -> None:
    graph = resnet((6,), (4,))
    assert "fed by sum(out[0 .. 4])" in write(graph)
    assert "fed by sum(out[0], out[1])" in write(graph)


def test_a_form_as_deep_as_a_long_stage() -> None:
    form: tuple[object, ...] = ("in", 0)
    for i in range(5000):
        form = ("sum", form, ("out", i))
    graph = resnet()
    graph = replace(graph, stages=(replace(graph.stages[0], result_form=form),))
    again = read(write(graph)).stages[0].result_form
    for _ in range(5000):
        assert len(again) == 3
        assert again[0] == "sum"
        assert isinstance(again[1], tuple)
        again = again[1]
    assert again == ("in", 0)


# -- any graph ------------------------------------------------------------------------------------

names = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True),
    st.sampled_from(["lambda", "nothing", "in", "true", "a.b", "", "-", '"', "\\", "\n", "é", "0"]),
    st.text(max_size=4),
)
floats = st.floats(allow_nan=False)
attributes = st.one_of(st.booleans(), st.integers(), floats, names, st.none())
kinds = st.one_of(
    st.just(SPIKE), st.just(ANALOG), st.builds(lambda n: Kind("count", n), st.integers(2, 2**24))
)
values = st.builds(
    Value, st.lists(st.integers(1, 2**20), max_size=3).map(tuple), kinds, st.booleans()
)
forms = st.recursive(
    st.tuples(st.sampled_from(["in", "out"]), st.integers(0, 9)),
    lambda inner: st.one_of(
        st.builds(
            lambda head, parts: (head, *parts),
            st.sampled_from(["sum", "concat", "max", "min"]),
            st.lists(inner, min_size=1, max_size=5),
        ),
        st.tuples(st.just("scale"), st.one_of(st.integers(-5, 5), floats), inner),
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
        draw(st.dictionaries(names, texts, max_size=2)),
        draw(id),
    )


@examples(150)
@given(graphs())
def test_any_graph_reads_back(graph: Graph) -> None:
    text = write(graph)
    again = read(text)
    assert again == graph
    assert origins(again) == origins(graph)
    assert write(again) == text
    assert [list(n.attrs.items()) for n in again.nodes.values()] == [
        list(n.attrs.items()) for n in graph.nodes.values()
    ]
    assert [[type(v) for v in n.attrs.values()] for n in again.nodes.values()] == [
        [type(v) for v in n.attrs.values()] for n in graph.nodes.values()
    ]


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, -0.0, 1e22, math.inf, 1 / 3])
def test_floats_are_exact(value: float) -> None:
    graph = resnet()
    node = replace(graph[2], attrs={"init": value})
    again = read(write(replace(graph, nodes={**graph.nodes, 2: node})))[2].attrs["init"]
    assert isinstance(again, float)
    assert again.hex() == value.hex()


# -- malformed text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("graph 1", "graph 2", "line 1: this is not version 1"),
        ("%1     stem.conv", "%0     stem.conv", "line 21: node %0 is given twice"),
        ("conv(%0", "conv(%7", "line 21: there is no node %7 before this line"),
        ("= conv(%0", "= konv(%0", "line 21: there is no operation `konv`; did you mean `conv`?"),
        ("width=4", "width=", "expected a value"),
        ("width=4", "width=4, width=5", "attribute `width` is given twice"),
        ("4x8x8", "4x8y8", "line 21: expected `spike`"),
        ("stem.norm ", "stem.conv ", "line 22: the name `stem.conv` is given twice"),
        ("2:3", "7:3", "offset 18|overlap"),
        ("18..32", "32..18", "do not fit together"),
        ("stem %4", "", "ends without `stem`"),
        ("fed by in[0]", "fed by in[0 .. 3]", "`in` takes one index"),
        ("fed by out[0]", "fed by sum(out[3 .. 1])", "a range runs upwards"),
        ("fed by out[0]", "fed by sum(out[0 .. 99999999999])", "more than 10,000,000 references"),
        ("  ; v = add", "  ; \\q = add", "as JSON writes it"),
        ("output out = %38", "output out = %39", "there is no node %39"),
    ],
)
def test_malformed_text_names_its_line(old: str, new: str, message: str) -> None:
    text = write(resnet())
    assert old in text
    with pytest.raises(GraphTextError, match="graph text, line") as caught:
        read(text.replace(old, new, 1))
    assert any(part in str(caught.value) for part in message.split("|"))


@pytest.mark.parametrize("text", ["", "\n", "\0", "graph", "graph 1 a, steps 4", "(" * 10**5])
def test_what_is_not_a_graph(text: str) -> None:
    with pytest.raises(GraphTextError):
        read(text)


def test_deep_brackets() -> None:
    text = write(resnet()).replace("fed by out[0]", "fed by " + "sum(" * 200_000)
    with pytest.raises(GraphTextError, match="expected an equation"):
        read(text)


def readable(text: str) -> bool:
    line = 1
    try:
        read(text)
    except GraphTextError as error:
        line = error.line
        return False
    finally:
        assert 1 <= line <= text.count("\n") + 1
    return True


def test_mutated_text_is_read_or_refused() -> None:
    """Whatever is done to a text, reading gives a graph or GraphTextError, and nothing else."""
    text = write(resnet())
    words = text.split(" ")
    rng = random.Random(0)
    refused = 0
    for _ in range(1500):
        match rng.randrange(4):
            case 0:
                at = rng.randrange(len(text))
                mutated = text[:at] + text[at + rng.randrange(1, 9) :]
            case 1:
                at = rng.randrange(len(text))
                mutated = text[:at] + rng.choice('%@.,"()=[]|\\09a-xe\n\u0661') + text[at:]
            case 2:
                at, other = rng.randrange(len(words)), rng.randrange(len(words))
                mutated = " ".join([*words[:at], words[other], *words[at + 1 :]])
            case _:
                lines = text.split("\n")
                at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[at] = lines[other]
                mutated = "\n".join(lines)
        refused += not readable(mutated)
    assert refused > 700


@examples(200)
@given(st.text(max_size=60))
def test_junk_after_the_header(junk: str) -> None:
    readable(f"graph 1 a, steps 4\n{junk}")


def test_neither_torch_nor_networkx_is_imported() -> None:
    code = (
        "import sys, danetc.compiler.emit.text; "
        "assert not {'torch', 'networkx'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
