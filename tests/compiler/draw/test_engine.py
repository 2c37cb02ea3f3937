"""File formats, tooltips, arbitrary names, and errors without matplotlib or a working ``dot``."""

import re
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danetc.commands.networks import draw_command
from danetc.commands.parser import make_command
from danetc.compiler import check_file, graph_of
from danetc.compiler.draw import LEVELS, THEMES, DrawError, compare, draw, draw_with_members, engine
from danetc.compiler.draw.theme import DARK, LIGHT
from danetc.compiler.draw.words import LOOKS, kind_look
from danetc.compiler.ir.graph import Graph
from danetc.dsl import std
from danetc.dsl.kinds import ANALOG, SPIKE, Kind, count
from tests.compiler.draw.test_legible import SVG, read, texts
from tests.differential.networks import graph_of_neuron


@pytest.fixture(scope="module")
def small() -> Graph:
    return graph_of(check_file("danet_c_small"))


@pytest.mark.parametrize("level", LEVELS)
def test_formats(small: Graph, level: str) -> None:
    assert draw(small, level, "png").startswith(b"\x89PNG")
    assert read(draw(small, level)).tag == f"{SVG}svg"
    assert draw(small, level, "gv").startswith(b'digraph "danet_c_small" {')


def test_what_there_is_to_choose_from_is_the_same_for_the_command() -> None:
    options = make_command("draw", draw_command).params
    kinds: dict[str | None, Any] = {item.name: item.type for item in options}
    assert list(kinds["level"].choices) == list(LEVELS)
    assert list(kinds["theme"].choices) == list(THEMES)


def test_unknown_levels_and_formats(small: Graph) -> None:
    levels = "no level layers: there are network, stage, block, op, neuron"
    with pytest.raises(DrawError, match=levels):
        draw(small, "layers")
    with pytest.raises(DrawError, match="no format bmp: there are svg, png, pdf, gv"):
        draw(small, kind="bmp")


def test_kinds_differ_without_colour() -> None:
    kinds = (SPIKE, count(3), ANALOG, Kind(-1, 1, 1.0), Kind(0, 4, 0.25))
    spike, counts, analog, signed, scaled = looks = [kind_look(kind) for kind in kinds]
    assert len({(look.dash, look.pen) for look in looks}) == 5
    assert counts == kind_look(Kind(0, 1, 2.0)) != scaled
    assert spike.dash != signed.dash != analog.dash
    assert spike.dash != analog.dash == counts.dash
    assert counts.pen > 2 * analog.pen


def test_themes(small: Graph) -> None:
    auto, light, dark = (draw(small, theme=theme).decode() for theme in THEMES)
    assert "prefers-color-scheme: dark" in auto
    assert read(auto).get("class") == "danetc-topology"
    assert "<style>" not in light + dark
    used = {
        theme: set(re.findall(r'(?:fill|stroke)="(#\w+)"', text.partition("</style>")[2] or text))
        for theme, text in (("auto", auto), ("light", light), ("dark", dark))
    }
    assert used["auto"] == used["light"] <= set(LIGHT.values())
    assert used["dark"] <= set(DARK.values())
    for role, colour in LIGHT.items():
        if colour in used["auto"]:
            assert f'.danetc-topology [fill="{colour}"]{{fill:{DARK[role]}}}' in auto
            assert DARK[role] in used["dark"]


def test_tooltips_say_shape_kind_and_source(small: Graph) -> None:
    told = [title.text or "" for title in read(draw(small, "op")).iter(f"{SVG}title")]
    conv = next(text for text in told if text.startswith("stages.1.blocks.0.branch.conv1"))
    said, _, place = conv.rpartition(":")
    assert said.endswith(".conv1 · conv 3×3, 32 /2 · 32×4×4, analog · std/blocks.danet")
    blocks = Path(std.__file__).with_name("blocks.danet").read_text("utf-8")
    assert "conv(width, kernel = 3, stride = stride)" in blocks.splitlines()[int(place) - 1]
    assert any(re.search(r"· danet_c_small\.danet:\d+$", text) for text in told)
    assert "stages.1.blocks.0.spike: 32×4×4, spike" in told
    assert not [text for text in told if text.startswith("/") or ":/" in text]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "name",
    ['"]; evil [label="x', "<script>alert(1)</script>", "\\N\\G&--><x", "\0\x1b[31m" + "é" * 500],
)
def test_any_name_is_drawn_as_text(name: str, level: str, small: Graph) -> None:
    neuron = {"neuron": name}
    nodes = {
        id: replace(
            node,
            scope=(name,) * (id < 5) + node.scope,
            attrs={**node.attrs, **(neuron if node.op == "neuron" else {})},
        )
        for id, node in small.nodes.items()
    }
    stages = tuple(replace(s, connection=name, rule=name) for s in small.stages)
    neurons = dict.fromkeys([name], *small.neurons.values())
    outputs = dict.fromkeys([name], *small.outputs.values())
    graph = Graph(name, 3, nodes, outputs, stages, neurons, small.stem_output)
    root = read(draw(graph, level))
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter(f"{SVG}x"))
    if name.isprintable() and len(name) < 30:
        assert name in [text.text for text in texts(root)]
    assert draw(graph, level, "gv")


