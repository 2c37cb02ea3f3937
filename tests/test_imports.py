"""Import directions: dsl <- compiler, runtime <- danetc, without cycles.

Imports for types alone and those inside of functions count like all others: one that breaks a circle
is as much a circle.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("dsl", "compiler", "runtime", "specs")

BELOW: Mapping[str, frozenset[str]] = {
    "dsl": frozenset({"dsl"}),
    "runtime": frozenset({"dsl", "runtime"}),
    "compiler": frozenset({"dsl", "compiler"}),
    "compiler.emit": frozenset({"dsl", "compiler", "runtime"}),
    "specs": frozenset({"specs"}),
}
"""What the modules of a part may import; those of the package itself may import all."""


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    inside = parts if parts[0] == "danetc" else ("danetc", *parts)
    return ".".join(inside).removesuffix(".__init__")


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the package with its file. (The model.py of a trained network is none.)"""
    own = (
        p
        for p in (ROOT / "danetc").rglob("*.py")
        if p.relative_to(ROOT).parts[1] not in FOLDERS and (p.parent / "__init__.py").is_file()
    )
    linked = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {_name(path): path for path in (*own, *linked)}


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import says the whole name"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


@cache
def graph() -> nx.DiGraph[str]:
    """An edge from each module to each that it imports."""
    result = nx.DiGraph()
    for name, path in modules().items():
        result.add_node(name)
        found = set(_imported(ast.parse(path.read_text(encoding="utf-8"))))
        result.add_edges_from((name, other) for other in found & modules().keys() - {name})
    return result


def part(name: str) -> str:
    """The part of the house that a module stands in: the longest that has rules of its own."""
    inside = name.removeprefix("danetc.")
    fitting = [each for each in BELOW if inside == each or inside.startswith(f"{each}.")]
    return max(fitting, key=len, default="danetc")


def test_the_walk_sees_the_house() -> None:
    assert graph().has_edge("danetc.compiler.lowering.builder", "danetc.compiler.ir.graph")
    assert {part(name) for name in modules()} == {*BELOW, "danetc"}


def test_no_import_runs_in_a_circle() -> None:
    circles = [sorted(each) for each in nx.strongly_connected_components(graph()) if len(each) > 1]
    assert not circles


@pytest.mark.parametrize("upper", BELOW)
def test_imports_run_downwards(upper: str) -> None:
    wrong = [
        f"{name} imports {other}"
        for name, other in graph().edges
        if part(name) == upper and part(other).partition(".")[0] not in BELOW[upper]
    ]
    assert not wrong


def test_the_graph_knows_neither_who_makes_it_nor_who_reads_it() -> None:
    """And tasks, which are called from Python too, know nothing of the command line."""
    inside, tasks = ("danetc.compiler.ir", "danetc.dsl"), ("danetc.tasks.", "danetc.output.")
    for name, other in graph().edges:
        assert not name.startswith(inside[0]) or other.startswith(inside), (name, other)
        assert not (name.startswith(tasks) and other.startswith("danetc.commands")), (name, other)


def test_every_room_says_what_it_holds() -> None:
    for path in modules().values():
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(doc) > 10, f"{path.relative_to(ROOT)}: {doc}"


MIRRORED = "danetc.compiler.emit.python.prelude"
"""The text of model.py: its classes are called as those of the runtime that they are equal to."""


def test_no_public_class_has_the_name_of_another_and_no_module_that_of_its_folder() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in modules().items():
        assert name.count(".") < 2 or name.split(".")[-1] != name.split(".")[-2], name
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not name.startswith(MIRRORED):
                found[node.name].append(name)
    public = {name: places for name, places in found.items() if not name.startswith("_")}
    assert {name: places for name, places in public.items() if len(places) > 1} == {}
