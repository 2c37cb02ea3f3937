"""Writes a network and all declarations that it uses as one self-contained spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from danetc.compiler.frontend.program import Checked, Settings, read_settings
from danetc.compiler.lowering.networks import argument_set
from danetc.compiler.lowering.tables import table_of
from danetc.dsl.loading import Module, Resolved
from danetc.dsl.reading import FIRST_LINE
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.overrides import named
from danetc.dsl.syntax.printer import format_source

N = TypeVar("N", bound=s.Node)
ORDER = ("surrogate", "neuron", "rule", "connection", "block", "backbone", "network", "recipe")


def resolved_spec(
    checked: Checked, network: str | None = None, settings: Settings | None = None
) -> str:
    """Return the text of a network, its bases and all declarations they use, with settings applied.

    Declarations that share a name are numbered. Bases are complete, but comments are omitted.
    """
    root = checked.declaration(network)
    exprs = read_settings(settings or {})
    owners = _owners(root, checked.module)
    parameters = {name: expr for name, expr in exprs.items() if name in owners}
    lines = {name: expr for name, expr in exprs.items() if name not in owners}
    collector = _Collector(checked.module, parameters, owners, _lines(root, checked.module, lines))
    collector.add(root, checked.module)
    for expr in parameters.values():
        collector.follow(expr, checked.module, set())
    collector.name_all(root)
    declarations = collector.declarations()
    declarations.sort(key=lambda declaration: ORDER.index(declaration.kind))
    return f"{FIRST_LINE}\n\n{format_source(s.Program(tuple(declarations)))}"


class _Collector:
    """Collects the declarations that a network uses, and renames them.

    ``parameters`` are values set from outside, in which names refer to ``module``; ``owners`` maps
    their names to the ids of the networks with them. ``lines`` contains the changed lines of each network.
    """

    def __init__(
        self,
        module: Module,
        parameters: Mapping[str, s.Expr],
        owners: Mapping[str, set[int]],
        lines: Mapping[int, Mapping[str, s.Expr]],
    ) -> None:
        self.module = module
        self.parameters = parameters
        self.owners = {name: owners[name] for name in parameters}
        self.lines = lines
        self.found: dict[int, Resolved] = {}
        self.names: dict[int, str] = {}

    def add(self, declaration: s.Declaration, module: Module) -> None:
        """Add a declaration and all declarations that it uses."""
        key = id(declaration)
        if key in self.found:
            return
        if declaration.kind == "network":
            declaration = _with_lines(declaration, self.lines.get(key, {}))
            declaration = _without_values(declaration, module, key, self.owners)
        self.found[key] = Resolved(declaration, module)
        self.follow(declaration, module, _local_names(declaration))
        base = Resolved(declaration, module).base
        if base is not None:
            self.add(base.declaration, base.module)

    def follow(self, node: s.Node, module: Module, local: set[str]) -> None:
        """Add the declarations that a part of a module's tree uses."""
        for name in _global_names(node, local):
            resolved = module.names.get(name)
            if resolved is not None:
                self.add(resolved.declaration, resolved.module)

    def name_all(self, root: s.Declaration) -> None:
        """Keep the name of the root, and choose unique names for the other declarations."""
        taken = {(True, root.name)}  # networks have names of their own
        self.names[id(root)] = root.name
        for key, resolved in self.found.items():
            if key in self.names:
                continue
            name = base = resolved.declaration.name
            number, is_network = 2, resolved.declaration.kind == "network"
            while (is_network, name) in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add((is_network, name))
            self.names[key] = name

    def renamed(self, node: N, module: Module, local: set[str]) -> N:
        """Replace the names of declarations in a tree by their new names."""
        base = Resolved(node, module).base if isinstance(node, s.Declaration) else None
        head = s.called(node.value) if isinstance(node, s.Declaration) else None

        def change(name: s.Name) -> s.Name:
            resolved = None if name.id in local else module.names.get(name.id)
            resolved = base if base is not None and name is head else resolved
            known = resolved is not None and self.names.get(id(resolved.declaration))
            return replace(name, id=known) if known else name

        def embed(call: s.Call) -> s.Call:
            """Put the numbers of a table in place of its file."""
            if s.called(call) == s.Name("table") and "table" not in {*module.names, *local}:
                return replace(call, args=(s.Arg(None, s.String(table_of(call))),))
            return replace(call, args=tuple(s.with_names(it, embed, s.Call) for it in call.args))

        return s.with_names(s.with_names(node, embed, s.Call), change)

    def declarations(self) -> list[s.Declaration]:
        """Return all declarations with new names, and parameters set from outside as defaults."""
        outside = {
            name: self.renamed(expr, self.module, set()) for name, expr in self.parameters.items()
        }
        result = []
        for key, resolved in self.found.items():
            declaration = self.renamed(
                resolved.declaration, resolved.module, _local_names(resolved.declaration)
            )
            if declaration.kind == "network":
                params = tuple(
                    replace(param, default=outside[param.name])
                    if key in self.owners.get(param.name, ())
                    else param
                    for param in declaration.params
                )
                declaration = replace(declaration, params=params)
            result.append(replace(declaration, name=self.names[key]))
        return result


