"""The meaning of each name in a file, for definitions, references, renaming, hover and completion.

Names are resolved by the same rules as in lowering (``docs/semantics.md``, "Names, layers and values").
In a file with syntax errors, the names of all other statements are resolved.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering import rules
from danetc.compiler.lowering.blocks import CONNECTION_PARTS
from danetc.compiler.lowering.environment import (
    CONSTANTS,
    DEFAULT_LAYERS,
    PORTS,
    SPECIAL,
    WANTED,
    Want,
    is_function,
    is_op,
    wants,
)
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.compiler.lowering.rules import FEEDS
from danetc.dsl.first_weights import FIRST_WEIGHTS, RANDOM_STARTS
from danetc.dsl.loading import Module, Resolved
from danetc.dsl.neuron.opcodes import CONSTANTS as EQUATION_CONSTANTS
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import (
    SCHEDULED_OPERATIONS,
    Argument,
    ChangeType,
    ChoiceType,
    FlowType,
    ItemSpec,
    ItemType,
    SumType,
    Type,
    WordType,
)
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


@dataclass(frozen=True)
class Meaning:
    """Meaning of a name.

    ``kind`` is that of a declaration; ``parameter``, ``line``, ``state``, ``variable`` or ``phase``,
    which a file defines at ``place``; or a name of the language: ``word`` (such as `in`), ``network
    setting``, ``setting`` and ``item`` of recipes, ``operation``, ``function``, ``neuron function``,
    ``first weights``, ``choice`` (a word as an argument), ``argument`` of the call ``owner``,
    ``library``. For a name inside a declaration, ``owner`` is the name of the declaration.
    """

    kind: str
    name: str
    place: Span | None = None
    owner: str = ""
    resolved: Resolved | None = field(default=None, compare=False)
    text: str = field(default="", compare=False)
    """Text of the definition, for names that are defined inside a declaration."""

    @property
    def key(self) -> tuple[object, ...]:
        """Return a key that is equal for equal meanings in different files and analyses."""
        at = None if self.place is None else (self.place.source.name, self.place.start)
        return (self.name, at) if at else (self.kind, self.name, self.owner)


@dataclass(frozen=True)
class Occurrence:
    """A name in the text of a file; ``defines`` if it is defined there."""

    span: Span
    meaning: Meaning
    defines: bool = False


@dataclass(frozen=True)
class Names:
    """The names in the scope of an expression. Local names take precedence over lines."""

    what: str
    local: Mapping[str, Meaning]
    lines: Mapping[str, Meaning] = field(default_factory=dict)


def declared(resolved: Resolved) -> Meaning:
    """Return the meaning of a declaration's name."""
    item = resolved.declaration
    return Meaning(item.kind, item.name, item.name_span, resolved=resolved)


def changed_part(name: str) -> Meaning:
    """Return the meaning of the owner of a parameter that a recipe changes."""
    kind = "operation" if name in SCHEDULED_OPERATIONS else "network setting"
    return Meaning(kind, name)


RULE_PORTS = (*dict.fromkeys((*rules.PORTS, *FEEDS)), "result", "i", "n")
EQUATION_PORTS: Mapping[str, tuple[str, ...]] = {
    "neuron": ("x", "s"),
    "surrogate": ("x", "y", "dy"),
}


class Meanings:
    """Names of a file with their meanings, in the order of the text."""

    def __init__(self, module: Module | None) -> None:
        found = [] if module is None else list(MeaningReader(module).read())
        found.sort(key=lambda one: (one.span.start, not one.defines))
        self.occurrences = tuple(
            one
            for before, one in zip([None, *found], found, strict=False)
            if before is None or before.span != one.span
        )
        self._starts = [one.span.start for one in self.occurrences]

    def at(self, offset: int) -> Occurrence | None:
        """Return the name at an offset, or right before it."""
        number = bisect_right(self._starts, offset) - 1
        if number < 0 or offset > self.occurrences[number].span.end:
            return None
        return self.occurrences[number]

    def of(self, meaning: Meaning) -> tuple[Occurrence, ...]:
        """Return the occurrences of a meaning."""
        return tuple(one for one in self.occurrences if one.meaning.key == meaning.key)


