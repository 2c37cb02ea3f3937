"""Completion of names, parameters, settings and words at the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.blocks import CONNECTION_PARTS
from danetc.compiler.lowering.environment import JOINS, LAYER_SETTINGS, SPECIAL, Env, Want
from danetc.compiler.lowering.evaluator import candidates
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.dsl.first_weights import RANDOM_STARTS
from danetc.dsl.neuron.opcodes import CONSTANTS, functions, is_smooth
from danetc.dsl.reading import zoo_files
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import (
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    IntType,
    ItemType,
    SumType,
    Type,
    WordType,
)
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.words import LEARNT_PER, OF_CALL, OF_PARAMETER
from danetc.editor.analysis import Analysis
from danetc.editor.cursor import ENDS, Cursor, EnclosingCall, Place, is_here, read_cursor
from danetc.editor.documentation import entry_for
from danetc.editor.meanings import (
    EQUATION_PORTS,
    Meaning,
    MeaningReader,
    changed_part,
    settings_of,
    typed,
)
from danetc.editor.proposals import (
    Proposal,
    argument,
    builtin_argument,
    declarations,
    files_named,
    named,
)


def complete(analysis: Analysis, offset: int) -> tuple[Proposal, ...]:
    """Return the completions at an offset, the most likely first; none in comments."""
    if any(item.span.start < offset <= item.span.end for item in analysis.program.comments):
        return ()
    for token in analysis.scanned.tokens:
        if token.type == "STRING" and token.start < offset < token.end:
            return tuple(files_named(analysis, token, offset))
    cursor = read_cursor(analysis, offset)
    found: dict[str, Proposal] = {}
    for item in _proposals(cursor):
        found.setdefault(item.name, item)
    return tuple(found.values())


def _proposals(cursor: Cursor) -> Iterator[Proposal]:
    last, tokens, span = cursor.last, cursor.tokens, cursor.span
    if last is not None and last.type == "USE":
        for name in ("std", *zoo_files()):
            yield named(span, Meaning("library", name))
        return
    opening = cursor.opened[-1] if cursor.in_parentheses else 0
    if opening >= 2 and tokens[opening - 2].type == "USE":
        yield from declarations(cursor.analysis, span, tokens[opening - 1].text)
        return
    if cursor.head is None or (
        not cursor.in_body and cursor.on_new_line and last is not None and last.type in ENDS
    ):
        if cursor.on_new_line:
            yield from _all(cursor, "keyword", ("use", *s.DECLARATION_KINDS), " ")
        return
    if last is None or last.start <= tokens[cursor.head + 1].start:
        return  # a new name
    begins = last.type in ("LBRACE", "SEMICOLON") or (
        cursor.on_new_line and last.type in (*ENDS, "RBRACE")
    )
    if cursor.in_body and begins and not cursor.in_parentheses:
        yield from _statements(cursor)
    elif last.type in ENDS:
        wired = cursor.kind in ("network", "backbone", "block", "connection")
        words = ("via", "by", "with", "if", "else") if wired else ("if", "else", "and", "or", "for")
        in_list = wired and opening and tokens[opening - 1].text in (*JOINS, "outputs")
        yield from _all(cursor, "keyword", (*words, *["for"] * bool(in_list)), " ")
    elif opening and tokens[opening - 1].type == "WITH" and last.type in ("LPAR", "COMMA"):
        yield from _all(cursor, "network setting", LAYER_SETTINGS, " = ")
    elif cursor.kind == "recipe" and cursor.in_body:
        yield from _recipe_values(cursor)
    elif cursor.place is not None:
        yield from _values(cursor, cursor.place)


def _all(cursor: Cursor, kind: str, names: Iterable[str], suffix: str = "") -> Iterator[Proposal]:
    for name in names:
        yield named(cursor.span, Meaning(kind, name), suffix=suffix)


def _statements(cursor: Cursor) -> Iterator[Proposal]:
    """Yield the possible starts of a line of a body."""
    lines = cursor.names.lines
    match cursor.kind:
        case "network":
            left = [name for name in NETWORK_SETTINGS if name not in lines]
            yield from _all(cursor, "network setting", left, " = ")
        case "connection" | "block":
            words = CONNECTION_PARTS if cursor.kind == "connection" else ("out",)
            yield from _all(cursor, "word", [name for name in words if name not in lines], " = ")
        case "rule":
            yield from _all(cursor, "word", ("in", "shortcut"), "[i] = ")
            yield from _all(cursor, "word", ("result",), " = ")
        case "neuron" | "surrogate":
            _, *results = EQUATION_PORTS[cursor.kind]
            yield from _all(cursor, "word", results, " = ")
            yield from _all(cursor, "keyword", ("state",) * (cursor.kind == "neuron"), " ")
            for meaning in lines.values():
                yield named(cursor.span, meaning, suffix=" = ")
        case "recipe":
            phase = len(cursor.opened) > 1
            yield from _all(cursor, "keyword", ("phase",) * (not phase), " ")
            scopes = ("phase", "phase only") if phase else ("phase", "recipe")
            keys = [key for key, row in RECIPE_SETTINGS.items() if row.scope in scopes]
            yield from _all(cursor, "setting", keys, " = ")


# -- values ----------------------------------------------------------------------------------------


def _values(cursor: Cursor, place: Place) -> Iterator[Proposal]:
    """Yield the possible values at the cursor: parameters of the call, words and names."""
    assert cursor.last is not None
    want, call = place.want, place.call
    if call is not None and cursor.in_parentheses:
        target = _target(cursor, call)
        if cursor.last.type in ("LPAR", "COMMA") and target is not None:
            yield from _parameters(cursor, call.node, target)
        words, alone = _words(target, call.argument.name)
        yield from _all(cursor, "choice", words)
        if alone:
            return
        if target is not None and target.kind in ("neuron", "surrogate", "network"):
            want = "number"
    names = cursor.names
    free = [  # in parentheses, a line can read its own previous value
        meaning
        for name, meaning in {**names.lines, **names.local}.items()
        if name != place.line or meaning.kind in ("parameter", "state") or cursor.in_parentheses
    ]
    match cursor.kind:
        case "neuron" | "surrogate" if cursor.in_body:
            for meaning in free:
                if meaning.kind != "word" or meaning.name in names.lines:
                    yield named(cursor.span, meaning)
            yield from _all(cursor, "word", EQUATION_PORTS[cursor.kind][:1])
            known = (name for name in functions() if cursor.kind == "neuron" or is_smooth(name))
            yield from _all(cursor, "neuron function", known)
            if cursor.kind == "neuron" and cursor.in_parentheses:
                yield from _all(cursor, "neuron function", RANDOM_STARTS)
            yield from _all(cursor, "word", CONSTANTS)
        case "rule" if cursor.last.type == "ARROW":
            yield from _all(cursor, "operation", [name for name, row in OPS.items() if row.cuts])
        case "rule":
            for meaning in free:
                if meaning.kind == "parameter":
                    yield named(cursor.span, meaning)
            yield from _all(cursor, "word", ("out", "in"), "[")
            yield from _all(cursor, "word", ("i", "n"))
            yield from _all(cursor, "function", (*JOINS, "learn"))
        case _:
            yield from _known(cursor, free, want)


_VALUES = {"line": 1, "parameter": 2}
"""Order of proposed values of a kind: first the neurons after `neuron =`, the connections after `via`."""
_LAYERS = {
    "word": 1, "operation": 2, "block": 3, "neuron": 4, "function": 5, "backbone": 6, "parameter": 7,
}  # fmt: skip
"""Order of proposed layers after the names of the file."""
_READ: Mapping[Want, tuple[str, ...]] = {
    "any": ("stem", "stages", "head", "steps"),
    "layer": ("stem", "stages", "head"),
    "number": ("steps",),
}
"""Settings of a network that a line may read, by what is expected in it."""


def _known(cursor: Cursor, free: Iterable[Meaning], want: Want) -> Iterator[Proposal]:
    """Yield the names that can be resolved at the cursor, starting with the names of the file."""
    module = cursor.analysis.module
    assert module is not None
    ports = cursor.in_body and want in ("any", "number")
    here = [meaning.name for meaning in free if ports or meaning.kind != "word"]
    likely, _ = candidates(Env(module, cursor.kind, dict.fromkeys(here, 0)), want)
    reader = MeaningReader(module)
    known = [reader.name(name, cursor.names, want) for name in dict.fromkeys([*here, *likely])]
    fitting = [meaning for meaning in known if meaning is not None and _fits(meaning, want)]
    if want not in ("any", "number"):
        ranks = _LAYERS if want == "layer" else _VALUES
        fitting.sort(key=lambda meaning: ranks.get(meaning.kind, 0))
    for meaning in fitting:
        yield named(cursor.span, meaning)


def _fits(meaning: Meaning, want: Want) -> bool:
    """True if a name is allowed where ``want`` is expected."""
    match meaning.kind:
        case "network" | "recipe":
            return want == meaning.kind
        case "network setting":
            return meaning.name in _READ.get(want, ())
        case "operation" if want == "layer":
            return not OPS[meaning.name].arguments
    return True


def _target(cursor: Cursor, call: EnclosingCall) -> Meaning | None:
    """Return the meaning of the callee of the call around the cursor."""
    module, item = cursor.analysis.module, cursor.declaration
    if module is None or not isinstance(call.node.function, s.Name):
        return None
    reader, id = MeaningReader(module), call.node.function.id
    if id == "spike" and item is not None:  # the neuron of the network
        for line in item.body or ():
            if isinstance(line, s.Define) and line.name == "neuron":
                name = line.value.function if isinstance(line.value, s.Call) else line.value
                return (
                    reader.name(name.id, cursor.names, "neuron")
                    if isinstance(name, s.Name)
                    else None
                )
        return None
    return reader.name(id, cursor.names, call.want)


def _parameters(cursor: Cursor, call: s.Call, target: Meaning) -> Iterator[Proposal]:
    """Yield the parameters of the callee that are not given yet, as ``name = ``."""
    given = {arg.name for arg in call.args}
    if target.resolved is not None:
        entry = entry_for(target)
        for row in entry.parameters if entry is not None else ():
            if row.name not in given:
                yield argument(cursor.span, row.name, row)
        return
    known = (row for row in (OPS.get(target.name), SPECIAL.get(target.name)) if row is not None)
    for each in next(filter(None, (row.parameters for row in known)), ()):
        if each.name not in given:
            yield builtin_argument(cursor.span, each.name, target.name)


def _words(target: Meaning | None, parameter: str | None) -> tuple[tuple[str, ...], bool]:
    """Return the words that an argument accepts. The flag is True if it accepts only these."""
    if target is not None and target.name in OF_CALL:
        return OF_CALL[target.name], True
    if parameter is None or target is None:
        return (), False
    if target.name == "learn" and parameter == "per":
        return LEARNT_PER, True
    rows = OPS[target.name].parameters if target.kind == "operation" else ()
    row = next((row for row in rows if row.name == parameter), None)
    if row is not None:
        return row.words, row.type is str
    return OF_PARAMETER.get(parameter, ()), False


# -- recipes ---------------------------------------------------------------------------------------


def _recipe_values(cursor: Cursor) -> Iterator[Proposal]:
    """Yield the values of a setting or an argument, and the arguments of an item."""
    item = cursor.declaration
    if item is None:
        return
    for line in settings_of(item):
        row = RECIPE_SETTINGS[line.name]
        for expr, kind, call in typed(line.value, row.type):
            if not is_here(expr):
                continue
            if call is not None and cursor.last and cursor.last.type in ("LPAR", "COMMA"):
                family, name = call
                for parameter in ITEMS[family][name].arguments:
                    yield builtin_argument(cursor.span, parameter.name, name)
            yield from _of_type(cursor, kind, item)
            optional = row.default is None and not row.required
            if call is None and (optional or isinstance(row.type, FlowType)):
                yield named(cursor.span, Meaning("word", "none"))


def _of_type(cursor: Cursor, kind: Type, item: s.Declaration) -> Iterator[Proposal]:
    """Yield the names that are values of a type."""
    match kind:
        case WordType.BOOL:
            yield from _all(cursor, "word", ("true", "false"))
        case ChoiceType(words):
            yield from _all(cursor, "choice", words)
        case ItemType(family) | FlowType(family) | SumType(family):
            for name in ITEMS[family]:
                yield named(cursor.span, Meaning("item", name, owner=family))
        case ChangeType(_, parts):
            for name in parts:
                yield named(cursor.span, changed_part(name))
        case WordType.PHASE:
            groups = [line for line in item.body or () if isinstance(line, s.Group) and line.name]
            before = [group.name or "" for group in groups if not any(map(is_here, s.walk(group)))]
            yield from _all(cursor, "phase", before)
        case IntType() | FloatType():
            rows = RECIPE_SETTINGS.items()
            numbers = [key for key, row in rows if isinstance(row.type, IntType | FloatType)]
            yield from _all(cursor, "setting", numbers)
