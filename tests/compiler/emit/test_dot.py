"""Drawings say what the graph says, are well formed whatever names it has, and come quickly."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from danetc.compiler.emit import dot
from danetc.compiler.emit.dot import DrawError, to_dot, to_png, to_svg
from danetc.compiler.graph import Form, Graph

from tests.compiler.emit.small import resnet

R152 = ((3, 8, 36, 3), (64, 128, 256, 512))
SVG = "{http://www.w3.org/2000/svg}"


def edges(text: str) -> set[tuple[str, str]]:
    """The drawn edges; those that only steer the layout are left out."""
    found = re.findall(r"^\s*(\w+) -> (\w+) \[(.*)\]$", text, re.MULTILINE)
    return {(a, b) for a, b, attrs in found if "invis" not in attrs}


def with_feed(graph: Graph, index: int, form: Form) -> Graph:
    stage = graph.stages[0]
    blocks = list(stage.blocks)
    blocks[index] = replace(blocks[index], feed=form)
    return replace(graph, stages=(replace(stage, blocks=tuple(blocks)),))


def test_dense_additions_are_drawn() -> None:
    drawn = edges(to_dot(resnet((4,), (4,))))
    assert drawn == {
        ("g0", "g1"),
        ("g1", "s0in"),
        ("s0in", "s0b0"),
        ("s0b0", "s0b1"),
        *{("s0b0", "j0"), ("s0b1", "j0"), ("j0", "s0b2")},
        *{("s0b0", "j1"), ("s0b1", "j1"), ("s0b2", "j1"), ("j1", "s0b3")},
        ("s0b3", "g35"),
        ("g35", "out0"),
    }


def test_a_chain_has_no_junctions() -> None:
    drawn = edges(to_dot(resnet((4,), (4,), dense=False)))
    assert not [b for _, b in drawn if b.startswith("j")]
    assert {("s0b0", "s0b1"), ("s0b1", "s0b2"), ("s0b2", "s0b3")} <= drawn


def test_equal_blocks_of_a_long_stage_are_drawn_as_one() -> None:
    text = to_dot(resnet(*R152, size=112, bottleneck=True))
    assert "… 33 more …" in text
    assert "… 5 more …" in text
    for shown in ("s2b0", "s2b1", "s2more2", "s2b35"):
        assert f" {shown} [" in text
    assert " s2b2 [" not in text
    assert {("s2b0", "s2more2"), ("s2b1", "s2more2")} <= edges(text)
    assert "2 … 34" in text


def test_blocks_that_differ_are_not_hidden() -> None:
    graph = resnet((9,), (4,))
    scope = graph.stages[0].blocks[4].scope
    nodes = {
        id: replace(node, attrs={**node.attrs, "groups": 2})
        if node.op == "conv" and node.scope[:4] == scope
        else node
        for id, node in graph.nodes.items()
    }
    text = to_dot(replace(graph, nodes=nodes))
    assert " s0b4 [" in text
    assert " s0b4 [" not in to_dot(graph)


def test_what_is_drawn_of_a_nested_equation() -> None:
    form: Form = (
        "max",
        ("sum", ("in", 0), ("sum", ("out", 0), ("out", 1))),
        ("scale", 2, ("out", 1)),
    )
    text = to_dot(with_feed(resnet((3,), (4,)), 2, form))
    signs = dict(re.findall(r"^\s*(j\d+) \[.*label=<(.*)>\]$", text, re.MULTILINE))
    assert signs == {"j0": "max", "j1": "+", "j2": "×2"}
    assert {
        *{("s0in", "j1"), ("s0b0", "j1"), ("s0b1", "j1"), ("s0b1", "j2")},
        *{("j1", "j0"), ("j2", "j0"), ("j0", "s0b2")},
    } <= edges(text)


def test_a_stage_that_gives_the_sum_of_its_blocks() -> None:
    graph = resnet((3,), (4,))
    form: Form = ("sum", ("out", 0), ("out", 1), ("out", 2))
    stage = replace(graph.stages[0], result_form=form)
    drawn = edges(to_dot(replace(graph, stages=(stage,))))
    assert {("s0b0", "j1"), ("s0b1", "j1"), ("s0b2", "j1"), ("j1", "s0result")} <= drawn


def test_kinds_have_colours() -> None:
    text = to_dot(resnet((3,), (4,)))
    assert f'g0 -> g1 [color="{dot.ANALOG}" style=dashed' in text  # the image is static
    assert f's0b0 -> s0b1 [color="{dot.SPIKE}" style=solid' in text
    assert "j0 -> s0b2" in text
    assert text.count(f'BGCOLOR="{dot.INTERBLOCK}"') >= 4  # three blocks and the legend


def test_svg_is_well_formed_and_names_what_it_shows() -> None:
    root = ElementTree.fromstring(to_svg(resnet((3, 8), (4, 8), name="danet_c_small")))
    assert root.tag == f"{SVG}svg"
    words = " ".join(text.text or "" for text in root.iter(f"{SVG}text"))
    for word in ("danet_c_small", "stages.0", "densely_additive", "8×2×2", "… 5 more …"):
        assert word in words
    assert len(list(root.iter(f"{SVG}path"))) == 30  # edges and rounded boxes


@pytest.mark.parametrize(
    "name",
    ['"]; evil [label="x', "<script>alert(1)</script>", "a&b", "\\N\\G", "\0\x1b[31m", "é" * 500],
)
def test_any_name_is_drawn_as_text(name: str) -> None:
    graph = resnet(name=name)
    nodes = {
        id: replace(
            node,
            scope=(name, *node.scope) if id < 5 else node.scope,
            attrs={**node.attrs, "neuron": name} if node.op == "neuron" else node.attrs,
        )
        for id, node in graph.nodes.items()
    }
    stages = tuple(replace(s, connection=name, rule=name) for s in graph.stages)
    graph = replace(graph, nodes=nodes, stages=stages, outputs={name: 38})
    root = ElementTree.fromstring(to_svg(graph))
    assert not list(root.iter(f"{SVG}script"))
    if name.isprintable() and len(name) < 60 and "\\" not in name:
        assert name in [text.text for text in root.iter(f"{SVG}text")]


def test_a_drawing_of_resnet_152_takes_less_than_a_second() -> None:
    graph = resnet(*R152, size=112, bottleneck=True)
    start = time.perf_counter()
    svg = to_svg(graph)
    assert time.perf_counter() - start < 1.0
    assert len(svg) < 200_000


def test_png() -> None:
    assert to_png(resnet()).startswith(b"\x89PNG")


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot.shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(DrawError, match="graphviz-pure"):
        to_svg(resnet())


def test_torch_is_not_imported() -> None:
    code = "import sys, danetc.compiler.emit.dot; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
