"""What pictures draw between boxes is what stands in the graph, by a walk of networkx."""

from __future__ import annotations

import re

import networkx as nx
import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.draw.block import block_level, op_level, wirings_of
from danetc.compiler.draw.flow import op_flow
from danetc.compiler.draw.sheet import Box, Sheet
from danetc.compiler.draw.stage import network_level, stage_level
from danetc.compiler.draw.units import Parts
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import SPIKE
from tests.differential.networks import VARIETY

R6 = """use std
backbone long = stage(basic(4), {n}) -> stage(basic(8), {n}, stride = {stride})
network net {{
  input = image(3, 16, 16); steps = 2; neuron = IF; surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = long via {connection} by {rule}
  head = avgpool -> mean_over_time -> linear(3)
}}
"""
ADDITIVE = ("densely_additive", "densely_additive_all", "densely_additive_after_opening")
RULES = ("chain", *ADDITIVE, "densely_concatenated", "window(k = 2)")
OWN = """rule greatest { in[i] = max(out[i - 1], 0.5 * sum(out[0 .. i - 1])); result = out[n - 1] }
rule inputs { in[i] = out[0] if i == 1 else in[i - 1] + 0.5 * out[i - 1]; result = out[n - 1] }
rule window(k = 3) { in[i] = sum(out[max(0, i - k) .. i - 1]); result = out[n - 1] }
"""


def network(rule: str, n: int, connection: str = "origin") -> Graph:
    concatenated = rule == "densely_concatenated"
    connection = "dense_layer" if concatenated else connection
    stride = 1 if concatenated else 2
    return graph_of(
        check_text(R6.format(rule=rule, n=n, connection=connection, stride=stride) + OWN)
    )


def shown_feeds(sheet: Sheet, number: int) -> dict[str, set[str]]:
    """For each block (or group) of a stage, and its result, the blocks that feed it; junctions are
    seen through. What comes over a delay is "earlier"."""
    into: dict[str, set[str]] = {}
    for wire in sheet.wires:
        repeats = wire.tail.endswith("nout") and wire.head.endswith("nin")
        within = owner(wire.tail) == owner(wire.head) and wire.tail != wire.head
        if {owner(wire.tail), owner(wire.head)} != {None} and (repeats or not within):
            into.setdefault(owner(wire.head) or wire.head, set()).add(owner(wire.tail) or wire.tail)
    prefix = f"s{number}"

    def sources(key: str) -> set[str]:
        found = set()
        for source in into.get(key, set()) - {key} if "join" in key else into.get(key, ()):
            if re.fullmatch(rf"{prefix}d\d+", source):
                found.add("earlier")
                continue
            found |= (
                sources(source)
                if re.fullmatch(rf"{prefix}(j\d+|more\d+join|b\d+join)", source)
                else {source}
            )
        return found

    keys = [key for key in into if re.fullmatch(rf"{prefix}(b\d+|more\d+|result)", key)]
    return {key: sources(key) - ({key} if key.endswith("result") else set()) for key in keys}


def owner(key: str) -> str | None:
    """The part of a stage that a box belongs to: ``s0b1`` for its operation ``s0b1n17``."""
    match = re.fullmatch(
        r"(s\d+(?:b\d+join|more\d+join|b\d+|more\d+|in|j\d+|result))(?:n\w+)?", key
    )
    return match[1] if match else None


def true_feeds(graph: Graph, number: int) -> dict[str, set[str]]:
    """The same from the graph: from a block's input back to the outputs of blocks."""
    stage = graph.stages[number]
    whole = graph.to_networkx()
    ends = {block.output: f"out{index}" for index, block in enumerate(stage.blocks)}
    ends[stage.entry] = "in"
    ends |= {node.id: "earlier" for node in graph.nodes.values() if OPS[node.op].cuts}

    def sources(id: int) -> set[str]:
        if id in ends:
            return {ends[id]}
        return set().union(*(sources(operand) for operand in whole.predecessors(id)))

    found = {f"b{index}": sources(block.input) for index, block in enumerate(stage.blocks)}
    return found | {"result": sources(stage.result)}


