"""Generated networks: every picture of them is legible and says what the graph says."""

from __future__ import annotations

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.draw import LEVELS, draw
from danetc.compiler.draw.block import op_level
from danetc.compiler.draw.stage import stage_level
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.compiler.draw.test_edges import check_feeds
from tests.compiler.draw.test_legible import problems
from tests.fuzzing.generate import spec

PARTS, CASES = 2, 4


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(PARTS))
def test_generated_networks(part: int) -> None:
    seen, number = 0, 1000 * part
    while seen < CASES:
        number += 1
        try:
            checked = check_text(spec(number))
        except SpecError:
            continue
        graph = graph_of(checked, checked.networks[0])
        if len(graph.nodes) > 80 or not graph.stages or not graph.neurons:
            continue
        seen += 1
        for level in LEVELS:
            assert problems(draw(graph, level)) == [], (number, level)
        check_feeds(graph, stage_level(graph))
        check_feeds(graph, op_level(graph))