def _local_names(declaration: s.Declaration) -> set[str]:
    """Return the names that are defined in a declaration."""
    local = {param.name for param in declaration.params}
    local |= {item.name for item in declaration.body or () if not isinstance(item, s.Group)}
    if declaration.kind == "network":
        # in `LIF = LIF`, the default of the parameter is a declaration
        params = ((param.name, param.default) for param in declaration.params)
        local -= {name for name, value in params if isinstance(value, s.Name) and value.id == name}
    return local


def _global_names(node: s.Node, local: set[str]) -> list[str]:
    """Return the unique other names in a tree, in order."""
    names = dict.fromkeys(item.id for item in s.walk(node) if isinstance(item, s.Name))
    return [name for name in names if name not in local]


def _owners(declaration: s.Declaration, module: Module) -> dict[str, set[int]]:
    """Return the parameters that can be set from outside, with the ids of their networks.

    A setting applies to the outermost parameter of that name, and to those of bases for which the
    variant passes no argument. A line of a variant hides parameters of its bases.
    """
    owners: dict[str, set[int]] = {}
    replaced: set[str] = set()
    passed: set[str | None] = set()
    for level in Resolved(declaration, module).lineage():
        own = level.declaration
        names = {param.name for param in own.params}
        for name in names - replaced:
            if name not in owners or name not in passed:
                owners.setdefault(name, set()).add(id(own))
        replaced |= {item.name for item in own.body or () if isinstance(item, s.Define)} - names
        passed = {arg.name for arg in _passed(own, level.base)}
    return owners


def _passed(declaration: s.Declaration, base: Resolved | None) -> Sequence[s.Arg]:
    """Return the arguments that a variant passes to its base, by name."""
    if not isinstance(declaration.value, s.Call) or base is None:
        return ()
    return named(declaration.value.args, [param.name for param in base.declaration.params])


def _lines(
    root: s.Declaration, module: Module, lines: Mapping[str, s.Expr]
) -> dict[int, dict[str, s.Expr]]:
    """Return the lines that are set from outside, by the ids of the networks to change.

    Whole lines are set in the root. An argument is set in the line that is effective for the root.
    """
    result = {id(root): {name: expr for name, expr in lines.items() if "." not in name}}
    for path, expr in lines.items():
        name, _, argument = path.partition(".")
        for level in Resolved(root, module).lineage() if argument else ():
            changed = result.setdefault(id(level.declaration), {})
            body = level.declaration.body or ()
            own = {item.name: item.value for item in body if isinstance(item, s.Define)} | changed
            if name in own:
                written = argument_set(own[name], argument, expr, level.module)
                assert written is not None  # the network was lowered with it
                changed[name] = written
                break
    return result


def _with_lines(declaration: s.Declaration, lines: Mapping[str, s.Expr]) -> s.Declaration:
    """Return a network in which some lines of the body are replaced or added."""
    if not lines:
        return declaration
    kept = [item for item in declaration.body or () if item.name not in lines]
    added = [s.Define(name, None, expr) for name, expr in lines.items()]
    return replace(declaration, body=(*kept, *added))


def _without_values(
    declaration: s.Declaration, module: Module, key: int, owners: Mapping[str, set[int]]
) -> s.Declaration:
    """Remove the values of parameters that the network (``key``) or its base owns."""
    params = tuple(
        replace(param, default=None) if key in owners.get(param.name, ()) else param
        for param in declaration.params
    )
    value, base = declaration.value, Resolved(declaration, module).base
    if isinstance(value, s.Call) and base is not None:
        args, own = _passed(declaration, base), id(base.declaration)
        kept = tuple(arg for arg in args if own not in owners.get(arg.name or "", ()))
        if len(kept) < len(args):
            value = replace(value, args=kept)
    return replace(declaration, params=params, value=value)