def check_feeds(graph: Graph, sheet: Sheet) -> None:
    for number in range(len(graph.stages)):
        shown = shown_feeds(sheet, number)
        true = true_feeds(graph, number)
        n = len(graph.stages[number].blocks)
        starts = sorted(
            int(match[1]) for key in shown if (match := re.fullmatch(r"s\d+(?:b|more)(\d+)", key))
        )
        bounds = [*starts, n]
        group = {
            index: key
            for key in shown
            if (match := re.fullmatch(r"s\d+(?:b|more)(\d+)", key))
            for index in range(int(match[1]), bounds[bounds.index(int(match[1])) + 1])
        }
        assert sorted(group) == list(range(n))

        def named(
            sources: set[str], group: dict[int, str] = group, number: int = number
        ) -> set[str]:
            return {
                s if s == "earlier" else f"s{number}in" if s == "in" else group[int(s[3:])]
                for s in sources
            }

        expected: dict[str, set[str]] = {}
        for index in range(n):
            expected.setdefault(group[index], set()).update(named(true[f"b{index}"]))
        for key, sources in expected.items():
            assert shown[key] == sources, key
        result = named(true["result"])
        assert shown.get(f"s{number}result", {group[n - 1]}) == result


@pytest.mark.parametrize("n", [1, 4, 12])
@pytest.mark.parametrize("rule", [*RULES, "greatest", "inputs"])
def test_what_feeds_each_block(rule: str, n: int) -> None:
    graph = network(rule, n)
    check_feeds(graph, stage_level(graph))
    check_feeds(graph, op_level(graph))


@pytest.mark.parametrize("name", ["danet_c_r152", "spiking_densenet201", "own_rule"])
def test_what_feeds_each_block_of_shipped_networks(name: str) -> None:
    check_feeds(graph_of(check_file(name)), op_level(graph_of(check_file(name))))


def check_ends(sheet: Sheet) -> None:
    """Every wire ends at the rim of its box."""
    boxes = {box.key: box for box in sheet.boxes}
    for wire in sheet.wires:
        box = boxes[wire.head]
        if wire.tip is None or box.key.startswith("legend"):
            continue
        x, y = wire.tip
        assert box.left - 1 <= x <= box.right + 1, wire
        assert box.top - 1 <= y <= box.bottom + 1, wire
        inside = min(x - box.left, box.right - x, y - box.top, box.bottom - y)
        assert inside <= 1 or box.shape in ("circle", "round", "bar"), wire


@pytest.mark.parametrize("name", ["spikformer", "srnn", "glif", "denseformer", "own_rule"])
def test_wires_end_at_boxes(name: str) -> None:
    graph = graph_of(check_file(f"zoo/{name}" if name != "own_rule" else name))
    for level in (network_level, stage_level, op_level):
        check_ends(level(graph))


@pytest.mark.parametrize("name", ["danet_c_r50", "sew_r18", "baa_r18", "own_connection"])
def test_the_branch_of_a_block_is_straight(name: str) -> None:
    """From the input through all its layers to the output."""
    graph = graph_of(check_file(name))
    of = Parts(graph)
    sheet = block_level(graph)
    for number, wiring in enumerate(wirings_of(of)):
        nodes = of.blocks[wiring.number, wiring.index]
        branch = [f"w{number}{node.id}" for node in nodes if node.scope[-1] == "branch"]
        keys = [f"w{number}in", *branch, f"w{number}out"]
        middles = [sheet.box(key).x for key in keys]
        assert max(middles) - min(middles) < 0.75, wiring


def drawn_operations(sheet: Sheet) -> dict[int, str]:
    """The nodes of a graph that are drawn as operations, with their boxes."""
    found = {}
    for box in sheet.boxes:
        match = re.fullmatch(r"(?:s\d+b\d+|g\d+)n(\d+)|w\d+(\d+)|c\d+r\d+(\d+)", box.key)
        if match:
            found[int(next(group for group in match.groups() if group))] = box.key
    return found


