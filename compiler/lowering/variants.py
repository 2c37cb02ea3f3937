"""Variants: a network, the networks it changes, and what is set from outside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import Parameter
from danetc.compiler.lowering.arguments import MAX_DEPTH
from danetc.compiler.lowering.environment import SPECIAL, Definition, Env
from danetc.compiler.lowering.stages import Stages
from danetc.compiler.lowering.values import Bound, Failed
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.modules import Module, Resolved
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


@record
class Level:
    """A network, or one that it is a variant of, and the environment of its parameters."""

    declaration: s.Declaration
    env: Env


class Variants(Stages):
    """Networks with the networks that they are variants of."""

    def levels(
        self, declaration: s.Declaration, module: Module, settings: Mapping[str, s.Expr]
    ) -> list[Level]:
        """Return a network and its bases, outermost first, with shared definitions and parameters.

        Parameters are taken from ``settings``. A name has the meaning that the outermost network
        which has it gives it: a variant's line goes before a parameter of its base, and a variant's
        arguments for its base are made of the variant's own parameters.
        """
        closed: dict[str, str] = {}
        outside = Env(module, "--set", elsewhere=closed)
        claimed: set[str] = set()
        shared = Env(module, "network")
        result: list[Level] = []
        bound = Bound(declaration, module, {}, declaration.name_span)
        elsewhere: dict[str, str] = {}
        while True:
            name, place = declaration.name, declaration.name_span
            if any(level.declaration is declaration for level in result):
                message = f"network `{name}` is a variant of itself"
                hint = "a variant changes a network that is written out: `network NAME { ... }`"
                raise self.error("E0211", message, place, hint=hint)
            if len(result) > MAX_DEPTH:
                raise self.error(
                    "E0902", f"variants of variants, more than {MAX_DEPTH} deep", place
                )
            params = [param.name for param in declaration.params]
            self.work.spend(4 * len(params) + len(declaration.body or ()))
            for param in params:
                closed[param] = "the value of a parameter that is set from outside reads no other"
            given = {
                param: self.evaluate(settings[param], outside)
                for param in params
                if param in settings and param not in claimed
            }
            env = replace(
                self.complete(replace(bound, args={**bound.args, **given})),
                what="network",
                definitions=shared.definitions,
                cache=shared.cache,
                pending=shared.pending,
                used=shared.used,
                loops=shared.loops,
                elsewhere=elsewhere,
            )
            for param in params:
                own = f"network NAME({param} = ...) = {name}({param}) {{ ... }}"
                message = f"`{param}` is a parameter of `{name}`; a variant reads its own: `{own}`"
                elsewhere.setdefault(param, message)
            result.append(Level(declaration, env))
            for item in declaration.body or ():
                if not isinstance(item, s.Define) or item.index is not None:
                    message = "a network holds definitions `name = value` alone"
                    raise self.error("E0408", message, item.span)
                definition = Definition(item.value, env, item.name_span)
                shared.definitions.setdefault(item.name, definition)
            claimed.update(_names(declaration))
            value = declaration.value
            if value is None:
                return result
            base = self._base(declaration, value, module)
            bound = Bound(base.declaration, base.module, {}, value.span)
            if isinstance(value, s.Call):
                bound = self.bind(bound, value.args, env, value.span)
            declaration, module = base.declaration, base.module

    def _base(self, declaration: s.Declaration, value: s.Expr, module: Module) -> Resolved:
        """Return the network that another is a variant of."""
        name = s.called(value)
        resolved = module.names.get(name.id) if name is not None else None
        if resolved is not None and resolved.declaration.kind == "network":
            return resolved
        what = "something else"
        if name is not None:
            id = name.id
            if resolved is None and id not in SPECIAL and not (id in OPS and OPS[id].public):
                if module.excuses(id):
                    raise Failed
                networks = [n for n, r in module.names.items() if r.declaration.kind == "network"]
                hint = did_you_mean(id, networks)
                raise self.error("E0210", f"unknown name `{id}`", name.span, hint=hint)
            what = f"the {resolved.declaration.kind if resolved else 'layer'} `{id}`"
        raise self.error(
            "E0403",
            f"network `{declaration.name}` must be a variant of a network, not of {what}",
            value.span,
            hint="write its settings between braces: `network NAME { ... }`",
        )

    def override(self, path: str, value: s.Expr, env: Env, parameters: Collection[str]) -> None:
        """Set a definition from outside, as its line in the body of the network would (E0309).

        ``env`` is that of the requested network: an expression reads its parameters and definitions,
        those of its bases by the rules of variants. The value of an argument, as of ``neuron.tau``,
        is read where the call is written.
        """
        known = {*SETTINGS, *env.definitions}
        name, dot, argument = path.partition(".")
        place = Span(value.span.source, 0, len(path))
        if name not in known and not (argument and name in parameters):
            near = [f"{each}{dot}{argument}" for each in (*parameters, *known)]
            raise self.error(
                "E0309",
                f"the network has no parameter and no setting `{path}`",
                place,
                hint=answer("setting", path)
                or did_you_mean(path, near)
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
            raise self.error(
                "E0309",
                f"`{name}` has no arguments, so none is called `{argument}`",
                place,
                labels=(Label(written.value.span, "what it is"),) if written else (),
                hint=f"set `{name}` as a whole: --set {name}=...",
            )
        env.definitions[name] = replace(written, value=changed)


def _names(declaration: s.Declaration) -> set[str]:
    """Return the parameters and the lines of a network."""
    lines = {item.name for item in declaration.body or () if isinstance(item, s.Define)}
    return {*lines, *(param.name for param in declaration.params)}


def is_parameter(name: str, chain: list[Level]) -> bool:
    """True if the outermost network that has a name has it as a parameter."""
    owner = next((level for level in chain if name in _names(level.declaration)), None)
    return owner is not None and any(name == param.name for param in owner.declaration.params)


def argument_set(written: s.Expr, name: str, value: s.Expr, module: Module) -> s.Expr | None:
    """Return ``LIF`` as ``LIF(tau = 3)``; None if what is written neither calls nor names anything."""
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
