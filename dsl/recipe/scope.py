"""Evaluation of the settings of one phase, with the types and ranges of the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from math import inf, isfinite, sqrt

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.recipe.item import Change, Item, Summand, Value
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.levels import SettingValue
from danetc.dsl.recipe.schema import (
    ANY,
    POSITIVE,
    Argument,
    BoolType,
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    FunctionType,
    IntType,
    ItemSpec,
    ItemType,
    NameType,
    PathType,
    PhaseType,
    SumType,
    Type,
    contains,
    describe,
    describe_range,
)
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import (
    Arg,
    Binary,
    Call,
    Expr,
    Flow,
    Name,
    Number,
    String,
    Unary,
    called,
)
from danetc.dsl.work import current

Setting = Value | Item | tuple[Item, ...] | tuple[Summand, ...] | tuple[Change, ...] | None

MAX_DEPTH = 100
MAX_OPERATIONS = 10_000
OPERATION = 3  # steps of work
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
"""Functions of expressions, with the fewest and the most values that each takes."""


@record(frozen=False)
class Scope:
    """Settings of one phase, or of the whole recipe, each evaluated when first read.

    ``owner`` is the name of the phase in errors, ``earlier`` are the phases before it, ``lost`` the
    settings whose absence a reported error explains, ``milestones`` the places of the schedule's.
    """

    owner: str
    place: Span
    entries: Mapping[str, SettingValue]
    reporter: Reporter
    earlier: Sequence[str] = ()
    phases: Sequence[str] = ()
    lost: frozenset[str] = frozenset()
    milestones: list[Span] = field(default_factory=list)
    _values: dict[str, Setting] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _running: list[str] = field(default_factory=list)
    _operations: int = 0
    _exhausted: bool = False

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        label: str,
        hint: str | None = None,
        labels: Sequence[Label] = (),
    ) -> Reported:
        """Report an error and return the exception that ends the evaluation of its setting."""
        self.reporter.error(code, message, span, label=label, hint=hint, labels=labels)
        return Reported()

    def value(self, key: str) -> Setting:
        """Return the value of a setting, by default that of the schema. Raises Reported."""
        if key in self._failed:
            raise Reported
        if key in self._values:
            return self._values[key]
        if key in self._running:
            entries = [self.entries[name] for name in self._running[self._running.index(key) :]]
            raise self.error(
                "E0811",
                f"`{key}` depends on itself",
                entries[0].place,
                "needs its own value",
                labels=[Label(entry.place, "through this setting") for entry in entries[1:]],
            )
        self._running.append(key)
        try:
            self._values[key] = self._evaluate(key)
        except Reported:
            self._failed.add(key)
            raise
        finally:
            self._running.remove(key)
        return self._values[key]

    def _evaluate(self, key: str) -> Setting:
        row = SETTINGS[key]
        entry = self.entries.get(key)
        if entry is not None:
            if row.default is None and not row.required and _is_none(entry.value):
                return None
            return self._convert(entry.value, row.type, f"`{key}`")
        if row.required:
            if key in self.lost:
                raise Reported
            label = f"`{key}` is missing: {row.meaning}"
            raise self.error("E0805", f"{self.owner} has no `{key}`", self.place, label)
        if row.default is None:
            return None
        written = Number(row.default) if row.default[0].isdigit() else Name(row.default)
        return self._convert(written, row.type, f"`{key}`")

    def _convert(self, expr: Expr, kind: Type, what: str) -> Setting:
        match kind, expr:
            case ((IntType() | FloatType()), _):
                return self._ranged(expr, kind, what)
            case BoolType(), Name("true" | "false" as word):
                return word == "true"
            case ChoiceType(words), Name(word):
                if word in words:
                    return word
                raise self._wrong_type(expr, kind, what, did_you_mean(word, words))
            case ItemType(family), _:
                return self._item(expr, family, kind, what)
            case ((FlowType() | ChangeType()), Name("none")):
                return ()
            case FlowType(family), _:
                return self._sequence(expr, family, kind, what)
            case SumType(family), _:
                return self._sum(expr, family, kind, what)
            case ChangeType(), _:
                return self._changes(expr, kind, what)
            case PhaseType(), Name():
                return self._phase(expr)
            case NameType(), Name(word):
                return word
            case PathType(), String(text):
                return text
            case FunctionType(), String(text):
                file, _, name = text.rpartition(":")
                if file.endswith(".py") and name.isidentifier():
                    return text
        raise self._wrong_type(expr, kind, what)

    def _wrong_type(self, expr: Expr, kind: Type, what: str, hint: str | None = None) -> Reported:
        wanted = describe(kind)
        message = f"{what} must be {wanted}"
        return self.error("E0802", message, expr.span, f"expected {wanted}", hint)

    def _phase(self, expr: Name) -> str:
        if expr.id in self.earlier:
            return expr.id
        if "phase" in self.lost:
            raise Reported  # it may be the phase that has no name
        if expr.id in self.phases:
            message = f"phase `{expr.id}` does not come before this one"
            label = "a phase starts from one that is already trained"
            raise self.error("E0806", message, expr.span, label)
        message, hint = f"the recipe has no phase `{expr.id}`", did_you_mean(expr.id, self.earlier)
        raise self.error("E0806", message, expr.span, "unknown phase", hint)

    # -- items ------------------------------------------------------------------------------------

    def _sequence(self, expr: Expr, family: str, kind: Type, what: str) -> tuple[Item, ...]:
        """Return the items of a flow."""
        items: list[Item] = []
        mixed: Span | None = None
        failed = False
        for step in expr.steps if isinstance(expr, Flow) else (expr,):
            try:
                item = self._item(step, family, kind, what)
            except Reported:
                failed = True
                continue
            items.append(item)
            if ITEMS[family][item.name].whole_batch:
                mixed = step.span
            elif mixed is not None:
                message = (
                    f"`{item.name}` changes single images and follows an item that mixes images"
                )
                labels = [Label(mixed, "images are mixed here")]
                self.error("E0811", message, step.span, "move this before it", labels=labels)
                failed = True
        if failed:
            raise Reported
        return tuple(items)

    def _sum(self, expr: Expr, family: str, kind: Type, what: str) -> tuple[Summand, ...]:
        """Return the terms of a sum, each an item or a number times one."""
        terms, failed = list[Summand](), False
        for term in _addends(expr):
            factor: Expr | None = None
            match term:
                case Binary("*", Call() | Name() as item, factor) if _names(item, family):
                    pass
                case Binary("*", factor, item):
                    pass
                case item:
                    pass
            try:
                number = 1.0
                if factor is not None:
                    number = float(self._ranged(factor, POSITIVE, f"a factor of {what}"))
                terms.append(Summand(self._item(item, family, kind, what), number))
            except Reported:
                failed = True
        if failed:
            raise Reported
        return tuple(terms)

    def _changes(self, expr: Expr, kind: ChangeType, what: str) -> tuple[Change, ...]:
        """Return parameters of the network by name, each with how it changes."""
        found: dict[str, Change] = {}
        places: dict[str, Span] = {}
        failed = False
        for part in _addends(expr):
            match part:
                case Call(Name(id), args) if id in kind.parts:
                    pass
                case _:
                    raise self._wrong_type(part, kind, what)
            for arg in args:
                if arg.name is None:
                    hint = f"write `{id}(NAME = linear(1.0, 2.0))`"
                    raise self._wrong_type(arg.value, kind, what, hint)
                path = f"{id}.{arg.name}"
                if path in found:
                    labels = [Label(places[path], "first here")]
                    message = f"`{path}` changes twice"
                    self.error("E0809", message, arg.span, "again here", labels=labels)
                    failed = True
                    continue
                try:
                    item = self._item(arg.value, kind.family, ItemType(kind.family), f"`{path}`")
                except Reported:
                    failed = True
                    continue
                found[path], places[path] = Change(path, item), arg.span
        if failed:
            raise Reported
        return tuple(found.values())

    def _item(self, expr: Expr, family: str, kind: Type, what: str) -> Item:
        name = called(expr)
        if name is None:
            raise self._wrong_type(expr, kind, what)
        known = ITEMS[family]
        if name.id not in known:
            hint = answer("item", name.id, family) or did_you_mean(name.id, known)
            hint = hint or f"known names: {', '.join(known)}"
            message = f"{what} cannot be `{name.id}`"
            raise self.error("E0804", message, name.span, "unknown name", hint)
        return self._arguments(known[name.id], name, expr.args if isinstance(expr, Call) else ())

    def _arguments(self, spec: ItemSpec, name: Name, args: Sequence[Arg]) -> Item:
        """Return an item with the arguments of a call; report every wrong one."""
        rows = {row.name: row for row in spec.arguments}
        given: dict[str, Expr] = {}
        many: list[Expr] = []
        failed = False
        for number, arg in enumerate(args):
            key, hint = arg.name, None
            if key is None and spec.many is not None:
                many.append(arg.value)
                continue
            if key is None:
                key = spec.arguments[number].name if number < len(spec.arguments) else ""
            if key in given:
                code, says = "E0809", f"is given `{key}` twice"
            elif key in rows or (key and spec.others):
                given[key] = arg.value
                continue
            elif not key:
                code, says = "E0801", "takes fewer arguments"
            else:
                code, says = "E0801", f"has no argument `{key}`"
                hint = answer("argument", key, spec.name) or did_you_mean(key, rows)
                hint = hint or (f"its arguments: {', '.join(rows)}" if rows else None)
            self._bad_argument(spec, code, arg.span, says, hint)
            failed = True
        values: dict[str, Value | None] = {}
        if spec.many is not None:
            values[spec.many.name] = self._many(spec, spec.many, name, many)
        for row in spec.arguments:
            values[row.name] = self._argument(spec, row, name, given.get(row.name))
        for key in given:
            if key not in rows:
                found = self._argument(spec, Argument(key, ANY, None, ""), name, given[key])
                values[key] = None if found is None else float(found)
        if failed or None in values.values():
            raise Reported
        return Item(spec.name, tuple((key, it) for key, it in values.items() if it is not None))

    def _many(
        self, spec: ItemSpec, row: Argument, name: Name, written: Sequence[Expr]
    ) -> tuple[float, ...] | None:
        """Return the arguments without names; None if one is wrong (reported)."""
        if not written:
            self._bad_argument(spec, "E0805", name.span, f"needs its {row.name}: {row.meaning}")
            return None
        numbers = []
        for expr in written:
            value = self._argument(spec, row, name, expr)
            if isinstance(value, int | float):
                numbers.append(float(value))
                self.milestones.append(expr.span)
        return tuple(numbers) if len(numbers) == len(written) else None

    def _argument(
        self, spec: ItemSpec, row: Argument, name: Name, expr: Expr | None
    ) -> int | float | str | None:
        """Return the value of an argument; None if it is wrong (reported)."""
        if expr is None:
            if row.default is None:
                self._bad_argument(spec, "E0805", name.span, f"needs `{row.name}`: {row.meaning}")
            return row.default
        try:
            value = self._convert(expr, row.type, f"`{row.name}` of `{spec.name}`")
        except Reported:
            return None
        assert isinstance(value, int | float | str)
        return value

    def _bad_argument(
        self, spec: ItemSpec, code: str, span: Span, says: str, hint: str | None = None
    ) -> None:
        self.error(code, f"`{spec.name}` {says}", span, says, hint)

    # -- numbers ----------------------------------------------------------------------------------

    def _ranged(self, expr: Expr, kind: IntType | FloatType, what: str) -> int | float:
        """Return the value of a numeric expression, which may name other settings."""
        value = self._number(expr, kind, what, expr, 0)
        if not contains(kind, value):
            limits = f"must be {describe_range(kind)}"
            raise self.error("E0803", f"{what} is {value:.10g}, but {limits}", expr.span, limits)
        if isinstance(kind, FloatType):
            return float(value)
        if value != int(value):
            message = f"{what} is {value:.10g}, but must be a whole number"
            raise self.error("E0802", message, expr.span, "not a whole number")
        return int(value)

    def _number(
        self, expr: Expr, kind: IntType | FloatType, what: str, whole: Expr, depth: int
    ) -> int | float:
        self._operations += 1
        current().spend(OPERATION, expr.span)
        if depth > MAX_DEPTH or self._operations > MAX_OPERATIONS:
            if not self._exhausted:
                message = f"the number for {what} takes too many operations"
                self.error("E0901", message, whole.span, "too much to compute")
            self._exhausted = True
            raise Reported

        def number(operand: Expr) -> int | float:
            return self._number(operand, kind, what, whole, depth + 1)

        match expr:
            case Number():
                return self._finite(lambda: expr.value, expr)
            case Name():
                return self._of_setting(expr, kind, what)
            case Unary("-", operand):
                return -number(operand)
            case Binary(op, left, right) if op in _OPERATORS:
                a, b = number(left), number(right)
                return self._finite(lambda: _OPERATORS[op](a, b), expr)
            case Call(Name(name), args) if name in FUNCTIONS and args:
                (fewest, most), function = FUNCTIONS[name]
                if fewest <= len(args) <= most and all(arg.name is None for arg in args):
                    parts = [number(arg.value) for arg in args]
                    return self._finite(lambda: function(*parts), expr)
        raise self._wrong_type(expr, kind, what)

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
        raise self.error("E0803", problem, expr.span, problem)

    def _of_setting(self, expr: Name, kind: IntType | FloatType, what: str) -> int | float:
        """Return the number that another setting of the recipe has."""
        name = expr.id
        known = [key for key, row in SETTINGS.items() if isinstance(row.type, IntType | FloatType)]
        if name not in known:
            hint = did_you_mean(name, known)
            if hint is None:
                raise self._wrong_type(expr, kind, what)
            message = f"a recipe has no number `{name}`"
            raise self.error("E0801", message, expr.span, "unknown name", hint)
        value = self.value(name)
        if isinstance(value, int | float):
            return value
        message = f"`{name}` is not set, so {what} cannot be computed"
        hint = f"set `{name}` in the recipe"
        raise self.error("E0805", message, expr.span, "has no value here", hint)


def _addends(expr: Expr) -> Iterator[Expr]:
    """Iterate over the terms of a sum, from left to right."""
    waiting = [expr]
    while waiting:
        match waiting.pop():
            case Binary("+", left, right):
                waiting += [right, left]
            case term:
                yield term


def _is_none(expr: Expr) -> bool:
    return isinstance(expr, Name) and expr.id == "none"


def _names(expr: Call | Name, family: str) -> bool:
    """True if an expression is an item of a family, and no number."""
    name = called(expr)
    return name is not None and name.id in ITEMS[family]
