"""Variants: a network, the networks it changes, and what is set from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.arguments import MAX_DEPTH, bind, complete
from danetc.compiler.lowering.builder import Builder
from danetc.compiler.lowering.environment import SPECIAL, Definition, Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import Bound, Failed, Outside, Value
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.modules import Module
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import SourceFile, Span

SETTINGS = (
    "input",
    "steps",
    "neuron",
    "surrogate",
    "norm",
    "stem",
    "stages",
    "head",
    "out",
    "zero_init",
)


def _is_op_name(id: str) -> bool:
    return id in SPECIAL or (id in OPS and OPS[id].public)


@dataclass(frozen=True, slots=True)
class Level:
    """A network or one of the networks it is a variant of, with its parameters' environment."""

    declaration: s.Declaration
    env: Env


def levels(
    declaration: s.Declaration,
    module: Module,
    settings: Mapping[str, Outside],
    evaluator: Evaluator,
) -> list[Level]:
    """A network and its bases, outermost first, with shared definitions and bound parameters.

    ``settings`` hold what is set from outside, of which the parameters are taken here. A name means
    what the outermost network that has it makes of it: a variant's line stands before a parameter of
    its base, and what a variant gives its base is made of the variant's own parameters.
    """
    builder = evaluator.builder
    closed: dict[str, str] = {}
    outside = Env(module, "--set", elsewhere=closed)
    claimed: set[str] = set()
    shared = Env(module, "network")
    result: list[Level] = []
    bound = Bound(declaration, module, {}, declaration.name_span)
    elsewhere: dict[str, str] = {}
    seen: list[s.Declaration] = []
    while True:
        if any(item is declaration for item in seen):
            raise builder.fail(
                "E0211",
                f"network `{declaration.name}` is a variant of itself",
                declaration.name_span,
                hint="a variant changes a network that is written out: `network NAME { ... }`",
            )
        if len(seen) > MAX_DEPTH:
            raise builder.fail(
                "E0902", f"variants of variants, more than {MAX_DEPTH} deep", declaration.name_span
            )
        seen.append(declaration)
        evaluator.work.spend(4 * len(declaration.params) + len(declaration.body or ()))
        for param in declaration.params:
            closed[param.name] = "the value of a parameter that is set from outside reads no other"
        given = {
            param.name: _constant(settings[param.name], outside, evaluator)
            for param in declaration.params
            if param.name in settings and param.name not in claimed
        }
        env = complete(evaluator, replace(bound, args={**bound.args, **given}))
        env = replace(
            env,
            what="network",
            definitions=shared.definitions,
            cache=shared.cache,
            pending=shared.pending,
            used=shared.used,
            elsewhere=elsewhere,
        )
        for param in declaration.params:
            elsewhere.setdefault(
                param.name,
                f"`{param.name}` is a parameter of `{declaration.name}`; a variant reads its own: "
                f"`network NAME({param.name} = ...) = {declaration.name}({param.name}) {{ ... }}`",
            )
        result.append(Level(declaration, env))
        for item in declaration.body or ():
            if not isinstance(item, s.Define) or item.index is not None:
                raise builder.fail(
                    "E0408", "a network holds definitions `name = value` alone", item.span
                )
            shared.definitions.setdefault(item.name, Definition(item.value, env, item.name_span))
        claimed.update(_names(declaration))
        value = declaration.value
        if value is None:
            return result
        name = value.function if isinstance(value, s.Call) else value
        resolved = module.names.get(name.id) if isinstance(name, s.Name) else None
        if resolved is None or resolved.declaration.kind != "network":
            if isinstance(name, s.Name) and resolved is None and not _is_op_name(name.id):
                networks = [n for n, r in module.names.items() if r.declaration.kind == "network"]
                if module.excuses(name.id):
                    raise Failed
                hint = did_you_mean(name.id, networks)
                raise builder.fail("E0210", f"unknown name `{name.id}`", name.span, hint=hint)
            what = "something else"
            if isinstance(name, s.Name):
                what = f"the {resolved.declaration.kind if resolved else 'layer'} `{name.id}`"
            raise builder.fail(
                "E0403",
                f"network `{declaration.name}` must be a variant of a network, not of {what}",
                value.span,
                hint="write its settings between braces: `network NAME { ... }`",
            )
        bound = Bound(resolved.declaration, resolved.module, {}, value.span)
        if isinstance(value, s.Call):
            bound = bind(evaluator, bound, value.args, env, value.span)
        declaration, module = resolved.declaration, resolved.module


def _names(declaration: s.Declaration) -> set[str]:
    """The parameters and the lines of a network."""
    lines = {item.name for item in declaration.body or () if isinstance(item, s.Define)}
    return {*lines, *(param.name for param in declaration.params)}


def is_parameter(name: str, chain: list[Level]) -> bool:
    """Whether a name that is set from outside means a parameter: the outermost network that has it,
    as a parameter or as a line, says so."""
    owner = next((level for level in chain if name in _names(level.declaration)), None)
    return owner is not None and any(name == param.name for param in owner.declaration.params)


def _constant(value: Outside, outside: Env, evaluator: Evaluator) -> Value:
    """What a parameter is set to: a value, or an expression of names that the file knows."""
    if isinstance(value, (bool, int, float, str)):
        return value
    return evaluator.evaluate(value, outside)


def override(name: str, value: Outside, env: Env, builder: Builder, parameters: set[str]) -> None:
    """Set a definition from outside, as the same line in the body of the network would.

    ``env`` is that of the network that was asked for: an expression reads its parameters and
    definitions, those of its bases by the rules of variants. E0309 where there is no such setting.
    """
    known = {*SETTINGS, *env.definitions}
    span = getattr(value, "span", None) or _set_span(name)
    if name not in known:
        raise builder.fail(
            "E0309",
            f"the network has no parameter and no setting `{name}`",
            span,
            hint=answer("setting", name)
            or did_you_mean(name, [*parameters, *known])
            or f"it has {', '.join(sorted({*parameters, *env.definitions}))}",
        )
    expr: s.Expr
    if isinstance(value, bool):
        expr = s.Name("true" if value else "false", span=span)
    elif isinstance(value, (int, float)):
        number = s.Number(repr(abs(value)), span=span)
        expr = s.Unary("-", number, span=span) if value < 0 else number
    elif isinstance(value, str):
        expr = s.Name(value, span=span)
    else:
        expr = value
    env.definitions[name] = Definition(expr, env, span)


def _set_span(name: str) -> Span:
    return Span(SourceFile("--set", name), 0, len(name))
