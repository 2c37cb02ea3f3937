"""Generated networks: every picture of them is legible and says what the graph says."""

from __future__ import annotations

from hypothesis import assume, given

from danetc.compiler import check_text, graph_of
from danetc.compiler.draw import LEVELS, draw
from danetc.compiler.draw.op import op_level
from danetc.compiler.draw.stage import stage_level
from danetc.dsl import syntax as s
from danetc.dsl.diagnostics import SpecError
from danetc.dsl.printer import print_program
from tests.compiler.draw.test_edges import check_feeds
from tests.compiler.draw.test_legible import problems
from tests.compiler.test_generated import programs
from tests.generating import examples


@examples(12)
@given(programs())
def test_generated_networks(program: s.Program) -> None:
    try:
        graph = graph_of(check_text(print_program(program)))
    except SpecError:
        assume(False)
    for level in LEVELS:
        assert problems(draw(graph, level)) == [], level
    check_feeds(graph, stage_level(graph))
    check_feeds(graph, op_level(graph))
