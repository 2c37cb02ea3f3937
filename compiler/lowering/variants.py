"""Variants: a network, the networks it changes, and what is set from outside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import Parameter
from danetc.compiler.lowering.builder import Builder
from danetc.compiler.lowering.declared import MAX_DEPTH, bind, complete
from danetc.compiler.lowering.environment import SPECIAL, Definition, Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import Bound, Failed
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.modules import Module
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.overrides import with_argument
from danetc.dsl.syntax.source import Span

SETTINGS = (
    "input",
    "steps",
    "neuron",
    "surrogate",
    "norm",
    "init",
    "stem",
    "stages",
    "head",
    "out",
    "zero_init",
)


def _is_op_name(id: str) -> bool:
    return id in SPECIAL or (id in OPS and OPS[id].public)


@record
class Level:
    """A network or one of the networks it is a variant of, with its parameters' environment."""

    declaration: s.Declaration
    env: Env


def levels(
    declaration: s.Declaration,
    module: Module,
    settings: Mapping[str, s.Expr],
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
            param.name: evaluator.evaluate(settings[param.name], outside)
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
            loops=shared.loops,
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
        name = s.called(value)
        resolved = module.names.get(name.id) if name is not None else None
        if resolved is None or resolved.declaration.kind != "network":
            if name is not None and resolved is None and not _is_op_name(name.id):
                networks = [n for n, r in module.names.items() if r.declaration.kind == "network"]
                if module.excuses(name.id):
                    raise Failed
                hint = did_you_mean(name.id, networks)
                raise builder.fail("E0210", f"unknown name `{name.id}`", name.span, hint=hint)
            what = "something else"
            if name is not None:
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


def override(
    path: str, value: s.Expr, env: Env, builder: Builder, parameters: Collection[str]
) -> None:
    """Set a definition from outside, as the same line in the body of the network would.

    ``env`` is that of the network that was asked for: an expression reads its parameters and
    definitions, those of its bases by the rules of variants. The value of an argument, as of
    ``neuron.tau``, is read where the call is written. E0309 where there is no such setting.
    """
    known = {*SETTINGS, *env.definitions}
    name, dot, argument = path.partition(".")
    place = Span(value.span.source, 0, len(path))
    if name not in known and not (argument and name in parameters):
        call = f"{dot}{argument}"
        raise builder.fail(
            "E0309",
            f"the network has no parameter and no setting `{path}`",
            place,
            hint=answer("setting", path)
            or did_you_mean(path, [each + call for each in (*parameters, *known)])
            or f"it has {', '.join(sorted({*parameters, *env.definitions}))}",
        )
    if not argument:
        env.definitions[name] = Definition(value, env, value.span)
        return
    written = env.definitions.get(name)
    changed = None
    if written is not None:
        changed = argument_set(written.value, argument, value, written.env.module)
    if written is None or changed is None:
        raise builder.fail(
            "E0309",
            f"`{name}` has no arguments, so none is called `{argument}`",
            place,
            labels=(Label(written.value.span, "what it is"),) if written else (),
            hint=f"set `{name}` as a whole: --set {name}=...",
        )
    env.definitions[name] = replace(written, value=changed)


def argument_set(written: s.Expr, name: str, value: s.Expr, module: Module) -> s.Expr | None:
    """``LIF`` as ``LIF(tau = 3)``; None where what is written is no call and names nothing."""
    function = s.called(written)
    if function is None:
        return None
    known = module.names.get(function.id)
    positions: Iterable[s.Param | Parameter] = ()
    if known is not None:
        positions = known.declaration.params
    elif function.id in OPS:
        positions = OPS[function.id].parameters
    place = Span(value.span.source, 0, value.span.end)
    arg = s.Arg(name, value, span=place)
    return with_argument(written, arg, [item.name for item in positions])
