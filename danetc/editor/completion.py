"""Completion at the cursor: names, parameters, settings and words, with documentation.

The context before the cursor is read from tokens, because an incomplete line rarely parses. The
meanings of names come from the rest of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.blocks import CONNECTION_PARTS
from danetc.compiler.lowering.environment import LAYER_SETTINGS, PORTS, SPECIAL, WANTED, Env, Want
from danetc.compiler.lowering.evaluator import candidates
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.compiler.lowering.rules import JOINS
from danetc.dsl.modules import Module
from danetc.dsl.neuron.opcodes import CONSTANTS, functions, is_smooth
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.tokens import (
    NAME_LIKE,
    Token,
)
from danetc.dsl.syntax.words import LEARNT_PER, OF_CALL, OF_PARAMETER
from danetc.editor.analysis import Analysis
from danetc.editor.cursor import (
    ENDS,
    WANTS_NAME,
    Cursor,
    argument_name,
    closing_of,
    line_of,
    local_names,
    read_cursor,
    want_of,
)
from danetc.editor.documentation import entry_for, parameter_text
from danetc.editor.meanings import EQUATION_PORTS, Meaning, MeaningReader, Names
from danetc.editor.proposals import (
    Proposal,
    argument,
    files_named,
    item_arguments,
    named,
    names_of_file,
    names_of_library,
    setting_values,
    takes_items,
)


def complete(analysis: Analysis, offset: int, *, unasked: bool = False) -> tuple[Proposal, ...]:
    """Return the completions at an offset, the most likely first; none in comments.

    With ``unasked``, a typed space triggered the request; then there are proposals only where a name
    must follow, as after `->`.
    """
    if any(item.span.start < offset <= item.span.end for item in analysis.program.comments):
        return ()
    inside = next(
        (
            token
            for token in analysis.scanned.tokens
            if token.type == "STRING" and token.start < offset < token.end
        ),
        None,
    )
    if inside is not None:
        return tuple(files_named(analysis, inside, offset))
    cursor = read_cursor(analysis, offset)
    if unasked and (cursor.last is None or cursor.last.type not in WANTS_NAME):
        return ()
    found: dict[str, Proposal] = {}
    for item in _proposals(cursor):
        found.setdefault(item.name, item)
    return tuple(found.values())


# -- where -----------------------------------------------------------------------------------------


def _proposals(cursor: Cursor) -> Iterator[Proposal]:
    last, tokens = cursor.last, cursor.tokens
    if last is not None and last.type == "USE":
        yield named(cursor, Meaning("library", "std"), detail="the standard library")
        return
    if cursor.opened and tokens[cursor.opened[-1]].type == "LPAR":
        yield from _in_parentheses(cursor, cursor.opened[-1])
        return
    if cursor.head is None or (
        not cursor.in_body and cursor.on_new_line and last is not None and last.type in ENDS
    ):
        if cursor.on_new_line:
            yield from _keywords(cursor, ("use", *s.DECLARATION_KINDS))
        return
    if last is None or cursor.head == cursor.before or cursor.head == cursor.before - 1:
        return  # a new name
    starts = last.type in ("LBRACE", "SEMICOLON") or (
        cursor.on_new_line and last.type in (*ENDS, "RBRACE")
    )
    if cursor.in_body and starts:
        yield from _statements(cursor)
    elif last.type in ENDS:
        yield from _after_value(cursor)
    else:
        yield from _values(cursor, *line_of(cursor))


def _in_parentheses(cursor: Cursor, opening: int) -> Iterator[Proposal]:
    tokens, last = cursor.tokens, cursor.last
    assert last is not None
    callee = tokens[opening - 1] if opening else None
    if callee is not None and callee.type == "WITH":
        if last.type in ("LPAR", "COMMA"):
            for setting in LAYER_SETTINGS:
                yield named(cursor, Meaning("network setting", setting), suffix=" = ")
        else:
            changed = argument_name(cursor, opening) or ""
            yield from _values(cursor, changed, WANTED["network"].get(changed, "number"))
        return
    if opening >= 2 and tokens[opening - 2].type == "USE":
        assert callee is not None
        yield from (
            names_of_library(cursor) if callee.text == "std" else names_of_file(cursor, callee.text)
        )
        return
    if opening == (cursor.head or 0) + 2 and cursor.head is not None:
        if last.type not in ("LPAR", "COMMA", *ENDS):  # a default value
            yield from _values(cursor, "", "any")
        return
    if last.type in ENDS:
        yield from _after_value(cursor)
        return
    target = None
    if callee is not None and callee.type in NAME_LIKE:
        target = _called(cursor, callee, opening)
    if cursor.kind == "recipe":
        if takes_items(cursor, target):
            yield from item_arguments(cursor, opening, target)
        else:
            yield from _values(cursor, line_of(cursor)[0], "number")
        return
    name = argument_name(cursor, opening)
    if last.type in ("LPAR", "COMMA") and target is not None:
        yield from _parameters(cursor, target, opening)
    words, alone = _words(target, name)
    for word in words:
        yield named(cursor, Meaning("choice", word))
    if not alone:
        yield from _values(cursor, "", _argument_want(cursor, target, name))


def _argument_want(cursor: Cursor, target: Meaning | None, name: str | None) -> Want:
    """Return what an argument must be."""
    last = cursor.last
    if last is not None and last.type == "ARROW":
        return "layer"
    if target is None:
        return "any"
    if target.name == "stage":
        first = last is not None and last.type == "LPAR"
        return "block" if name == "block" or (name is None and first) else "number"
    operation = target.kind == "operation" and not OPS[target.name].arguments
    return "number" if operation or target.kind in ("neuron", "surrogate", "network") else "any"


def _words(target: Meaning | None, parameter: str | None) -> tuple[tuple[str, ...], bool]:
    """Return the words that an argument accepts, and True if it accepts nothing else."""
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


# -- what ------------------------------------------------------------------------------------------


def _keywords(cursor: Cursor, words: Iterable[str]) -> Iterator[Proposal]:
    for word in words:
        yield named(cursor, Meaning("keyword", word), suffix=" ")


def _after_value(cursor: Cursor) -> Iterator[Proposal]:
    if cursor.kind in ("network", "backbone", "block", "connection"):
        yield from _keywords(cursor, ("via", "by", "with", "if", "else"))
    else:
        yield from _keywords(cursor, ("if", "else", "and", "or", "for"))


def _statements(cursor: Cursor) -> Iterator[Proposal]:
    """Yield the possible starts of a line of a body."""
    taken = {name for name, _ in local_names(cursor)}
    match cursor.kind:
        case "network":
            names: Iterable[Meaning] = (
                Meaning("network setting", name) for name in NETWORK_SETTINGS if name not in taken
            )
        case "connection":
            names = (Meaning("word", name) for name in CONNECTION_PARTS if name not in taken)
        case "block":
            names = (Meaning("word", name) for name in ("out",) if name not in taken)
        case "rule":
            for port in ("in", "shortcut"):
                yield named(cursor, Meaning("word", port), suffix="[i] = ")
            names = (Meaning("word", "result"),)
        case "neuron" | "surrogate":
            names = (Meaning("word", name) for name in EQUATION_PORTS[cursor.kind] if name != "x")
            if cursor.kind == "neuron":
                yield from _keywords(cursor, ("state",))
        case "recipe":
            yield from _keywords(cursor, ("phase",) if len(cursor.opened) == 1 else ())
            phase = len(cursor.opened) > 1
            names = (
                Meaning("setting", key)
                for key, row in RECIPE_SETTINGS.items()
                if row.scope in (("phase", "phase only") if phase else ("phase", "recipe"))
            )
        case _:
            names = ()
    for meaning in names:
        yield named(cursor, meaning, suffix=" = ")
    if cursor.kind in EQUATION_PORTS:
        for _, meaning in local_names(cursor):
            if meaning.kind in ("state", "line"):
                yield named(cursor, meaning, suffix=" = ")


def _values(cursor: Cursor, line: str, want: Want) -> Iterator[Proposal]:
    """Yield the names allowed in a value."""
    match cursor.kind:
        case "recipe" if cursor.in_body:
            yield from setting_values(cursor, line)
        case "neuron" | "surrogate" if cursor.in_body:
            for own, meaning in local_names(cursor):
                if own != line or meaning.kind == "state":
                    yield named(cursor, meaning)
            fitting = [name for name in functions() if cursor.kind == "neuron" or is_smooth(name)]
            for name in (*EQUATION_PORTS[cursor.kind][:1], *fitting, *CONSTANTS):
                kind = "neuron function" if name in functions() else "word"
                yield named(cursor, Meaning(kind, name))
        case "rule" if cursor.last is not None and cursor.last.type == "ARROW":
            for name in (name for name, row in OPS.items() if row.public and row.cuts):
                yield named(cursor, Meaning("operation", name))
        case "rule":
            for _, meaning in local_names(cursor):
                if meaning.kind == "parameter":
                    yield named(cursor, meaning)
            for port in ("out", "in", "i", "n"):
                yield named(cursor, Meaning("word", port), suffix="[" if len(port) > 1 else "")
            for name in (*JOINS, "learn"):
                kind = "operation" if name in OPS else "function"
                yield named(cursor, Meaning(kind, name))
        case _:
            yield from _known(cursor, want)


def _known(cursor: Cursor, want: Want) -> Iterator[Proposal]:
    """Yield the names that lowering would resolve, those of the file first."""
    module = cursor.analysis.module
    if module is None:
        return
    line = line_of(cursor)[0] if cursor.in_body else ""
    if cursor.opened and cursor.tokens[cursor.opened[-1]].type == "LPAR":
        line = ""  # in parentheses a line may read itself through a delay
    local: dict[str, Meaning] = {}
    for name, meaning in local_names(cursor):
        if name != line or meaning.kind == "parameter":  # `steps = steps` reads a parameter
            local.setdefault(name, meaning)
    reader = MeaningReader(module)
    own = module.own.get(cursor.tokens[(cursor.head or 0) + 1].text)
    if own is not None and own.kind == cursor.kind == "network":
        lines = {
            **reader.base_lines(own),
            **dict(reader.lines(own)),
        }  # lines of its base, and inputs
        local |= {name: lines[name] for name in lines if name not in local and name != line}
    ports = ("in",) if cursor.kind == "network" else PORTS.get(cursor.kind, ())
    if not cursor.in_body or want not in ("any", "number"):
        ports = ()
    here = {port: Meaning("word", port, owner=cursor.kind) for port in ports} | local
    names = Names(cursor.kind if cursor.in_body else "", here)
    likely, _ = candidates(Env(module, cursor.kind, dict.fromkeys(here, 0)), want)
    known = (reader.name(name, names, want) for name in dict.fromkeys([*here, *likely]))
    fitting = [meaning for meaning in known if meaning is not None and _fits(meaning, want)]
    if want == "layer":
        fitting.sort(key=lambda meaning: _LAYERS.get(meaning.kind, 0))
    for meaning in fitting:
        yield named(cursor, meaning)


_LAYERS = {"word": 1, "operation": 2, "block": 3, "neuron": 4, "function": 5, "backbone": 6}
"""Order of proposed layers after the names of the file."""


def _fits(meaning: Meaning, want: Want) -> bool:
    """True if a name is allowed where ``want`` is expected."""
    match meaning.kind:
        case "network" | "recipe":
            return want == meaning.kind
        case "line" if meaning.name in NETWORK_SETTINGS:
            return meaning.name in _READ.get(want, ())
        case "operation" if want == "layer":
            return not OPS[meaning.name].arguments
    return True


_READ: Mapping[Want, tuple[str, ...]] = {
    "any": ("stem", "stages", "head", "steps"),
    "layer": ("stem", "stages", "head"),
    "number": ("steps",),
}
"""Settings of a network that a line may read, by what is expected in it."""


def _called(cursor: Cursor, callee: Token, opening: int) -> Meaning | None:
    """Return the meaning of the callee of the call around the cursor."""
    module = cursor.analysis.module
    if module is None:
        return None
    if cursor.kind == "recipe":
        line = RECIPE_SETTINGS.get(line_of(cursor)[0])
        family = getattr(line.type, "family", "") if line is not None else ""
        return (
            Meaning("item", callee.text, owner=family)
            if callee.text in ITEMS.get(family, {})
            else None
        )
    local = dict(local_names(cursor))
    names = Names(cursor.kind if cursor.in_body else "", local)
    if callee.text == "spike":
        return _network_neuron(cursor, module)
    return MeaningReader(module).name(callee.text, names, want_of(cursor, opening - 1))


def _network_neuron(cursor: Cursor, module: Module) -> Meaning | None:
    """Return the neuron of the network around the cursor."""
    tokens = cursor.tokens
    for i in range(cursor.head or 0, len(tokens) - 3):
        if [token.text for token in tokens[i : i + 2]] == ["neuron", "="]:
            return MeaningReader(module).name(tokens[i + 2].text, Names("", {}), "neuron")
    return None


def _parameters(cursor: Cursor, target: Meaning, opening: int) -> Iterator[Proposal]:
    """Yield the parameters of the callee that are not given yet, as ``name = ``."""
    tokens = cursor.tokens
    given = {
        tokens[i].text
        for i in range(opening, min(len(tokens) - 1, closing_of(cursor, opening)))
        if tokens[i].type in NAME_LIKE and tokens[i + 1].type == "EQUAL"
    }
    if target.resolved is not None:
        entry = entry_for(target)
        for row in entry.parameters if entry is not None else ():
            if row.name not in given:
                yield Proposal(
                    row.name,
                    "argument",
                    f"{row.name} = ",
                    cursor.span,
                    row.usage,
                    parameter_text(row),
                )
        return
    rows = [row.name for row in OPS[target.name].parameters] if target.name in OPS else []
    if not rows and target.name in SPECIAL:
        rows = [row.name for row in SPECIAL[target.name].parameters or ()]
    for name in rows:
        if name not in given:
            yield argument(cursor, name, target.name)