def test_levels_that_show_nothing_say_so(small: Graph) -> None:
    bare = replace(small, stages=(), nodes={small.input.id: small.input}, outputs={})
    with pytest.raises(DrawError, match="no stages of blocks"):
        draw(bare, "block")
    with pytest.raises(DrawError, match="no stages of blocks"):
        compare([small, bare])
    with pytest.raises(DrawError, match="no neurons"):
        draw(bare, "neuron")
    assert draw(bare)


def test_a_pdf_is_the_svg(small: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    svg, pdf = draw(small, kind="svg"), draw(small, kind="pdf")
    width, height = re.findall(rb'(?:width|height)="(\d+)pt"', svg)
    assert b"/MediaBox [ 0 0 %s %s ]" % (width, height) in pdf
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    streams = map(zlib.decompress, re.findall(rb"stream\n(x.*?)\nendstream", pdf, re.DOTALL))
    page = next(text for text in streams if b"\nBT\n" in text)
    assert page.count(b"\nBT\n") == svg.count(b"<text ")
    curves = [(path.count(b",") - 1) // 3 for path in re.findall(rb'd="(M.*?)"', svg)]
    assert len(re.findall(rb" c$", page, re.MULTILINE)) == sum(curves) + 8 * svg.count(b"<ellipse")
    assert draw(small, kind="pdf") == pdf
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(DrawError, match=r"a PDF needs matplotlib: pip install 'danetc\[plot\]'"):
        draw(small, kind="pdf")


@pytest.mark.parametrize("output", [b"garbage", b"{}", b'{"bb": ', b"\xff<svg"])
@pytest.mark.parametrize("level", ["network", "stage"])
def test_a_program_that_gives_something_else_is_reported(
    output: bytes, level: str, small: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may be named ``dot``. Output that is not a picture raises an error."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 0, output, b"")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DrawError, match=r"output is not"):
        draw(small, level)


LEAKY = "state u = 0.0; v = 0.5 * u + x; "
OUTPUTS = {
    LEAKY + "s = heaviside(v - 1); u = v - s": "spike (0 or 1)",
    LEAKY + "s = heaviside(v - 1) - heaviside(-v - 1); u = v - s": "signed spike (-1, 0 or 1)",
    LEAKY + "s = round(min(max(v, 0), 4)); u = v - s": "count (whole numbers)",
    LEAKY + "s = round(min(max(v, 0), 4)) / 4; u = v - s": "count (multiples of 1/2, 1/4, ...)",
    "s = max(x, 0)": None,
}


@pytest.mark.parametrize(("body", "what"), OUTPUTS.items())
@pytest.mark.parametrize("level", ["network", "stage", "op"])
def test_neurons_are_drawn_as_what_they_are(body: str, what: str | None, level: str) -> None:
    """Their outputs are drawn by kind, and an activation function is drawn as an ordinary layer."""
    graph = graph_of_neuron(body, head="maxpool(2) -> mean_over_time -> linear(5)")
    shown = {area.text for area in texts(read(draw(graph, level)))}
    kinds = {words for _, words in LOOKS} & shown
    if level != "network":  # the network level shows only the kinds between stages
        assert kinds == {what, "analog (real numbers)"} - {None}
    assert bool({"neuron", "interblock neuron", "interblock neurons"} & shown) == (what is not None)


@pytest.mark.parametrize("name", ["danet_c_small", "danet_c_r152", "ms_resnet18"])
@pytest.mark.parametrize("level", ["network", "stage", "block", "op"])
def test_keys_are_drawn_and_no_block_is_forgotten(name: str, level: str) -> None:
    graph = graph_of(check_file(name))
    svg, found = draw_with_members(graph, level)
    assert set(found) <= set(re.findall(r'<g id="([^"]*)" class="node"', svg))
    ids = [id for each in found.values() for id in each]
    assert len(ids) == len(set(ids))  # no operation has two boxes
    scopes = [block.scope for stage in graph.stages for block in stage.blocks]
    inside = {n.id for n in graph.nodes.values() if any(n.scope[: len(s)] == s for s in scopes)}
    assert inside <= set(ids)
    if level in ("block", "op"):  # equal blocks are compared by operation and drawn once
        assert max(map(len, found.values())) > 30 or name != "danet_c_r152"
        for each in found.values():
            assert len({(graph[id].op, graph[id].name, graph[id].scope[4:]) for id in each}) == 1
