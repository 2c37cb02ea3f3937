"""Expressions of a spec to values: constants, layers, declarations with arguments, wires."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from danetc.compiler.builder import Builder
from danetc.compiler.graph import Attribute
from danetc.compiler.ops import OPS, REQUIRED, Parameter
from danetc.compiler.values import (
    POISON,
    Backbone,
    BlockConv,
    Bound,
    Failed,
    Given,
    Identity,
    Layer,
    Named,
    OpLayer,
    Outputs,
    Poison,
    Sequence,
    StageOf,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl import syntax as s
from danetc.dsl.diagnostics import Label, closest, did_you_mean
from danetc.dsl.equations import Learn
from danetc.dsl.modules import Module, std_names
from danetc.dsl.source import Span

Want = str
"""What is asked for: ``layer``, ``norm``, a kind of declaration, or ``any``."""

_SETTING_KINDS = frozenset({"neuron", "surrogate", "norm"})
_LAYERS = {
    "network": frozenset({"stem", "head"}),
    "connection": frozenset({"each", "last", "projection", "identity"}),
}
"""The definitions that are layers: a name in them means an operation rather than a connection."""
MAX_CONSTANT = 1e15
MAX_DEPTH = 60
MAX_ITEMS = 2_000

ROLES = {"batchnorm": "norm", "tebn": "norm", "tdbn": "norm", "groupnorm": "norm"}
NORMS = frozenset(ROLES)


@dataclass(frozen=True, slots=True)
class Definition:
    """``name = value`` in a body, with the environment that the value is read in."""

    value: s.Expr
    env: Env
    span: Span


@dataclass(slots=True)
class Env:
    """What names mean where an expression stands.

    ``definitions`` (shared by a network and its variants) are evaluated when first asked for.
    ``block_conv`` says that ``conv`` without a width is the block's next layer. ``given`` says
    where the values of parameters were written, ``places`` where the parameters are declared,
    ``elsewhere`` holds hints for names that mean something only in another place.
    """

    module: Module
    what: str
    values: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    block_conv: bool = False
    scope: tuple[str, ...] = ()
    given: Mapping[str, Given] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Span] = field(default_factory=dict)

    def names(self) -> list[str]:
        return [*self.values, *self.definitions]


def _is_op(id: str, kind: str, want: Want) -> bool:
    """Whether a name that is both a declaration and an operation means the operation here."""
    if id not in OPS or not OPS[id].public:
        return False
    if want == "layer":
        return kind not in ("block", "neuron", "backbone")
    return want == "norm"


def _round_half(x: float) -> int:
    return math.floor(x + 0.5)


MATH: Mapping[str, Callable[..., int | float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": _round_half,
}

SPECIAL = ("stage", "channels", "image", "events", "concat", "outputs", "learn", *MATH)
CONSTANTS = {"true": True, "false": False, "pi": math.pi}

_FLOW_IN = "a layer makes a value when something flows into it: `(in -> ...)`"
_ELSEWHERE: Mapping[str, str] = {
    "sum": "`sum` joins the outputs of a rule; elsewhere write `a + b`",
    "branch": "`branch` is known in the `out` of a connection",
    "shortcut": "`shortcut` is known in the `out` of a connection",
    "add": "write `a + b`",
    "relu": "an activation is a neuron: `neuron = ReLU`, and `spike` where it stands",
}


class Evaluator:
    """Evaluates expressions. Lowering fills in what layers do to wires (``apply``)."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.settings: dict[str, Any] = {}
        self._names: dict[int, tuple[s.Node, tuple[str, ...]]] = {}  # of pieces of the tree, by id
        self.unfolding: list[s.Declaration] = []  # the backbones being unfolded
        self.complete_names = True  # whether no error keeps names out of the file
        self.misspelt: set[str] = set()  # settings that a reported definition was meant to be

    def apply(self, layer: Layer, wire: Wire | Poison, span: Span) -> Wire | Poison:
        raise NotImplementedError

    def encode(
        self, name: str, shape: tuple[int, ...], bound: int | None, span: Span
    ) -> Wire | Poison:
        raise NotImplementedError

    # -- expressions ------------------------------------------------------------------------------

    def evaluate(self, expr: s.Expr, env: Env, want: Want = "any") -> Any:
        """The value of an expression; ``want`` tells a name's two meanings apart (`tdbn`, `sigmoid`)."""
        match expr:
            case s.Number():
                return self._bounded(expr.value, expr.span)
            case s.String(value):
                return value
            case s.Name(id):
                return self.name(id, env, expr.span, want)
            case s.Call():
                return self._call(expr, env, want)
            case s.Flow():
                return self._flow(expr, env)
            case s.Binary() | s.Unary():
                return self._operator(expr, env)
            case s.IfElse(then, condition, otherwise):
                chosen = then if self.condition(condition, env) else otherwise
                return self.evaluate(chosen, env, want)
            case s.At():
                return self._slice(expr, env)
            case s.Via(subject, connection):
                return self._stages(subject, env, "via", connection, "connection")
            case s.By(subject, rule):
                return self._stages(subject, env, "by", rule, "rule")
            case s.With(subject, settings):
                return self._with(subject, settings, env)
        raise self.builder.fail("E0405", "this cannot stand here", expr.span)

    def _bounded(self, value: Any, span: Span) -> Any:
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and not abs(value) <= MAX_CONSTANT
        ):
            raise self.builder.fail("E0306", f"a constant beyond {MAX_CONSTANT:g}", span)
        return value

    def number(self, expr: s.Expr, env: Env, what: str = "") -> int | float:
        value = self.evaluate(expr, env)
        if isinstance(value, Poison):
            raise Failed
        if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
            needed = f"{what} must be a number" if what else "a number is needed here"
            raise self.builder.fail(
                "E0304", f"{needed}, not {describe(value)}", expr.span, blame=self.blame(expr, env)
            )
        return value

    def condition(self, expr: s.Expr, env: Env) -> bool:
        return self._truth(self.evaluate(expr, env), expr, env)

    def _truth(self, value: Any, expr: s.Expr, env: Env) -> bool:
        if isinstance(value, Poison):
            raise Failed
        if not isinstance(value, (bool, int, float)):
            raise self.builder.fail(
                "E0304",
                f"a condition compares numbers, not {describe(value)}",
                expr.span,
                blame=self.blame(expr, env),
                hint="it is decided before the network runs" if isinstance(value, Wire) else None,
            )
        return bool(value)

    # -- where values come from -------------------------------------------------------------------

    def blame(self, expr: s.Expr, env: Env) -> tuple[Label, ...]:
        """The places where the parameters and definitions in an expression got their values."""
        return tuple(label for given in self._given(expr, env) for label in given.labels())

    def _given(self, expr: s.Expr, env: Env) -> tuple[Given, ...]:
        found: dict[str, Given] = {}
        for id in self.names_in(expr):
            if id in env.given:
                found[id] = env.given[id]
            elif id in env.definitions and isinstance(env.cache.get(id), (bool, int, float, str)):
                definition = env.definitions[id]
                sources = self._given(definition.value, definition.env)
                found[id] = Given(definition.value.span, _says(id, env.cache[id]), sources)
        return tuple(found.values())

    def names_in(self, node: s.Node) -> tuple[str, ...]:
        """The names in a piece of the tree, each once, in order. Read once for all its blocks."""
        known = self._names.get(id(node))
        if known is None:
            names = (item.id for item in s.walk(node) if isinstance(item, s.Name))
            known = self._names[id(node)] = (node, tuple(dict.fromkeys(names)))
        return known[1]

    def _source(self, name: str, value: Any, expr: s.Expr, env: Env) -> Given:
        return Given(expr.span, _says(name, value), self._given(expr, env))

    def whole(self, expr: s.Expr, env: Env, what: str, low: int, high: int) -> int:
        value = self.number(expr, env, what)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            raise self.builder.fail(
                "E0304",
                f"{what} must be a whole number, not {value:g}",
                expr.span,
                blame=self.blame(expr, env),
                hint=_rounded(expr),
            )
        if not low <= value <= high:
            raise self.builder.fail(
                "E0305",
                f"{what} must be between {low} and {high:,}, not {value:,}",
                expr.span,
                blame=self.blame(expr, env),
            )
        return value

    # -- names ------------------------------------------------------------------------------------

    def name(self, id: str, env: Env, span: Span, want: Want = "any") -> Any:
        if id in env.values:
            return env.values[id]
        if id == "norm" and env.what == "network":
            return self.setting("norm", span)
        if id in env.definitions:
            value = self.definition(id, env, span)
            return Named(id, value, span) if want == "layer" and is_layer(value) else value
        if id in CONSTANTS:
            return CONSTANTS[id]
        if id == "spike":
            return self.setting("neuron", span)
        if id == "norm":
            return self.setting("norm", span)
        if id == "conv" and env.block_conv:
            return BlockConv({}, span)
        if id in ("steps",) and id in self.settings:
            return self.settings[id]
        if id in ("identity", "none"):
            return Identity(span)
        resolved = env.module.names.get(id)
        if resolved is not None and not _is_op(id, resolved.declaration.kind, want):
            return self.reference(Bound(resolved.declaration, resolved.module, {}, span), span)
        if id in OPS and OPS[id].public:
            return self._op(id, (), env, span)
        if id in SPECIAL:
            what = "a function of numbers" if id in MATH else "called with arguments"
            hint, labels = self._meant(id, env)
            raise self.builder.fail(
                "E0405", f"`{id}` is {what}", span, hint=hint or f"write `{id}(...)`", labels=labels
            )
        raise self._unknown(id, env, span)

    def _unknown(self, id: str, env: Env, span: Span) -> Failed:
        if id in ("identity", "none"):
            return self.builder.fail("E0303", f"`{id}` takes no arguments", span)
        known = [
            *env.names(),
            *CONSTANTS,
            "spike",
            "norm",
            "identity",
            "none",
            *env.module.names,
            *SPECIAL,
            *(name for name, op in OPS.items() if op.public),
        ]
        hint = env.elsewhere.get(id) or _ELSEWHERE.get(id)
        labels: tuple[Label, ...] = ()
        close = closest(id, known)
        if env.module.excuses(id) and not self._misspelt(id, close, env.module):
            return Failed()
        if hint is None and id in env.places:
            hint = "the default of a parameter reads the parameters before it"
        elif not env.module.program.uses and id in std_names():
            hint = f"`{id}` is in the standard library: add `use std`"
        elif hint is None and close is not None:
            hint = f"did you mean `{close}`?"
            place = self._place(close, env)
            if place is not None:
                labels = (Label(place, f"`{close}` is declared here"),)
        return self.builder.fail("E0210", f"unknown name `{id}`", span, hint=hint, labels=labels)

    def _misspelt(self, id: str, close: str | None, module: Module) -> bool:
        """Whether a name is surely misspelt, though a syntax error has kept others out."""
        # E020x are errors of modules, which may have kept any name out
        codes = [item.code for item in self.builder.reporter.diagnostics]
        syntax_alone = not any(code.startswith("E020") for code in codes)
        once = len(re.findall(rf"\b{re.escape(id)}\b", module.source.text)) == 1
        return close is not None and once and syntax_alone and id not in module.lost

    def _meant(self, id: str, env: Env) -> tuple[str | None, tuple[Label, ...]]:
        """A parameter that was probably meant by a name which means something else here."""
        close = closest(id, env.places)
        if close is None:
            return None, ()
        label = Label(env.places[close], f"`{close}` is declared here")
        return f"did you mean `{close}`?", (label,)

    @staticmethod
    def _place(id: str, env: Env) -> Span | None:
        """Where a name of this file is declared or defined."""
        if id in env.places:
            return env.places[id]
        if id in env.definitions:
            return env.definitions[id].span
        declaration = env.module.own.get(id)
        return None if declaration is None or id in env.values else declaration.name_span

    def definition(self, id: str, env: Env, span: Span) -> Any:
        """The value of ``id = ...`` in the body, evaluated once."""
        env.used.add(id)
        if id in env.cache:
            value = env.cache[id]
            if isinstance(value, Failed):
                raise Failed
            return value
        if id in env.pending:
            circle = env.pending[env.pending.index(id) :]
            through = f", by way of `{'`, `'.join(circle[1:])}`" if len(circle) > 1 else ""
            hint, labels = self._meant(id, env.definitions[circle[-1]].env)
            if hint is None and not through and env.what == "network":
                hint = f"to set it from outside make it a parameter: `network NAME({id} = ...)`"
            raise self.builder.fail(
                "E0211",
                f"`{id}` is defined by itself{through}",
                span,
                labels=labels
                or tuple(
                    Label(env.definitions[name].span, f"`{name}` is defined here")
                    for name in circle
                ),
                hint=hint,
            )
        for name in self._needs(id, env):
            with suppress(Failed):  # a failure is kept, and met again by what needs it
                self._evaluated(name, env)
        return self._evaluated(id, env)

    @staticmethod
    def _needs(id: str, env: Env) -> list[str]:
        """The definitions that one cannot do without, those first that others need.

        Evaluated in this order, a long chain of definitions costs no recursion.
        """
        order: list[str] = []
        seen = {id, *env.pending}
        stack = [(id, _certain(env.definitions[id].value))]
        while stack:
            name, names = stack[-1]
            found = next(names, None)
            if found is None:
                stack.pop()
                order.append(name)
            elif (
                found in env.definitions
                and found not in env.values
                and found not in env.cache
                and found not in seen
            ):
                seen.add(found)
                stack.append((found, _certain(env.definitions[found].value)))
        return order[:-1]

    def _evaluated(self, id: str, env: Env) -> Any:
        if id in env.cache:
            if isinstance(env.cache[id], Failed):
                raise Failed
            return env.cache[id]
        definition = env.definitions[id]
        env.pending.append(id)
        outer = self.builder.scope
        self.builder.scope = env.scope if id == "out" else (*env.scope, id)
        try:
            want = id if id in _SETTING_KINDS else "any"
            if id in _LAYERS.get(env.what, ()):
                want = "layer"
            value = self.evaluate(definition.value, definition.env, want)
        except Failed as failed:
            env.cache[id] = failed
            raise
        finally:
            env.pending.pop()
            self.builder.scope = outer
        env.cache[id] = value
        return value

    def setting(self, id: str, span: Span) -> Any:
        """The network's (or stage's) neuron, surrogate or norm."""
        value = self.settings.get(id)
        if isinstance(value, Poison) or id in self.misspelt:
            raise Failed
        if value is None:
            examples = {"neuron": "neuron = IF", "surrogate": "surrogate = sigmoid(alpha = 4)"}
            raise self.builder.fail(
                "E0404",
                f"the network does not say what its {id} is",
                span,
                hint=f"add `{examples.get(id, id)}` to it",
            )
        return value

    def reference(self, bound: Bound, span: Span) -> Any:
        """A declaration by its name: aliases are followed, a backbone is unfolded."""
        kind = bound.kind
        if kind == "backbone":
            return self.backbone(bound, span)
        if kind in ("network", "recipe"):
            raise self.builder.fail(
                "E0403",
                f"the {kind} `{bound.name}` cannot stand here",
                span,
                labels=(Label(bound.declaration.name_span, "declared here"),),
            )
        return bound

    # -- calls ------------------------------------------------------------------------------------

    def _call(self, call: s.Call, env: Env, want: Want) -> Any:
        span = call.span
        if not isinstance(call.function, s.Name):
            raise self.builder.fail("E0402", "only a name can be called", call.function.span)
        id = call.function.id
        target: Any = None
        if id in env.values or id in env.definitions:
            target = (
                env.values[id] if id in env.values else self.definition(id, env, call.function.span)
            )
            if isinstance(target, (bool, int, float, str)) and (id in SPECIAL or id in OPS):
                target = None
            elif isinstance(target, Poison):
                raise Failed
            elif not isinstance(target, Bound):
                hint = "is a `*` missing?" if isinstance(target, (int, float)) else None
                if isinstance(target, Wire):
                    hint = "layers stand behind a value: `a -> b`; or is a `*` missing?"
                raise self.builder.fail(
                    "E0402", f"`{id}` is {describe(target)} and takes no arguments", span, hint=hint
                )
        elif id == "spike":
            target = self.setting("neuron", span)
        elif id == "norm":
            return self._norm(call, env)
        elif id == "conv" and env.block_conv and not self._gives(call.args, "width"):
            return BlockConv(self._op_args("conv", call.args, env, span, partial=True), span)
        elif id in env.module.names:
            resolved = env.module.names[id]
            if not _is_op(id, resolved.declaration.kind, want):
                target = Bound(resolved.declaration, resolved.module, {}, span)
        if isinstance(target, Bound):
            return self.reference(self.bind(target, call.args, env, span), span)
        if id in MATH:
            return self._math(id, call, env)
        match id:
            case "stage":
                return self._stage(call, env)
            case "channels":
                return self._channels(call, env)
            case "concat":
                return self._concat(call, env)
            case "image" | "events":
                return self._input(id, call, env)
            case "outputs":
                return self._outputs(call, env)
            case "learn":
                return self._learn(call, env)
        if id in OPS and OPS[id].public:
            if want in ("neuron", "surrogate") and not self.complete_names:
                raise Failed  # the declaration of this name was kept out by a syntax error
            return self._op(id, call.args, env, span)
        raise self._unknown(id, env, call.function.span)

    @staticmethod
    def _gives(args: tuple[s.Arg, ...], name: str) -> bool:
        return any(arg.name in (None, name) for arg in args)

    def assign(
        self, args: tuple[s.Arg, ...], names: list[str], what: str, span: Span
    ) -> dict[str, s.Arg]:
        """Arguments by the names of the parameters they are for."""
        given: dict[str, s.Arg] = {}
        position = 0
        for arg in args:
            if arg.name is None:
                if position >= len(names):
                    most = f"{len(names)} argument{'s' if len(names) != 1 else ''} at most"
                    raise self.builder.fail(
                        "E0303",
                        f"{what} takes {most if names else 'no arguments'}",
                        arg.span,
                        hint=f"its parameters: {', '.join(names)}" if names else None,
                    )
                name = names[position]
                position += 1
            elif arg.name not in names:
                raise self.builder.fail(
                    "E0301",
                    f"{what} has no parameter `{arg.name}`",
                    arg.span,
                    hint=did_you_mean(arg.name, names)
                    or (f"its parameters: {', '.join(names)}" if names else "it takes none"),
                )
            else:
                name = arg.name
            if name in given:
                raise self.builder.fail(
                    "E0302",
                    f"{what} is given `{name}` twice",
                    arg.span,
                    labels=(Label(given[name].span, "given here already"),),
                )
            if isinstance(arg.value, s.Each):
                raise self.builder.fail(
                    "E0405", "`for` stands in the joins of a rule alone", arg.span
                )
            given[name] = arg
        return given

    def bind(self, bound: Bound, args: tuple[s.Arg, ...], env: Env, span: Span) -> Bound:
        """A declaration with the arguments of a call; defaults are added when it is used."""
        declaration = bound.declaration
        names = [param.name for param in declaration.params]
        assigned = self.assign(args, names, f"{bound.kind} `{bound.name}`", span)
        values = dict(bound.args)
        given = dict(bound.given)
        for name, arg in assigned.items():
            value = self.evaluate(arg.value, env)
            given[name] = self._source(name, value, arg.value, env)
            self._number_of(bound, name, value, arg.value, env)
            values[name] = value
        return Bound(declaration, bound.module, values, span, given)

    def _number_of(self, bound: Bound, name: str, value: Any, expr: s.Expr, env: Env) -> None:
        """See that an argument is a number where a declaration is made of equations."""
        equations = bound.kind in ("neuron", "surrogate", "rule")
        if not equations or bound.declaration.body is None:
            return
        if not isinstance(value, (bool, int, float, Learn, Poison)):
            what = f"`{name}` of {bound.kind} `{bound.name}`"
            raise self.builder.fail(
                "E0304",
                f"{what} must be a number, not {describe(value)}",
                expr.span,
                blame=self.blame(expr, env),
            )

    def complete(self, bound: Bound) -> Env:
        """An environment for a declaration's own text: its parameters, given or by default."""
        declaration = bound.declaration
        given = dict(bound.given)
        places = {param.name: param.name_span for param in declaration.params}
        env = Env(bound.module, declaration.kind, given=given, places=places)
        for param in declaration.params:
            name = param.name
            if name in bound.args:
                env.values[name] = bound.args[name]
            elif param.default is not None:
                value = env.values[name] = self.evaluate(param.default, env)
                given[name] = self._source(name, value, param.default, env)
                self._number_of(bound, name, value, param.default, env)
            else:
                raise self.builder.fail(
                    "E0307",
                    f"{bound.kind} `{bound.name}` needs `{name}`",
                    bound.span,
                    labels=(Label(param.name_span, "this parameter has no default"),),
                    hint=f"write `{bound.name}({name} = ...)`",
                )
        if any(isinstance(value, Poison) for value in env.values.values()):
            raise Failed
        return env

    def alias(self, bound: Bound) -> Bound:
        """Follow ``kind name = other(...)`` to the declaration that has a body."""
        seen: list[s.Declaration] = []
        while bound.declaration.body is None and bound.declaration.value is not None:
            value = bound.declaration.value
            if bound.kind == "block" and not self._names_kind(value, bound.module, "block"):
                return bound
            if len(seen) > MAX_DEPTH:
                raise self.too_deep(bound, seen)
            seen.append(bound.declaration)
            env = self.complete(bound)
            target = self.evaluate(value, env)
            if not isinstance(target, Bound) or target.kind != bound.kind:
                raise self.builder.fail(
                    "E0403",
                    f"{bound.kind} `{bound.name}` is {describe(target)}",
                    value.span,
                    hint=f"it must name another {bound.kind}",
                )
            bound = replace(target, span=bound.span)
        if bound.declaration.body is not None and bound.declaration.value is not None:
            raise self.builder.fail(
                "E0408",
                f"a {bound.kind} is either written out or names another, not both",
                bound.declaration.name_span,
                hint="only networks and recipes have variants `= base { ... }`",
            )
        return bound

    def too_deep(self, bound: Bound, path: list[s.Declaration]) -> Failed:
        """A declaration is made of others, and these of others, more often than is sensible."""
        if any(declaration is bound.declaration for declaration in path):
            return self.builder.fail(
                "E0211",
                f"{bound.kind} `{bound.name}` is made of itself",
                bound.declaration.name_span,
                hint="repeat by a number: `stage(BLOCK, N)`",
            )
        return self.builder.fail(
            "E0902",
            f"{bound.kind}s that are made of each other, more than {MAX_DEPTH} deep",
            bound.declaration.name_span,
        )

    @staticmethod
    def _names_kind(value: s.Expr, module: Module, kind: str) -> bool:
        name = value.function if isinstance(value, s.Call) else value
        if not isinstance(name, s.Name):
            return False
        resolved = module.names.get(name.id)
        return resolved is not None and resolved.declaration.kind == kind

    def _math(self, id: str, call: s.Call, env: Env) -> Any:
        several = id in ("min", "max")
        values = self._values(id, call, env)
        if len(values) < 2 if several else len(values) != 1:
            needs = "two values or more" if several else "one number"
            raise self.builder.fail(
                "E0303", f"`{id}` takes {needs}, not {len(values) or 'none'}", call.span
            )
        if any(isinstance(value, Poison) for value in values):
            return POISON
        if several and any(isinstance(value, Wire) for value in values):
            op = "minimum" if id == "min" else "maximum"
            return self.builder.add(op, self._joinable(id, call, values), {}, call.span)
        for arg, value in zip(call.args, values, strict=True):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise self.builder.fail(
                    "E0304",
                    f"`{id}` takes numbers here, not {describe(value)}",
                    arg.span,
                    blame=self.blame(arg.value, env),
                )
        try:
            return self._bounded(MATH[id](*values), call.span)
        except (ValueError, OverflowError):
            shown = ", ".join(f"{value:g}" for value in values)
            raise self.builder.fail(
                "E0306", f"`{id}({shown})` has no value", call.span, blame=self.blame(call, env)
            ) from None

    def _values(self, name: str, call: s.Call, env: Env) -> list[Any]:
        """The values of a function's arguments, none of which has a name."""
        for arg in call.args:
            if arg.name is not None:
                raise self.builder.fail(
                    "E0301", f"`{name}` has no parameter `{arg.name}`", arg.span
                )
            if isinstance(arg.value, s.Each):
                raise self.builder.fail(
                    "E0405", "`for` stands in the joins of a rule alone", arg.span
                )
        return [self.evaluate(arg.value, env) for arg in call.args]

    def _joinable(self, name: str, call: s.Call, values: list[Any]) -> tuple[Wire | Poison, ...]:
        for arg, value in zip(call.args, values, strict=True):
            if not isinstance(value, (Wire, Poison)):
                raise self.builder.fail(
                    "E0402",
                    f"`{name}` takes values, not {describe(value)}",
                    arg.span,
                    hint="a value starts at `in` or at a name that stands for one",
                )
        return tuple(values)

    def _concat(self, call: s.Call, env: Env) -> Wire | Poison:
        wires = self._joinable("concat", call, self._values("concat", call, env))
        if len(wires) < 2:
            raise self.builder.fail("E0303", "`concat` takes two values or more", call.span)
        return self.builder.add("concat", wires, {}, call.span)

    def _channels(self, call: s.Call, env: Env) -> int | Poison:
        wires = self._joinable("channels", call, self._values("channels", call, env))
        if len(wires) != 1:
            raise self.builder.fail("E0303", "`channels` takes one value", call.span)
        (wire,) = wires
        return POISON if isinstance(wire, Poison) else self.builder.value(wire).shape[0]

    def _stage(self, call: s.Call, env: Env) -> Backbone:
        given = self.assign(call.args, ["block", "blocks", "stride"], "`stage`", call.span)
        for name in ("block", "blocks"):
            if name not in given:
                raise self.builder.fail(
                    "E0307",
                    f"`stage` needs {'its block' if name == 'block' else 'a number of blocks'}",
                    call.span,
                    hint="write `stage(BLOCK, N, stride = S)`",
                )
        block = self.evaluate(given["block"].value, env)
        if isinstance(block, Poison):
            raise Failed
        if not isinstance(block, Bound) or block.kind != "block":
            raise self.builder.fail(
                "E0403",
                f"a stage is made of blocks, not of {describe(block)}",
                given["block"].value.span,
                blame=self.blame(given["block"].value, env),
                hint="write `stage(BLOCK, N, stride = S)`",
            )
        number = self.whole(given["blocks"].value, env, "the number of blocks", 1, 100_000)
        stride = (
            self.whole(given["stride"].value, env, "stride", 1, 4096) if "stride" in given else 1
        )
        return Backbone((StageOf(block, number, stride, call.span),), call.span)

    def backbone(self, bound: Bound, span: Span) -> Backbone:
        """A declared backbone with its arguments, unfolded."""
        self.unfolding.append(bound.declaration)
        try:
            if len(self.unfolding) > MAX_DEPTH:
                raise self.too_deep(bound, self.unfolding[:-1])
            if bound.declaration.value is None or bound.declaration.body is not None:
                raise self.builder.fail(
                    "E0408",
                    f"backbone `{bound.name}` has no flow of stages",
                    bound.declaration.name_span,
                    hint="write `backbone NAME = stage(...) -> stage(...)`",
                )
            with self.builder.site(span):
                env = self.complete(replace(bound, span=span))
                value = self.evaluate(bound.declaration.value, env)
            if isinstance(value, Poison):
                raise Failed
            if not isinstance(value, Backbone):
                raise self.builder.fail(
                    "E0403",
                    f"backbone `{bound.name}` is {describe(value)}, not stages",
                    bound.declaration.value.span,
                )
            items = tuple(
                replace(item, sites=(span, *item.sites)) if isinstance(item, StageOf) else item
                for item in value.items
            )
            return Backbone(items, span)
        finally:
            self.unfolding.pop()

    def _input(self, id: str, call: s.Call, env: Env) -> Wire | Poison:
        names = ["channels", "height", "width"] + (["bound"] if id == "events" else [])
        given = self.assign(call.args, names, f"`{id}`", call.span)
        missing = [name for name in names[:3] if name not in given]
        if missing:
            raise self.builder.fail(
                "E0307",
                f"`{id}` needs {', '.join(missing)}",
                call.span,
                hint=f"write `{id}(C, H, W)`",
            )
        shape = tuple(self.whole(given[name].value, env, name, 1, 2**16) for name in names[:3])
        bound = (
            self.whole(given["bound"].value, env, "bound", 1, 2**24) if "bound" in given else None
        )
        return self.encode(id, shape, bound, call.span)

    def _outputs(self, call: s.Call, env: Env) -> Outputs:
        wires: dict[str, Wire | Poison] = {}
        for index, arg in enumerate(call.args):
            value = self.evaluate(arg.value, env)
            if not isinstance(value, (Wire, Poison)):
                raise self.builder.fail(
                    "E0402",
                    f"an output is a value, not {describe(value)}",
                    arg.value.span,
                    hint="a value starts at `in` or at a name that stands for one",
                )
            name = arg.name or (arg.value.id if isinstance(arg.value, s.Name) else f"out{index}")
            if name in wires:
                raise self.builder.fail("E0302", f"two outputs are called `{name}`", arg.span)
            wires[name] = value
        if not wires:
            raise self.builder.fail("E0303", "`outputs` takes one value or more", call.span)
        return Outputs(wires)

    def _learn(self, call: s.Call, env: Env) -> Learn:
        given = self.assign(call.args, ["init", "above", "below"], "`learn`", call.span)
        if "init" not in given:
            raise self.builder.fail("E0307", "`learn` needs the value to start from", call.span)
        numbers = {name: float(self.number(arg.value, env)) for name, arg in given.items()}
        init, above, below = numbers["init"], numbers.get("above"), numbers.get("below")
        if (above is not None and init <= above) or (below is not None and init >= below):
            raise self.builder.fail(
                "E0305", f"learn starts at {init:g}, outside of its bounds", call.span
            )
        return Learn(init, above, below)

    # -- operations of the table ------------------------------------------------------------------

    def _op(self, id: str, args: tuple[s.Arg, ...], env: Env, span: Span) -> OpLayer:
        if id == "avgpool" and not args:
            return OpLayer("global_avgpool", {}, span, "avgpool")
        attrs = self._op_args(id, args, env, span)
        return OpLayer(id, attrs, span, ROLES.get(id, id))

    def _op_args(
        self, id: str, args: tuple[s.Arg, ...], env: Env, span: Span, *, partial: bool = False
    ) -> dict[str, Attribute]:
        """The attributes of an operation; with ``partial`` only those that were given."""
        parameters = {parameter.name: parameter for parameter in OPS[id].parameters}
        given = self.assign(args, list(parameters), f"`{id}`", span)
        attrs: dict[str, Attribute] = {}
        for name, parameter in parameters.items():
            if name in given:
                expr = given[name].value
                attrs[name] = self.attribute(parameter, self.evaluate(expr, env), expr, env, id)
            elif parameter.default is REQUIRED and not partial:
                raise self.builder.fail(
                    "E0307", f"`{id}` needs `{name}`", span, hint=f"write `{id}({name}, ...)`"
                )
            elif not partial:
                attrs[name] = parameter.default
        return attrs

    def attribute(
        self, parameter: Parameter, value: Any, expr: s.Expr, env: Env, what: str
    ) -> Attribute:
        """An argument checked against the type and the bounds of its parameter."""
        if isinstance(value, Poison):
            raise Failed
        whole = parameter.type is int and isinstance(value, float) and value.is_integer()
        if whole or (parameter.type is float and type(value) is int):
            value = parameter.type(value)
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[parameter.type]
        hint = None
        if type(value) is not parameter.type:
            code, shown = "E0304", describe(value)
            if isinstance(value, float):
                shown, hint = f"{value:g}", _rounded(expr)
        else:
            low = parameter.low if parameter.low is not None else -math.inf
            high = parameter.high if parameter.high is not None else math.inf
            number: Any = value
            if low <= number <= high:
                return number  # type: ignore[no-any-return]
            code, shown = "E0305", f"{value:,}" if isinstance(value, int) else f"{value:g}"
            wanted = f"between {low:g} and {high:,.12g}"
        message = f"`{parameter.name}` of `{what}` must be {wanted}, not {shown}"
        raise self.builder.fail(code, message, expr.span, blame=self.blame(expr, env), hint=hint)

    def _norm(self, call: s.Call, env: Env) -> Layer:
        """``norm(init = 0)``: the network's norm with something changed."""
        layer = self.setting("norm", call.span)
        if isinstance(layer, Identity):
            raise self.builder.fail(
                "E0301",
                "the network has no norm (`norm = none`), so it has no parameters",
                call.span,
            )
        if not isinstance(layer, OpLayer):
            raise self.builder.fail(
                "E0402", f"norm is {describe(layer)} and takes no arguments", call.span
            )
        changes = self._op_args(layer.op, call.args, env, call.span, partial=True)
        return OpLayer(layer.op, {**layer.attrs, **changes}, call.span, layer.role)

    # -- flows and operators ----------------------------------------------------------------------

    def _flow(self, flow: s.Flow, env: Env) -> Any:
        first = self.evaluate(flow.steps[0], env, "layer")
        if isinstance(first, (Wire, Poison)):
            wire: Wire | Poison = first
            for step in flow.steps[1:]:
                wire = self.apply(self._layer(step, env), wire, step.span)
            return wire
        steps = [self._as_layer(first, flow.steps[0].span)]
        steps += [self._layer(step, env) for step in flow.steps[1:]]
        if any(isinstance(step, Backbone) for step in steps):
            items: list[StageOf | Layer] = []
            for layer in steps:
                items.extend(layer.items if isinstance(layer, Backbone) else (layer,))
            if len(items) > MAX_ITEMS:
                raise self.builder.fail(
                    "E0903", f"a backbone of more than {MAX_ITEMS:,} stages and layers", flow.span
                )
            return Backbone(tuple(items), flow.span)
        return Sequence(tuple(steps), flow.span)

    def _layer(self, step: s.Expr, env: Env) -> Layer:
        return self._as_layer(self.evaluate(step, env, "layer"), step.span)

    def _as_layer(self, value: Any, span: Span) -> Layer:
        if isinstance(value, Poison):
            raise Failed
        if isinstance(value, Bound) and _is_op(value.name, value.kind, "layer") and not value.args:
            return self._op(value.name, (), Env(value.module, "flow"), span)
        if not is_layer(value):
            hint = None
            match value:
                case Wire():
                    hint = "only layers stand after `->`; join values by `+` or `concat` first"
                case Bound(kind="connection"):
                    hint = f"a connection wires a backbone: `BACKBONE via {value.name}`"
                case Bound(kind="rule"):
                    hint = f"a rule feeds a backbone's blocks: `BACKBONE by {value.name}`"
            raise self.builder.fail("E0401", f"{describe(value)} is not a layer", span, hint=hint)
        return value  # type: ignore[no-any-return]

    def _operator(self, expr: s.Binary | s.Unary, env: Env) -> Any:
        if isinstance(expr, s.Unary):
            value = self.evaluate(expr.operand, env)
            if isinstance(value, Poison):
                return POISON
            if expr.op == "not":
                return not self._truth(value, expr.operand, env)
            if isinstance(value, Wire):
                return self.builder.add(
                    "affine", (value,), {"factor": -1.0, "offset": 0.0}, expr.span
                )
            if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
                raise self.builder.fail(
                    "E0406", f"`-` takes a number or a value, not {describe(value)}", expr.span
                )
            return -value
        if expr.op in ("and", "or"):
            left = self.condition(expr.left, env)
            if expr.op == "and":
                return left and self.condition(expr.right, env)
            return left or self.condition(expr.right, env)
        operands, ops = self._chain(expr)
        result = self.evaluate(operands[0], env)
        for op, operand in zip(ops, operands[1:], strict=True):
            right = self.evaluate(operand, env)
            result = self._binary(op, result, right, expr, operand, env)
        return result

    @staticmethod
    def _chain(expr: s.Binary) -> tuple[list[s.Expr], list[str]]:
        """A long chain of operators from the left as lists, so that it costs no recursion."""
        operands: list[s.Expr] = []
        ops: list[str] = []
        node: s.Expr = expr
        while isinstance(node, s.Binary) and node.op not in ("and", "or"):
            operands.append(node.right)
            ops.append(node.op)
            node = node.left
        operands.append(node)
        return operands[::-1], ops[::-1]

    def _binary(
        self, op: str, left: Any, right: Any, expr: s.Binary, operand: s.Expr, env: Env
    ) -> Any:
        if isinstance(left, Poison) or isinstance(right, Poison):
            return POISON
        if isinstance(left, Wire) or isinstance(right, Wire):
            return self._join(op, left, right, expr.span)
        for value in (left, right):
            if isinstance(value, str) or not isinstance(value, (bool, int, float)):
                raise self.builder.fail(
                    "E0406",
                    f"`{op}` joins numbers or values, not {describe(value)}",
                    expr.span,
                    hint=_FLOW_IN if is_layer(value) else None,
                    blame=self.blame(expr, env),
                )
        try:
            return self._bounded(_ARITHMETIC[op](left, right), expr.span)
        except ZeroDivisionError:
            raise self.builder.fail(
                "E0306", "division by zero", operand.span, blame=self.blame(operand, env)
            ) from None
        except OverflowError:
            raise self.builder.fail("E0306", "a constant too large", expr.span) from None

    def _join(self, op: str, left: Any, right: Any, span: Span) -> Any:
        ops = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
        if op not in ops:
            raise self.builder.fail(
                "E0406", f"`{op}` compares numbers that are known before the network runs", span
            )
        if isinstance(left, Wire) and isinstance(right, Wire):
            return self.builder.add(ops[op], (left, right), {}, span)
        wire, other, first = (left, right, True) if isinstance(left, Wire) else (right, left, False)
        if isinstance(other, bool) or not isinstance(other, (int, float)):
            raise self.builder.fail(
                "E0406",
                f"`{op}` joins values and numbers, not {describe(other)}",
                span,
                hint=_FLOW_IN if is_layer(other) else None,
            )
        number = float(other)
        match op, first:
            case ("+", _):
                attrs = {"factor": 1.0, "offset": number}
            case ("-", True):
                attrs = {"factor": 1.0, "offset": -number}
            case ("-", False):
                attrs = {"factor": -1.0, "offset": number}
            case ("*", _):
                attrs = {"factor": number, "offset": 0.0}
            case ("/", True) if number != 0:
                attrs = {"factor": 1 / number, "offset": 0.0}
            case ("/", True):
                raise self.builder.fail("E0306", "division by zero", span)
            case _:
                raise self.builder.fail("E0406", "a number cannot be divided by a value", span)
        return self.builder.add("affine", (wire,), attrs, span)

    # -- backbones --------------------------------------------------------------------------------

    def _backbone(self, subject: s.Expr, env: Env, word: str) -> Backbone:
        value = self.evaluate(subject, env)
        if isinstance(value, Poison):
            raise Failed
        if isinstance(value, Named):
            value = value.layer
        if isinstance(value, Bound) and value.kind == "block":
            raise self.builder.fail(
                "E0403",
                f"`{word}` wires the blocks of a backbone, and `{value.name}` is a block",
                subject.span,
                hint=f"write `stage({value.name}(...), 1) {word} ...`",
            )
        if not isinstance(value, Backbone):
            raise self.builder.fail(
                "E0403", f"`{word}` wires a backbone, not {describe(value)}", subject.span
            )
        return value

    def _stages(self, subject: s.Expr, env: Env, word: str, by: s.Expr, kind: str) -> Backbone:
        backbone = self._backbone(subject, env, word)
        value = self.evaluate(by, env, kind)
        if isinstance(value, Poison):
            raise Failed
        if not isinstance(value, Bound) or value.kind != kind:
            raise self.builder.fail(
                "E0403", f"`{word}` takes a {kind}, not {describe(value)}", by.span
            )
        if any(getattr(stage, kind) is not None for stage in backbone.stages):
            raise self.builder.fail("E0302", f"the {kind} of this backbone is given twice", by.span)
        return backbone.each_stage(**{kind: value})

    def _with(self, subject: s.Expr, settings: tuple[s.Arg, ...], env: Env) -> Backbone:
        backbone = self._backbone(subject, env, "with")
        changes: dict[str, Any] = {}
        for arg in settings:
            if arg.name not in ("neuron", "surrogate", "norm", "zero_init"):
                name = arg.name or "a bare value"
                raise self.builder.fail(
                    "E0301",
                    f"`with` cannot change `{name}`",
                    arg.span,
                    hint="it changes neuron, surrogate, norm or zero_init",
                )
            changes[arg.name] = self.check_setting(
                arg.name, self.evaluate(arg.value, env), arg.value.span
            )
        stages = [{**stage.settings, **changes} for stage in backbone.stages]
        merged = iter(stages)
        items = tuple(
            replace(item, settings=next(merged)) if isinstance(item, StageOf) else item
            for item in backbone.items
        )
        return Backbone(items, backbone.span)

    def check_setting(self, name: str, value: Any, span: Span) -> Any:
        """A value of ``neuron``, ``surrogate``, ``norm`` or ``zero_init``, checked."""
        if isinstance(value, (Poison,)):
            raise Failed
        if isinstance(value, Named):
            value = value.layer
        if name == "norm":
            if isinstance(value, Identity) or (isinstance(value, OpLayer) and value.op in NORMS):
                return value
            raise self.builder.fail(
                "E0403",
                f"{describe(value)} is not a norm",
                span,
                hint="norms are batchnorm, tdbn, tebn, groupnorm and none",
            )
        if name == "zero_init":
            if isinstance(value, bool):
                return value
            raise self.builder.fail(
                "E0304", f"zero_init is true or false, not {describe(value)}", span
            )
        if isinstance(value, OpLayer) and name == "surrogate":
            if not self.complete_names:
                raise Failed
            raise self.builder.fail(
                "E0403",
                f"{describe(value)} is not a surrogate",
                span,
                hint="did you forget `use std`?",
            )
        if not isinstance(value, Bound) or value.kind != name:
            raise self.builder.fail("E0403", f"{describe(value)} is not a {name}", span)
        return value

    def _slice(self, expr: s.At, env: Env) -> Backbone:
        backbone = self._backbone(expr.base, env, "[...]")
        if len(expr.indices) != 1:
            raise self.builder.fail("E0409", "a backbone takes one index or one range", expr.span)
        index = expr.indices[0]
        last = len(backbone.stages) - 1
        ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
        numbers = [self.whole(end, env, "the number of a stage", -(2**20), 2**20) for end in ends]
        for number, end in zip(numbers, ends, strict=True):
            if not 0 <= number <= last:
                raise self.builder.fail(
                    "E0409",
                    f"there is no stage {number}: the backbone has stages 0 .. {last}",
                    end.span,
                    blame=self.blame(end, env),
                )
        low, high = numbers
        if low > high:
            raise self.builder.fail(
                "E0409",
                f"the stages {low} .. {high} are none",
                index.span,
                hint="a range `a .. b` goes from the lower to the higher, both included",
            )
        return backbone.part(low, high)


def _certain(expr: s.Expr) -> Iterator[str]:
    """The names in an expression that are read whatever its conditions say, in order."""
    conditional = any(
        isinstance(node, s.IfElse) or (isinstance(node, s.Binary) and node.op in ("and", "or"))
        for node in s.walk(expr)
    )
    if not conditional:
        yield from (node.id for node in s.walk(expr) if isinstance(node, s.Name))


def _says(name: str, value: Any) -> str:
    """``name`` is ``value``, in the words of a label."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"`{name}` is {f'{value:.12g}' if number else describe(value)}"


def _rounded(expr: s.Expr) -> str | None:
    """What to do where a quotient is not whole."""
    return "round it: `floor(...)`, `round(...)`" if "/" in expr.span.text else None


def _divide(a: float, b: float) -> int | float:
    """A quotient; whole where whole numbers divide."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
