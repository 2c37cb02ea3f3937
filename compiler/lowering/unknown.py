"""Names that mean nothing where they stand: what was probably meant, or what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from danetc.compiler.ir.ops import OPS, norm_names
from danetc.compiler.lowering.environment import CONSTANTS, MATH, SPECIAL, STANDING, Env, Want
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import Failed
from danetc.dsl.diagnostics.diagnostic import Label, meant
from danetc.dsl.diagnostics.fixes import Hint, using_std
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.loading import std_names
from danetc.dsl.modules import Module
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.words import OF_PARAMETER

_DECLARED: Mapping[Want, frozenset[str]] = {
    "number": frozenset(),
    "norm": frozenset(),
    "layer": frozenset({"neuron", "block", "backbone"}),
}
"""The kinds of declarations that may stand where something is wanted, if not that kind alone."""

_LISTED = 8  # names that a hint lists at most


def unknown(evaluator: Evaluator, id: str, env: Env, span: Span, want: Want = "any") -> Failed:
    """Report a name that means nothing here (E0210), unless a reported error explains it.

    ``want`` is what may stand here, whose names are suggested first.
    """
    if id in ("identity", "none"):
        return evaluator.builder.fail("E0303", f"`{id}` takes no arguments", span)
    reporter, declaration = evaluator.builder.reporter, env.module.declaration_at(span)
    if reporter.knows_unknown(declaration, id):
        return Failed()
    likely, others = candidates(env, want)
    evaluator.work.spend((len(likely) + len(others)) // 4, span)
    near = nearest(id, likely, others)
    if env.module.excuses(id) and not _misspelt(evaluator, id, near, env.module):
        return Failed()
    reporter.note_unknown(declaration, id)
    hint = env.elsewhere.get(id)
    labels: tuple[Label, ...] = ()
    if hint is None and id in env.places:
        hint = "the default of a parameter reads the parameters before it"
    elif hint is None and not env.module.program.uses and id in std_names():
        hint = Hint(
            f"`{id}` is in the standard library: add `use std`", using_std(env.module.source)
        )
    elif hint is None:
        own = nearest(id, [*env.places, *env.definitions], words=True)
        hint = meant(id, own) or answer("name", id)
        if hint is None:
            own = near
            hint = meant(id, near) or _what_there_is(env, want)
        places = ((name, _place(name, env)) for name in own)
        labels = tuple(Label(at, f"`{name}` is declared here") for name, at in places if at)
    return evaluator.builder.fail("E0210", f"unknown name `{id}`", span, hint=hint, labels=labels)


def is_known(id: str, env: Env) -> bool:
    """Whether a name means something where an environment holds."""
    return (
        id in env.values
        or id in env.definitions
        or id in CONSTANTS
        or id in SPECIAL
        or id in (*STANDING, "steps")
        or id in env.module.names
        or (id in OPS and OPS[id].public)
    )


def candidates(env: Env, want: Want) -> tuple[list[str], list[str]]:
    """The names that may stand where something is wanted, those of the text itself first; and
    all other names that are known."""
    local = [*env.names(), *env.module.own]
    public = [name for name, op in OPS.items() if op.public]
    rest = [*CONSTANTS, *STANDING, *env.module.names, *SPECIAL, *public]
    if want == "any":
        return [*local, *rest], []
    names = env.module.names
    may = _declared(env, want)
    match want:
        case "number":
            may += [*CONSTANTS, *MATH, "channels", "rows", "columns", "learn", "steps"]
        case "norm":
            may += [*norm_names(), "none"]
        case "backbone":
            may.append("stage")
        case "layer":
            may += [*public, *STANDING, "stage", "concat"]
        case _ if want in OF_PARAMETER:
            may += OF_PARAMETER[want]
    own = [name for name in local if name not in names or name in may]
    return [*own, *may], rest


def _declared(env: Env, want: Want) -> list[str]:
    """The declarations that may stand where something is wanted."""
    kinds = _DECLARED.get(want, frozenset({want}))
    names = env.module.names
    return [name for name in names if names[name].declaration.kind in kinds]


def _what_there_is(env: Env, want: Want) -> str:
    """Where nothing is near: what there is, or how to list it."""
    match want:
        case "any" | "layer":
            return (
                "there is no such operation, neuron or block here: `danetc list operations` "
                "lists the operations, `danetc list std` what `use std` brings"
            )
        case "number":
            numbers = [name for name in env.places if name in env.values]
            return f"numbers here are {_list(numbers)}" if numbers else "write a number"
        case "norm":
            return f"norms are {_list([*norm_names(), 'none'])}"
        case _ if want in OF_PARAMETER:
            return f"words for `{want}` are {_list(OF_PARAMETER[want])}"
    known = _declared(env, want)
    if not known:
        return f"this file has no {want}: declare one, or add `use std`"
    more = "; `danetc list std` lists all" if len(known) > _LISTED else ""
    return f"a {want} is wanted here: {_list(known)}{more}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_LISTED])
    return f"{shown}, ..." if len(names) > _LISTED else shown


def _misspelt(evaluator: Evaluator, id: str, near: tuple[str, ...], module: Module) -> bool:
    """Whether a name is surely misspelt, though a syntax error has kept others out."""
    # E020x are errors of modules, which may have kept any name out
    found = evaluator.builder.reporter.diagnostics
    syntax_alone = not any(
        item.code.startswith("E020")
        or (item.code.startswith("E01") and item.span.source.line(item.span.line).startswith("use"))
        for item in found
    )
    return bool(near) and module.source.words[id] == 1 and syntax_alone and id not in module.lost


def _place(id: str, env: Env) -> Span | None:
    """Where a name of this file is declared or defined."""
    if id in env.places:
        return env.places[id]
    if id in env.definitions:
        return env.definitions[id].span
    declaration = env.module.own.get(id)
    return None if declaration is None or id in env.values else declaration.name_span
