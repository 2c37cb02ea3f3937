"""Rules: the indexed equations between the blocks of a stage, as forms.

Lowering builds nodes from forms (``ir.rule_forms``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log2

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
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.loops import cuts
from danetc.compiler.lowering.operations import as_learnt
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, add, fixes_of, replacing, write
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.work import current

Fail = Callable[..., v.Failed]
Constant = Callable[[s.Expr, dict[str, int]], v.Value]

FEEDS = ("in", "shortcut")
"""Values that a rule defines for each block."""
TERM = 1  # steps of work for a term
MAX_TERMS = 1_000_000
"""Limit of the values that the equations of one rule name or try in one stage."""
JOINS = ("sum", "mean", "concat", "max", "min")
PORTS = ("in", "out")
"""Values that a rule reads."""
_SAYS = (
    "a rule says `in[i] = ...` and `result = ...`, and may say `in[0] = ...`, `shortcut[i] = ...` "
    "and `shortcut[0] = ...`"
)


class RuleReader:
    """Reads the equations of one rule for the blocks of one stage.

    ``constant(expr, {"i": ..., "n": ...})`` evaluates numbers; ``fail`` reports an error. ``learnt``
    are the learnt numbers of the forms read so far, by name.
    """

    def __init__(self, rule: s.Declaration, blocks: int, constant: Constant, fail: Fail) -> None:
        self.rule = rule
        self.n = blocks
        self.constant = constant
        self.fail = fail
        self.work = current()
        self.learnt: dict[str, v.LearntValue] = {}
        self._ports: Mapping[str, Sequence[Form]] = {
            "in": [*map(InputOf, range(blocks))],
            "out": [*map(OutputOf, range(blocks))],
        }
        self._terms = self._terms_before = 0
        self._block: int | None = None  # whose equation is read; None for the result
        self._place = ""  # path of the equation's learnt numbers
        self._earlier = False  # True while values of earlier steps are read
        self._forms: dict[str, Form] = {}
        self._lines = _lines(rule, fail)

    def feed_of(self, i: int) -> Form:
        """Return the input of block i; by default the stage's input for block 0."""
        line, place = self._lines.get("in[i]" if i else "in[0]"), f"feeds.{i}"
        if line is None:
            return StageInput()
        again = place in self._forms
        form = self._equation(line, i, place)
        if i >= 64 and i & (i - 1) == 0 and not again:
            self._foresee(i)
        return form

    def shortcut_of(self, i: int) -> Form | None:
        """Return what the shortcut of block i begins at; None for the block's input."""
        line = self._lines.get("shortcut[i]" if i else "shortcut[0]")
        return None if line is None else self._equation(line, i, f"shortcuts.{i}")

    def result_form(self) -> Form:
        """Return the result of the stage."""
        return self._equation(self._lines["result"], None, "feeds.result")

    def _equation(self, line: s.Define, block: int | None, place: str) -> Form:
        """Return the form of an equation, read once. ``place`` is the path of its learnt numbers."""
        if place not in self._forms:
            self._block, self._place = block, place
            env = {"n": self.n}
            if isinstance(line.index, s.Name) and block is not None:
                env[line.index.id] = block
            self._forms[place] = self._form(line.value, env)
        return self._forms[place]

    def _foresee(self, i: int) -> None:
        """Report early that the terms, by their growth from block i / 2 to i, will be too many."""
        growth = self._terms / max(1, self._terms_before)
        self._terms_before = self._terms
        if i > 64 and self._terms * growth ** log2(self.n / i) > 2 * MAX_TERMS:
            self._count(MAX_TERMS, self._lines["in[i]"].value.span)

    def _count(self, more: int, span: Span) -> None:
        """Count terms that are about to be named or tried."""
        self._terms += more
        if self._terms > MAX_TERMS:
            stage = f"a stage of {self.n} blocks"
            message = f"rule `{self.rule.name}` has more than {MAX_TERMS:,} terms in {stage}"
            hint = "reduce its ranges or the length of the stage"
            raise self.fail("E0903", message, span, hint=hint)

    def _form(self, expr: s.Expr, env: dict[str, int]) -> Form:
        match expr:
            case s.At():
                forms = self._at(expr, env)
                if len(forms) != 1:
                    message = f"{len(forms) or 'no'} values, but expected one{self._where()}"
                    hint = "combine them with `sum(...)` or `concat(...)`"
                    raise self.fail("E0608", message, expr.span, hint=hint)
                return forms[0]
            case s.Name("in"):
                return StageInput()
            case s.Flow(steps=(value, *delays)):
                steps = sum([self._steps(delay, env) for delay in delays])
                outer, self._earlier = (
                    self._earlier,
                    True,
                )  # values of all blocks exist at earlier steps
                form = self._form(value, env)
                self._earlier = outer
                return Delayed(steps, form)
            case s.IfElse(then, condition, otherwise):
                return self._form(then if self._holds(condition, env) else otherwise, env)
            case s.Call(s.Name(name), args) if name in JOINS:
                forms = [form for arg in args for form in self._arg(arg, env)]
                if not forms:
                    message = f"`{name}` has no operands{self._where()}"
                    hint = "its range or condition must give a value for every block from 1 on"
                    raise self.fail("E0608", message, expr.span, hint=hint)
                if len(forms) == 1:
                    return forms[0]
                if name == "mean":
                    return Scaled(1 / len(forms), Join("sum", tuple(forms)))
                return Join(name, tuple(forms))
            case s.Binary("+", left, right):
                return Join("sum", (self._form(left, env), self._form(right, env)))
            case s.Binary("*", left, right) if _reads(left) != _reads(right):
                factor, of = (right, left) if _reads(left) else (left, right)
                return self._multiple(factor, of, env)
            case s.Binary("/", left, right) if _reads(left) and not _reads(right):
                divisor = self._factor(self.constant(right, env), right)
                if divisor == 0:
                    raise self.fail("E0306", f"division by zero{self._where()}", right.span)
                return Scaled(1 / divisor, self._form(left, env))
        raise self._unsayable(expr)

    def _multiple(self, factor: s.Expr, expr: s.Expr, env: dict[str, int]) -> Form:
        """Return the product of a value and a number, or learnt numbers."""
        value, form = self.constant(factor, env), self._form(expr, env)
        if not isinstance(value, (Learn, v.LearntValue)):
            return Scaled(self._factor(value, factor), form)
        found = as_learnt(value)
        if found.offset:
            message = "in a rule, learnable parameters can only be factors"
            hint = "write `learn(...) * out[j]`, or a multiple of it"
            raise self.fail("E0608", message, factor.span, hint=hint)
        name = unique(f"{self._place}.{_word(form)}", self.learnt.__contains__)
        self.learnt[name] = replace(found, factor=1.0)
        product = ScaledByLearnt(name, form)
        return product if found.is_plain else Scaled(found.factor, product)

    def _factor(self, value: v.Value, expr: s.Expr) -> float:
        if not v.is_number(value):
            raise self.fail("E0608", f"a factor is a number, not {v.describe(value)}", expr.span)
        return float(value)

    def _steps(self, delay: s.Expr, env: dict[str, int]) -> int:
        """Return the number of steps of a delay (E0305)."""
        name = s.called(delay)
        if name is not None and cuts(name.id):
            for arg in delay.args if isinstance(delay, s.Call) else ():
                if arg.name == "like":
                    message = (
                        "in a rule, `delay` takes no shape: it has the shape of the delayed value"
                    )
                    raise self.fail("E0608", message, arg.span, hint="leave `like` out")
            layer = self.constant(delay, env)
            steps = layer.attrs["steps"] if isinstance(layer, v.OpLayer) else None
            if isinstance(steps, int):  # else the name is another declaration's
                return steps
        hint = "layers belong in a connection or a block; a rule only connects blocks"
        raise self.fail(
            "E0608", "the only layer allowed in a rule is `delay`", delay.span, hint=hint
        )

    def _unsayable(self, expr: s.Expr) -> v.Failed:
        message = "unsupported expression in a rule"
        hint: str | None = (
            "rules join `in[...]` and `out[...]`, at this step or an earlier one (`-> delay(1)`), by "
            "`sum`, `mean`, `concat`, `max`, `min`, `+` and numbers, which may be learnt"
        )
        span = expr.span
        match expr:
            case s.Call(s.Name("learn")):
                message = "learnable parameters in a rule must be factors"
                hint = "write `learn(1.0) * out[j]`"
            case s.Call(s.Name(name)):
                message, span = f"there is no join `{name}`", expr.function.span
                hint = answer("join", name) or did_you_mean(name, JOINS)
                hint = hint or "joins are `sum`, `mean`, `concat`, `max` and `min`"
            case s.Name("out"):
                message, hint = "`out` needs an index", write("out[i - 1]", span)
            case s.Name(name):
                message = f"`{name}` is not a value of a rule"
                hint = "the values of a rule are `in`, `in[j]` and `out[j]`"
            case s.Number():
                message = "a number is not a value of a stage"
        return self.fail("E0608", message, span, hint=hint)

    def _where(self) -> str:
        """Name the block of an error that not every block has."""
        return f" for block {self._block}" if self._block is not None else ""

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
        return self._at(value, env) if isinstance(value, s.At) else [self._form(value, env)]

    def _at(self, expr: s.At, env: dict[str, int]) -> list[Form]:
        base = expr.base
        if not (isinstance(base, s.Name) and base.id in PORTS):
            hint = did_you_mean(base.id, PORTS) if isinstance(base, s.Name) else None
            message = "only `in` and `out` have an index in a rule"
            raise self.fail("E0608", message, base.span, hint=hint)
        forms: list[Form] = []
        earlier = f"({expr.span.text} -> delay(1))" if len(expr.indices) == 1 else ""
        for index in expr.indices:
            if isinstance(index, s.Range):
                low, high = self._index(index.low, env), self._index(index.high, env)
                if low > high:
                    continue
                self._check(base.id, low, index.low.span)
                self._check(base.id, high, index.high.span)
            else:
                low = high = self._index(index, env)
                self._check(base.id, low, index.span, earlier)
            self._count(high - low + 1, index.span)
            self.work.spend(TERM * (high - low + 1), index.span)
            forms += self._ports[base.id][low : high + 1]
        return forms

    def _check(self, port: str, j: int, span: Span, earlier: str = "") -> None:
        """Report a value that does not exist, or that a later block gives.

        ``earlier`` is the text of its value of the step before.
        """
        value, block = f"`{port}[{j}]`", self._block
        if j < 0:
            message = f"{value} does not exist{self._where()}: indices start at 0"
            hint = "bound the index, `max(0, ...)`, or test it with `if`"
            raise self.fail("E0609", message, span, hint=hint)
        if block is not None and block <= j < self.n and not self._earlier:
            message = f"{value} of a later block feeds block {block}"
            if j == block:
                message = f"{value} depends on itself"
                if port == "out":
                    message = f"block {block} is fed by {value}, its own output"
            before = "`in`, the stage's input"
            if block:
                before = "`out[i - 1]`, `out[0 .. i - 1]`, `in[0]`"
            raise self.fail(
                "E0603",
                message,
                span,
                hint=f"a block reads only earlier values: {before}; use a delay to read a block "
                f"at the previous step: `{earlier or '(out[n - 1] -> delay(1))'}`",
            )
        if j >= self.n:
            blocks = f"a stage of {self.n} block{'s' if self.n > 1 else ''}"
            message = f"{value} does not exist in {blocks}"
            raise self.fail("E0609", message, span, hint="the last block has index `n - 1`")

    def _holds(self, expr: s.Expr, env: dict[str, int]) -> bool:
        value = self.constant(expr, env)
        if not isinstance(value, (bool, int, float)):
            message = f"a condition compares numbers, not {v.describe(value)}"
            raise self.fail("E0304", message, expr.span)
        return bool(value)

    def _index(self, expr: s.Expr, env: dict[str, int]) -> int:
        value = self.constant(expr, env)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            shown = f"{value:g}" if isinstance(value, float) else v.describe(value)
            hint = "round it: `floor(...)`" if isinstance(value, float) else None
            message = f"an index must be a whole number, not {shown}"
            raise self.fail("E0609", message, expr.span, hint=hint)
        return value


