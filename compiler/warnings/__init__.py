"""Warnings about valid but suspicious specs: a table of rules. Never imports torch.

Rules see files, lowered networks and recipes without errors, because suspicious code may follow
from an error. A comment ``# allow CODE`` suppresses a warning at a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from danetc.compiler.frontend.program import Checked
from danetc.compiler.lowering.networks import Lowered
from danetc.compiler.warnings import files, layers, neurons
from danetc.compiler.warnings.files import File
from danetc.compiler.warnings.network import CheckedNetwork
from danetc.compiler.warnings.rule import Rule, Subject, Trees
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, order
from danetc.dsl.diagnostics.fixes import fixes_of
from danetc.dsl.loading import Module
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration
from danetc.dsl.work import PER_CHARACTER, Exhausted, bounded

if TYPE_CHECKING:
    from danetc.dsl.recipe.settings import Recipe

__all__ = ["warnings_of", "warnings_of_network", "warnings_of_recipe"]


def warnings_of(checked: Checked) -> tuple[Diagnostic, ...]:
    """Return all warnings of a file, its networks and its recipes."""
    module, trees = checked.module, Trees(checked.module.program)

    def find() -> Iterator[Diagnostic]:
        yield from _of_file(File(module), trees)
        for name, lowered in checked.lowered.items():
            yield from _of_network(lowered, checked.declaration(name), trees)
        for item in module.own.values():
            if item.kind == "recipe":
                # Imported late: only files with recipes need it.
                from danetc.dsl.recipe.resolve import resolve_recipe

                recipe = resolve_recipe(item, {}, Reporter(), module)
                if recipe is not None:
                    yield from _of_recipe(recipe, item, trees)

    return _bounded(find(), module)


def warnings_of_network(checked: Checked, lowered: Lowered) -> tuple[Diagnostic, ...]:
    """Return the warnings of a file's declarations and of one of its networks."""
    module, trees = checked.module, Trees(checked.module.program)
    declaration = checked.declaration(lowered.graph.name)
    named = any(name in module.names for name in lowered.outside)
    in_file = _of_file(File(module, named), trees)
    return _bounded(chain(in_file, _of_network(lowered, declaration, trees)), module)


def warnings_of_recipe(
    recipe: Recipe, declaration: Declaration, module: Module
) -> tuple[Diagnostic, ...]:
    """Return the warnings of a recipe."""
    return _bounded(_of_recipe(recipe, declaration, Trees(module.program)), module)


def _bounded(finding: Iterator[Diagnostic], module: Module) -> tuple[Diagnostic, ...]:
    """Return the warnings found within the limits of a check; the last one reports the limit."""
    found: list[Diagnostic] = []
    cut: list[Diagnostic] = []
    with bounded() as work:
        work.limit += PER_CHARACTER * len(module.source.text)
        try:
            found.extend(finding)
        except Exhausted as end:
            message = (
                f"the search for warnings is incomplete: it takes more than {end.limit:,} steps"
            )
            cut.append(Diagnostic("E0906", message, Span(module.source, 0, 0), severity="warning"))
    return (*_each_once(found), *cut)


def _of_file(file: File, trees: Trees) -> Iterator[Diagnostic]:
    return _found(files.RULES, file, trees)


def _of_network(lowered: Lowered, declaration: Declaration, trees: Trees) -> Iterator[Diagnostic]:
    rules = (*layers.RULES, *neurons.RULES)
    return _found(rules, CheckedNetwork(lowered, declaration, trees), trees)


def _of_recipe(recipe: Recipe, declaration: Declaration, trees: Trees) -> Iterator[Diagnostic]:
    # Imported late: only files with recipes need it.
    from danetc.compiler.warnings.recipes import RULES, Written

    return _found(RULES, Written(recipe, declaration), trees)


def _found(rules: Sequence[Rule[Subject]], subject: Subject, trees: Trees) -> Iterator[Diagnostic]:
    for rule in rules:
        for item in rule.find(subject):
            if not trees.allows(rule.code, item.span):
                yield Diagnostic(
                    rule.code,
                    item.message,
                    item.span,
                    item.label,
                    item.labels,
                    item.hint,
                    "warning",
                    fixes_of(item.hint, item.span),
                )


def _each_once(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sort warnings, with the first of each code and place."""
    first = {(item.code, item.span): item for item in reversed(list(found))}
    return tuple(sorted(first.values(), key=order))
