"""Warnings about the text of a file: unused names, and statements without effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import islice

from danetc.compiler.warnings.rule import Finding, Rule
from danetc.dsl.diagnostics.fixes import Hint, line_removed
from danetc.dsl.loading import Module, Resolved
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

ENTRY_POINTS = ("network", "recipe")
"""Kinds of declarations that a command line names."""


@record(slots=False)
class File:
    """A module without errors, and the names that its declarations read.

    ``named_outside`` is True if a setting of the command line names a declaration of the file. Then
    unused declarations may be alternatives, as in the cells of a grid.
    """

    module: Module
    named_outside: bool = False

    @cached_property
    def reads(self) -> Mapping[str, frozenset[str]]:
        return {name: _names(item) for name, item in self.module.own.items()}

    @cached_property
    def readers(self) -> Mapping[str, int]:
        """Number of declarations that read each name."""
        return Counter(name for names in self.reads.values() for name in names)


def _names(*nodes: s.Node | None) -> frozenset[str]:
    return frozenset(
        item.id
        for node in nodes
        if node is not None
        for item in s.walk(node)
        if isinstance(item, s.Name)
    )


def _unused_import(file: File) -> Iterator[Finding]:
    """Imports of recipes are exempt, because the command line names recipes."""
    if file.named_outside:
        return

    def is_recipe(name: str) -> bool:
        return file.module.names[name].declaration.kind == "recipe"

    @cache  # a file may be used many times
    def are_used(names: frozenset[str]) -> bool:
        return not names.isdisjoint(file.readers) or any(map(is_recipe, names))

    for use, names in file.module.imports:
        if use.names is None:
            if use.is_path and not are_used(names):
                yield Finding(
                    use.span,
                    f"no name of `{use.module}` is used",
                    label="this file uses none of its names",
                    hint=Hint("remove this line", line_removed(use.span)),
                )
            continue
        for item in use.names:
            if item.id not in file.readers and not is_recipe(item.id):
                yield Finding(
                    item.span,
                    f"`{item.id}` is not used",
                    label="imported but never used",
                    hint="remove it from the list",
                )


def _unused_declaration(file: File) -> Iterator[Finding]:
    """Files without a network are libraries and exempt."""
    own = file.module.own
    if file.named_outside or not any(item.kind == "network" for item in own.values()):
        return
    for name, item in own.items():
        others = file.readers[name] - (name in file.reads[name])
        if item.kind not in ENTRY_POINTS and not others:
            yield Finding(
                item.name_span,
                f"{item.kind} `{name}` is not used in this file",
                label="declared but never used",
                hint="use or remove it; if `--set` or another file uses it, add `# allow W0102`",
            )


def _unused_parameter(file: File) -> Iterator[Finding]:
    for item in file.module.own.values():
        read = set(_names(item.value, *(item.body or ())))
        for param in reversed(item.params):  # a default can use the parameters before it
            is_read = param.name in read
            read |= _names(param.default)
            if is_read or _is_threshold(item, param) or _repeats(file, item, param):
                continue
            hint = "use or remove it: its value has no effect"
            if item.kind == "block" and param.name == "stride":
                hint = "the stride has no effect; pass it to a layer: `conv(..., stride = stride)`"
            elif item.kind == "network" and (base := s.called(item.value)) is not None:
                hint = f"pass it to the base network: `{base.id}({param.name} = {param.name})`"
            yield Finding(
                param.name_span,
                f"the parameter `{param.name}` of {item.kind} `{item.name}` is not used",
                label="never used",
                hint=hint,
            )


def _is_threshold(item: s.Declaration, param: s.Param) -> bool:
    """True for a neuron's threshold, which tdBN reads."""
    return item.kind == "neuron" and param.name == "v_threshold"


def _repeats(file: File, item: s.Declaration, param: s.Param) -> bool:
    """True if a variant repeats a parameter of a base with the same default.

    A setting from the command line sets both.
    """
    for base in islice(Resolved(item, file.module).lineage(), 1, None):
        same = next((each for each in base.declaration.params if each.name == param.name), None)
        if same is not None:
            return same.default == param.default
    return False


_RESULTS = {"neuron": ("s",), "surrogate": ("y", "dy")}


def _idle_equation(file: File) -> Iterator[Finding]:
    """Report equations and states on which the output of a neuron or surrogate does not depend."""
    for item in file.module.own.values():
        if item.kind not in _RESULTS or item.body is None:
            continue
        places: dict[str, s.State | s.Define] = {}
        reads: dict[str, set[str]] = {}
        for line in item.body:
            if isinstance(line, s.State | s.Define):
                places.setdefault(line.name, line)
                reads.setdefault(line.name, set()).update(_names(line.value))
        waiting = [name for name in _RESULTS[item.kind] if name in reads]
        needed: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += [other for other in reads[name] if other in reads]
        for name, line in places.items():
            if name not in needed:
                what = "state" if isinstance(line, s.State) else "equation"
                yield Finding(
                    line.name_span,
                    f"the {what} `{name}` has no effect on the output of `{item.name}`",
                    label=f"`{_RESULTS[item.kind][0]}` does not depend on it",
                    hint="use or remove it",
                )


RULES: tuple[Rule[File], ...] = (
    Rule("W0101", _unused_import),
    Rule("W0102", _unused_declaration),
    Rule("W0103", _unused_parameter),
    Rule("W0105", _idle_equation),
)
