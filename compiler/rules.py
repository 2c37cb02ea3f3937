"""Rules: the indexed equations between the blocks of a stage, as forms and as nodes.

A form is what an equation says of one value (``graph.Form``). Lowering builds nodes from forms;
``verify`` holds the lowered graph against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from danetc.compiler.graph import Form
from danetc.compiler.values import Failed
from danetc.dsl import syntax as s
from danetc.dsl.source import Span

Number = int | float
Constant = Callable[[s.Expr, dict[str, Any]], Any]
Fail = Callable[..., Failed]

_JOINS = {"sum": "sum", "concat": "concat", "max": "max", "min": "min"}


class RuleReader:
    """Reads the equations of one rule for blocks of one stage.

    ``constant(expr, {"i": ..., "n": ...})`` evaluates numbers; ``fail`` reports an error.
    """

    def __init__(self, rule: s.Declaration, blocks: int, constant: Constant, fail: Fail) -> None:
        self.rule = rule
        self.n = blocks
        self.constant = constant
        self.fail = fail
        self.feed: s.Define | None = None
        self.result: s.Define | None = None
        for item in rule.body or ():
            if not isinstance(item, s.Define):
                raise fail("E0607", "a rule holds equations alone", item.span)
            if item.name == "in" and isinstance(item.index, s.Name):
                self.feed = item
            elif item.name == "result" and item.index is None:
                self.result = item
            else:
                raise fail(
                    "E0607",
                    f"`{item.name}` is not an equation of a rule",
                    item.name_span,
                    hint="a rule says `in[i] = ...` and `result = ...`",
                )
        if self.feed is None or self.result is None:
            missing = "in[i]" if self.feed is None else "result"
            raise fail(
                "E0607",
                f"rule `{rule.name}` does not say what `{missing}` is",
                rule.name_span,
                hint=f"add `{missing} = ...`",
            )

    def feed_of(self, i: int) -> Form:
        """What feeds block i; block 0 is fed by the stage's input."""
        if i == 0:
            return ("in", 0)
        assert self.feed is not None
        assert isinstance(self.feed.index, s.Name)
        return self._form(self.feed.value, {self.feed.index.id: i, "n": self.n}, i, i - 1)

    def result_form(self) -> Form:
        """What the stage gives."""
        assert self.result is not None
        return self._form(self.result.value, {"n": self.n}, self.n, self.n - 1)

    def _form(self, expr: s.Expr, env: dict[str, Any], ins: int, outs: int) -> Form:
        """``in`` may be read below ``ins``, ``out`` up to ``outs``."""
        match expr:
            case s.At():
                forms = self._at(expr, env, ins, outs)
                if len(forms) != 1:
                    raise self.fail(
                        "E0608",
                        f"{len(forms)} values stand where one is needed",
                        expr.span,
                        hint="put them into `sum(...)` or `concat(...)`",
                    )
                return forms[0]
            case s.IfElse(then, condition, otherwise):
                return self._form(
                    then if self.constant(condition, env) else otherwise, env, ins, outs
                )
            case s.Call(s.Name(name), args) if name in _JOINS:
                forms = [form for arg in args for form in self._arg(arg, env, ins, outs)]
                if not forms:
                    where = f" for i = {env['i']}" if "i" in env else ""
                    raise self.fail(
                        "E0608",
                        f"`{name}` has nothing to take{where}",
                        expr.span,
                        hint="let its range or its condition hold for every block from 1 on",
                    )
                return forms[0] if len(forms) == 1 else (_JOINS[name], *forms)
            case s.Binary("+", left, right):
                return ("sum", self._form(left, env, ins, outs), self._form(right, env, ins, outs))
            case s.Binary("*", left, right) if _reads(left) != _reads(right):
                factor, form = (right, left) if _reads(left) else (left, right)
                return (
                    "scale",
                    float(self.constant(factor, env)),
                    self._form(form, env, ins, outs),
                )
            case s.Binary("/", left, right) if _reads(left) and not _reads(right):
                divisor = float(self.constant(right, env))
                if divisor == 0:
                    raise self.fail("E0306", "division by zero", right.span)
                return ("scale", 1 / divisor, self._form(left, env, ins, outs))
        raise self.fail(
            "E0608",
            "a rule cannot say this",
            expr.span,
            hint="rules join `in[...]` and `out[...]` by `sum`, `concat`, `max`, `min`, `+` and numbers",
        )

    def _arg(self, arg: s.Arg, env: dict[str, Any], ins: int, outs: int) -> list[Form]:
        if arg.name is not None:
            raise self.fail("E0301", f"a join has no parameter `{arg.name}`", arg.span)
        value = arg.value
        if isinstance(value, s.Each):
            low, high = self._bounds(value.low, value.high, env)
            forms = []
            for index in range(low, high + 1):
                inner = {**env, value.variable: index}
                if value.condition is None or self.constant(value.condition, inner):
                    forms.append(self._form(value.value, inner, ins, outs))
            return forms
        if isinstance(value, s.At):
            return self._at(value, env, ins, outs)
        return [self._form(value, env, ins, outs)]

    def _at(self, expr: s.At, env: dict[str, Any], ins: int, outs: int) -> list[Form]:
        if not (isinstance(expr.base, s.Name) and expr.base.id in ("in", "out")):
            raise self.fail("E0608", "only `in` and `out` have an index in a rule", expr.base.span)
        port = expr.base.id
        last = ins if port == "in" else outs
        forms: list[Form] = []
        for index in expr.indices:
            if isinstance(index, s.Range):
                low, high = self._bounds(index.low, index.high, env)
            else:
                low = high = self._index(index, env)
            for j in range(low, high + 1):
                self._check(port, j, last, index.span, env)
                forms.append((port, j))
        return forms

    def _check(self, port: str, j: int, last: int, span: Span, env: dict[str, Any]) -> None:
        if port == "in" and last == self.n:
            last = self.n - 1  # the result may read every input
        elif port == "in":
            last -= 1
        if j < 0:
            raise self.fail(
                "E0609",
                f"`{port}[{j}]` does not exist: indices start at 0",
                span,
                hint="bound the index: `max(0, ...)`, or test it with `if`",
            )
        if j > last:
            blocks = f"a stage of {self.n} block{'s' if self.n > 1 else ''}"
            later = j < self.n
            raise self.fail(
                "E0603" if later else "E0609",
                f"`{port}[{j}]` of a later block feeds block {env.get('i', '?')}"
                if later
                else f"`{port}[{j}]` does not exist in {blocks}",
                span,
                hint="a block can read only what stands before it: `out[0 .. i-1]`"
                if later
                else "the last block has index n-1",
            )

    def _bounds(self, low: s.Expr, high: s.Expr, env: dict[str, Any]) -> tuple[int, int]:
        return self._index(low, env), self._index(high, env)

    def _index(self, expr: s.Expr, env: dict[str, Any]) -> int:
        value = self.constant(expr, env)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail("E0609", f"an index must be a whole number, not {value}", expr.span)
        return value


def _reads(expr: s.Expr) -> bool:
    return any(
        isinstance(n, s.At) and isinstance(n.base, s.Name) and n.base.id in ("in", "out")
        for n in s.walk(expr)
    )  # type: ignore[arg-type]
