"""The settings of one phase: expressions to typed data, within the ranges of the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.recipe.item import Change, Item, Summand, Value
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.items.arguments import ANY, POSITIVE
from danetc.dsl.recipe.levels import SettingValue
from danetc.dsl.recipe.numbers import NumberReader, wrong_type
from danetc.dsl.recipe.schema import Argument, ItemSpec
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.value_types import (
    BoolType,
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    FunctionType,
    IntType,
    ItemType,
    NameType,
    PathType,
    PhaseType,
    SumType,
    Type,
    contains,
    describe_range,
)
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Arg, Binary, Call, Expr, Flow, Name, Number, String, called

Setting = Value | Item | tuple[Item, ...] | tuple[Summand, ...] | tuple[Change, ...] | None


@record(frozen=False, slots=False)
class Scope:
    """The settings of one phase (or of the whole recipe), each evaluated when it is asked for."""

    owner: str  # how an error names it
    place: Span
    entries: Mapping[str, SettingValue]
    reporter: Reporter
    earlier: Sequence[str] = ()  # the phases before this one
    phases: Sequence[str] = ()
    lost: frozenset[str] = frozenset()  # settings whose lack a reported error explains
    milestones: list[Span] = field(default_factory=list)  # places of the schedule's epochs
    _values: dict[str, Setting] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _running: list[str] = field(default_factory=list)

    @cached_property
    def _numbers(self) -> NumberReader:
        return NumberReader(self.value, self.reporter)

    def value(self, key: str) -> Setting:
        """The value of a setting, its default where it is not written. Raises Reported."""
        if key in self._failed:
            raise Reported
        if key not in self._values:
            if key in self._running:
                self._depends_on_itself(key)
                raise Reported
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
            unset = row.default is None and not row.required
            if unset and isinstance(entry.value, Name) and entry.value.id == "none":
                return None
            return self._convert(entry.value, row.type, f"`{key}`")
        if row.required and key in self.lost:
            raise Reported
        if row.required:
            self.reporter.error(
                "E0805",
                f"{self.owner} has no `{key}`",
                self.place,
                label=f"`{key}` is missing: {row.meaning}",
            )
            raise Reported
        if row.default is None:
            return None
        written = Number(row.default) if row.default[0].isdigit() else Name(row.default)
        return self._convert(written, row.type, f"`{key}`")

    def _depends_on_itself(self, key: str) -> None:
        circle = self._running[self._running.index(key) :]
        entries = [self.entries[name] for name in circle]
        self.reporter.error(
            "E0811",
            f"`{key}` is written in terms of itself",
            entries[0].place,
            label="needs its own value",
            labels=[Label(entry.place, "through this setting") for entry in entries[1:]],
        )

    # ----------------------------------------------------------------------------------------------

    def _convert(self, expr: Expr, kind: Type, what: str) -> Setting:
        match kind:
            case IntType() | FloatType():
                return self._ranged(expr, kind, what)
            case BoolType():
                if isinstance(expr, Name) and expr.id in ("true", "false"):
                    return expr.id == "true"
            case ChoiceType(words):
                if isinstance(expr, Name):
                    if expr.id in words:
                        return expr.id
                    raise self._wrong_type(expr, kind, what, did_you_mean(expr.id, words))
            case ItemType(family):
                return self._item(expr, family, kind, what)
            case FlowType(family):
                if isinstance(expr, Name) and expr.id == "none":
                    return ()
                steps = expr.steps if isinstance(expr, Flow) else (expr,)
                return self._sequence(steps, family, kind, what)
            case SumType(family):
                return self._sum(expr, family, kind, what)
            case ChangeType():
                if isinstance(expr, Name) and expr.id == "none":
                    return ()
                return self._changes(expr, kind, what)
            case PhaseType():
                if isinstance(expr, Name):
                    return self._phase(expr)
            case NameType():
                if isinstance(expr, Name):
                    return expr.id
            case PathType():
                if isinstance(expr, String):
                    return expr.value
            case FunctionType():
                if isinstance(expr, String):
                    file, _, name = expr.value.rpartition(":")
                    if file.endswith(".py") and name.isidentifier():
                        return expr.value
        raise self._wrong_type(expr, kind, what)

    def _wrong_type(self, expr: Expr, kind: Type, what: str, hint: str | None = None) -> Reported:
        return wrong_type(self.reporter, expr.span, kind, what, hint)

    def _phase(self, expr: Name) -> str:
        if expr.id in self.earlier:
            return expr.id
        if "phase" in self.lost:
            raise Reported  # it may be the phase that has no name
        later = expr.id in self.phases
        self.reporter.error(
            "E0806",
            f"phase `{expr.id}` does not come before this one"
            if later
            else f"the recipe has no phase `{expr.id}`",
            expr.span,
            label="a phase starts from one that is already trained" if later else "unknown phase",
            hint=None if later else did_you_mean(expr.id, self.earlier),
        )
        raise Reported

    def _sequence(
        self, steps: Sequence[Expr], family: str, kind: Type, what: str
    ) -> tuple[Item, ...]:
        items: list[Item] = []
        mixed: Span | None = None
        failed = False
        for step in steps:
            try:
                item = self._item(step, family, kind, what)
            except Reported:
                failed = True
                continue
            items.append(item)
            if ITEMS[family][item.name].whole_batch:
                mixed = step.span
            elif mixed is not None:
                self.reporter.error(
                    "E0811",
                    f"`{item.name}` changes one image and comes after images were mixed",
                    step.span,
                    label="move this before it",
                    labels=[Label(mixed, "images are mixed here")],
                )
                failed = True
        if failed:
            raise Reported
        return tuple(items)

    def _sum(self, expr: Expr, family: str, kind: Type, what: str) -> tuple[Summand, ...]:
        """The terms of a sum, each an item or a number times one."""
        waiting, terms, failed = [expr], list[Summand](), False
        factor: Expr | None
        while waiting:
            match waiting.pop():
                case Binary("+", left, right):
                    waiting += [right, left]
                    continue
                case Binary("*", Call() | Name() as item, factor) if _names(item, family):
                    pass
                case Binary("*", factor, item):
                    pass
                case item:
                    factor = None
            try:
                number = (
                    1.0 if factor is None else self._ranged(factor, POSITIVE, f"a factor of {what}")
                )
                terms.append(Summand(self._item(item, family, kind, what), float(number)))
            except Reported:
                failed = True
        if failed:
            raise Reported
        return tuple(terms)

    def _changes(self, expr: Expr, kind: ChangeType, what: str) -> tuple[Change, ...]:
        """Parameters of the network by their names, each with how it changes."""
        found: dict[str, Change] = {}
        places: dict[str, Span] = {}
        waiting, failed = [expr], False
        while waiting:
            match waiting.pop():
                case Binary("+", left, right):
                    waiting += [right, left]
                case Call(Name(part), args) if part in kind.parts:
                    for arg in args:
                        if not isinstance(arg, Arg) or arg.name is None:
                            place = getattr(arg, "span", expr.span)
                            hint = f"write `{part}(NAME = linear(1.0, 2.0))`"
                            raise wrong_type(self.reporter, place, kind, what, hint)
                        path = f"{part}.{arg.name}"
                        if path in found:
                            self.reporter.error(
                                "E0809",
                                f"`{path}` changes twice",
                                arg.span,
                                label="again here",
                                labels=[Label(places[path], "first here")],
                            )
                            failed = True
                            continue
                        of = ItemType(kind.family)
                        try:
                            item = self._item(arg.value, kind.family, of, f"`{path}`")
                        except Reported:
                            failed = True
                            continue
                        found[path], places[path] = Change(path, item), arg.span
                case other:
                    raise self._wrong_type(other, kind, what)
        if failed:
            raise Reported
        return tuple(found.values())

    def _item(self, expr: Expr, family: str, kind: Type, what: str) -> Item:
        match expr:
            case Name():
                name, args = expr, tuple[Arg, ...]()
            case Call(function=Name() as name, args=args):
                pass
            case _:
                raise self._wrong_type(expr, kind, what)
        known = ITEMS[family]
        if name.id not in known:
            self.reporter.error(
                "E0804",
                f"{what} cannot be `{name.id}`",
                name.span,
                label="unknown name",
                hint=answer("item", name.id, family)
                or did_you_mean(name.id, known)
                or f"known are: {', '.join(known)}",
            )
            raise Reported
        return self._arguments(known[name.id], name, args)

    def _arguments(self, spec: ItemSpec, name: Name, args: Sequence[Arg]) -> Item:
        rows = {row.name: row for row in spec.arguments}
        given: dict[str, Expr] = {}
        others: dict[str, Expr] = {}
        many: list[Expr] = []
        failed = False
        for number, item in enumerate(args):
            if not isinstance(item, Arg):
                raise self._bad_argument(
                    spec, "E0802", getattr(item, "span", name.span), "no value"
                )
            if item.name is None and spec.many is not None:
                many.append(item.value)
                continue
            key = item.name
            if key is None:
                if number >= len(spec.arguments):
                    self._bad_argument(spec, "E0801", item.span, "takes fewer arguments")
                    failed = True
                    continue
                key = spec.arguments[number].name
            if key not in rows and spec.others and key not in others:
                others[key] = item.value
            elif key not in rows and not spec.others:
                hint = answer("argument", key, spec.name) or did_you_mean(key, rows)
                if hint is None and rows:
                    hint = f"its arguments: {', '.join(rows)}"
                self._bad_argument(spec, "E0801", item.span, f"has no argument `{key}`", hint)
                failed = True
            elif key in given or key in others:
                self._bad_argument(spec, "E0809", item.span, f"is given `{key}` twice")
                failed = True
            else:
                given[key] = item.value
        values: list[tuple[str, Value]] = []
        if spec.many is not None:
            failed |= not self._many(spec, spec.many, name, many, values)
        for row in spec.arguments:
            value = self._argument(spec, row, name, given.get(row.name))
            if value is None:
                failed = True
            else:
                values.append((row.name, value))
        for key, expr in others.items():
            try:
                values.append((key, float(self._ranged(expr, ANY, f"`{key}` of `{spec.name}`"))))
            except Reported:
                failed = True
        if failed:
            raise Reported
        return Item(spec.name, tuple(values))

    def _many(
        self,
        spec: ItemSpec,
        row: Argument,
        name: Name,
        written: Sequence[Expr],
        values: list[tuple[str, Value]],
    ) -> bool:
        if not written:
            self._bad_argument(spec, "E0805", name.span, f"needs its {row.name}: {row.meaning}")
            return False
        numbers = []
        for expr in written:
            value = self._argument(spec, row, name, expr)
            if isinstance(value, int | float):
                numbers.append(float(value))
                self.milestones.append(expr.span)
        values.append((row.name, tuple(numbers)))
        return len(numbers) == len(written)

    def _argument(
        self, spec: ItemSpec, row: Argument, name: Name, expr: Expr | None
    ) -> Value | None:
        """The value of an argument, or None where it is wrong (reported)."""
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
        self.reporter.error(code, f"`{spec.name}` {says}", span, label=says, hint=hint)

    # ----------------------------------------------------------------------------------------------

    def _ranged(self, expr: Expr, kind: IntType | FloatType, what: str) -> int | float:
        value = self._numbers.value(expr, what, kind)
        if not contains(kind, value):
            self.reporter.error(
                "E0803",
                f"{what} is {_brief(value)}, but must be {describe_range(kind)}",
                expr.span,
                label=f"must be {describe_range(kind)}",
            )
            raise Reported
        if isinstance(kind, FloatType):
            return float(value)
        if value != int(value):
            self.reporter.error(
                "E0802",
                f"{what} is {_brief(value)}, but must be a whole number",
                expr.span,
                label="not a whole number",
            )
            raise Reported
        return int(value)


def _names(expr: Call | Name, family: str) -> bool:
    """Whether an expression is an item of a family, and no number."""
    name = called(expr)
    return name is not None and name.id in ITEMS[family]


def _brief(value: float) -> str:
    return f"{value:.10g}"