@pytest.mark.parametrize(
    "name", ["danet_b_r34", "own_connection", "baa_r50", "spiking_densenet121"]
)
def test_operations_and_wires_between_them(name: str) -> None:
    graph = graph_of(check_file(name))
    sheet = op_level(graph)
    box = drawn_operations(sheet)
    assert {graph[id].op for id in box} >= {"conv", "batchnorm", "neuron", "linear"}
    node = {key: id for id, key in box.items()}
    whole = graph.to_networkx()
    drawn = {
        (node[wire.tail], node[wire.head])
        for wire in sheet.wires
        if wire.tail in node and wire.head in node
    }
    units = {id: re.sub(r"n\d+$", "", key) for id, key in box.items()}
    true = {(a, b) for a, b in whole.edges() if a in box and b in box and units[a] == units[b]}
    assert {(a, b) for a, b in drawn if units[a] == units[b]} == true
    for wire in sheet.wires:
        if wire.tail in node:
            kind = graph[node[wire.tail]].value.kind
            colour = "spike" if kind == SPIKE else "count" if kind.is_integer else "analog"
            assert wire.look.colour == colour
            assert wire.look.hollow is not graph[node[wire.tail]].value.varies


@pytest.mark.parametrize("name", ["origin_r18", "sew_r50", "danet_b_r34", "own_connection"])
def test_the_wiring_of_a_block(name: str) -> None:
    """Each picture of a block is the subgraph of that block."""
    graph = graph_of(check_file(name))
    sheet = block_level(graph)
    of = Parts(graph)
    whole = graph.to_networkx()
    for number, wiring in enumerate(wirings_of(of)):
        block = graph.stages[wiring.number].blocks[wiring.index]
        nodes = [node.id for node in of.blocks[wiring.number, wiring.index]]
        inside = nx.DiGraph(whole.subgraph([*nodes, block.input]))
        named = {id: f"w{number}{id}" for id in nodes} | {block.input: f"w{number}in"}
        drawn = {
            (wire.tail, wire.head)
            for wire in sheet.wires
            if re.match(rf"w{number}(\d|in)", wire.tail) and wire.head in named.values()
        }
        assert drawn == {(named[a], named[b]) for a, b in inside.edges()}
        assert f"w{number}out" in {w.head for w in sheet.wires if w.tail == named[block.output]}


def test_interblock_neurons_are_marked() -> None:
    """Origin, tdBN and BAA have a neuron after the addition, SEW and PA have none (Fig. 1)."""
    for name in ("origin", "tdbn", "baa", "sew", "danet_a", "danet_b"):
        marked = 2 if name in ("origin", "tdbn", "baa") else 0
        graph = graph_of(check_file(f"{name}_r18"))
        boxes = [box for box in block_level(graph).boxes if box.double and "sample" not in box.key]
        assert len(boxes) == marked, name
        assert all(
            box.fill == "interblock" and graph[int(box.key[2:])].op == "neuron" for box in boxes
        )
        rows = [cell for box in stage_level(graph).boxes for row in box.rows for cell in row]
        assert sum(cell.fill == "interblock" for cell in rows) == (8 if marked else 0), name


def test_a_network_level_is_the_graph_of_its_parts() -> None:
    graph = graph_of(check_text(f"use std\n{VARIETY['unet']}"))
    of = Parts(graph)
    unit = dict(of.unit_of)
    whole = graph.to_networkx()
    true = {(unit[a], unit[b]) for a, b in whole.edges() if unit[a] != unit[b]}
    true |= {(unit[id], f"out{i}") for i, id in enumerate(graph.outputs.values())}
    sheet = network_level(graph)
    drawn = {(w.tail, w.head) for w in sheet.wires if not w.tail.startswith("legend")}
    assert drawn == true
    assert len([key for key in unit.values() if key.startswith("s")]) > 0


ODD = """use std
connection fading { each = conv -> norm -> spike; last = conv -> norm; out = (branch + shortcut * (1 - i / n)) -> spike }
rule twice { in[i] = sum(out[i - 1], out[0 .. i - 1]); result = out[n - 1] }
network net {
  input = image(3, 8, 8); steps = 4; neuron = IF; surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 12) via fading by densely_additive -> stage(basic(4), 9) via sew by twice
  head = avgpool -> mean_over_time -> linear(2)
}
"""


def words(sheet: Sheet) -> dict[str, list[str]]:
    return {box.key: [cell.text for row in box.rows for cell in row] for box in sheet.boxes}


