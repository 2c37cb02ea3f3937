"""Arguments of calls, and the parameters of declarations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.ir.ops import OPS, REQUIRED
from danetc.compiler.lowering.environment import MATH, SPECIAL, Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import (
    Bound,
    Failed,
    Invalid,
    LearntValue,
    Number,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, replacing
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten

MAX_DEPTH = 60
"""Limit of the depth to which declarations may be made of each other."""


class Arguments(Evaluator):
    """Arguments of calls, and declarations with their parameters bound."""

    def assign(
        self,
        args: tuple[s.Arg, ...],
        names: list[str],
        what: str,
        span: Span,
        *of: str,
        unnamed: int | None = None,
    ) -> dict[str, s.Arg]:
        """Return the arguments of a call by the names of their parameters.

        The first ``unnamed`` parameters (default: all) take arguments without names. ``of`` are the
        name and the kind of what is called, for suggestions.
        """
        given: dict[str, s.Arg] = {}
        position, places = 0, len(names) if unnamed is None else unnamed
        listed = f"its parameters: {', '.join(names)}" if names else ""
        known = frozenset(names)
        for arg in args:
            self._no_each(arg)
            name = arg.name
            if name is None:
                if position >= places:
                    most = f"{places} argument{'s' if places != 1 else ''}"
                    most += " without a name at most" if places < len(names) else " at most"
                    message = f"{what} takes {most if names else 'no arguments'}"
                    hint = _called(args, span) or listed or "leave it out"
                    raise self.error("E0303", message, arg.span, hint=hint)
                name = names[position]
                position += 1
            elif name not in known:
                found = answer("parameter", name, *of) or did_you_mean(name, names)
                hint = found or listed or "it takes none"
                raise self.error("E0301", f"{what} has no parameter `{name}`", arg.span, hint=hint)
            if name in given:
                raise self.error(
                    "E0302",
                    f"{what} is given `{name}` twice",
                    arg.span,
                    labels=(Label(given[name].span, "given here already"),),
                    hint=_called(args, span),
                )
            given[name] = arg
        return given

    def assign_declared(
        self, args: tuple[s.Arg, ...], declaration: s.Declaration, span: Span
    ) -> dict[str, s.Arg]:
        """``assign`` for a declaration. Raises Failed for a parameter reported as unknown in its text."""
        kind, id = declaration.kind, declaration.name
        names = [param.name for param in declaration.params]
        reporter, text = self.reporter, declaration.span
        named = [arg.name for arg in args if arg.name is not None]
        too_many = len(args) - len(named) > len(names)
        if any(name not in names and reporter.knows_unknown(text, name) for name in named) or (
            too_many and reporter.knows_any_unknown(text)
        ):
            raise Failed
        return self.assign(args, names, f"{kind} `{id}`", span, id, kind)

    def assign_special(self, id: str, args: tuple[s.Arg, ...], span: Span) -> dict[str, s.Arg]:
        """``assign`` for a function of ``SPECIAL``; functions of values have no parameters."""
        names = SPECIAL[id].parameters
        if names is not None:
            return self.assign(args, list(names), f"`{id}`", span, id)
        for arg in args:
            self._no_each(arg)
            if arg.name is not None:
                hint = answer("parameter", arg.name, id) or f"write `{SPECIAL[id].usage}`"
                message = f"`{id}` has no parameter `{arg.name}`"
                raise self.error("E0301", message, arg.span, hint=hint)
        return {}

    def _no_each(self, arg: s.Arg) -> None:
        if isinstance(arg.value, s.Each):
            raise self.error("E0405", "`for` is allowed only in the joins of a rule", arg.span)

    def bind(self, bound: Bound, args: tuple[s.Arg, ...], env: Env, span: Span) -> Bound:
        """Return a declaration with the arguments of a call; ``complete`` adds the defaults."""
        declaration = bound.declaration
        self.work.spend(10 + 2 * len(declaration.params), span)
        values, given = dict(bound.args), dict(bound.given)
        for name, arg in self.assign_declared(args, declaration, span).items():
            value = values[name] = own_numbers(self.evaluate(arg.value, env))
            given[name] = self.origin(name, value, arg.value, env)
            hint = flows_in(arg, args, span, is_value=isinstance(value, Wire) or is_layer(value))
            if bound.kind == "neuron" and isinstance(value, Wire):
                if arg.name is not None:
                    continue  # an input
                if any(p.name == name and p.default is None for p in declaration.params):
                    call = f"{bound.name}({name} = ...)"
                    hint = f"an input besides `x` is given by its name: `{call}`"
            self._check_number(bound, name, value, arg.value, env, hint)
        return Bound(declaration, bound.module, values, span, given, bound.at)

    def _check_number(
        self, bound: Bound, name: str, value: Value, expr: s.Expr, env: Env, hint: str | None = None
    ) -> None:
        """Report an argument of equations that is no number."""
        equations = bound.kind in ("neuron", "surrogate", "rule")
        if not equations or bound.declaration.body is None:
            return
        if not isinstance(value, (bool, int, float, Learn, Invalid)):
            what = f"`{name}` of {bound.kind} `{bound.name}`"
            message = f"{what} must be a number, not {describe(value)}"
            raise self.reject("E0304", message, expr, env, hint)

    def complete(self, bound: Bound) -> Env:
        """Return the environment of a declaration's text: parameters, given or by default."""
        declaration = bound.declaration
        self.work.spend(4 + 4 * len(declaration.params), bound.span)
        given = dict(bound.given)
        places = {param.name: param.name_span for param in declaration.params}
        env = Env(bound.module, declaration.kind, given=given, places=places)
        for param in declaration.params:
            name = param.name
            if name in bound.args:
                env.values[name] = bound.args[name]
            elif param.default is not None:
                value = env.values[name] = own_numbers(self.evaluate(param.default, env))
                given[name] = self.origin(name, value, param.default, env)
                self._check_number(bound, name, value, param.default, env)
            else:
                raise self.error(
                    "E0307",
                    f"{bound.kind} `{bound.name}` needs `{name}`",
                    bound.span,
                    labels=(Label(param.name_span, "this parameter has no default"),),
                    hint=f"write `{bound.name}({name} = ...)`",
                )
        if any(isinstance(value, Invalid) for value in env.values.values()):
            raise Failed
        return env

    def follow_alias(self, bound: Bound) -> Bound:
        """Follow ``kind name = other(...)`` to the declaration that has a body."""
        seen: list[s.Declaration] = []
        kind = bound.kind
        while bound.declaration.body is None and bound.declaration.value is not None:
            value = bound.declaration.value
            if kind == "block":
                name = s.called(value)
                named = bound.module.names.get(name.id) if name is not None else None
                if named is None or named.declaration.kind != "block":
                    return bound
            if len(seen) > MAX_DEPTH:
                raise self.too_deep(bound, seen)
            seen.append(bound.declaration)
            target = self.evaluate(value, self.complete(bound), kind)
            if not isinstance(target, Bound) or target.kind != kind:
                message = f"{kind} `{bound.name}` is {describe(target)}"
                raise self.error("E0403", message, value.span, hint=f"it must name another {kind}")
            bound = replace(target, span=bound.span)
        if bound.declaration.body is not None and bound.declaration.value is not None:
            raise self.error(
                "E0408",
                f"a {kind} is either written out or names another, not both",
                bound.declaration.name_span,
                hint="only networks and recipes have variants `= base { ... }`",
            )
        return bound

    def too_deep(self, bound: Bound, path: list[s.Declaration]) -> Failed:
        """Report a declaration that is made of itself, or of others too many levels deep."""
        kind, place = bound.kind, bound.declaration.name_span
        if any(declaration is bound.declaration for declaration in path):
            message = f"{kind} `{bound.name}` is made of itself"
            return self.error("E0211", message, place, hint="repeat by a number: `stage(BLOCK, N)`")
        message = f"{kind}s that are made of each other, more than {MAX_DEPTH} deep"
        return self.error("E0902", message, place)


