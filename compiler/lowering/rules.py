"""Rules: the indexed equations between the blocks of a stage, as forms and as nodes.

Lowering builds nodes from forms (``ir.rule_forms``); ``verify`` holds the lowered graph against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log2
from typing import assert_never

from danetc.compiler.ir.graph import unique
from danetc.compiler.ir.rule_forms import Entry, Form, Input, Join, Learnt, Output, Scaled
from danetc.compiler.lowering.learnt import as_learnt
from danetc.compiler.lowering.values import Failed, LearntValue, Value, describe
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, add, fixes_of, replacing, write
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.work import current

Number = int | float
Constant = Callable[[s.Expr, dict[str, int]], Value]
Fail = Callable[..., Failed]

TERM = 1  # steps of work for each
MAX_TERMS = 1_000_000
"""The most values that the equations of one rule may name or try in one stage."""

JOINS = ("sum", "mean", "concat", "max", "min")
PORTS = ("in", "out")
"""What a rule reads."""
FEEDS = ("in", "shortcut")
"""What a rule says of each block."""
_SAYS = "a rule says `in[i] = ...` and `result = ...`, and may say `shortcut[i] = ...`"


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
            "in": [*map(Input, range(blocks))],
            "out": [*map(Output, range(blocks))],
        }
        self.terms = self.terms_before = 0
        self.block: int | None = None  # whose equation is read; None for the result's
        self.place = ""  # of the equation's learnt numbers
        self.learnt: dict[str, LearntValue] = {}
        self.feed: s.Define | None = None
        self.shortcut: s.Define | None = None
        self.result: s.Define | None = None
        for item in rule.body or ():
            if not isinstance(item, s.Define):
                raise fail("E0607", "a rule holds equations alone", item.span, hint=_SAYS)
            if item.name == "in" and isinstance(item.index, s.Name):
                self.feed = item
            elif item.name == "shortcut" and isinstance(item.index, s.Name):
                self.shortcut = item
            elif item.name == "result" and item.index is None:
                self.result = item
            else:
                raise self._no_equation(item)
        if self.feed is None or self.result is None:
            missing = "in[i]" if self.feed is None else "result"
            chain = "in[i] = out[i-1]" if self.feed is None else "result = out[n-1]"
            hint = f"add `{missing} = ...`"
            raise fail(
                "E0607",
                f"rule `{rule.name}` does not define `{missing}`",
                rule.name_span,
                hint=Hint(hint, *fixes_of(add(rule, chain), rule.name_span)),
            )

    def _no_equation(self, item: s.Define) -> Failed:
        name = item.name
        if name in FEEDS and item.index is not None:
            message = f"`{name}[{item.index.span.text}]` is not what a rule says"
            hint = (
                f"block 0 reads the stage's input; a rule says `{name}[i] = ...` for the blocks "
                "after it"
            )
        elif name in FEEDS:
            message = f"`{name}` needs its index"
            hint = Hint(f"write `{name}[i] = ...`", replacing(item.name_span, f"{name}[i]"))
        elif item.name == "result":
            message, hint = "`result` has no index", "write `result = ...`: what the stage gives"
        else:
            message = f"`{item.name}` is not an equation of a rule"
            hint = did_you_mean(item.name, (*FEEDS, "result")) or _SAYS
        return self.fail("E0607", message, item.name_span, hint=hint)

    def feed_of(self, i: int) -> Form:
        """What feeds block i; block 0 is fed by the stage's input."""
        if i == 0:
            return Entry()
        assert self.feed is not None
        form = self._equation(self.feed, i, f"feeds.{i}")
        if i >= 64 and i & (i - 1) == 0:
            self._foresee(i)
        return form

    def shortcut_of(self, i: int) -> Form | None:
        """What the shortcut of block i starts from, if the rule says it; else it is its input."""
        if i == 0 or self.shortcut is None:
            return None
        return self._equation(self.shortcut, i, f"shortcuts.{i}")

    def _equation(self, line: s.Define, i: int, place: str) -> Form:
        assert isinstance(line.index, s.Name)
        self.block, self.place = i, place
        return self._form(line.value, {line.index.id: i, "n": self.n})

    def _foresee(self, i: int) -> None:
        """End early where the terms grow so fast from block i / 2 to i that they will be too many."""
        growth = self.terms / max(1, self.terms_before)
        self.terms_before = self.terms
        if i > 64 and self.terms * growth ** log2(self.n / i) > 2 * MAX_TERMS:
            assert self.feed is not None
            self._count(MAX_TERMS, self.feed.value.span)

    def result_form(self) -> Form:
        """What the stage gives."""
        assert self.result is not None
        self.block, self.place = None, "feeds.result"
        return self._form(self.result.value, {"n": self.n})

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
        product = Learnt(name, form)
        return product if found.is_plain else Scaled(found.factor, product)

    def _unsayable(self, expr: s.Expr) -> Failed:
        message = "a rule cannot say this"
        hint = (
            "rules join `in[...]` and `out[...]` by `sum`, `mean`, `concat`, `max`, `min`, `+` and "
            "numbers, which may be learnt"
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
            case s.Flow():
                message = "a rule holds no layers"
                hint = "layers belong in a connection or a block; a rule says what feeds a block"
            case s.Name("in" | "out" as port):
                message = f"`{port}` needs an index"
                hint = write(f"{port}[i - 1]", expr.span)
            case s.Name(name):
                message = f"`{name}` is no value of a rule"
                hint = "values of a rule are `in[j]` and `out[j]`"
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
        for index in expr.indices:
            if isinstance(index, s.Range):
                low, high = self._index(index.low, env), self._index(index.high, env)
                if low > high:
                    continue
                self._check(port, low, index.low.span)
                self._check(port, high, index.high.span)
            else:
                low = high = self._index(index, env)
                self._check(port, low, index.span)
            self._count(high - low + 1, index.span)
            self.work.spend(TERM * (high - low + 1), index.span)
            forms += self._ports[port][low : high + 1]
        return forms

    def _check(self, port: str, j: int, span: Span) -> None:
        """Whether the value may be read: it exists, and does not come from a later block."""
        value, block = f"`{port}[{j}]`", self.block
        if j < 0:
            raise self.fail(
                "E0609",
                f"{value} does not exist{self._where()}: indices start at 0",
                span,
                hint="bound the index, `max(0, ...)`, or test it with `if`",
            )
        if block is not None and block <= j < self.n:
            if j > block:
                message = f"{value} of a later block feeds block {block}"
            elif port == "out":
                message = f"block {block} is fed by {value}, its own output"
            else:
                message = f"{value} is made of itself"
            raise self.fail(
                "E0603",
                message,
                span,
                hint="a block reads what comes before it: `out[i - 1]`, `out[0 .. i - 1]`, `in[0]`",
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
    return any(
        isinstance(n, s.At) and isinstance(n.base, s.Name) and n.base.id in PORTS
        for n in s.walk(expr)
    )


def _word(form: Form) -> str:
    """What a learnt factor of a value is called."""
    match form:
        case Output(block):
            return f"out{block}"
        case Input(block):
            return f"in{block}"
        case Entry():
            return "in"
        case Join(name):
            return name
        case Scaled():
            return "scale"
        case Learnt():
            return "learn"
    assert_never(form)
