"""Rules: the indexed equations between the blocks of a stage, as forms.

Lowering builds nodes from forms (``ir.rule_forms``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from danetc.compiler.ir.graph import unique
from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    OutputOf,
    Scaled,
    StageInput,
)
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.environment import JOINS, Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.loops import cuts
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.first_weights import Draw
from danetc.dsl.syntax import tree as s

FEEDS = ("in", "shortcut")
"""Values that a rule defines for each block."""
TERM = 1  # work for each value that an equation names
MAX_INDEX = 2**40
PORTS = ("in", "out")
"""Values that a rule reads."""
_EQUATIONS = (
    "a rule defines `in[i] = ...` and `result = ...`, and may define `in[0] = ...`, `shortcut[i] = ...` "
    "and `shortcut[0] = ...`"
)
_FORMS = (
    "rules join `in`, `in[...]` and `out[...]`, at this step or an earlier one (`-> delay(1)`), by "
    "`sum`, `mean`, `concat`, `max`, `min`, `+` and factors, which may be learnt"
)


class RuleReader:
    """Reads the equations of a rule for the blocks of one stage.

    ``env`` holds the rule's parameters, ``learnt`` the learnable factors read so far, by name.
    """

    def __init__(self, lowering: Evaluator, rule: s.Declaration, env: Env, blocks: int) -> None:
        self.lowering = lowering
        self.rule = rule
        self.n = blocks
        self.fail = lowering.error
        self.learnt: dict[str, v.LearntValue] = {}
        self.env = env
        self._ports: Mapping[str, Sequence[Form]] = {
            "in": [*map(InputOf, range(blocks))],
            "out": [*map(OutputOf, range(blocks))],
        }
        self._block: int | None = None  # block of the current equation, or None for ``result``
        self._place = ""  # path of the current equation's learnable factors
        self._earlier = False  # True inside a delay
        self._forms: dict[str, Form] = {}
        self._lines = self._equations()

    def form_of(self, name: str, i: int | None = None) -> Form | None:
        """Return the form of ``in`` or ``shortcut`` of block i, or of ``result``; None if not defined.

        Each equation is read once; the path of its learnable factors begins with ``place``.
        """
        line = self._lines.get(name if i is None else f"{name}[{'i' if i else 0}]")
        if line is None:
            return None
        place = f"shortcuts.{i}" if name == "shortcut" else f"feeds.{name if i is None else i}"
        if place not in self._forms:
            self._block, self._place = i, place
            values: dict[str, v.Value] = {**self.env.values, "n": self.n}
            if isinstance(line.index, s.Name) and i is not None:
                values[line.index.id] = i
            self._forms[place] = self._form(line.value, replace(self.env, values=values))
        return self._forms[place]

    def _equations(self) -> dict[str, s.Define]:
        """Return the equations by what they define: ``in[i]``, ``in[0]``, ``result`` (E0607)."""
        found: dict[str, s.Define] = {}
        for item in self.rule.body or ():
            match item:
                case s.Define(name, s.Name()) if name in FEEDS:
                    found[f"{name}[i]"] = item
                case s.Define(name, s.Number(value=0)) if name in FEEDS:
                    found[f"{name}[0]"] = item
                case s.Define("result", None):
                    found["result"] = item
                case _:
                    known, name = (*FEEDS, "result"), item.name or ""
                    message = f"`{name}` is not an equation of a rule"
                    hint = None if name in known else did_you_mean(name, known)
                    if name in known and isinstance(item, s.Define):
                        index = "no index" if name == "result" else "the index `i` or `0`"
                        message = f"`{name}` takes {index}"
                    place = item.name_span if isinstance(item, s.Define) else item.span
                    raise self.fail("E0607", message, place, hint=hint or _EQUATIONS)
        for key, line in (("in[i]", "in[i] = out[i-1]"), ("result", "result = out[n-1]")):
            if key not in found:
                message = f"rule `{self.rule.name}` does not define `{key}`"
                hint = add(self.rule, line)
                raise self.fail("E0607", message, self.rule.name_span, hint=hint)
        return found

    def _form(self, expr: s.Expr, env: Env) -> Form:
        lowering = self.lowering
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
                outer, self._earlier = self._earlier, True  # all outputs of earlier steps are known
                form = self._form(value, env)
                self._earlier = outer
                return Delayed(steps, form)
            case s.IfElse(then, condition, otherwise):
                return self._form(then if lowering.condition(condition, env) else otherwise, env)
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
                divisor = lowering.number(right, env, "a divisor")
                if divisor == 0:
                    raise self.fail("E0306", f"division by zero{self._where()}", right.span)
                return Scaled(1 / divisor, self._form(left, env))
        message, hint = "unsupported expression in a rule", _FORMS
        match expr:
            case s.Call(s.Name("learn")):
                message = "learnable parameters in a rule must be factors"
            case s.Call(s.Name(name)):
                message = f"there is no join `{name}`"
                hint = answer("join", name) or did_you_mean(name, JOINS) or _FORMS
            case s.Name(name):
                message = f"`{name}` is not a value of a rule"
        raise self.fail("E0608", message, expr.span, hint=hint)

    def _multiple(self, factor: s.Expr, expr: s.Expr, env: Env) -> Form:
        """Return the product of a value and a number, or learnable factors."""
        value, form = self.lowering.evaluate(factor, env), self._form(expr, env)
        if not isinstance(value, v.LearntValue):
            return Scaled(float(self.lowering.number(factor, env, "a factor")), form)
        if value.offset or value.functions or isinstance(value.learn, Draw):
            message = "in a rule, learnable parameters can only be factors"
            if isinstance(value.learn, Draw):
                message = "a rule has no random numbers"
            hint = "write `learn(...) * out[j]`, or a multiple of it"
            raise self.fail("E0608", message, factor.span, hint=hint)
        name = unique(f"{self._place}.{_word(form)}", self.learnt.__contains__)
        self.learnt[name] = replace(value, factor=1.0)
        product = Scaled(name, form)
        return product if value.is_plain else Scaled(float(value.factor), product)

    def _steps(self, delay: s.Expr, env: Env) -> int:
        """Return the number of steps of a delay."""
        name = s.called(delay)
        layer = self.lowering.evaluate(delay, env) if name is not None and cuts(name.id) else None
        steps = layer.attrs["steps"] if isinstance(layer, v.OpLayer) else None
        if not isinstance(layer, v.OpLayer) or not isinstance(steps, int) or "like" in layer.attrs:
            hint = "layers belong in a connection or a block; a rule only connects blocks"
            message = "the only layer allowed in a rule is `delay(N)`"
            raise self.fail("E0608", message, delay.span, hint=hint)
        return steps

    def _where(self) -> str:
        """Name the block of an error that not every block has."""
        return f" for block {self._block}" if self._block is not None else ""

    def _arg(self, arg: s.Arg, env: Env) -> list[Form]:
        if arg.name is not None:
            raise self.fail("E0301", f"a join has no parameter `{arg.name}`", arg.span)
        value = arg.value
        if isinstance(value, s.Each):
            low, high = self._index(value.low, env), self._index(value.high, env)
            self.lowering.work.spend(TERM * max(0, high - low + 1), value.span)
            forms = []
            for index in range(low, high + 1):
                inner = replace(env, values={**env.values, value.variable: index})
                if value.condition is None or self.lowering.condition(value.condition, inner):
                    forms.append(self._form(value.value, inner))
            return forms
        return self._at(value, env) if isinstance(value, s.At) else [self._form(value, env)]

    def _at(self, expr: s.At, env: Env) -> list[Form]:
        base = expr.base
        if not (isinstance(base, s.Name) and base.id in PORTS):
            hint = did_you_mean(base.id, PORTS) if isinstance(base, s.Name) else None
            message = "only `in` and `out` have an index in a rule"
            raise self.fail("E0608", message, base.span, hint=hint)
        forms: list[Form] = []
        for index in expr.indices:
            ends = (index.low, index.high) if isinstance(index, s.Range) else (index,)
            numbers = [self._index(end, env) for end in ends]
            low, high = numbers[0], numbers[-1]
            if low > high:
                continue
            for number, end in zip(numbers, ends, strict=True):
                value = f"`{base.id}[{number}]`"
                if not 0 <= number < self.n:
                    stage = f"a stage of {self.n} block{'s' if self.n > 1 else ''}"
                    hint = "indices are 0 .. `n - 1`: bound them by `max(0, ...)`, or test them with `if`"
                    message = f"{value} does not exist in {stage}"
                    raise self.fail("E0609", message, end.span, hint=hint)
                if self._block is not None and self._block <= number and not self._earlier:
                    message = f"block {self._block} reads {value}, which is computed later"
                    hint = (
                        "a block reads earlier values: `in`, `in[0 .. i - 1]`, `out[0 .. i - 1]`; use a "
                        "delay to read others at the previous step: `(out[n - 1] -> delay(1))`"
                    )
                    raise self.fail("E0603", message, end.span, hint=hint)
            self.lowering.work.spend(TERM * (high - low + 1), index.span)
            forms += self._ports[base.id][low : high + 1]
        return forms

    def _index(self, expr: s.Expr, env: Env) -> int:
        return self.lowering.whole(expr, env, "an index", -MAX_INDEX, MAX_INDEX)


def _reads(expr: s.Expr) -> bool:
    """True if an expression reads inputs or outputs of blocks."""
    return any(isinstance(node, s.Name) and node.id in PORTS for node in s.walk(expr))


def _word(form: Form) -> str:
    """Name of a learnable factor of a value."""
    match form:
        case OutputOf(block):
            return f"out{block}"
        case InputOf(block):
            return f"in{block}"
        case Join(name):
            return name
        case Scaled(factor):
            return "learn" if isinstance(factor, str) else "scale"
    return "in" if isinstance(form, StageInput) else "delay"