class MeaningReader:
    """Resolves the names of a file."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.source = module.source

    def read(self) -> Iterator[Occurrence]:
        for item in self.module.program.items:
            if item.span.source is not self.source:
                continue
            if isinstance(item, s.Use):
                yield from self.use(item)
            else:
                yield from self.declaration(item)

    def use(self, item: s.Use) -> Iterator[Occurrence]:
        if not item.is_path:
            start = self.source.text.find(item.module, item.span.start + len("use"))
            span = Span(self.source, start, start + len(item.module))
            yield Occurrence(span, Meaning("library", item.module))
        for name in item.names or ():
            resolved = self.module.names.get(name.id)
            if resolved is not None:
                yield Occurrence(name.span, declared(resolved))

    # -- declarations -------------------------------------------------------------------------------

    def declaration(self, item: s.Declaration) -> Iterator[Occurrence]:
        if item.name_span.text:
            yield Occurrence(item.name_span, declared(Resolved(item, self.module)), True)
        names = self.scope(item)
        for param in item.params:
            yield Occurrence(param.name_span, names.local[param.name], True)
        for _, value, want in self.expressions(item):
            yield from self.value(value, names, want)
        if item.kind == "recipe":
            yield from self.recipe(item)
            return
        for line in item.body or ():
            meaning = names.local.get(line.name or "") if item.kind in EQUATION_PORTS else None
            if meaning is None or meaning.kind == "parameter":
                meaning = names.lines.get(line.name or "")
            if meaning is not None and not isinstance(line, s.Group):
                yield Occurrence(line.name_span, meaning, True)

    def parameter(self, param: s.Param, owner: str) -> Meaning:
        return Meaning("parameter", param.name, param.name_span, owner, text=param.span.text)

    def scope(self, item: s.Declaration) -> Names:
        """Return the names in scope of the body of a declaration."""
        ports = {**PORTS, **EQUATION_PORTS, "network": ("in",), "rule": RULE_PORTS}
        local = {port: Meaning("word", port, owner=item.kind) for port in ports.get(item.kind, ())}
        for param in item.params:
            local[param.name] = self.parameter(param, item.name)
        if item.kind == "recipe":
            return Names("", local)
        own, based = dict(self.lines(item)), self.base_lines(item)
        # the lines of a variant override the lines of its base
        kept = {name: one for name, one in based.items() if one.kind == "line" or name not in own}
        return Names(item.kind, local, {**own, **kept})

    def expressions(self, item: s.Declaration) -> Iterator[tuple[str, s.Expr, Want]]:
        """Yield the expressions of a declaration with the names of their lines; none of recipes."""
        yield from (
            ("", param.default, "any") for param in item.params if param.default is not None
        )
        if item.value is not None:
            yield "", item.value, "layer" if item.kind == "block" else item.kind
        for line in item.body or () if item.kind != "recipe" else ():
            if isinstance(line, s.Group):
                continue
            if isinstance(line, s.Define) and line.index is not None:
                yield line.name, line.index, "number"
            yield line.name, line.value, WANTED.get(item.kind, {}).get(line.name, "any")

    def lines(self, item: s.Declaration) -> Iterator[tuple[str, Meaning]]:
        """Yield the names that the lines of a body define."""
        first: dict[str, Meaning] = {}
        for line in item.body or ():
            if isinstance(line, s.Group) or line.name in first:
                continue
            state = isinstance(line, s.State)
            kind = self.kind_of_line(item.kind, line.name, state)
            text = line.span.text
            first[line.name] = Meaning(kind, line.name, line.name_span, item.name, text=text)
        for name, place in self.inputs(item):
            first.setdefault(name, Meaning("line", name, place, item.name))
        yield from first.items()

    def inputs(self, item: s.Declaration) -> Iterator[tuple[str, Span]]:
        """Yield the names of a network's inputs, if it has several."""
        for line in item.body or ():
            value = line.value if isinstance(line, s.Define) and line.name == "input" else None
            match value:
                case s.Call(s.Name("inputs"), args) if item.kind == "network":
                    for arg in args:
                        if arg.name is not None:
                            start = arg.span.start
                            yield arg.name, Span(arg.span.source, start, start + len(arg.name))

    def kind_of_line(self, kind: str, name: str, state: bool = False) -> str:
        """Return the kind of a line: one with a fixed name, or the user's own."""
        if state:
            return "state"
        if kind == "network" and name in NETWORK_SETTINGS:
            return "network setting"
        fixed = {"connection": CONNECTION_PARTS, "block": ("out",), "rule": RULE_PORTS}.get(
            kind, EQUATION_PORTS.get(kind, ())
        )
        return "word" if name in fixed else "line"

    def base_lines(self, item: s.Declaration) -> dict[str, Meaning]:
        """Return the lines of the networks that one is a variant of."""
        found: dict[str, Meaning] = {}
        for base in islice(Resolved(item, self.module).lineage(), 1, None):
            found = {**dict(self.lines(base.declaration)), **found}
        return found

    # -- expressions --------------------------------------------------------------------------------

    def value(self, root: s.Expr, names: Names, want: Want) -> Iterator[Occurrence]:
        variables = [
            (each, Meaning("variable", each.variable, each.name_span, text=each.span.text))
            for each in s.walk(root)
            if isinstance(each, s.Each)
        ]
        for each, meaning in variables:
            yield Occurrence(each.name_span, meaning, True)
        for node, wanted in wants(root, want):
            at = node.span.start
            inner = {  # variables of the enclosing loops
                each.variable: meaning
                for each, meaning in variables
                if each.span.start <= at < each.span.end
                and not each.low.span.start <= at < each.high.span.end
            }
            here = replace(names, local={**names.local, **inner}) if inner else names
            if isinstance(node, s.Name):
                known = self.name(node.id, here, wanted)
                if known is not None:
                    yield Occurrence(node.span, known)
            elif isinstance(node.function, s.Name):
                yield from self.arguments(node, self.called(node, here, wanted), here)
        for item in s.walk(root):
            if isinstance(item, s.Word):
                yield Occurrence(item.span, Meaning("choice", item.id))
            elif isinstance(item, s.With):
                for arg in item.settings:
                    if arg.name is not None:
                        meaning = Meaning("network setting", arg.name)
                        yield Occurrence(self.argument_name(arg), meaning)

    def argument_name(self, arg: s.Arg) -> Span:
        start = arg.span.start
        return Span(self.source, start, start + len(arg.name or ""))

    def name(self, id: str, names: Names, want: Want) -> Meaning | None:
        """Return the meaning of a name where ``want`` is expected."""
        if id in names.local:
            return names.local[id]
        if names.what in EQUATION_PORTS:
            if id in names.lines:
                return names.lines[id]
            if id in EQUATION_CONSTANTS:
                return Meaning("word", id)
            known = id in functions() or id in RANDOM_STARTS
            return Meaning("neuron function", id) if known else None
        if names.what == "network" and id == "norm":
            return Meaning("word", id)
        if id in names.lines:
            return names.lines[id]
        if id in CONSTANTS or id in DEFAULT_LAYERS:
            return Meaning("word", id)
        if id == "steps":
            return Meaning("network setting", id)
        named = self.module.network if want == "network" else self.module.names.get
        resolved = named(id)
        if resolved is not None and not is_op(id, resolved.declaration.kind, want):
            return declared(resolved)
        if id in OPS and OPS[id].public:
            return Meaning("operation", id)
        if id in FIRST_WEIGHTS:
            return Meaning("first weights", id)
        return Meaning("function", id) if id in SPECIAL else None

    def called(self, call: s.Call, names: Names, want: Want) -> Meaning | None:
        assert isinstance(call.function, s.Name)
        id = call.function.id
        if is_function(call, id) and id not in names.local:
            return Meaning("function", id)
        return self.name(id, names, want)

    def arguments(self, call: s.Call, target: Meaning | None, names: Names) -> Iterator[Occurrence]:
        """Yield the names of a call's arguments, which are parameters of the callee."""
        for arg in call.args:
            if arg.name is None or target is None:
                continue
            span = self.argument_name(arg)
            meaning: Meaning | None = Meaning("argument", arg.name, owner=target.name)
            if target.name == "inputs" and arg.name in names.lines:
                yield Occurrence(span, names.lines[arg.name], True)
                continue
            if target.resolved is not None:
                params = target.resolved.declaration.params
                found = next((p for p in params if p.name == arg.name), None)
                meaning = None
                if found is not None:
                    meaning = self.parameter(found, target.name)
            elif target.place is not None or target.name == "spike":
                meaning = None  # the callee is not known here
            if meaning is not None:
                yield Occurrence(span, meaning)

    # -- recipes ------------------------------------------------------------------------------------

    def recipe(self, item: s.Declaration) -> Iterator[Occurrence]:
        groups = [line for line in item.body or () if isinstance(line, s.Group) and line.name]
        phases = {
            str(line.name): Meaning("phase", str(line.name), line.name_span, item.name)
            for line in groups
        }
        yield from (Occurrence(line.name_span, phases[str(line.name)], True) for line in groups)
        for line in settings_of(item):
            yield Occurrence(line.name_span, Meaning("setting", line.name), True)
            for expr, kind, _ in typed(line.value, RECIPE_SETTINGS[line.name].type):
                yield from self.setting(expr, kind, phases)

    def setting(
        self, expr: s.Expr, kind: Type, phases: Mapping[str, Meaning]
    ) -> Iterator[Occurrence]:
        """Yield the names in a value of a setting or of an item's argument."""
        match kind, expr:
            case (WordType.PHASE, s.Name(id)) if id in phases:
                yield Occurrence(expr.span, phases[id])
            case ((ChoiceType() | WordType.BOOL), s.Name(id)):
                yield Occurrence(expr.span, Meaning("choice", id))
            case (WordType.NAME, s.Name(id)) if id in self.module.names:
                yield Occurrence(expr.span, declared(self.module.names[id]))
            case (ChangeType(_, parts), s.Call(s.Name(id))) if id in parts:
                yield Occurrence(expr.function.span, changed_part(id))
            case ((ItemType(family) | FlowType(family) | SumType(family)), _):
                name = expr.function if isinstance(expr, s.Call) else expr
                if isinstance(name, s.Name) and name.id in ITEMS[family]:
                    yield Occurrence(name.span, Meaning("item", name.id, owner=family))
                    for arg in expr.args if isinstance(expr, s.Call) else ():
                        if arg.name and argument_of(ITEMS[family][name.id], arg.name) is not None:
                            meaning = Meaning("argument", arg.name, owner=name.id)
                            yield Occurrence(self.argument_name(arg), meaning)
                elif isinstance(name, s.Name) and name.id == "none":
                    yield Occurrence(name.span, Meaning("word", "none"))
            case _:
                for node in s.walk(expr):
                    if isinstance(node, s.Name) and node.id in RECIPE_SETTINGS:
                        yield Occurrence(node.span, Meaning("setting", node.id))