def test_blocks_that_are_not_alike_are_not_called_so() -> None:
    shown = words(stage_level(graph_of(check_text(ODD))))
    assert shown["s0more2"] == ["blocks 2 – 10", "9 more, not all alike"]
    assert shown["s1more2"] == ["blocks 2 – 7", "6 more like 1"]
    assert shown["s1j0note"] == ["of 0, 0"]  # block 1 reads block 0 twice
    stages = words(network_level(graph_of(check_text(ODD))))
    assert stages["s0"][1] == "12 blocks of conv 3×3, 4 → 3×3, 4"


def test_a_wire_shared_by_several_values_is_of_the_widest_kind() -> None:
    """In SEW the first block behind spikes gives counts up to 2, the next up to 3, ..."""
    graph = graph_of(check_text(ODD))
    wires = [wire for wire in stage_level(graph).wires if wire.tail == "s1more2"]
    kinds = [graph[block.output].value.kind for block in graph.stages[1].blocks]
    # Block 7, the last of the group, reads up to block 6 of it; block 8 reads up to block 7.
    into = {wire.head: " ".join(wire.tooltip.split()[-3:]) for wire in wires}
    assert into.pop("s1more2join") == str(kinds[6])
    assert list(into.values()) == [str(kinds[7])]
    assert {wire.look.colour for wire in wires} == {"count"}


LATE = """use std
rule back {
  in[0]  = in + (out[n-1] -> delay(1))
  in[i]  = sum(out[i-1], in[n-1] -> delay(1), out[0] -> delay(2)) if i > 1 else out[0]
  result = out[n-1]
}
network net {
  input = events(2, 8, 8); steps = 3; neuron = IF; surrogate = atan
  stem = conv(4) -> spike
  stages = stage(single(4), N) via bare by back
  head = avgpool -> mean_over_time -> linear(3)
}
connection bare { each = conv -> spike; out = branch }
"""


@pytest.mark.parametrize(("blocks", "last"), [(3, "s0b2"), (12, "s0b11")])
def test_values_of_earlier_steps_lead_over_their_delays(blocks: int, last: str) -> None:
    sheet = stage_level(graph_of(check_text(LATE.replace("N)", f"{blocks})"))))
    text = {box.key: box.rows[0][0].text for box in sheet.boxes if box.rows}
    delays = {
        (wire.tail, text[wire.head], after.head)
        for wire in sheet.wires
        for after in sheet.wires
        if after.tail == wire.head and text.get(wire.head, "").startswith("delay")
    }
    into_first = {wire.tail for wire in sheet.wires if wire.head == "s0b0"}
    into_last = {wire.tail for wire in sheet.wires if wire.head == last}
    assert {(last, "delay 1", key) for key in into_first} <= delays
    assert {(into, "delay 1", into) for into in into_last} <= delays
    assert {("s0b0", "delay 2", key) for key in into_last} <= delays
    boxes = [box for box in sheet.boxes if text.get(box.key, "").startswith("delay")]
    for box in boxes:  # none lies on another
        for other in sheet.boxes:
            if other.key.startswith("s0") and not other.key.endswith("frame") and other != box:
                apart = box.left >= other.right or box.right <= other.left
                assert apart or box.top >= other.bottom or box.bottom <= other.top, other.key


ATTENTION = """use std
network n {
  input = events(4, 4, 4); steps = 2; neuron = IF; surrogate = atan
  patches = in -> maxpool(2)
  a = scores(in, patches, heads = 2) -> spike
  out = mix(a, patches, like = in)
}
"""


def test_factors_of_attention_are_named() -> None:
    """Their names stand on the wires."""
    graph = graph_of(check_text(ATTENTION))
    nodes = list(graph.nodes.values())
    flow = op_flow(Parts(graph), [nodes], "n", "LR", lambda source: Box(source.path), nodes[-1].id)
    boxes = {box.key: " ".join(cell.text for row in box.rows for cell in row) for box in flow.boxes}
    ways = {(boxes[line.tail], boxes[line.head]) for line in flow.lines}
    named = {(tail, name) for tail, name in ways if name in ("q", "k", "a", "v", "like")}
    assert {name for _, name in named} == {"q", "k", "a", "v", "like"}
    assert {("q", "q kᵀ, 2 heads"), ("k", "q kᵀ, 2 heads")} <= ways
    assert {("a", "a v"), ("v", "a v"), ("like", "a v")} <= ways
    assert ("IF", "a") in ways
