"""A network with everything it is made of, as one spec that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from danetc.compiler.program import Checked, read_settings
from danetc.dsl import syntax as s
from danetc.dsl.modules import Module, Resolved
from danetc.dsl.printer import format_source

ORDER = ("surrogate", "neuron", "rule", "connection", "block", "backbone", "network", "recipe")


def resolved_spec(
    checked: Checked, network: str | None = None, settings: Mapping[str, Any] | None = None
) -> str:
    """The text of a network, its bases and all declarations they use, settings written in.

    Names that two files give to different declarations are told apart by a number.
    """
    root = checked.declaration(network)
    collector = _Collector()
    collector.add(root, checked.module)
    values = read_settings(settings or {})
    for value in values.values():
        if not isinstance(value, (bool, int, float, str)):
            collector.follow(value, checked.module, set())
    collector.name_all(root)
    declarations = collector.declarations()
    if values:
        declarations = _with_settings(declarations, root, checked, values, collector)
    declarations.sort(key=lambda declaration: ORDER.index(declaration.kind))
    return format_source(s.Program(tuple(declarations)))


class _Collector:
    """The declarations that a network reaches, each once, with the names they will have."""

    def __init__(self) -> None:
        self.found: dict[int, Resolved] = {}
        self.names: dict[int, str] = {}

    def add(self, declaration: s.Declaration, module: Module) -> None:
        if id(declaration) in self.found:
            return
        self.found[id(declaration)] = Resolved(declaration, module)
        self.follow(declaration, module, _local_names(declaration))

    def follow(self, node: Any, module: Module, local: set[str]) -> None:
        for name in _global_names(node, local):
            resolved = module.names.get(name)
            if resolved is not None:
                self.add(resolved.declaration, resolved.module)

    def name_all(self, root: s.Declaration) -> None:
        """Give the root its own name, and every other declaration one that is free."""
        taken = {root.name}
        self.names[id(root)] = root.name
        for key, resolved in self.found.items():
            if key in self.names:
                continue
            name = base = resolved.declaration.name
            number = 2
            while name in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add(name)
            self.names[key] = name

    def new_name(self, name: str, module: Module) -> str:
        resolved = module.names.get(name)
        return self.names.get(id(resolved.declaration), name) if resolved is not None else name

    def renamed(self, node: Any, module: Module, local: set[str]) -> Any:
        """The same tree with the names of declarations as they are in the new file."""
        if isinstance(node, s.Name):
            return node if node.id in local else replace(node, id=self.new_name(node.id, module))
        if isinstance(node, tuple):
            return tuple(self.renamed(item, module, local) for item in node)
        if not is_dataclass(node) or not hasattr(node, "span"):
            return node
        changes = {
            field.name: self.renamed(getattr(node, field.name), module, local)
            for field in fields(node)
            if field.name not in ("span", "name_span")
        }
        return replace(node, **changes)  # type: ignore[type-var]

    def declarations(self) -> list[s.Declaration]:
        result = []
        for key, (resolved) in self.found.items():
            declaration = self.renamed(
                resolved.declaration, resolved.module, _local_names(resolved.declaration)
            )
            result.append(replace(declaration, name=self.names[key]))
        return result


def _local_names(declaration: s.Declaration) -> set[str]:
    """Names that a declaration's own text gives a meaning to."""
    local = {param.name for param in declaration.params}
    local |= {item.name for item in declaration.body or () if not isinstance(item, s.Group)}
    if declaration.kind == "network":
        # Settings share their names with nothing else (`norm = ...`), and a parameter whose default
        # or a setting whose value has its own name means the declaration.
        local -= {param.name for param in declaration.params if _is_name(param.default, param.name)}
    return local


def _is_name(expr: s.Expr | None, name: str) -> bool:
    return isinstance(expr, s.Name) and expr.id == name


def _global_names(node: Any, local: set[str]) -> set[str]:
    return {item.id for item in s.walk(node) if isinstance(item, s.Name)} - local


def _with_settings(
    declarations: list[s.Declaration],
    root: s.Declaration,
    checked: Checked,
    values: Mapping[str, Any],
    collector: _Collector,
) -> list[s.Declaration]:
    """Settings as defaults of the parameters they name, else as definitions of the network."""
    exprs: dict[str, s.Expr] = {}
    for name, value in values.items():
        exprs[name] = (
            literal(value)
            if isinstance(value, (bool, int, float, str))
            else collector.renamed(value, checked.module, set())
        )
    parameters = {
        param.name for item in declarations if item.kind == "network" for param in item.params
    }
    result = []
    for item in declarations:
        if item.kind == "network":
            params = tuple(
                replace(param, default=exprs[param.name]) if param.name in exprs else param
                for param in item.params
            )
            value = item.value
            if isinstance(value, s.Call):
                kept = tuple(arg for arg in value.args if arg.name not in exprs)
                value = replace(value, args=kept)
            item = replace(item, params=params, value=value)
        if item.name == root.name and item.kind == "network":
            body = list(item.body or ())
            for name, expr in exprs.items():
                if name in parameters:
                    continue
                body = [stmt for stmt in body if getattr(stmt, "name", None) != name]
                body.append(s.Define(name, None, expr))
            item = replace(item, body=tuple(body) if body or item.body is not None else None)
        result.append(item)
    return result


def literal(value: bool | int | float | str) -> s.Expr:
    """A constant as it would be written."""
    if isinstance(value, bool):
        return s.Name("true" if value else "false")
    if isinstance(value, str):
        return s.String(value)
    number = s.Number(repr(abs(value)))
    return s.Unary("-", number) if value < 0 else number
