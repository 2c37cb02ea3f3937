"""Expressions of neurons and surrogates to operations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import TypeAlias

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter, did_you_mean, meant
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.neuron.delays import MAX_STEPS, Delays
from danetc.dsl.neuron.functions import (
    ARITHMETIC,
    COMPARISONS,
    CONSTANTS,
    FOLDS,
    functions,
    is_smooth,
)
from danetc.dsl.neuron.learn import LEARN_TAKES, Learn, check_learn, stored
from danetc.dsl.neuron.opcodes import ConstantError, Operand
from danetc.dsl.neuron.program import Learnable, unique
from danetc.dsl.neuron.ssa import MAX_OPS, OPERATION, ProgramBuilder
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import (
    Arg,
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
from danetc.dsl.work import current

_KINDS: Mapping[type, str] = {
    String: "a string",
    Word: "a word",
    At: "an index",
    Range: "a range",
    Flow: "`->`",
    Via: "`via`",
    By: "`by`",
    With: "`with`",
}

MAX_DEPTH = 100

Value: TypeAlias = Operand | bool
"""A number (a name or a constant) or a condition (a name or True, False)."""


@record(frozen=False, slots=False)
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
    counters: dict[str, int] = field(default_factory=dict)  # of the `for` around
    wrong: bool = False  # whether an error was reported
    too_deep: bool = False
    _depth: int = 0

    def __post_init__(self) -> None:
        self.delays = Delays(self.builder, self.taken)

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
            case Binary(op, left, right) if op in ARITHMETIC:
                return build.emit(ARITHMETIC[op], *self.numbers(left, right))
            case Binary(op, left, right) if op in COMPARISONS:
                return build.compare(COMPARISONS[op], *self.numbers(left, right))
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
        skipped = set()
        counted = {node.variable for node in walk(expr) if isinstance(node, Each)}
        for node in walk(expr):
            if isinstance(node, Call):
                skipped.add(id(node.function))
                if self._function(node) == "delay" and self._comes_later(node.args[0].value):
                    skipped.add(id(node.args[0].value))
            elif isinstance(node, Name) and id(node) not in skipped and node.id not in counted:
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
                hint="equations run from top to bottom; the value of the step before is a `state`, "
                f"or `delay({name}, 1)`",
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
        hint = meant(name, near) or answer("equation", name)
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
        if self.what == "surrogate" and not is_smooth(name):
            message = f"`{name}` has no place in a surrogate"
            hint = "a surrogate is a smooth function of `x`, or its derivative"
            raise self.error("E0714", message, function.span, hint=hint)
        loops = [arg.value for arg in call.args if isinstance(arg.value, Each)]
        if loops and name not in FOLDS:
            message = f"`for` has no place in `{name}`"
            hint = f"it gives the values of {', '.join(f'`{fold}`' for fold in FOLDS)}"
            raise self.error("E0709", message, loops[0].span, hint=hint)
        fewest, most = functions()[name]
        named = [arg for arg in call.args if arg.name is not None]
        count = len(call.args) - len(named)
        if name == "learn":
            named = [arg for arg in named if arg.name not in LEARN_TAKES]
        if named:
            takes = ", ".join(f"`{each}`" for each in LEARN_TAKES)
            hint = f"`learn` takes {takes}" if name == "learn" else None
            message = f"`{name}` has no parameter `{named[0].name}`"
            raise self.error("E0708", message, named[0].span, hint=hint)
        if (count < fewest and not loops) or (most is not None and count > most):
            takes = _count(fewest) if most is not None else f"{_count(fewest)} or more"
            raise self.error("E0708", f"`{name}` takes {takes}, not {count}", call.span)
        return name

    def _call(self, call: Call) -> Value:
        name = self._function(call)
        match name:
            case "learn":
                return self._learn(call)
            case "delay":
                return self._delay(*(arg.value for arg in call.args))
        args = self._arguments(call.args)
        if name not in FOLDS:
            return self.builder.emit(name, args[0])
        if not args and name != "sum":
            raise self.error("E0708", f"`{name}` has no values here", call.span)
        result = args[0] if args else 0.0
        for arg in args[1:]:
            result = self.builder.emit(FOLDS[name], result, arg)
        return result

    def _arguments(self, args: Sequence[Arg]) -> list[Operand]:
        """The numbers that a function is called with, those that `for` gives among them."""
        values: list[Value] = []
        failed = False
        for arg in args:
            try:
                values += (
                    self._each(arg.value)
                    if isinstance(arg.value, Each)
                    else [self.value(arg.value)]
                )
            except Reported:
                failed = True
        if failed:
            raise Reported
        return [self.builder.number(value) for value in values]

    def _each(self, each: Each) -> list[Value]:
        """The values of ``value for variable in low .. high if condition``."""
        name = each.variable
        if name in self.taken or name in functions() or name in self.counters:
            hint = f"count by another name than `{name}`"
            message = f"`{name}` is a name of this {self.what} already"
            raise self.error("E0703", message, each.span, hint=hint)
        low, high = self._whole(each.low, "the start of `for`"), self._whole(each.high, "its end")
        if high - low >= MAX_OPS:
            message = f"`for` runs over {high - low + 1} numbers, of {MAX_OPS} that it may"
            raise self._blame(each, "E0716", message)
        values: list[Value] = []
        try:
            for index in range(low, high + 1):
                current().spend(OPERATION, each.span)
                self.values[name], self.counters[name] = float(index), index
                if each.condition is None or self._holds(each.condition):
                    values.append(self.value(each.value))
        finally:
            self.values.pop(name, None)
            self.counters.pop(name, None)
        return values

    def _holds(self, condition: Expr) -> bool:
        (value,) = self.conditions(condition)
        if not isinstance(value, bool):
            message = "the condition of a `for` is not constant"
            hint = "choose by the value: `(a if condition else 0) for ...`"
            raise self.error("E0717", message, condition.span, hint=hint)
        return value

    def _whole(self, expr: Expr, what: str) -> int:
        """The value of an expression that the operations of the neuron depend on."""
        value = self.constant(expr, "E0717", f"{what} is not constant")
        self.builder.fix(value)
        if not value.is_integer():
            raise self._blame(expr, "E0717", f"{what} is {value:g}, not a whole number")
        return int(value)

    def _delay(self, value: Expr, steps: Expr) -> Value:
        count = self._whole(steps, "the number of time steps")
        if count < 0:
            message = f"a delay by {count} time steps looks ahead"
            raise self._blame(steps, "E0717", message, "equations read this step and earlier ones")
        if count > MAX_STEPS:
            message = f"a delay by {count} time steps, of {MAX_STEPS} that it may be"
            raise self._blame(steps, "E0716", message)
        name = value.id if isinstance(value, Name) else self.target
        if count and self._comes_later(value):
            return self.delays.of_later(name, count)
        return self.delays.of(self.number(value), name, count)

    def _comes_later(self, expr: Expr) -> bool:
        """Whether it is a name that gets its value in this equation or in one below."""
        if not isinstance(expr, Name) or expr.id in self.values:
            return False
        return expr.id in self.later or expr.id == self.target

    def _learn(self, call: Call) -> Value:
        (start,) = (arg for arg in call.args if arg.name is None)
        init = self.constant(start.value, "E0711", "`learn` starts at a value that is not constant")
        bounds: dict[str, float] = {}
        per, by_step = "layer", False
        for arg in call.args:
            if arg.name == "per":
                if not isinstance(arg.value, Word):
                    message = "`per` of `learn` takes a word"
                    raise self.error("E0711", message, arg.span, hint="`per = channel` or `step`")
                per = arg.value.id
            elif arg.name == "per_step":
                by_step = bool(self.constant(arg.value, "E0711", "`per_step` is not constant"))
            elif arg.name is not None:
                message = f"the bound `{arg.name}` is not constant"
                bounds[arg.name] = self.constant(arg.value, "E0711", message)
        by_step, per = by_step or per == "step", "layer" if per == "step" else per
        value = Learn(init, bounds.get("above"), bounds.get("below"), per, by_step)
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
        if not owned:  # one of each `for`, whose name tells which
            place = "".join(f"_{index}".replace("-", "m") for index in self.counters.values())
            name = unique(f"{name}_learnt{place}", self.taken)
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
