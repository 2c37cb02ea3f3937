"""What builds and is seldom meant: a table of rules, and what they find. Needs no torch.

A rule sees a file, a lowered network or a recipe, all without errors: where there is an error,
what looks suspicious may follow from it. A comment ``# allow CODE`` at a statement allows a warning
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danetc.compiler.lowering.networks import Lowered
from danetc.compiler.program import Checked
from danetc.compiler.warnings import files, layers, neurons, recipes
from danetc.compiler.warnings.files import File
from danetc.compiler.warnings.network import Network
from danetc.compiler.warnings.recipes import Written
from danetc.compiler.warnings.rule import Rule, Subject
from danetc.compiler.warnings.trees import Trees
from danetc.dsl.diagnostics import Diagnostic, Reporter, order
from danetc.dsl.modules import Module
from danetc.dsl.recipe import Recipe, resolve_recipe
from danetc.dsl.syntax import Declaration

__all__ = ["TITLES", "warnings_of", "warnings_of_network", "warnings_of_recipe"]

TITLES = {
    rule.code: rule.title
    for rules in (files.RULES, layers.RULES, neurons.RULES, recipes.RULES)
    for rule in rules
}
"""Each code and its title."""


def warnings_of(checked: Checked) -> tuple[Diagnostic, ...]:
    """All warnings of a file: its declarations, and its networks and recipes as they stand."""
    module, trees = checked.module, Trees(checked.module.program)
    found = _of_file(File(module), trees)
    for name, lowered in checked.lowered.items():
        found += _of_network(lowered, module.own[name], trees)
    for item in module.own.values():
        if item.kind == "recipe":
            recipe = resolve_recipe(item, {}, Reporter(), module)
            if recipe is not None:
                found += _of_recipe(recipe, item, trees)
    return _each_once(found)


def warnings_of_network(checked: Checked, lowered: Lowered) -> tuple[Diagnostic, ...]:
    """The warnings of a file's declarations and of one of its networks, settings changed or not."""
    module, trees = checked.module, Trees(checked.module.program)
    declaration = module.own[lowered.graph.name]
    named = any(name in module.names for name in lowered.outside)
    found = _of_file(File(module, named), trees)
    found += _of_network(lowered, declaration, trees)
    return _each_once(found)


def warnings_of_recipe(
    recipe: Recipe, declaration: Declaration, module: Module
) -> tuple[Diagnostic, ...]:
    """The warnings of a recipe, settings changed or not."""
    return _each_once(_of_recipe(recipe, declaration, Trees(module.program)))


def _of_file(file: File, trees: Trees) -> list[Diagnostic]:
    return _found(files.RULES, file, trees)


def _of_network(lowered: Lowered, declaration: Declaration, trees: Trees) -> list[Diagnostic]:
    rules = (*layers.RULES, *neurons.RULES)
    return _found(rules, Network(lowered, declaration, trees), trees)


def _of_recipe(recipe: Recipe, declaration: Declaration, trees: Trees) -> list[Diagnostic]:
    return _found(recipes.RULES, Written(recipe, declaration), trees)


def _found(rules: Sequence[Rule[Subject]], subject: Subject, trees: Trees) -> list[Diagnostic]:
    return [
        Diagnostic(
            rule.code, item.message, item.span, item.label, item.labels, item.hint, "warning"
        )
        for rule in rules
        for item in rule.find(subject)
        if not trees.allows(rule.code, item.span)
    ]


def _each_once(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorted, the first of each code and place."""
    first = {(item.code, item.span): item for item in reversed(list(found))}
    return tuple(sorted(first.values(), key=order))
