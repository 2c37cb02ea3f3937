"""The table of operations is asked by its fields: code that tests for a name is listed here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from danetc.compiler.ir.ops import OPS, REQUIRED

ROOT = Path(__file__).parents[2]
STRUCTURE = frozenset({"input", "neuron", "repeat"})
"""What a graph is made of itself: where values come from, neurons, static values at each step."""
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
    "compiler/importing/",
    "danetc/tasks/importing/",
    "danetc/tasks/converting.py",
    "compiler/passes/factors.py",
)
"""What reads networks of others says in the language's words what it finds; what a conversion and learnt
factors ask of a few layers is asked nowhere else."""


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


def test_the_test_sees_names() -> None:
    code = """
if node.op == "conv" or "tebn" == node.op or node.op in ("add", "gelu"): pass
match node.op, rest:
    case "maxpool" | "avgpool", _: pass
"""
    assert {*names_in(ast.parse(code))} == {"conv", "tebn", "add", "gelu", "maxpool", "avgpool"}


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
