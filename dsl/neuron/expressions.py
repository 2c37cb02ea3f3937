"""Lowering of the expressions of neurons and surrogates to operations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any, TypeAlias

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter, apply_all, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, inserting
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.first_weights import DRAW_WORDS, RANDOM_STARTS, STANDARD, Draw, RandomStart
from danetc.dsl.neuron.opcodes import (
    CONSTANTS,
    FOLDS,
    FORMS,
    INFIX,
    OPCODES,
    ConstantError,
    Operand,
    functions,
    is_smooth,
)
from danetc.dsl.neuron.parameters import ParameterValue
from danetc.dsl.neuron.program import INPUT, Learn, Learnable, Wired, unique, within
from danetc.dsl.neuron.ssa import MAX_OPS, OPERATION, ProgramBuilder
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten
from danetc.dsl.syntax.words import LEARNT_PER
from danetc.dsl.work import current

MAX_STEPS = 100
"""Maximum number of time steps of a delay."""
OUTPUT = "s"

Value: TypeAlias = Operand | bool
"""A number (a name or a constant) or a condition (a name, True or False)."""
Arguments: TypeAlias = Mapping[str, int | float | bool | Learn | Wired]
"""A value for every parameter of a declaration."""


class ExpressionLowering:
    """Lowers the expressions of one declaration.

    An error that the value of a parameter causes is reported at its span in ``argument_spans``.
    """

    def __init__(
        self,
        declaration: s.Declaration,
        arguments: Arguments,
        reporter: Reporter,
        argument_spans: Mapping[str, Span],
    ) -> None:
        if declaration.value is not None or declaration.body is None:  # `= LIF(...)`
            raise ValueError(f"{declaration.kind} {declaration.name} has no equations")
        self.declaration = declaration
        self.body = declaration.body
        self.what = declaration.kind  # ``neuron`` or ``surrogate``
        self.arguments = arguments
        self.argument_spans = argument_spans
        self.reporter = reporter
        self.builder = ProgramBuilder((INPUT,))
        self.places: dict[str, Span] = {}  # of the names in the text
        for item in (*declaration.params, *declaration.body):
            if item.name is not None:
                self.places.setdefault(item.name, item.name_span)
        self.taken = {INPUT, OUTPUT, *self.places}  # names that are not available for states
        self.values: dict[str, Value] = {INPUT: INPUT}
        self.failed: set[str] = set()  # names whose equation has an error
        self.later: dict[str, Span] = {}  # names that are assigned further down
        self.learnables: list[Learnable] = []
        self.learnt_at: dict[str, Span] = {}
        self.draws: dict[str, Draw] = {}
        self.target = ""  # the name that the current equation defines
        self.whole: s.Expr | None = None  # the expression of the current equation
        self.counters: dict[str, int] = {}  # variables of ``for``
        self.wrong = False  # True once an error was reported
        self.delayed: dict[str, Operand | None] = {}
        """Next values of the states of delays; None for a delay of a name without a value yet."""
        self._chains: dict[Operand, list[str]] = {}
        self._later_chains: dict[str, list[str]] = {}

    def define(self, name: str, value: Value, is_state: bool) -> None:
        """Assign a value to a name, and complete the delays that were waiting for it."""
        self.values[name] = value
        self.failed.discard(name)
        if is_state:
            return
        self.builder.label(value, name)
        chain = self._later_chains.pop(name, None)
        if chain:
            number = self.delayed[chain[0]] = self.builder.number(value)
            self._chains.setdefault(number, chain)

    def error(self, code: str, message: str, span: Span, **more: Any) -> Reported:
        """Report an error (see ``Reporter.error``) and return the exception to raise."""
        self.wrong = True
        return self.reporter.error(code, message, span, **more)

    def number(self, expr: s.Expr) -> Operand:
        """Lower an expression to a number; a condition becomes 0 or 1."""
        return self.builder.number(self.value(expr))

    def numbers(self, *exprs: s.Expr) -> list[Operand]:
        return apply_all(self.number, exprs)

    def conditions(self, *exprs: s.Expr) -> list[Value]:
        return [self.builder.condition(value) for value in apply_all(self.value, exprs)]

    def constant(self, expr: s.Expr, code: str, message: str) -> float:
        """Return the value of a constant expression."""
        value = self.number(expr)
        if not isinstance(value, float):
            hint = "a constant consists of numbers and of parameters that are not learnt"
            raise self._blame(expr, code, message, hint)
        return value

    def value(self, expr: s.Expr) -> Value:
        try:
            return self._value(expr)
        except ConstantError as problem:
            raise self._blame(expr, "E0710", f"this constant has no value: {problem}") from None

    def _blame(self, expr: s.Expr, code: str, message: str, hint: str | None = None) -> Reported:
        """Report an error at the argument that caused it, or else at the expression."""
        names = {node.id for node in s.walk(expr) if isinstance(node, s.Name)}
        for name, span in self.argument_spans.items():
            if name in names:
                labels = (Label(expr.span, "where it is used"),)
                given = f"`{name}` is given here"
                return self.error(code, message, span, label=given, labels=labels, hint=hint)
        return self.error(code, message, expr.span, hint=hint)

    def _value(self, expr: s.Expr) -> Value:
        build = self.builder
        match expr:
            case s.Number(text):
                value = float(text)
                if math.isinf(value):
                    raise ConstantError("a number too large")
                return value
            case s.Name():
                return self._name(expr)
            case s.Call():
                return self._call(expr)
            case s.Unary("-", operand):
                return build.emit("neg", self.number(operand))
            case s.Unary(_, operand):
                return build.logic("not", *self.conditions(operand))
            case s.Binary("and" | "or" as op, left, right):
                return build.logic(op, *self.conditions(left, right))
            case s.Binary(op, left, right):
                emit = build.emit if OPCODES[INFIX[op]].gives == "number" else build.compare
                return emit(INFIX[op], *self.numbers(left, right))
            case s.IfElse(then, condition, otherwise):
                (holds,) = self.conditions(condition)
                if isinstance(holds, bool):  # the other branch may have no value
                    return self.value(then if holds else otherwise)
                return build.select(holds, *self.numbers(then, otherwise))
            case _:
                shown = f"`{shorten(expr.span.text)}`"
                message = f"{shown} is not allowed in the equations of a {self.what}"
                hint = "equations are arithmetic on single numbers"
                raise self.error("E0709", message, expr.span, hint=hint)

    def _name(self, expr: s.Name) -> Value:
        name = expr.id
        if name in self.values:
            return self.values[name]
        if name in self.failed:
            raise Reported
        if name in self.later:
            labels = (Label(self.later[name], "it is assigned here"),)
            message = f"`{name}` is read before it has a value"
            before = f"for the value of the previous step, use a `state` or `delay({name}, 1)`"
            hint: str | None = f"equations are evaluated from top to bottom; {before}"
            raise self.error("E0702", message, expr.span, labels=labels, hint=hint)
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in functions():
            message = f"`{name}` is a function and needs arguments"
            raise self.error("E0701", message, expr.span, hint=f"`{name}(...)`")
        self.failed.add(name)  # report it only once
        self.reporter.note_unknown(self.declaration.span, name)
        known = [*self.values, *self.later]
        hint = did_you_mean(name, known) or answer("equation", name)
        if name == self.target and self.what == "neuron":
            text = f"state {name} = 0\n  "
            fix = inserting(expr.span.source, self.body[0].span.start, text)
            hint = Hint(f"add `state {name} = 0` to read `{name}` of the previous step", fix)
        hint = hint or f"names here are {', '.join(f'`{other}`' for other in known[:8])}"
        message = f"there is no `{name}` in this {self.what}"
        raise self.error("E0701", message, expr.span, hint=hint)

    def _function(self, call: s.Call) -> str:
        """Return the name of the function after checking its arguments."""
        function, known = call.function, functions()
        name = function.id if isinstance(function, s.Name) else ""
        if name not in known:
            shown = f"`{shorten(function.span.text or name)}`"
            if not name or name in {*self.values, *self.failed, *self.later}:
                message, hint = f"{shown} is not a function; is a `*` missing?", None
            else:
                message = f"there is no function {shown}"
                hint = answer("equation", name) or did_you_mean(name, known)
                hint = hint or "equations have " + ", ".join(f"`{each}`" for each in known)
            raise self.error("E0707", message, function.span, hint=hint)
        if self.what == "surrogate" and not is_smooth(name):
            message = f"`{name}` is not allowed in a surrogate"
            hint = "a surrogate is a smooth function of `x`, or its derivative"
            raise self.error("E0714", message, function.span, hint=hint)
        loops = any(isinstance(arg.value, s.Each) for arg in call.args) and name in FOLDS
        allowed = [*FORMS[name].says][1:] if name in ("learn", "random") else []
        for arg in call.args:
            if arg.name is not None and arg.name not in allowed:
                hint = f"it takes {', '.join(f'`{each}`' for each in allowed)}" if allowed else None
                message = f"`{name}` has no parameter `{arg.name}`"
                raise self.error("E0708", message, arg.span, hint=hint)
        (fewest, most), count = known[name], sum(arg.name is None for arg in call.args)
        if (count < fewest and not loops) or (most is not None and count > most):
            takes = "one value" if fewest == 1 else f"{fewest} values"
            takes += "" if most is not None else " or more"
            takes = takes if fewest else "one distribution, or none"
            raise self.error("E0708", f"`{name}` takes {takes}, not {count}", call.span)
        return name

    def _call(self, call: s.Call) -> Value:
        name = self._function(call)
        match name:
            case "learn":
                return self._learn(call)
            case "delay":
                return self._delay(*(arg.value for arg in call.args))
            case "random":
                return self._random(call)
        exprs = [arg.value for arg in call.args]
        if name not in FOLDS:
            return self.builder.emit(name, *self.numbers(*exprs))
        groups = apply_all(
            lambda it: self._each(it) if isinstance(it, s.Each) else [self.value(it)], exprs
        )
        args = [self.builder.number(value) for group in groups for value in group]
        if not args and name != "sum":
            raise self.error("E0708", f"`{name}` has no values here", call.span)
        return reduce(partial(self.builder.emit, FOLDS[name]), args) if args else 0.0

    def _each(self, each: s.Each) -> list[Value]:
        """Lower ``value for variable in low .. high if condition``."""
        name = each.variable
        if name in self.taken or name in functions() or name in self.counters:
            hint = f"choose another name than `{name}`"
            message = f"`{name}` is already a name of this {self.what}"
            raise self.error("E0703", message, each.span, hint=hint)
        low, high = self._whole(each.low, "the start of `for`"), self._whole(each.high, "its end")
        if high - low >= MAX_OPS:
            message = f"`for` runs over {high - low + 1} numbers; the limit is {MAX_OPS}"
            raise self._blame(each, "E0716", message)
        values: list[Value] = []
        try:
            for index in range(low, high + 1):
                current().spend(OPERATION, each.span)
                self.values[name], self.counters[name] = float(index), index
                holds: Value = True
                if each.condition is not None:
                    (holds,) = self.conditions(each.condition)
                    if not isinstance(holds, bool):
                        message = "the condition of a `for` is not constant"
                        hint = "move it into the value: `(a if condition else 0) for ...`"
                        raise self.error("E0717", message, each.condition.span, hint=hint)
                if holds:
                    values.append(self.value(each.value))
        finally:
            self.values.pop(name, None)
            self.counters.pop(name, None)
        return values

    def _whole(self, expr: s.Expr, what: str) -> int:
        """Return the value of an integer constant that determines the operations."""
        value = self.constant(expr, "E0717", f"{what} is not constant")
        self.builder.fix(value)
        if not value.is_integer():
            raise self._blame(expr, "E0717", f"{what} is {value:g}, not a whole number")
        return int(value)

    def _delay(self, value: s.Expr, steps: s.Expr) -> Value:
        count = self._whole(steps, "the number of time steps")
        if not 0 <= count <= MAX_STEPS:
            message = f"a delay must be 0 to {MAX_STEPS} time steps, not {count}"
            raise self._blame(steps, "E0717", message)
        name = value.id if isinstance(value, s.Name) else self.target
        later = name in self.later or name == self.target
        number = None
        if count and later and isinstance(value, s.Name) and name not in self.values:
            chain = self._later_chains.setdefault(name, [])
        else:
            number = self.number(value)
            if count == 0:
                return number
            chain = self._chains.setdefault(number, [])
        while len(chain) < count:
            state = unique(f"{name}_kept{len(chain) + 1}", self.taken)
            self.delayed[state] = chain[-1] if chain else number
            self.taken.add(state)
            self.builder.inputs += (state,)
            chain.append(state)
        return chain[count - 1]

    def _learn(self, call: s.Call) -> Value:
        (start,) = (arg for arg in call.args if arg.name is None)
        match start.value:
            case s.Call(s.Name(law), args) if law in RANDOM_STARTS:
                init: float | RandomStart = self._law(law, start.value, args, "learn", "E0711")
            case _:
                message = "the initial value of `learn` is not constant"
                init = self.constant(start.value, "E0711", message)
        bounds: dict[str, float] = {}
        per = "layer"
        for arg in call.args:
            if arg.name == "per":
                if not isinstance(arg.value, s.Word):
                    hint = "`per = channel`, `neuron` or `step`"
                    raise self.error(
                        "E0711", "`per` of `learn` must be a word", arg.span, hint=hint
                    )
                per = arg.value.id
            elif arg.name is not None:
                message = f"`{arg.name}` of `learn` is not constant"
                bounds[arg.name] = self.constant(arg.value, "E0711", message)
        by_step = per == "step" or bool(bounds.pop("per_step", False))
        per = "layer" if per == "step" else per
        value = Learn(init, bounds.get("above"), bounds.get("below"), per, by_step)
        # the next value of a state is not the learnable's own equation
        own = call is self.whole and self.target not in self.builder.inputs
        return self.learn(self.target, value, call.span, owned=own)

    def _random(self, call: s.Call) -> Operand:
        """Return an input of the neuron for which the network draws random numbers."""
        law, chosen = STANDARD["uniform"], {key: words[0] for key, words in DRAW_WORDS.items()}
        for arg in call.args:
            words = DRAW_WORDS.get(arg.name or "", ())
            match arg.value:
                case s.Word(word) if word in words and arg.name is not None:
                    chosen[arg.name] = word
                case _ if words:
                    listed = " or ".join(f"`{word}`" for word in words)
                    message = f"`{arg.name}` of `random` must be {listed}"
                    raise self.error("E0718", message, arg.span)
                case s.Name(name) if name in STANDARD:
                    law = STANDARD[name]
                case s.Call(s.Name(name), args) if name in RANDOM_STARTS:
                    law = self._law(name, arg.value, args, "random", "E0718")
                case _:
                    message = f"`{shorten(arg.value.span.text)}` is not a distribution"
                    hint = "write `random(uniform(low, high))` or `random(normal(mean, std))`"
                    raise self.error("E0718", message, arg.span, hint=hint)
        if law.fault is not None:
            message = f"`{law}` is not a distribution: {law.fault}"
            raise self.error("E0718", message, call.span)
        name = unique(f"{self.target}_random{self._place()}", self.taken)
        self.taken.add(name)
        self.builder.inputs += (name,)
        self.draws[name] = Draw(law, chosen["evaluate"], chosen["per"])
        return name

    def _place(self) -> str:
        """Return the counters of `for` as the end of a name."""
        return "".join(f"_{index}".replace("-", "m") for index in self.counters.values())

    def _law(
        self, law: str, call: s.Call, args: Sequence[s.Arg], function: str, code: str
    ) -> RandomStart:
        """Return the distribution ``uniform(low, high)`` or ``normal(mean, std)`` of a function."""
        names = RANDOM_STARTS[law]
        given = dict(zip(names, (arg.value for arg in args if arg.name is None), strict=False))
        given |= {arg.name: arg.value for arg in args if arg.name is not None}
        if len(args) != len(names) or given.keys() != {*names}:
            hint = f"write `{function}({law}({', '.join(names)}))`"
            message = f"`{law}` takes two numbers, `{names[0]}` and `{names[1]}`"
            raise self.error(code, message, call.span, hint=hint)
        message = f"the distribution of `{function}` is not constant"
        first, second = (self.constant(given[name], code, message) for name in names)
        self.builder.fix(first, second)
        return RandomStart(law, float(first), float(second))

    def learn(self, name: str, value: Learn, span: Span, *, owned: bool) -> Operand:
        """Add a learnable and return the value that equations read.

        ``owned`` is True if it is a parameter or a whole equation: then it keeps the given name.
        """
        if value.per not in LEARNT_PER:
            hint = f"`per` is {', '.join(f'`{word}`' for word in LEARNT_PER)}"
            message = f"a neuron cannot have parameters per {value.per}"
            raise self.error("E0711", message, span, hint=hint)
        if value.fault is not None:
            message, hint = value.fault
            raise self.error("E0711", message, span, hint=hint)
        above, below, raw = value.above, value.below, value.raw
        if not owned:  # names include the counters of `for`
            name = unique(f"{name}_learnt{self._place()}", self.taken)
        while (parameter := Learnable(name, 0.0, above, below).parameter) in self.taken:
            if owned and parameter == name:
                break
            name, owned = f"{name}_", False
        build, scheduled = self.builder, "" if value.trained else f"neuron.{name}"
        if isinstance(value.init, ParameterValue) and (above, below) == (None, None):
            raw = raw if scheduled else ParameterValue(raw, value.init.origin)
        else:
            build.fix(value.start, above, below)
        random = value.init if isinstance(value.init, RandomStart) else None
        item = Learnable(name, raw, above, below, value.per, value.per_step, scheduled, random)
        build.add_input(parameter, scalar=item.is_scalar)
        result: Operand = within(build.emit, parameter, above, below)
        self.taken |= {name, parameter}
        build.label(result, name)
        self.learnables.append(item)
        self.learnt_at[name] = span
        return result