def settings_of(item: s.Declaration) -> Iterator[s.Define]:
    """Yield the lines of a recipe and of its phases."""
    for line in item.body or ():
        for each in line.body if isinstance(line, s.Group) else (line,):
            if isinstance(each, s.Define) and each.name in RECIPE_SETTINGS:
                yield each


def typed(
    expr: s.Expr, kind: Type, call: tuple[str, str] | None = None
) -> Iterator[tuple[s.Expr, Type, tuple[str, str] | None]]:
    """Yield the value of a setting and all values inside it, each with its type.

    The third element is the family and the name of the item of which the value is an argument.
    """
    yield expr, kind, call
    match kind, expr:
        case (ChangeType(family), s.Call(_, args)):
            for arg in args:
                yield from typed(arg.value, ItemType(family))
        case ((ItemType(family) | FlowType(family) | SumType(family)), s.Call(s.Name(id), args)):
            for arg in args:
                row = argument_of(ITEMS[family][id], arg.name) if id in ITEMS[family] else None
                if row is not None:
                    yield from typed(arg.value, row.type, (family, id))
        case ((ItemType() | FlowType() | SumType() | ChangeType()), (s.Flow() | s.Binary())):
            for part in s.children(expr):
                yield from typed(part, kind, call)  # type: ignore[arg-type]


def argument_of(item: ItemSpec, name: str | None) -> Argument | None:
    """Return the argument of an item by name, or the one for unnamed arguments."""
    if name is None:
        return item.many or (item.arguments[0] if item.arguments else None)
    return next((row for row in item.arguments if row.name == name), None)
