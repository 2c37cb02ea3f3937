"""Expressions of neurons and surrogates to operations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter, did_you_mean, meant
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.neuron.learn import Learn, check_learn, stored
from danetc.dsl.neuron.opcodes import OPCODES, ConstantError, Operand
from danetc.dsl.neuron.program import Learnable, unique
from danetc.dsl.neuron.ssa import ProgramBuilder
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import (
    At,
    Binary,
    By,
    Call,
    Declaration,
    Each,
    Expr,
    Flow,
    IfElse,
    Name,
    Number,
    Range,
    String,
    Unary,
    Via,
    With,
    Word,
    walk,
)


def functions() -> Mapping[str, tuple[int, int | None]]:
    """The functions of equations with the fewest and the most values that each takes."""
    rows = {name: row.takes for name, row in OPCODES.items() if row.takes is not None}
    return {**rows, "learn": (1, 1)}


CONSTANTS: Mapping[str, float | bool] = {"true": True, "false": False, "pi": math.pi}
"""What these names stand for where nothing in the declaration has them."""

_KINDS: Mapping[type, str] = {
    String: "a string",
    Word: "a word",
    At: "an index",
    Range: "a range",
    Each: "`for`",
    Flow: "`->`",
    Via: "`via`",
    By: "`by`",
    With: "`with`",
}

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
MAX_DEPTH = 100

Value: TypeAlias = Operand | bool
"""A number (a name or a constant) or a condition (a name or True, False)."""


@dataclass
class ExpressionLowering:
    """One declaration's expressions on their way into a builder.

    ``values`` holds what each name stands for so far, ``failed`` the names whose equation was
    wrong, ``later`` where names get a value that have none yet. ``argument_spans`` says where
    parameters got their values and ``argument_texts`` which: an error that such a value causes is
    reported there.
    """

    declaration: Declaration
    builder: ProgramBuilder
    reporter: Reporter
    argument_spans: Mapping[str, Span]
    argument_texts: Mapping[str, str]
    taken: set[str]  # names that a learnable cannot have
    places: Mapping[str, Span]  # where the names of the text stand
    refused: set[str] = field(default_factory=set)  # names that cannot have a value (reported)
    values: dict[str, Value] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    later: dict[str, Span] = field(default_factory=dict)
    learnables: list[Learnable] = field(default_factory=list)
    learnt_at: dict[str, Span] = field(default_factory=dict)
    target: str = ""  # what the equation at hand defines
    whole: Expr | None = None  # all of that equation
    wrong: bool = False  # whether an error was reported
    too_deep: bool = False
    _depth: int = 0

    @property
    def what(self) -> str:
        """``neuron`` or ``surrogate``."""
        return self.declaration.kind

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        *,
        label: str = "",
        labels: tuple[Label, ...] = (),
        hint: str | None = None,
    ) -> Reported:
        self.reporter.error(code, message, span, label=label, labels=labels, hint=hint)
        self.wrong = True
        return Reported()

    def number(self, expr: Expr) -> Operand:
        """The value of an expression as a number: a condition gives 0 or 1."""
        return self.builder.number(self.value(expr))

    def numbers(self, *exprs: Expr) -> list[Operand]:
        return [self.builder.number(value) for value in self._all(exprs)]

    def conditions(self, *exprs: Expr) -> list[Value]:
        return [self.builder.condition(value) for value in self._all(exprs)]

    def _all(self, exprs: Sequence[Expr]) -> list[Value]:
        """All values; where some are wrong, every one of them is reported."""
        values = []
        for expr in exprs:
            with suppress(Reported):
                values.append(self.value(expr))
        if len(values) < len(exprs):
            raise Reported
        return values

    def constant(self, expr: Expr, code: str, message: str) -> float:
        """The value of an expression that has to be a constant."""
        value = self.number(expr)
        if not isinstance(value, float):
            hint = "a constant is made of numbers and of parameters that are not learnt"
            raise self._blame(expr, code, message, hint)
        return value

    def value(self, expr: Expr) -> Value:
        if self._depth >= MAX_DEPTH:
            hint = "give its parts names of their own"
            if not self.too_deep:
                self.error("E0716", "an equation is nested too deep", expr.span, hint=hint)
            self.too_deep = True
            raise Reported
        self._depth += 1
        try:
            return self._value(expr)
        except ConstantError as problem:
            raise self._blame(expr, "E0710", f"this constant has no value: {problem}") from None
        finally:
            self._depth -= 1

    def _blame(self, expr: Expr, code: str, message: str, hint: str | None = None) -> Reported:
        """Report what is wrong with an equation's constants, at the argument that made it wrong
        where one did: the equation may be of the standard library."""
        names = {node.id for node in walk(expr) if isinstance(node, Name)}
        for name, span in self.argument_spans.items():
            if name in names:
                label = f"`{name}` is {self.argument_texts.get(name, 'given here')}"
                equation = Label(expr.span, "where it is used")
                return self.error(code, message, span, label=label, labels=(equation,), hint=hint)
        return self.error(code, message, expr.span, hint=hint)

    def _value(self, expr: Expr) -> Value:
        build = self.builder
        match expr:
            case Number():
                return _literal(expr)
            case Name():
                return self._name(expr)
            case Call():
                return self._call(expr)
            case Unary("-", operand):
                return build.emit("neg", self.number(operand))
            case Unary(_, operand):
                return build.logic("not", *self.conditions(operand))
            case Binary(op, left, right) if op in _ARITHMETIC:
                return build.emit(_ARITHMETIC[op], *self.numbers(left, right))
            case Binary(op, left, right) if op in _COMPARISONS:
                return build.compare(_COMPARISONS[op], *self.numbers(left, right))
            case Binary(op, left, right):
                return build.logic(op, *self.conditions(left, right))
            case IfElse():
                return self._if_else(expr)
            case _:
                message = f"{_KINDS[type(expr)]} has no place in the equations of a {self.what}"
                hint = "equations are arithmetic on single numbers"
                raise self.error("E0709", message, expr.span, hint=hint)

    def _if_else(self, expr: IfElse) -> Value:
        (condition,) = self.conditions(expr.condition)
        if isinstance(condition, bool):
            self._mention(expr.otherwise if condition else expr.then)
            return self.value(expr.then if condition else expr.otherwise)
        return self.builder.select(condition, *self.numbers(expr.then, expr.otherwise))

    def _mention(self, expr: Expr) -> None:
        """Check the names of a branch that a constant condition rules out, and no more: in
        ``1 / k if k > 0 else 0`` the division is not an error."""
        functions = set()
        for node in walk(expr):
            if isinstance(node, Call):
                functions.add(id(node.function))
                self._function(node)
            elif isinstance(node, Name) and id(node) not in functions:
                self._name(node)

    def _name(self, expr: Name) -> Value:
        name = expr.id
        if name in self.values:
            return self.values[name]
        if name in self.failed:
            raise Reported
        if name in self.later:
            raise self.error(
                "E0702",
                f"`{name}` is read before it has a value",
                expr.span,
                labels=(Label(self.later[name], "it gets its value here"),),
                hint="equations run from top to bottom; the value of the step before is a `state`",
            )
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in functions():
            message = f"`{name}` is a function and is used here without its arguments"
            raise self.error("E0701", message, expr.span, hint=f"`{name}(...)`")
        near = nearest(name, [*self.values, *self.later], words=True)
        labels = tuple(
            Label(self.places[other], f"`{other}` is declared here")
            for other in near
            if other in self.places
        )
        self.failed.add(name)  # once is enough
        self.reporter.note_unknown(self.declaration.span, name)
        message = f"there is no `{name}` in this {self.what}"
        hint = meant(near) or answer("equation", name)
        if hint is None:
            known = ", ".join(f"`{other}`" for other in [*self.values, *self.later][:8])
            hint = f"names here are {known}"
        raise self.error("E0701", message, expr.span, labels=labels, hint=hint)

    def _function(self, call: Call) -> str:
        """The name of the function that is called, its values counted."""
        function = call.function
        name = function.id if isinstance(function, Name) else ""
        if name not in functions():
            value = not name or any(
                name in known for known in (self.values, self.failed, self.later)
            )
            shown = function.span.text or name
            shown = f"`{shown}`" if len(shown) <= 30 else "this"
            if value:
                message, hint = f"{shown} is not a function; is a `*` missing?", None
            else:
                known = "equations have " + ", ".join(f"`{each}`" for each in functions())
                hint = answer("equation", name) or did_you_mean(name, functions()) or known
                message = f"there is no function {shown}"
            raise self.error("E0707", message, function.span, hint=hint)
        if self.what == "surrogate" and (name == "learn" or not OPCODES[name].smooth):
            message = f"`{name}` has no place in a surrogate"
            hint = "a surrogate is a smooth function of `x`, or its derivative"
            raise self.error("E0714", message, function.span, hint=hint)
        for arg in call.args:
            if isinstance(arg.value, Each):
                self.value(arg.value)  # reports it
        fewest, most = functions()[name]
        named = [arg for arg in call.args if arg.name is not None]
        count = len(call.args) - len(named)
        if name == "learn":
            named = [arg for arg in named if arg.name not in ("above", "below")]
        if named:
            hint = "`learn` takes `above` and `below`" if name == "learn" else None
            message = f"`{name}` has no parameter `{named[0].name}`"
            raise self.error("E0708", message, named[0].span, hint=hint)
        if count < fewest or (most is not None and count > most):
            takes = _count(fewest) if most is not None else f"{_count(fewest)} or more"
            raise self.error("E0708", f"`{name}` takes {takes}, not {count}", call.span)
        return name

    def _call(self, call: Call) -> Value:
        name = self._function(call)
        if name == "learn":
            return self._learn(call)
        args = self.numbers(*(arg.value for arg in call.args))
        result = args[0]
        if name in ("min", "max"):
            for arg in args[1:]:
                result = self.builder.emit(name, result, arg)
            return result
        return self.builder.emit(name, result)

    def _learn(self, call: Call) -> Value:
        (start,) = (arg for arg in call.args if arg.name is None)
        init = self.constant(start.value, "E0711", "`learn` starts at a value that is not constant")
        bounds: dict[str, float] = {}
        for arg in call.args:
            if arg.name is not None:
                message = f"the bound `{arg.name}` is not constant"
                bounds[arg.name] = self.constant(arg.value, "E0711", message)
        value = Learn(init, bounds.get("above"), bounds.get("below"))
        if not check_learn(value, call.span, self.reporter):
            self.wrong = True
            raise Reported
        own = call is self.whole and self.target not in self.builder.inputs  # no state's next value
        return self.learn(self.target, value, call.span, owned=own)

    def learn(self, name: str, value: Learn, span: Span, *, owned: bool) -> Operand:
        """A new learnable, as the value that equations read.

        It has the name given where the name is its own, that is where it is a parameter or all of
        an equation, else one like it.
        """
        name = name if owned else unique(f"{name}_learnt", self.taken)
        while (parameter := Learnable(name, 0.0, value.above, value.below).parameter) in self.taken:
            if owned and parameter == name:
                break
            name, owned = f"{name}_", False
        item, result = stored(self.builder, name, value)
        self.taken |= {name, parameter}
        self.builder.label(result, name)
        self.learnables.append(item)
        self.learnt_at[name] = span
        return result


def _literal(expr: Number) -> float:
    try:
        value = float(expr.text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise ConstantError("a number too large")
    return value


def _count(number: int) -> str:
    return "one value" if number == 1 else f"{number} values"
