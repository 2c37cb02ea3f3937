"""The table of operations is asked by its fields: code that tests for a name is listed here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.ops import OPS, REQUIRED

ROOT = Path(__file__).parents[2]
STRUCTURE = frozenset({"input", "neuron", "repeat"})
"""What a graph depends on itself: where values come from, neurons, static values at each step."""
ALGEBRA = frozenset({"add", "sub", "mul", "affine", "concat", "maximum", "minimum"})
"""Joins that have laws of their own, by which they are regrouped, folded and compared."""


def _is_op(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "op"


def _strings(node: ast.AST) -> set[str]:
    found = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
    return {value for value in found if isinstance(value, str)}


def names_in(tree: ast.AST) -> Iterator[str]:
    """The names that a module compares the operation of a node with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(map(_is_op, (node.left, *node.comparators))):
            yield from _strings(node)
        elif isinstance(node, ast.Match) and any(map(_is_op, ast.walk(node.subject))):
            for case in node.cases:
                yield from _strings(case.pattern)


READERS = (
    "compiler/emit/nir.py",
    "compiler/importing/",
    "danetc/tasks/importing/",
    "danetc/tasks/converting.py",
    "compiler/passes/fold.py",
    "compiler/passes/simplify.py",
)
"""Formats name the operations that they have; conversions and learnt factors ask a few layers for what
nothing else asks."""


def test_nothing_tests_for_the_name_of_an_operation() -> None:
    found: dict[str, set[str]] = {}
    for folder in ("compiler", "runtime", "danetc/tasks", "danetc/commands", "danetc/output"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.relative_to(ROOT).as_posix().startswith(READERS):
                continue
            names = {*names_in(ast.parse(path.read_text("utf-8")))} & OPS.keys()
            if names - STRUCTURE - ALGEBRA:
                found[path.relative_to(ROOT).as_posix()] = names - STRUCTURE - ALGEBRA
    assert not found


def test_every_row_says_what_a_reader_asks() -> None:
    for row in OPS.values():
        assert row.meaning, row.name
        for parameter in row.parameters:
            assert parameter.meaning, f"{row.name}: {parameter.name}"
        if row.bare:
            assert row.bare in OPS
            assert any(item.default is REQUIRED for item in row.parameters), row.name
        joins = row.operands[1] not in (0, 1) and not row.arguments
        assert joins == bool(row.sign), f"{row.name}: a join has a sign"


NETWORK = """use std
network n {{
  input = image(4, 6, 6); steps = 3; neuron = IF; surrogate = atan
  s = in -> latency -> conv(4) -> spike
  out = {flow} -> linear(2) -> mean_over_time
}}"""


@pytest.mark.parametrize(
    ("flow", "label", "macs", "of_zero"),
    [
        ("conv(4, over = time)", "conv 3 over T, 4", 1728, 0.0),
        ("conv(4, 5, over = time, padding = same, groups = 2)", "conv 5 over T, 2 ahead, 4 groups 2", 1440, 0.0),
        ("linear(over = time)", "linear over T ", 432, None),
        ("linear(over = time, window = 2)", "linear over T, window 2", 288, None),
        ("linear(over = time, window = 2, masked = 0.5)", "linear over T, window 2 masked 0.5", 432, None),
        ("linear(over = time, bias = false)", "linear over T ", 432, 0.0),
        ("conv_transposed(2)", "conv T 2×2 2 ×2", 1152, 0.0),
        ("batchnorm(pad = 1)", "BN ", 0, 0.0),
        ("batchnorm(init = 0.5, per_step = true)", "BN per step ×0.5", 0, 0.0),
        ("batchnorm(statistics = cumulative)", "BN of steps 0 to t ", 0, 0.0),
        ("groupnorm(2)", "GN 2", 0, 0.0),
        ("pad(1, 2)", "pad 1, 2 ", 0, 0.0),
        ("upsample(rows = 9, columns = 9)", "resize 9×9 ", 0, 0.0),
        ("softmax(over = time)", "softmax over T ", 0, None),
        ("pad(1, 2, over = rows) -> swap(rows, columns)", "rows ↔ columns ", 0, 0.0),
    ],
)  # fmt: skip
def test_label_cost_and_zero_of_rows(
    flow: str, label: str, macs: int, of_zero: float | None
) -> None:
    graph = graph_of(check_text(NETWORK.format(flow=f"s -> {flow}")))
    nodes = list(graph.nodes.values())
    node = nodes[[each.op for each in nodes].index("flatten") - 1]
    row = OPS[node.op]
    assert " ".join(row.label(node.attrs)) == label
    assert macs_of(graph, node) == macs
    assert row.of_constant(node.attrs, 0.0) == of_zero


def test_like_branches_are_paired_by_a_guess_that_is_proved() -> None:
    flow = "(s -> conv(4) -> spike) + (s -> conv(4) -> spike)"
    graph = graph_of(check_text(NETWORK.format(flow=f"({flow})")), passes=())
    found = compare_graphs(graph, graph)
    assert isinstance(found, Same)
    assert len(found.weights) == 4
