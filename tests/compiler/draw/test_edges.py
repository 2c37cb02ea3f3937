"""The wires of pictures match the edges of the graph in networkx."""

import re

import networkx as nx
import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.draw.block import block_level, op_level, wirings_of
from danetc.compiler.draw.flow import op_flow
from danetc.compiler.draw.sheet import Box, Sheet
from danetc.compiler.draw.stage import network_level, stage_level
from danetc.compiler.draw.units import Parts
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import SPIKE
from tests.differential.helpers import text
from tests.differential.networks import VARIETY, small

RULES = ("chain", "densely_additive", "densely_additive_all", "densely_additive_after_opening",
         "densely_concatenated", "window(k = 2)", "greatest", "inputs")  # fmt: skip
OWN = """rule greatest { in[i] = max(out[i - 1], 0.5 * sum(out[0 .. i - 1])); result = out[n - 1] }
rule inputs { in[i] = out[0] if i == 1 else in[i - 1] + 0.5 * out[i - 1]; result = out[n - 1] }
rule window(k = 3) { in[i] = sum(out[max(0, i - k) .. i - 1]); result = out[n - 1] }
"""


def shown_feeds(sheet: Sheet, prefix: str) -> dict[str, set[str]]:
    """Map each block (or group) of a stage, and the result, to the blocks that feed it, past all
    junctions. A value that comes from a delay is named "earlier"."""
    into: dict[str, set[str]] = {}
    for wire in sheet.wires:
        tail, head = owner(wire.tail), owner(wire.head)
        repeats = wire.tail.endswith("nout") and wire.head.endswith("nin")
        if (tail or head) and (repeats or tail != head or wire.tail == wire.head):
            into.setdefault(head or wire.head, set()).add(tail or wire.tail)

    def sources(key: str) -> set[str]:
        found = set()
        for source in into.get(key, set()) - ({key} if "join" in key else set()):
            if re.fullmatch(rf"{prefix}d\d+", source):
                found.add("earlier")
            elif re.fullmatch(rf"{prefix}(j\d+|more\d+join|b\d+join)", source):
                found |= sources(source)
            else:
                found.add(source)
        return found

    keys = [key for key in into if re.fullmatch(rf"{prefix}(b\d+|more\d+|result)", key)]
    return {key: sources(key) - ({key} if key.endswith("result") else set()) for key in keys}


def owner(key: str) -> str | None:
    """The part of a stage that a box belongs to: ``s0b1`` for its operation ``s0b1n17``."""
    match = re.fullmatch(r"(s\d+((b|more)\d+(join)?|in|j\d+|result))(n\w+)?", key)
    return match[1] if match else None


def check_feeds(graph: Graph, sheet: Sheet) -> None:
    """Assert that blocks and results of stages have the same sources in the picture and in the graph."""
    whole = graph.to_networkx()
    for number, stage in enumerate(graph.stages):
        prefix = f"s{number}"
        shown = shown_feeds(sheet, prefix)
        starts = {
            int(part): key for key in shown if (part := re.sub(r"s\d+(b|more|result)", "", key))
        }
        group = [
            starts[max(first for first in starts if first <= i)] for i in range(len(stage.blocks))
        ]
        ends = {block.output: key for block, key in zip(stage.blocks, group, strict=True)}
        ends[stage.entry] = f"{prefix}in"
        ends |= {node.id: "earlier" for node in graph.nodes.values() if OPS[node.op].cuts}
        true: dict[str, set[str]] = {}
        for block, key in zip(stage.blocks, group, strict=True):
            true.setdefault(key, set()).update(sources(whole, block.input, ends))
        for key, expected in true.items():
            assert shown[key] == expected, key
        assert shown.get(f"{prefix}result", {group[-1]}) == sources(whole, stage.result, ends)


def sources(whole: nx.DiGraph, id: int, ends: dict[int, str]) -> set[str]:
    """The names of the first ends on all paths backwards from a node."""
    if id in ends:
        return {ends[id]}
    return set().union(*(sources(whole, operand, ends) for operand in whole.predecessors(id)))


@pytest.mark.parametrize("n", [1, 4, 12])
@pytest.mark.parametrize("rule", RULES)
def test_what_feeds_each_block(rule: str, n: int) -> None:
    connection, stride = ("dense_layer", 1) if rule == "densely_concatenated" else ("origin", 2)
    stages = f"(stage(basic(4), {n}) -> stage(basic(8), {n}, stride = {stride}))"
    graph = text(small(f"{stages} via {connection} by {rule}", more=OWN))
    check_feeds(graph, stage_level(graph))
    check_feeds(graph, op_level(graph))


@pytest.mark.parametrize("name", ["danet_c_r152", "spiking_densenet201", "own_rule"])
def test_what_feeds_each_block_of_shipped_networks(name: str) -> None:
    graph = graph_of(check_file(name))
    check_feeds(graph, op_level(graph))


