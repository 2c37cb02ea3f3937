"""Names that mean nothing where they stand: what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from danetc.compiler.lowering.arguments import ROLES
from danetc.compiler.lowering.environment import CONSTANTS, MATH, SPECIAL, Env, Want
from danetc.compiler.ops import OPS
from danetc.compiler.values import Failed
from danetc.dsl.diagnostics import Label, meant
from danetc.dsl.modules import Module, std_names
from danetc.dsl.source import Span
from danetc.dsl.suggestions import nearest

if TYPE_CHECKING:
    from danetc.compiler.lowering.evaluator import Evaluator


_DECLARED: Mapping[Want, frozenset[str]] = {
    "number": frozenset(),
    "norm": frozenset(),
    "layer": frozenset({"neuron", "block", "backbone"}),
}
"""The kinds of declarations that may stand where something is wanted, if not that kind alone."""

_ELSEWHERE: Mapping[str, str] = {
    "sum": "`sum` joins the outputs of a rule; elsewhere write `a + b`",
    "branch": "`branch` is known in the `out` of a connection",
    "shortcut": "`shortcut` is known in the `out` of a connection",
    "add": "write `a + b`",
    "relu": "an activation is a neuron: `neuron = ReLU`, and `spike` where it stands",
}


def unknown(evaluator: Evaluator, id: str, env: Env, span: Span, want: Want = "any") -> Failed:
    """Report a name that means nothing here (E0210), unless a reported error explains it.

    ``want`` is what may stand here, whose names are suggested first.
    """
    if id in ("identity", "none"):
        return evaluator.builder.fail("E0303", f"`{id}` takes no arguments", span)
    hint = env.elsewhere.get(id) or _ELSEWHERE.get(id)
    labels: tuple[Label, ...] = ()
    near = nearest(id, *_candidates(env, want))
    if env.module.excuses(id) and not _misspelt(evaluator, id, near, env.module):
        return Failed()
    if hint is None and id in env.places:
        hint = "the default of a parameter reads the parameters before it"
    elif not env.module.program.uses and id in std_names():
        hint = f"`{id}` is in the standard library: add `use std`"
    elif hint is None:
        near = near or nearest(id, env.places, words=True)
        hint = meant(near)
        places = ((name, _place(name, env)) for name in near)
        labels = tuple(Label(at, f"`{name}` is declared here") for name, at in places if at)
    return evaluator.builder.fail("E0210", f"unknown name `{id}`", span, hint=hint, labels=labels)


def _candidates(env: Env, want: Want) -> tuple[list[str], list[str]]:
    """The names that may stand where something is wanted, those of the text itself first; and
    all other names that are known."""
    local = [*env.names(), *env.module.own]
    public = [name for name, op in OPS.items() if op.public]
    rest = [*CONSTANTS, "spike", "norm", "identity", "none", *env.module.names, *SPECIAL, *public]
    if want == "any":
        return [*local, *rest], []
    kinds = _DECLARED.get(want, frozenset({want}))
    names = env.module.names
    may = [name for name in names if names[name].declaration.kind in kinds]
    match want:
        case "number":
            may += [*CONSTANTS, *MATH, "channels", "learn", "steps"]
        case "norm":
            may += [*ROLES, "none"]
        case "backbone":
            may.append("stage")
        case "layer":
            may += [*public, "spike", "norm", "identity", "none", "stage", "concat"]
    own = [name for name in local if name not in names or name in may]
    return [*own, *may], rest


def _misspelt(evaluator: Evaluator, id: str, near: tuple[str, ...], module: Module) -> bool:
    """Whether a name is surely misspelt, though a syntax error has kept others out."""
    # E020x are errors of modules, which may have kept any name out
    codes = [item.code for item in evaluator.builder.reporter.diagnostics]
    syntax_alone = not any(code.startswith("E020") for code in codes)
    once = len(re.findall(rf"\b{re.escape(id)}\b", module.source.text)) == 1
    return bool(near) and once and syntax_alone and id not in module.lost


def _place(id: str, env: Env) -> Span | None:
    """Where a name of this file is declared or defined."""
    if id in env.places:
        return env.places[id]
    if id in env.definitions:
        return env.definitions[id].span
    declaration = env.module.own.get(id)
    return None if declaration is None or id in env.values else declaration.name_span
