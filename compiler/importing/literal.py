"""Parts that are no blocks of a connection: blocks that wire themselves, alike ones declared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from danetc.compiler.importing.flows import dataflow
from danetc.compiler.importing.naming import Naming
from danetc.compiler.importing.spine import Region
from danetc.compiler.importing.trees import call
from danetc.compiler.ir.graph import unique
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

Body = tuple[s.Define, ...]


@record(slots=False)
class _Number:
    """A number of a body: its value, and what its place is called."""

    text: str
    role: str


def literal_blocks(naming: Naming, regions: Sequence[Region]) -> list[s.Expr]:
    """A call for each region, of blocks that are declared. Raises Unwritten.

    Bodies that differ in numbers alone are one block; the numbers are its parameters.
    """
    bodies = [_body(naming, region) for region in regions]
    kinds: dict[Body, list[int]] = {}
    for place, body in enumerate(bodies):
        kinds.setdefault(_skeleton(body), []).append(place)
    calls: dict[int, s.Expr] = {}
    for members in kinds.values():
        name = naming.unique("part")
        rows = [[item.text for item in _numbers(bodies[i])] for i in members]
        roles = [item.role for item in _numbers(bodies[members[0]])]
        columns = list(zip(*rows, strict=True))
        params: dict[tuple[str, ...], str] = {}
        for column, role in zip(columns, roles, strict=True):
            if len(set(column)) > 1 and column not in params:
                params[column] = unique(role, [*params.values()].__contains__)
        chosen = [params.get(column) for column in columns]
        declared = _filled(bodies[members[0]], chosen)
        naming.declarations.append(
            s.Declaration(
                "block",
                name,
                tuple(s.Param(item, None) for item in params.values()),
                None,
                declared,
            )
        )
        for row, place in enumerate(members):
            calls[place] = call(name, *(s.Number(column[row]) for column in params))
    return [calls[i] for i in range(len(regions))]


def _body(naming: Naming, region: Region) -> Body:
    lines, results = dataflow(
        naming.dialect, region.nodes, {region.entry: s.Name("in")}, [region.exit]
    )
    return (*lines, s.Define("out", None, results[region.exit]))


def _walk(node: Any, role: str, change: Callable[[s.Number, str], s.Expr]) -> Any:
    """A tree with its numbers changed; ``role`` is what the place of one is called."""
    if isinstance(node, s.Number):
        return change(node, role)
    if isinstance(node, tuple):
        return tuple(_walk(item, role, change) for item in node)
    if isinstance(node, s.Range):
        return node
    if isinstance(node, s.Call):
        width = isinstance(node.function, s.Name) and node.function.id in {"conv", "linear"}
        args = tuple(
            replace(arg, value=_walk(arg.value, arg.name or ("width" if width else "size"), change))
            for arg in node.args
        )
        return replace(node, args=args)
    if not is_dataclass(node) or not hasattr(node, "span"):
        return node
    changed = {
        item.name: _walk(getattr(node, item.name), role, change)
        for item in fields(node)
        if item.name not in {"span", "name_span"}
    }
    return replace(node, **changed)  # type: ignore[type-var]


def _skeleton(body: Body) -> Body:
    found: Body = _walk(body, "size", lambda item, role: s.Name("_"))
    return found


def _numbers(body: Body) -> list[_Number]:
    found: list[_Number] = []

    def note(item: s.Number, role: str) -> s.Expr:
        found.append(_Number(item.text, role))
        return item

    _walk(body, "size", note)
    return found


def _filled(body: Body, names: Sequence[str | None]) -> Body:
    """A body with parameters in place of numbers."""
    left = iter(names)

    def fill(item: s.Number, role: str) -> s.Expr:
        name = next(left)
        return item if name is None else s.Name(name)

    filled: Body = _walk(body, "size", fill)
    return filled