def _lines(rule: s.Declaration, fail: Fail) -> dict[str, s.Define]:
    """Return the equations of a rule by what they define: ``in[i]``, ``in[0]``, ``result`` (E0607)."""
    found: dict[str, s.Define] = {}
    for item in rule.body or ():
        if not isinstance(item, s.Define):
            raise fail("E0607", "a rule contains only equations", item.span, hint=_SAYS)
        found[_defined(item, fail)] = item
    for place, chain in (("in[i]", "in[i] = out[i-1]"), ("result", "result = out[n-1]")):
        if place not in found:
            message = f"rule `{rule.name}` does not define `{place}`"
            hint = Hint(f"add `{place} = ...`", *fixes_of(add(rule, chain), rule.name_span))
            raise fail("E0607", message, rule.name_span, hint=hint)
    return found


def _defined(item: s.Define, fail: Fail) -> str:
    """Return what an equation defines."""
    name = item.name
    hint: str | None
    match item.index:
        case s.Name() if name in FEEDS:
            return f"{name}[i]"
        case s.Number() as number if name in FEEDS and number.value == 0:
            return f"{name}[0]"
        case None if name == "result":
            return name
        case None if name in FEEDS:
            message = f"`{name}` needs its index"
            hint = Hint(f"write `{name}[i] = ...`", replacing(item.name_span, f"{name}[i]"))
        case index if index is not None and name in FEEDS:
            message = f"`{name}[{index.span.text}]` is not allowed in a rule"
            those = f"`{name}[i] = ...` of those after it"
            hint = f"a rule says `{name}[0] = ...` of block 0 and {those}"
        case _ if name == "result":
            message, hint = (
                "`result` has no index",
                "write `result = ...` for the output of the stage",
            )
        case _:
            message = f"`{name}` is not an equation of a rule"
            hint = did_you_mean(name, (*FEEDS, "result")) or _SAYS
    raise fail("E0607", message, item.name_span, hint=hint)


def _reads(expr: s.Expr) -> bool:
    """True if an expression reads inputs or outputs of blocks."""
    return any(isinstance(node, s.Name) and node.id in PORTS for node in s.walk(expr))


def _word(form: Form) -> str:
    """Name of a learnt factor of a value."""
    match form:
        case OutputOf(block):
            return f"out{block}"
        case InputOf(block):
            return f"in{block}"
        case Join(name):
            return name
    return {StageInput: "in", Scaled: "scale", ScaledByLearnt: "learn", Delayed: "delay"}[
        type(form)
    ]
