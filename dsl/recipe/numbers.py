"""Numbers of recipe settings: expressions that may name other settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite, sqrt

from danetc.dsl.diagnostics.diagnostic import Reported, Reporter, did_you_mean
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.value_types import FloatType, IntType, Type, describe
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Binary, Call, Expr, Name, Number, Unary
from danetc.dsl.work import current

MAX_DEPTH = 100
MAX_OPERATIONS = 10_000
OPERATION = 3  # steps of work


def wrong_type(
    reporter: Reporter, span: Span, kind: Type, what: str, hint: str | None = None
) -> Reported:
    """Report a value that is not of its type, and give the exception that ends its evaluation."""
    reporter.error(
        "E0802",
        f"{what} must be {describe(kind)}",
        span,
        label=f"expected {describe(kind)}",
        hint=hint,
    )
    return Reported()


@record
class _Wanted:
    """A number that is evaluated: how an error names it, its type, and the whole expression."""

    what: str
    kind: Type
    expr: Expr


@record(frozen=False)
class NumberReader:
    """Evaluates the numeric expressions of one phase. ``setting`` gives the value of a setting."""

    setting: Callable[[str], object]
    reporter: Reporter
    _operations: int = 0
    _exhausted: bool = False

    def value(self, expr: Expr, what: str, kind: IntType | FloatType) -> int | float:
        """The value of an expression. Raises Reported."""
        return self._value(expr, _Wanted(what, kind, expr), 0)

    def _value(self, expr: Expr, wanted: _Wanted, depth: int) -> int | float:
        self._operations += 1
        current().spend(OPERATION, expr.span)
        if depth > MAX_DEPTH or self._operations > MAX_OPERATIONS:
            raise self._too_large(wanted)
        match expr:
            case Number():
                return self._finite(lambda: expr.value, expr)
            case Name():
                return self._of_setting(expr, wanted)
            case Unary(op="-", operand=operand):
                return -self._value(operand, wanted, depth + 1)
            case Binary(op=op, left=left, right=right) if op in _OPERATORS:
                a = self._value(left, wanted, depth + 1)
                b = self._value(right, wanted, depth + 1)
                return self._finite(lambda: _OPERATORS[op](a, b), expr)
            case Call(function=Name(id=name), args=args) if name in FUNCTIONS and args:
                (fewest, most), function = FUNCTIONS[name]
                fits = fewest <= len(args) <= most
                if fits and all(item.name is None for item in args):
                    parts = [self._value(item.value, wanted, depth + 1) for item in args]
                    return self._finite(lambda: function(*parts), expr)
        raise wrong_type(self.reporter, expr.span, wanted.kind, wanted.what)

    def _too_large(self, wanted: _Wanted) -> Reported:
        if not self._exhausted:
            self.reporter.error(
                "E0901",
                f"the number for {wanted.what} takes too many operations",
                wanted.expr.span,
                label="too much to compute",
            )
        self._exhausted = True
        return Reported()

    def _finite(self, compute: Callable[[], int | float], expr: Expr) -> int | float:
        try:
            value = compute()
            if isfinite(value):
                return value
            problem = "the number is too large"
        except ZeroDivisionError:
            problem = "division by zero"
        except (OverflowError, ValueError):
            problem = "not a number that can be computed"
        self.reporter.error("E0803", problem, expr.span, label=problem)
        raise Reported

    def _of_setting(self, expr: Name, wanted: _Wanted) -> int | float:
        """The number that another setting of the recipe has."""
        name = expr.id
        known = [key for key, row in SETTINGS.items() if isinstance(row.type, IntType | FloatType)]
        if name not in known:
            hint = did_you_mean(name, known)
            if hint is None:
                raise wrong_type(self.reporter, expr.span, wanted.kind, wanted.what)
            self.reporter.error(
                "E0801",
                f"a recipe has no number `{name}`",
                expr.span,
                label="unknown name",
                hint=hint,
            )
            raise Reported
        value = self.setting(name)
        if isinstance(value, int | float):
            return value
        self.reporter.error(
            "E0805",
            f"`{name}` is not set, so {wanted.what} cannot be computed",
            expr.span,
            label="has no value here",
            hint=f"set `{name}` in the recipe",
        )
        raise Reported


_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
FUNCTIONS: Mapping[str, tuple[tuple[int, float], Callable[..., float]]] = {
    "min": ((2, inf), min),
    "max": ((2, inf), max),
    "sqrt": ((1, 1), sqrt),
}
"""The functions of expressions, with the fewest and the most values that each takes."""
