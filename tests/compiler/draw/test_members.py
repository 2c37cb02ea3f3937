"""What a box stands for: every key is drawn, every block's operations are found on every level."""

from __future__ import annotations

import re

import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.draw import draw_with_members
from danetc.compiler.ir.graph import Graph

NAMES = ("danet_c_small", "danet_c_r152", "ms_resnet18")


def network(name: str) -> Graph:
    return graph_of(check_file(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", ["network", "stage", "block", "op"])
def test_keys_are_drawn_and_no_block_is_forgotten(name: str, level: str) -> None:
    graph = network(name)
    svg, found = draw_with_members(graph, level)
    assert set(found) <= set(re.findall(r'<g id="([^"]*)" class="node"', svg))
    ids = [id for each in found.values() for id in each]
    assert len(ids) == len(set(ids))  # no operation has two boxes
    scopes = [block.scope for stage in graph.stages for block in stage.blocks]
    inside = {n.id for n in graph.nodes.values() if any(n.scope[: len(s)] == s for s in scopes)}
    assert inside <= set(ids)


@pytest.mark.parametrize("level", ["block", "op"])
def test_equal_blocks_are_matched_operation_by_operation(level: str) -> None:
    graph = network("danet_c_r152")
    _, found = draw_with_members(graph, level)
    assert max(map(len, found.values())) > 30  # the long stage is drawn once
    for ids in found.values():
        assert len({(graph[id].op, graph[id].name, graph[id].scope[4:]) for id in ids}) == 1