@pytest.mark.parametrize("name", ["spikformer", "srnn", "glif", "denseformer", "own_rule"])
def test_wires_end_at_the_rim_of_boxes(name: str) -> None:
    graph = graph_of(check_file(f"zoo/{name}" if name != "own_rule" else name))
    for wire, box in (
        (wire, sheet.box(wire.head))
        for sheet in (network_level(graph), stage_level(graph), op_level(graph))
        for wire in sheet.wires
    ):
        if wire.tip is not None and not box.key.startswith("legend"):
            x, y = wire.tip
            inside = min(x - box.left, box.right - x, y - box.top, box.bottom - y)
            assert inside >= -1, wire
            assert inside <= 1 or box.shape in ("circle", "round", "bar"), wire


@pytest.mark.parametrize(
    "name", ["danet_b_r34", "own_connection", "baa_r50", "spiking_densenet121"]
)
def test_operations_and_wires_between_them(name: str) -> None:
    graph = graph_of(check_file(name))
    sheet = op_level(graph)
    drawn = (re.fullmatch(r"(s\d+b\d+|g\d+)n(\d+)", box.key) for box in sheet.boxes)
    node = {match[0]: int(match[2]) for match in drawn if match}
    assert {graph[id].op for id in node.values()} >= {"conv", "batchnorm", "neuron", "linear"}
    unit = {id: key.rpartition("n")[0] for key, id in node.items()}
    ways = [(node.get(wire.tail), node.get(wire.head)) for wire in sheet.wires]
    shown, true = (
        {(a, b) for a, b in edges if a in unit and unit[a] == unit.get(b)}
        for edges in (ways, graph.to_networkx().edges())
    )
    assert shown == true
    for wire in sheet.wires:
        if wire.tail in node:
            value = graph[node[wire.tail]].value
            other = "count" if value.kind.is_integer else "analog"
            colour = "spike" if value.kind == SPIKE else other
            assert (wire.look.colour, wire.look.hollow) == (colour, not value.varies)


DRAWN = [
    "origin_r18",
    "sew_r50",
    "danet_b_r34",
    "danet_c_r50",
    "sew_r18",
    "baa_r18",
    "own_connection",
]


@pytest.mark.parametrize("name", DRAWN)
def test_the_wiring_of_a_block(name: str) -> None:
    """Each block is drawn as its subgraph, with input, branch layers and output in a straight line."""
    graph = graph_of(check_file(name))
    sheet = block_level(graph)
    of = Parts(graph)
    whole = graph.to_networkx()
    for number, wiring in enumerate(wirings_of(of)):
        block = graph.stages[wiring.number].blocks[wiring.index]
        nodes = of.blocks[wiring.number, wiring.index]
        named = {node.id: f"w{number}{node.id}" for node in nodes} | {block.input: f"w{number}in"}
        drawn = {
            (wire.tail, wire.head)
            for wire in sheet.wires
            if re.match(rf"w{number}(\d|in)", wire.tail) and wire.head in named.values()
        }
        assert drawn == {(named[a], named[b]) for a, b in whole.subgraph(named).edges()}
        assert f"w{number}out" in {w.head for w in sheet.wires if w.tail == named[block.output]}
        branch = [named[node.id] for node in nodes if node.scope[-1] == "branch"]
        middles = [sheet.box(key).x for key in (f"w{number}in", *branch, f"w{number}out")]
        assert max(middles) - min(middles) < 0.75, wiring


def test_interblock_neurons_are_marked() -> None:
    """Origin, tdBN and BAA have a neuron after the addition, SEW and PA have none (Fig. 1)."""
    for name in ("origin", "tdbn", "baa", "sew", "danet_a", "danet_b"):
        marked = 2 if name in ("origin", "tdbn", "baa") else 0
        graph = graph_of(check_file(f"{name}_r18"))
        boxes = [box for box in block_level(graph).boxes if box.double and "sample" not in box.key]
        found = [(box.fill, graph[int(box.key[2:])].op) for box in boxes]
        assert found == [("interblock", "neuron")] * marked, name
        rows = [cell for box in stage_level(graph).boxes for row in box.rows for cell in row]
        assert sum(cell.fill == "interblock" for cell in rows) == (8 if marked else 0), name


def test_a_network_level_is_the_graph_of_its_parts() -> None:
    graph = text(VARIETY["unet"])
    unit = dict(Parts(graph).unit_of)
    edges = graph.to_networkx().edges()
    true = {(unit[a], unit[b]) for a, b in edges if unit[a] != unit[b]}
    true |= {(unit[id], f"out{i}") for i, id in enumerate(graph.outputs.values())}
    wires = network_level(graph).wires
    assert {(w.tail, w.head) for w in wires if not w.tail.startswith("legend")} == true
    assert any(key.startswith("s") for key in unit.values())


