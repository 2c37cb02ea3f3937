"""Rules: the indexed equations between the blocks of a stage, as forms and as nodes.

Lowering builds nodes from forms (``ir.rule_forms``); ``verify`` holds the lowered graph against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log2
from typing import assert_never

from danetc.compiler.ir.graph import unique
from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    OutputOf,
    Scaled,
    ScaledByLearnt,
    StageInput,
)
from danetc.compiler.lowering.learnt import as_learnt
from danetc.compiler.lowering.loops import cuts
from danetc.compiler.lowering.rule_lines import Fail, rule_lines
from danetc.compiler.lowering.values import Failed, LearntValue, OpLayer, Value, describe
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.fixes import write
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.work import current

Number = int | float
Constant = Callable[[s.Expr, dict[str, int]], Value]

TERM = 1  # steps of work for each
MAX_TERMS = 1_000_000
"""The most values that the equations of one rule may name or try in one stage."""

JOINS = ("sum", "mean", "concat", "max", "min")
PORTS = ("in", "out")
"""What a rule reads."""


class RuleReader:
    """Reads the equations of one rule for blocks of one stage.

    ``constant(expr, {"i": ..., "n": ...})`` evaluates numbers; ``fail`` reports an error. ``learnt``
    has what the forms name that were read, by their names.
    """

    def __init__(self, rule: s.Declaration, blocks: int, constant: Constant, fail: Fail) -> None:
        self.rule = rule
        self.n = blocks
        self.constant = constant
        self.fail = fail
        self.work = current()
        self._ports: Mapping[str, Sequence[Form]] = {
            "in": [*map(InputOf, range(blocks))],
            "out": [*map(OutputOf, range(blocks))],
        }
        self.terms = self.terms_before = 0
        self.block: int | None = None  # whose equation is read; None for the result's
        self.place = ""  # of the equation's learnt numbers
        self.learnt: dict[str, LearntValue] = {}
        self.earlier = False  # whether values of earlier steps are read
        self.lines = rule_lines(rule, fail)
        self._forms: dict[str, Form] = {}

    def feed_of(self, i: int) -> Form:
        """What feeds block i. Nothing said of block 0, it is the stage's input."""
        line, place = self.lines.rest if i else self.lines.first, f"feeds.{i}"
        if line is None:
            return StageInput()
        again = place in self._forms
        form = self._equation(line, i, place)
        if i >= 64 and i & (i - 1) == 0 and not again:
            self._foresee(i)
        return form

    def shortcut_of(self, i: int) -> Form | None:
        """What the shortcut of block i starts from, if the rule says it; else it is its input."""
        line = self.lines.shortcut if i else self.lines.first_shortcut
        return None if line is None else self._equation(line, i, f"shortcuts.{i}")

    def result_form(self) -> Form:
        """What the stage gives."""
        return self._equation(self.lines.result, None, "feeds.result")

    def _equation(self, line: s.Define, block: int | None, place: str) -> Form:
        """The form of an equation, read once. ``place`` is that of its learnt numbers."""
        if place not in self._forms:
            self.block, self.place = block, place
            env = {"n": self.n}
            if isinstance(line.index, s.Name) and block is not None:
                env[line.index.id] = block
            self._forms[place] = self._form(line.value, env)
        return self._forms[place]

    def _foresee(self, i: int) -> None:
        """End early where the terms grow so fast from block i / 2 to i that they will be too many."""
        growth = self.terms / max(1, self.terms_before)
        self.terms_before = self.terms
        if i > 64 and self.terms * growth ** log2(self.n / i) > 2 * MAX_TERMS:
            self._count(MAX_TERMS, self.lines.rest.value.span)

    def _count(self, more: int, span: Span) -> None:
        """Count terms that are about to be named or tried; the work is counted where they are."""
        self.terms += more
        if self.terms > MAX_TERMS:
            raise self.fail(
                "E0903",
                f"rule `{self.rule.name}` has more than {MAX_TERMS:,} terms in a stage of {self.n} blocks",
                span,
                hint="let its ranges stay within the stage, or make the stage shorter",
            )

    def _form(self, expr: s.Expr, env: dict[str, int]) -> Form:
        match expr:
            case s.At():
                forms = self._at(expr, env)
                if len(forms) != 1:
                    raise self.fail(
                        "E0608",
                        f"{len(forms) or 'no'} values where one is needed{self._where()}",
                        expr.span,
                        hint="put them into `sum(...)` or `concat(...)`",
                    )
                return forms[0]
            case s.Name("in"):
                return StageInput()
            case s.Flow(steps):
                return self._delayed(steps, env)
            case s.IfElse(then, condition, otherwise):
                return self._form(then if self._holds(condition, env) else otherwise, env)
            case s.Call(s.Name(name), args) if name in JOINS:
                forms = [form for arg in args for form in self._arg(arg, env)]
                if not forms:
                    raise self.fail(
                        "E0608",
                        f"`{name}` has nothing to take{self._where()}",
                        expr.span,
                        hint="let its range or its condition hold for every block from 1 on",
                    )
                if len(forms) == 1:
                    return forms[0]
                if name == "mean":
                    return Scaled(1 / len(forms), Join("sum", tuple(forms)))
                return Join(name, tuple(forms))
            case s.Binary("+", left, right):
                return Join("sum", (self._form(left, env), self._form(right, env)))
            case s.Binary("*", left, right) if _reads(left) != _reads(right):
                factor, form = (right, left) if _reads(left) else (left, right)
                return self._multiple(factor, form, env)
            case s.Binary("/", left, right) if _reads(left) and not _reads(right):
                divisor = self._factor(right, env)
                if divisor == 0:
                    raise self.fail("E0306", f"division by zero{self._where()}", right.span)
                return Scaled(1 / divisor, self._form(left, env))
        raise self._unsayable(expr)

    def _multiple(self, factor: s.Expr, expr: s.Expr, env: dict[str, int]) -> Form:
        """A value times a number, or times learnt numbers."""
        value, form = self.constant(factor, env), self._form(expr, env)
        if not isinstance(value, (Learn, LearntValue)):
            return Scaled(self._number(value, factor), form)
        found = as_learnt(value)
        if found.offset:
            raise self.fail(
                "E0608",
                "a rule multiplies by learnt numbers, and adds nothing to them",
                factor.span,
                hint="write `learn(...) * out[j]`, or a multiple of it",
            )
        name = unique(f"{self.place}.{_word(form)}", self.learnt.__contains__)
        self.learnt[name] = replace(found, factor=1.0)
        product = ScaledByLearnt(name, form)
        return product if found.is_plain else Scaled(found.factor, product)

    def _delayed(self, flow: tuple[s.Expr, ...], env: dict[str, int]) -> Form:
        """What a value was some steps before: of any block, as the step is over."""
        value, *delays = flow
        numbers = [self._steps(delay, env) for delay in delays]
        outer, self.earlier = self.earlier, True
        form = self._form(value, env)
        self.earlier = outer
        return Delayed(sum(numbers), form)

    def _steps(self, delay: s.Expr, env: dict[str, int]) -> int:
        """By how many steps a delay of an equation delays (E0305)."""
        name = s.called(delay)
        if name is None or not cuts(name.id):
            raise self._no_layers(delay)
        for arg in delay.args if isinstance(delay, s.Call) else ():
            if arg.name == "like":
                raise self.fail(
                    "E0608", "in a rule a delay has the shape of what it delays", arg.span,
                    hint="leave `like` out",
                )  # fmt: skip
        layer = self.constant(delay, env)
        steps = layer.attrs["steps"] if isinstance(layer, OpLayer) else None
        if not isinstance(steps, int):  # the name is another declaration's
            raise self._no_layers(delay)
        return steps

    def _no_layers(self, layer: s.Expr) -> Failed:
        return self.fail(
            "E0608",
            "a rule holds no layers but `delay`",
            layer.span,
            hint="layers belong in a connection or a block; a rule says what feeds a block",
        )

    def _unsayable(self, expr: s.Expr) -> Failed:
        message = "a rule cannot say this"
        hint = (
            "rules join `in[...]` and `out[...]`, at this step or an earlier one (`-> delay(1)`), by "
            "`sum`, `mean`, `concat`, `max`, `min`, `+` and numbers, which may be learnt"
        )
        match expr:
            case s.Call(s.Name("learn")):
                message, hint = (
                    "learnt numbers are factors in a rule",
                    "write `learn(1.0) * out[j]`",
                )
            case s.Call(s.Name(name)):
                message = f"there is no join `{name}`"
                known = "joins are `sum`, `mean`, `concat`, `max` and `min`"
                hint = answer("join", name) or did_you_mean(name, JOINS) or known
                return self.fail("E0608", message, expr.function.span, hint=hint)
            case s.Name("out"):
                message = "`out` needs an index"
                hint = write("out[i - 1]", expr.span)
            case s.Name(name):
                message = f"`{name}` is no value of a rule"
                hint = "values of a rule are `in`, `in[j]` and `out[j]`"
            case s.Number():
                message = "a number alone is no value of a stage"
        return self.fail("E0608", message, expr.span, hint=hint)

    def _where(self) -> str:
        """For which block an error arises that not every block has."""
        return f" for block {self.block}" if self.block is not None else ""

    def _arg(self, arg: s.Arg, env: dict[str, int]) -> list[Form]:
        if arg.name is not None:
            raise self.fail("E0301", f"a join has no parameter `{arg.name}`", arg.span)
        value = arg.value
        if isinstance(value, s.Each):
            low, high = self._index(value.low, env), self._index(value.high, env)
            self._count(max(0, high - low + 1), value.span)
            forms = []
            for index in range(low, high + 1):
                self.work.spend(TERM, value.span)
                inner = {**env, value.variable: index}
                if value.condition is None or self._holds(value.condition, inner):
                    forms.append(self._form(value.value, inner))
            return forms
        if isinstance(value, s.At):
            return self._at(value, env)
        return [self._form(value, env)]

    def _at(self, expr: s.At, env: dict[str, int]) -> list[Form]:
        if not (isinstance(expr.base, s.Name) and expr.base.id in PORTS):
            hint = None
            if isinstance(expr.base, s.Name):
                hint = did_you_mean(expr.base.id, PORTS)
            raise self.fail(
                "E0608", "only `in` and `out` have an index in a rule", expr.base.span, hint=hint
            )
        port = expr.base.id
        forms: list[Form] = []
        earlier = f"({expr.span.text} -> delay(1))" if len(expr.indices) == 1 else ""
        for index in expr.indices:
            if isinstance(index, s.Range):
                low, high = self._index(index.low, env), self._index(index.high, env)
                if low > high:
                    continue
                self._check(port, low, index.low.span)
                self._check(port, high, index.high.span)
            else:
                low = high = self._index(index, env)
                self._check(port, low, index.span, earlier)
            self._count(high - low + 1, index.span)
            self.work.spend(TERM * (high - low + 1), index.span)
            forms += self._ports[port][low : high + 1]
        return forms

    def _check(self, port: str, j: int, span: Span, earlier: str = "") -> None:
        """Whether the value may be read: it exists, and does not come from a later block.

        ``earlier`` is what to write for its value of the step before.
        """
        value, block = f"`{port}[{j}]`", self.block
        if j < 0:
            raise self.fail(
                "E0609",
                f"{value} does not exist{self._where()}: indices start at 0",
                span,
                hint="bound the index, `max(0, ...)`, or test it with `if`",
            )
        if block is not None and block <= j < self.n and not self.earlier:
            if j > block:
                message = f"{value} of a later block feeds block {block}"
            elif port == "out":
                message = f"block {block} is fed by {value}, its own output"
            else:
                message = f"{value} is made of itself"
            before = (
                "`out[i - 1]`, `out[0 .. i - 1]`, `in[0]`" if block else "`in`, the stage's input"
            )
            raise self.fail(
                "E0603",
                message,
                span,
                hint=f"a block reads what comes before it: {before}; what any block gave a step "
                f"before is read by a delay: `{earlier or '(out[n - 1] -> delay(1))'}`",
            )
        if j >= self.n:
            blocks = f"a stage of {self.n} block{'s' if self.n > 1 else ''}"
            raise self.fail(
                "E0609",
                f"{value} does not exist in {blocks}",
                span,
                hint="the last block has index `n - 1`",
            )

    def _holds(self, expr: s.Expr, env: dict[str, int]) -> bool:
        value = self.constant(expr, env)
        if not isinstance(value, (bool, int, float)):
            raise self.fail(
                "E0304", f"a condition compares numbers, not {describe(value)}", expr.span
            )
        return bool(value)

    def _factor(self, expr: s.Expr, env: dict[str, int]) -> float:
        return self._number(self.constant(expr, env), expr)

    def _number(self, value: Value, expr: s.Expr) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fail("E0608", f"a factor is a number, not {describe(value)}", expr.span)
        return float(value)

    def _index(self, expr: s.Expr, env: dict[str, int]) -> int:
        value = self.constant(expr, env)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            shown = f"{value:g}" if isinstance(value, float) else describe(value)
            raise self.fail(
                "E0609",
                f"an index must be a whole number, not {shown}",
                expr.span,
                hint="round it: `floor(...)`" if isinstance(value, float) else None,
            )
        return value


def _reads(expr: s.Expr) -> bool:
    """Whether an expression reads what a block takes or gives."""
    return any(isinstance(node, s.Name) and node.id in PORTS for node in s.walk(expr))


def _word(form: Form) -> str:
    """What a learnt factor of a value is called."""
    match form:
        case OutputOf(block):
            return f"out{block}"
        case InputOf(block):
            return f"in{block}"
        case StageInput():
            return "in"
        case Join(name):
            return name
        case Scaled():
            return "scale"
        case ScaledByLearnt():
            return "learn"
        case Delayed():
            return "delay"
    assert_never(form)
