"""Evaluation of the settings of one phase, with the types and ranges of the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from functools import partial
from math import inf, isfinite, sqrt
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter, apply_all, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.neuron.opcodes import INFIX, ConstantError, compute
from danetc.dsl.recipe.item import RESERVED, Change, Item, Summand, Value
from danetc.dsl.recipe.items import ANY, ITEMS, POSITIVE, item_spec
from danetc.dsl.recipe.levels import SettingValue
from danetc.dsl.recipe.schema import (
    Argument,
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    IntType,
    ItemType,
    SumType,
    Type,
    WordType,
    contains,
    describe,
    describe_range,
)
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.work import current

Setting = Value | Item | tuple[Item, ...] | tuple[Summand, ...] | tuple[Change, ...] | None

OPERATION = 3  # steps of work
FUNCTIONS: Mapping[str, tuple[tuple[int, float], Callable[..., float]]] = {
    "min": ((2, inf), min),
    "max": ((2, inf), max),
    "sqrt": ((1, 1), sqrt),
}
"""Functions of expressions, with the fewest and the most values that each takes."""


@record(frozen=False)
class Scope:
    """The settings of a phase or of the recipe. A setting is evaluated when it is first read.

    ``owner`` is the name of the phase in errors, ``earlier`` are the phases before it, and ``lost`` are
    missing settings whose cause has been reported.
    """

    owner: str
    place: Span
    entries: Mapping[str, SettingValue]
    reporter: Reporter
    earlier: Sequence[str] = ()
    phases: Sequence[str] = ()
    lost: AbstractSet[str] = frozenset()
    _values: dict[str, Setting] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _running: list[str] = field(default_factory=list)

    @property
    def error(self) -> Callable[..., Reported]:
        """Function that reports an error and returns the exception to raise (``Reporter.error``)."""
        return self.reporter.error

    def values(self, keys: Sequence[str]) -> dict[str, Any] | None:
        """Return the values of settings; None if one is wrong. Every wrong one is reported."""
        try:
            return dict(zip(keys, apply_all(self.value, keys), strict=True))
        except Reported:
            return None

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
                label="needs its own value",
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
        if key in self.entries:
            expr = self.entries[key].value
            optional = row.default is None and not row.required
            if optional and isinstance(expr, s.Name) and expr.id == "none":
                return None
            return self._convert(expr, row.type, f"`{key}`")
        if row.required:
            if key in self.lost:
                raise Reported
            label = f"`{key}` is missing: {row.meaning}"
            raise self.error("E0805", f"{self.owner} has no `{key}`", self.place, label=label)
        if row.default is None:
            return None
        written = s.Number(row.default) if row.default[0].isdigit() else s.Name(row.default)
        return self._convert(written, row.type, f"`{key}`")

    def _convert(self, expr: s.Expr, kind: Type, what: str) -> Setting:
        match kind, expr:
            case ((IntType() | FloatType()), _):
                return self._ranged(expr, kind, what)
            case WordType.BOOL, s.Name("true" | "false" as word):
                return word == "true"
            case ChoiceType(words), s.Name(word):
                if word in words:
                    return word
                raise self._wrong_type(expr, kind, what, did_you_mean(word, words))
            case ItemType(family), _:
                return self._item(expr, family, kind, what)
            case ((FlowType() | ChangeType()), s.Name("none")):
                return ()
            case FlowType(family), _:
                return self._sequence(expr, family, kind, what)
            case SumType(family), _:
                terms = apply_all(lambda it: self._term(it, family, kind, what), _addends(expr))
                return tuple(terms)
            case ChangeType(), _:
                return self._changes(expr, kind, what)
            case WordType.PHASE, s.Name():
                return self._phase(expr)
            case WordType.NAME, s.Name(word):
                return word
            case ((WordType.PATH | WordType.LAYERS), s.String(text)):
                return text
            case WordType.FUNCTION, s.String(text):
                file, _, name = text.rpartition(":")
                if file.endswith(".py") and name.isidentifier():
                    return text
        raise self._wrong_type(expr, kind, what)

    def _wrong_type(self, expr: s.Expr, kind: Type, what: str, hint: str | None = None) -> Reported:
        wanted = describe(kind)
        message = f"{what} must be {wanted}"
        return self.error("E0802", message, expr.span, label=f"expected {wanted}", hint=hint)

    def _phase(self, expr: s.Name) -> str:
        if expr.id in self.earlier:
            return expr.id
        if "phase" in self.lost:
            raise Reported  # it may be the phase that has no name
        message = f"the recipe has no phase `{expr.id}`"
        if expr.id in self.phases:
            message = f"phase `{expr.id}` does not come before this one"
        hint = did_you_mean(expr.id, self.earlier)
        raise self.error("E0806", message, expr.span, label="must be an earlier phase", hint=hint)

    # -- items ------------------------------------------------------------------------------------

    def _sequence(self, expr: s.Expr, family: str, kind: Type, what: str) -> tuple[Item, ...]:
        """Return the items of a flow."""
        steps = expr.steps if isinstance(expr, s.Flow) else (expr,)
        items = apply_all(lambda step: self._item(step, family, kind, what), steps)
        mixed: Span | None = None
        for step, item in zip(steps, items, strict=True):
            if ITEMS[family][item.name].whole_batch:
                mixed = step.span
            elif mixed is not None:
                message = (
                    f"`{item.name}` changes single images and follows an item that mixes images"
                )
                labels = [Label(mixed, "images are mixed here")]
                label = "move this before it"
                raise self.error("E0811", message, step.span, label=label, labels=labels)
        return tuple(items)

    def _term(self, term: s.Expr, family: str, kind: Type, what: str) -> Summand:
        """Return a term of a sum: an item, or a number times one."""
        item, factor = term, 1.0
        if isinstance(term, s.Binary) and term.op == "*":
            item, number = term.right, term.left
            name = s.called(number)
            if name is not None and name.id in ITEMS[family]:
                item, number = number, item
            factor = float(self._ranged(number, POSITIVE, f"a factor of {what}"))
        return Summand(self._item(item, family, kind, what), factor)

    def _changes(self, expr: s.Expr, kind: ChangeType, what: str) -> tuple[Change, ...]:
        """Return parameters of the network by name, each with how it changes."""
        places: dict[str, Span] = {}

        def change(item: tuple[str, s.Arg]) -> Change:
            part, arg = item
            if arg.name is None:
                hint = f"write `{part}(NAME = linear(1.0, 2.0))`"
                raise self._wrong_type(arg.value, kind, what, hint)
            path = f"{part}.{arg.name}"
            if path in places:
                labels = [Label(places[path], "first here")]
                message = f"`{path}` changes twice"
                raise self.error("E0809", message, arg.span, label="again here", labels=labels)
            places[path] = arg.span
            family = kind.family
            return Change(path, self._item(arg.value, family, ItemType(family), f"`{path}`"))

        args: list[tuple[str, s.Arg]] = []
        for part in _addends(expr):
            match part:
                case s.Call(s.Name(id), given) if id in kind.parts:
                    args += [(id, arg) for arg in given]
                case _:
                    raise self._wrong_type(part, kind, what)
        return tuple(apply_all(change, args))

    def _item(self, expr: s.Expr, family: str, kind: Type, what: str) -> Item:
        """Return an item with its arguments; report every wrong one."""
        name = s.called(expr)
        if name is None:
            raise self._wrong_type(expr, kind, what)
        known, spec = ITEMS[family], item_spec(family, name.id)
        if spec is None:
            hint = answer("item", name.id, family) or did_you_mean(name.id, known)
            hint = hint or f"known names: {', '.join(known)}"
            message = f"{what} cannot be `{name.id}`"
            raise self.error("E0804", message, name.span, label="unknown name", hint=hint)
        rows = {row.name: row for row in spec.arguments}
        names = [*rows]
        given: dict[str, s.Expr] = {}
        many: list[s.Expr] = []

        def bad(code: str, span: Span, says: str, hint: str | None = None) -> Reported:
            return self.error(code, f"`{spec.name}` {says}", span, label=says, hint=hint)

        def take(number: int, arg: s.Arg) -> Reported | None:
            if arg.name is None and spec.many is not None:
                many.append(arg.value)
                return None
            key = arg.name or (names[number] if number < len(names) else None)
            if key is None:
                return bad("E0801", arg.span, "takes fewer arguments")
            if key in given:
                return bad("E0809", arg.span, f"is given `{key}` twice")
            if key not in rows and (not spec.others or key in RESERVED):
                hint = answer("argument", key, spec.name) or did_you_mean(key, rows)
                hint = hint or (f"its arguments: {', '.join(rows)}" if rows else None)
                return bad("E0801", arg.span, f"has no argument `{key}`", hint)
            given[key] = arg.value
            return None

        def value(row: Argument) -> Any:
            what = f"`{row.name}` of `{spec.name}`"
            if row is spec.many and many:
                return tuple(apply_all(lambda it: self._convert(it, row.type, what), many))
            if row.name in given:
                return self._convert(given[row.name], row.type, what)
            if row.default is None:
                raise bad("E0805", name.span, f"needs `{row.name}`: {row.meaning}")
            return row.default

        args = expr.args if isinstance(expr, s.Call) else ()
        wrong = [take(number, arg) for number, arg in enumerate(args)]
        others = (Argument(key, ANY, None, "") for key in given if key not in rows)
        wanted = [*filter(None, [spec.many]), *spec.arguments, *others]
        values = apply_all(value, wanted)
        if any(wrong):
            raise Reported
        return Item(spec.name, tuple(zip((row.name for row in wanted), values, strict=True)))

    # -- numbers ----------------------------------------------------------------------------------

    def _ranged(self, expr: s.Expr, kind: IntType | FloatType, what: str) -> int | float:
        """Return the value of a numeric expression, which may name other settings."""
        value = self._number(expr, kind, what)
        if not contains(kind, value):
            limits = f"must be {describe_range(kind)}"
            message = f"{what} is {value:.10g}, but {limits}"
            raise self.error("E0803", message, expr.span, label=limits)
        if isinstance(kind, FloatType):
            return float(value)
        if value != int(value):
            message = f"{what} is {value:.10g}, but must be a whole number"
            raise self.error("E0802", message, expr.span, label="not a whole number")
        return int(value)

    def _number(self, expr: s.Expr, kind: IntType | FloatType, what: str) -> int | float:
        current().spend(OPERATION, expr.span)
        function: Callable[..., float]
        match expr:
            case s.Name():
                return self._of_setting(expr, kind, what)
            case s.Number():
                function, operands = lambda: expr.value, []
            case s.Unary("-", operand):
                function, operands = partial(compute, "neg"), [operand]
            case s.Binary("+" | "-" | "*" | "/" as op, left, right):
                function, operands = partial(compute, INFIX[op]), [left, right]
            case s.Call(s.Name(name), args) if name in FUNCTIONS:
                (fewest, most), function = FUNCTIONS[name]
                operands = [arg.value for arg in args if arg.name is None]
                if not fewest <= len(operands) <= most or len(operands) < len(args):
                    raise self._wrong_type(expr, kind, what)
            case _:
                raise self._wrong_type(expr, kind, what)
        values = [self._number(operand, kind, what) for operand in operands]
        try:
            value = function(*values)
            if isfinite(value):
                return value
            problem = "the number is too large"
        except ConstantError:
            problem = "division by zero"
        except (OverflowError, ValueError):
            problem = "not a number that can be computed"
        raise self.error("E0803", problem, expr.span, label=problem)

    def _of_setting(self, expr: s.Name, kind: IntType | FloatType, what: str) -> int | float:
        """Return the number that another setting of the recipe has."""
        name = expr.id
        known = [key for key, row in SETTINGS.items() if isinstance(row.type, IntType | FloatType)]
        if name not in known:
            hint = did_you_mean(name, known)
            if hint is None:
                raise self._wrong_type(expr, kind, what)
            message = f"a recipe has no number `{name}`"
            raise self.error("E0801", message, expr.span, label="unknown name", hint=hint)
        value = self.value(name)
        if isinstance(value, int | float):
            return value
        message = f"`{name}` is not set, so {what} cannot be computed"
        hint = f"set `{name}` in the recipe"
        raise self.error("E0805", message, expr.span, label="has no value here", hint=hint)


def _addends(expr: s.Expr) -> Iterator[s.Expr]:
    """Iterate over the terms of a sum, from left to right."""
    if isinstance(expr, s.Binary) and expr.op == "+":
        yield from _addends(expr.left)
        expr = expr.right
    yield expr