ODD = small(
    "stage(basic(4), 12) via fading by densely_additive -> stage(basic(4), 9) via sew by twice",
    more="""connection fading {
      each = conv -> norm -> spike; last = conv -> norm; out = (branch + shortcut * (1 - i / n)) -> spike
    }
    rule twice { in[i] = sum(out[i - 1], out[0 .. i - 1]); result = out[n - 1] }""",
)


def words(sheet: Sheet) -> dict[str, list[str]]:
    return {box.key: [cell.text for row in box.rows for cell in row] for box in sheet.boxes}


def test_blocks_that_are_not_alike_are_not_called_so() -> None:
    graph = text(ODD)
    sheet = stage_level(graph)
    shown = words(sheet)
    assert shown["s0more2"] == ["blocks 2 – 10", "9 more, not all alike"]
    assert shown["s1more2"] == ["blocks 2 – 7", "6 more like 1"]
    assert shown["s1j0note"] == ["of 0, 0"]  # block 1 reads block 0 twice
    stages = words(network_level(graph))
    assert stages["s0"][1] == "12 blocks of conv 3×3, 4 → 3×3, 4"
    # A wire that several values share has the widest kind. In SEW the first block after spikes returns
    # counts up to 2, the next up to 3, ... Block 7, the last of the group, reads the blocks up to 6.
    wires = [wire for wire in sheet.wires if wire.tail == "s1more2"]
    kinds = [graph[block.output].value.kind for block in graph.stages[1].blocks]
    into = {wire.head: " ".join(wire.tooltip.split()[-3:]) for wire in wires}
    assert into.pop("s1more2join") == str(kinds[6])
    assert list(into.values()) == [str(kinds[7])]
    assert {wire.look.colour for wire in wires} == {"count"}


LATE = """rule back {
  in[0]  = in + (out[n-1] -> delay(1))
  in[i]  = sum(out[i-1], in[n-1] -> delay(1), out[0] -> delay(2)) if i > 1 else out[0]
  result = out[n-1]
}
connection bare { each = conv -> spike; out = branch }"""


@pytest.mark.parametrize(("blocks", "last"), [(3, "s0b2"), (12, "s0b11")])
def test_values_of_earlier_steps_lead_over_their_delays(blocks: int, last: str) -> None:
    stages = f"stage(single(4), {blocks}) via bare by back"
    spec = small(stages, input="events(2, 8, 8)", stem="conv(4) -> spike", more=LATE)
    sheet = stage_level(text(spec))
    first = {box.key: box.rows[0][0].text for box in sheet.boxes if box.rows}
    delays = {
        (wire.tail, first[wire.head], after.head)
        for wire in sheet.wires
        for after in sheet.wires
        if after.tail == wire.head and first.get(wire.head, "").startswith("delay")
    }
    into_first = {wire.tail for wire in sheet.wires if wire.head == "s0b0"}
    into_last = {wire.tail for wire in sheet.wires if wire.head == last}
    assert {(last, "delay 1", key) for key in into_first} <= delays
    assert {(into, "delay 1", into) for into in into_last} <= delays
    assert {("s0b0", "delay 2", key) for key in into_last} <= delays
    boxes = [box for box in sheet.boxes if first.get(box.key, "").startswith("delay")]
    for box in boxes:  # delays do not overlap other boxes
        for other in sheet.boxes:
            if other.key.startswith("s0") and not other.key.endswith("frame") and other != box:
                apart = box.left >= other.right or box.right <= other.left
                assert apart or box.top >= other.bottom or box.bottom <= other.top, other.key


ATTENTION = """network n {
  input = events(4, 4, 4); steps = 2; neuron = IF; surrogate = atan
  patches = in -> maxpool(2)
  a = scores(in, patches, heads = 2) -> spike
  out = mix(a, patches, like = in)
}
"""


def test_factors_of_attention_are_named() -> None:
    """Labels on the wires name the factors."""
    graph = text(ATTENTION)
    nodes = list(graph.nodes.values())
    flow = op_flow(Parts(graph), [nodes], "n", "LR", lambda source: Box(source.path), nodes[-1].id)
    boxes = {box.key: " ".join(cell.text for row in box.rows for cell in row) for box in flow.boxes}
    ways = {(boxes[line.tail], boxes[line.head]) for line in flow.lines}
    named = {(tail, name) for tail, name in ways if name in ("q", "k", "a", "v", "like")}
    assert {name for _, name in named} == {"q", "k", "a", "v", "like"}
    assert {("q", "q kᵀ, 2 heads"), ("k", "q kᵀ, 2 heads")} <= ways
    assert {("a", "a v"), ("v", "a v"), ("like", "a v")} <= ways
    assert ("IF", "a") in ways