def flows_in(arg: s.Arg, args: tuple[s.Arg, ...], span: Span, *, is_value: bool) -> str | None:
    """Hint for a layer that is called with a value, as in ``spike(shortcut)``; ``span`` is the call."""
    if arg.name is not None or not is_value:
        return None
    name = span.text.partition("(")[0].strip()
    others = ", ".join(other.span.text for other in args if other is not arg)
    if not others and name in OPS:
        others = "..." if any(row.default is REQUIRED for row in OPS[name].parameters) else ""
    in_parentheses = not isinstance(arg.value, s.Name | s.Call | s.Flow)
    text, value = shorten(arg.value.span.text), arg.value.span.text
    if in_parentheses:
        text, value = f"({text})", f"({value})"
    call = f"{name}({others})" if others else name
    hint = f"a value flows into a layer by `->`: write `{text} -> {shorten(call)}`"
    return hint if others == "..." else Hint(hint, replacing(span, f"({value} -> {call})"))


def _called(args: tuple[s.Arg, ...], span: Span) -> str | None:
    """``flows_in`` by the text alone, for the first argument of a call."""
    match args[0].value:
        case s.Name(id):
            is_value = id in ("in", "x", "branch", "shortcut")
        case s.Call(s.Name(id)):
            is_value = id not in (*MATH, "channels")
        case value:
            is_value = isinstance(value, s.Flow)
    return flows_in(args[0], args, span, is_value=is_value)


def numbers_in(values: Mapping[str, Value]) -> dict[str, Number | Learn]:
    """Return the parameters of equations, all of which are numbers (see ``complete``)."""
    return {n: v for n, v in values.items() if isinstance(v, (bool, int, float, Learn))}


def own_numbers(value: Value) -> Value:
    """Return an argument of a declaration; learnt numbers become the declaration's own."""
    if isinstance(value, LearntValue):
        return value.learn if value.is_plain else replace(value, name="", scope=())
    return value
