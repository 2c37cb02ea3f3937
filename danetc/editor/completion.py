"""What may stand where the cursor is: names, parameters, settings and words, with documentation.

What stands before the cursor is read from the tokens, since a line that is being written is seldom
one that can be parsed; what the names mean, from the rest of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import PORTS, SPECIAL, WANTED, Env, Want
from danetc.compiler.lowering.unknown import candidates
from danetc.compiler.lowering.variants import SETTINGS as NETWORK_SETTINGS
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module
from danetc.dsl.modules import Module
from danetc.dsl.neuron.functions import CONSTANTS, functions, is_smooth
from danetc.dsl.reading import SUFFIX, Unreadable, read_text
from danetc.dsl.recipe.schema import (
    ITEMS,
    BoolType,
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    IntType,
    ItemType,
    PhaseType,
    SumType,
    Type,
)
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import (
    NAME_LIKE,
    Token,
    first_on_line,
    starts_declaration,
    starts_statement,
)
from danetc.dsl.syntax.words import LEARNT_PER, OF_CALL, OF_PARAMETER
from danetc.editor.analysis import Analysis
from danetc.editor.documentation import entry_for, markdown, parameter_of, parameter_text
from danetc.editor.meanings import (
    EQUATION_PORTS,
    PARTS,
    Meaning,
    MeaningReader,
    Names,
    argument_of,
)
from danetc.reference import Entry, entry_of, section

_ENDS = frozenset(("NAME", "NUMBER", "STRING", "RPAR", "RSQB", "KIND", "IN", "STATE"))
"""Tokens that a value may end with."""
_WANTS = frozenset(("ARROW", "EQUAL", "VIA", "BY", "COMMA", "LPAR", "USE"))
"""Tokens behind which a name is looked for."""
_OPENING = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}
_WITH = ("neuron", "surrogate", "norm", "init", "zero_init")
JOINS = ("sum", "mean", "concat", "max", "min", "learn")


@dataclass(frozen=True)
class Proposal:
    """A name that may stand at the cursor. ``text`` goes in place of ``span``, the part that is
    written. ``kind`` is that of a ``Meaning``, or ``keyword``, ``file``. ``detail`` is a signature."""

    name: str
    kind: str
    text: str
    span: Span
    detail: str = ""
    markdown: str = ""


@dataclass(frozen=True)
class _Cursor:
    """What stands before the cursor. ``head`` is the token that begins the declaration around it,
    ``opened`` the brackets that are open, ``before`` the token before what is being written."""

    analysis: Analysis
    offset: int
    tokens: Sequence[Token]
    span: Span
    before: int
    head: int | None
    opened: tuple[int, ...]

    @property
    def last(self) -> Token | None:
        return self.tokens[self.before] if self.before >= 0 else None

    @property
    def kind(self) -> str:
        """The kind of the declaration around the cursor."""
        return "" if self.head is None else self.tokens[self.head].text

    @property
    def in_body(self) -> bool:
        return any(self.tokens[i].type == "LBRACE" for i in self.opened)

    @property
    def on_new_line(self) -> bool:
        last = self.last
        return last is None or "\n" in self.analysis.text[last.end : self.span.start]


def complete(analysis: Analysis, offset: int, *, unasked: bool = False) -> tuple[Proposal, ...]:
    """What may stand at an offset, the likeliest first; nothing in comments.

    ``unasked``: a space was typed and nobody asked. Then nothing is proposed but where something has to
    follow, as behind `->`.
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
        return tuple(_files(analysis, inside, offset))
    cursor = _read(analysis, offset)
    if unasked and (cursor.last is None or cursor.last.type not in _WANTS):
        return ()
    found: dict[str, Proposal] = {}
    for item in _proposals(cursor):
        found.setdefault(item.name, item)
    return tuple(found.values())


def _read(analysis: Analysis, offset: int) -> _Cursor:
    tokens = analysis.scanned.tokens
    start = offset
    text = analysis.text
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    end = offset
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    before = -1
    head: int | None = None
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.start >= start or token.type == "$END":
            break
        before = i
        if starts_declaration(tokens, i) and first_on_line(analysis.source, tokens, i):
            head, opened = i, []  # a body that was left open ends here
        elif starts_declaration(tokens, i) and not opened:
            head = i
        if token.type in _OPENING.values():
            opened.append(i)
        elif token.type in _OPENING and opened:
            opened.pop()
            if token.type == "RBRACE" and not opened:
                head = None
    span = Span(analysis.source, start, end)
    return _Cursor(analysis, offset, tokens, span, before, head, tuple(opened))


def _files(analysis: Analysis, string: Token, offset: int) -> Iterator[Proposal]:
    """The specs that the path in a `use` may lead to."""
    number = analysis.scanned.tokens.index(string)
    if number == 0 or analysis.scanned.tokens[number - 1].type != "USE":
        return
    written = analysis.text[string.start + 1 : offset]
    folder = Path(os.path.dirname(analysis.source.name)) / os.path.dirname(written)
    span = Span(analysis.source, offset - len(os.path.basename(written)), string.end - 1)
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield Proposal(f"{entry.name}/", "file", f"{entry.name}/", span)
        elif entry.suffix == SUFFIX and entry.name != os.path.basename(analysis.source.name):
            yield Proposal(entry.name, "file", entry.name, span)


# -- where -----------------------------------------------------------------------------------------


def _proposals(cursor: _Cursor) -> Iterator[Proposal]:
    last, tokens = cursor.last, cursor.tokens
    if last is not None and last.type == "USE":
        yield _named(cursor, Meaning("library", "std"), detail="the standard library")
        return
    if cursor.opened and tokens[cursor.opened[-1]].type == "LPAR":
        yield from _in_parentheses(cursor, cursor.opened[-1])
        return
    if cursor.head is None or (
        not cursor.in_body and cursor.on_new_line and last is not None and last.type in _ENDS
    ):
        if cursor.on_new_line:
            yield from _keywords(cursor, ("use", *s.DECLARATION_KINDS))
        return
    if last is None or cursor.head == cursor.before or cursor.head == cursor.before - 1:
        return  # a name of its own choice
    starts = last.type in ("LBRACE", "SEMICOLON") or (
        cursor.on_new_line and last.type in (*_ENDS, "RBRACE")
    )
    if cursor.in_body and starts:
        yield from _statements(cursor)
    elif last.type in _ENDS:
        yield from _after_value(cursor)
    else:
        yield from _values(cursor, *_line(cursor))


def _in_parentheses(cursor: _Cursor, opening: int) -> Iterator[Proposal]:
    tokens, last = cursor.tokens, cursor.last
    assert last is not None
    callee = tokens[opening - 1] if opening else None
    if callee is not None and callee.type == "WITH":
        if last.type in ("LPAR", "COMMA"):
            for setting in _WITH:
                yield _named(cursor, Meaning("network setting", setting), suffix=" = ")
        else:
            changed = _argument_name(cursor, opening) or ""
            yield from _values(cursor, changed, WANTED["network"].get(changed, "number"))
        return
    if opening >= 2 and tokens[opening - 2].type == "USE":
        assert callee is not None
        yield from _of_library(cursor) if callee.text == "std" else _of_file(cursor, callee.text)
        return
    if opening == (cursor.head or 0) + 2 and cursor.head is not None:
        if last.type not in ("LPAR", "COMMA", *_ENDS):  # a default
            yield from _values(cursor, "", "any")
        return
    if last.type in _ENDS:
        yield from _after_value(cursor)
        return
    target = None
    if callee is not None and callee.type in NAME_LIKE:
        target = _called(cursor, callee, opening)
    if cursor.kind == "recipe":
        yield from _in_item(cursor, opening, target)
        return
    name = _argument_name(cursor, opening)
    if last.type in ("LPAR", "COMMA") and target is not None:
        yield from _parameters(cursor, target, opening)
    words, alone = _words(target, name)
    for word in words:
        yield _named(cursor, Meaning("choice", word))
    if not alone:
        yield from _values(cursor, "", _argument_want(cursor, target, name))


def _argument_name(cursor: _Cursor, opening: int) -> str | None:
    """The name of the argument whose value is being written: ``over = |``."""
    depth = 0
    for i in range(cursor.before, opening, -1):
        kind = cursor.tokens[i].type
        depth += (kind in _OPENING) - (kind in _OPENING.values())
        if depth == 0 and kind == "COMMA":
            return None
        if depth == 0 and kind == "EQUAL" and cursor.tokens[i - 1].type in NAME_LIKE:
            return cursor.tokens[i - 1].text
    return None


def _argument_want(cursor: _Cursor, target: Meaning | None, name: str | None) -> Want:
    """What an argument is asked for."""
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
    """The words that an argument takes, and whether it takes nothing else."""
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


def _line(cursor: _Cursor) -> tuple[str, Want]:
    """The line that the cursor stands in, and what its value is asked for there."""
    tokens, last = cursor.tokens, cursor.last
    assert last is not None
    name = ""
    for i in range(cursor.before, cursor.head or 0, -1):
        if tokens[i].type in ("LBRACE", "RBRACE", "SEMICOLON"):
            break
        if starts_statement(tokens, i) and (
            tokens[i - 1].type in ("LBRACE", "SEMICOLON")
            or first_on_line(cursor.analysis.source, tokens, i)
        ):
            state = tokens[i].type == "STATE" and tokens[i + 1].type in NAME_LIKE
            name = tokens[i + 1].text if state else tokens[i].text
            break
    match last.type:
        case "ARROW":
            return name, "layer"
        case "VIA":
            return name, "connection"
        case "BY":
            return name, "rule"
    if not cursor.in_body:
        return name, "layer" if cursor.kind == "block" else cursor.kind
    wanted = WANTED.get(cursor.kind, {}).get(name, "any")
    return name, wanted if last.type == "EQUAL" else "any"


# -- what ------------------------------------------------------------------------------------------


def _keywords(cursor: _Cursor, words: Iterable[str]) -> Iterator[Proposal]:
    for word in words:
        yield _named(cursor, Meaning("keyword", word), suffix=" ")


def _after_value(cursor: _Cursor) -> Iterator[Proposal]:
    if cursor.kind in ("network", "backbone", "block", "connection"):
        yield from _keywords(cursor, ("via", "by", "with", "if", "else"))
    else:
        yield from _keywords(cursor, ("if", "else", "and", "or", "for"))


def _statements(cursor: _Cursor) -> Iterator[Proposal]:
    """What a line of a body may begin with."""
    taken = {name for name, _ in _local(cursor)}
    match cursor.kind:
        case "network":
            names: Iterable[Meaning] = (
                Meaning("network setting", name) for name in NETWORK_SETTINGS if name not in taken
            )
        case "connection":
            names = (Meaning("word", name) for name in PARTS if name not in taken)
        case "block":
            names = (Meaning("word", name) for name in ("out",) if name not in taken)
        case "rule":
            for port in ("in", "shortcut"):
                yield _named(cursor, Meaning("word", port), suffix="[i] = ")
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
        yield _named(cursor, meaning, suffix=" = ")
    if cursor.kind in EQUATION_PORTS:
        for _, meaning in _local(cursor):
            if meaning.kind in ("state", "line"):
                yield _named(cursor, meaning, suffix=" = ")


def _values(cursor: _Cursor, line: str, want: Want) -> Iterator[Proposal]:
    """The names that may stand in a value."""
    match cursor.kind:
        case "recipe" if cursor.in_body:
            yield from _settings(cursor, line)
        case "neuron" | "surrogate" if cursor.in_body:
            for own, meaning in _local(cursor):
                if own != line or meaning.kind == "state":
                    yield _named(cursor, meaning)
            fitting = [name for name in functions() if cursor.kind == "neuron" or is_smooth(name)]
            for name in (*EQUATION_PORTS[cursor.kind][:1], *fitting, *CONSTANTS):
                kind = "neuron function" if name in functions() else "word"
                yield _named(cursor, Meaning(kind, name))
        case "rule":
            for _, meaning in _local(cursor):
                if meaning.kind == "parameter":
                    yield _named(cursor, meaning)
            for port in ("out", "in", "i", "n"):
                yield _named(cursor, Meaning("word", port), suffix="[" if len(port) > 1 else "")
            for name in JOINS:
                kind = "operation" if name in OPS else "function"
                yield _named(cursor, Meaning(kind, name))
        case _:
            yield from _known(cursor, want)


def _known(cursor: _Cursor, want: Want) -> Iterator[Proposal]:
    """What lowering would look a name up among, the names of the file first."""
    module = cursor.analysis.module
    if module is None:
        return
    line = _line(cursor)[0] if cursor.in_body else ""
    if cursor.opened and cursor.tokens[cursor.opened[-1]].type == "LPAR":
        line = ""  # in parentheses it may read itself, through a delay
    local: dict[str, Meaning] = {}
    for name, meaning in _local(cursor):
        if name != line or meaning.kind == "parameter":  # `steps = steps` reads a parameter
            local.setdefault(name, meaning)
    ports = ("in",) if cursor.kind == "network" else PORTS.get(cursor.kind, ())
    if not cursor.in_body or want not in ("any", "number"):
        ports = ()
    here = {port: Meaning("word", port, owner=cursor.kind) for port in ports} | local
    names = Names(cursor.kind if cursor.in_body else "", here)
    reader = MeaningReader(module)
    likely, _ = candidates(Env(module, cursor.kind, dict.fromkeys(here, 0)), want)
    known = (reader.name(name, names, want) for name in dict.fromkeys([*here, *likely]))
    fitting = [meaning for meaning in known if meaning is not None and _fits(meaning, want)]
    if want == "layer":
        fitting.sort(key=lambda meaning: _LAYERS.get(meaning.kind, 0))
    for meaning in fitting:
        yield _named(cursor, meaning)


_LAYERS = {"word": 1, "operation": 2, "block": 3, "neuron": 4, "function": 5, "backbone": 6}
"""The order in which layers are proposed, behind the names of the file."""


def _fits(meaning: Meaning, want: Want) -> bool:
    """Whether a name can stand where something is wanted at all."""
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
"""The settings of a network that a line may read, by what is wanted in it."""


def _settings(cursor: _Cursor, line: str) -> Iterator[Proposal]:
    row = RECIPE_SETTINGS.get(line)
    if row is None:
        return
    yield from _of_type(cursor, row.type)
    if (row.default is None and not row.required) or isinstance(row.type, FlowType):
        yield _named(cursor, Meaning("word", "none"))


def _of_type(cursor: _Cursor, kind: Type) -> Iterator[Proposal]:
    """The names that a value of a type may be."""
    match kind:
        case BoolType():
            for name in ("true", "false"):
                yield _named(cursor, Meaning("word", name))
        case ChoiceType(words):
            for name in words:
                yield _named(cursor, Meaning("choice", name))
        case ItemType(family) | FlowType(family) | SumType(family):
            yield from _items(cursor, family)
        case ChangeType(_, parts):
            for name in parts:
                yield _named(cursor, Meaning("network setting", name))
        case PhaseType():
            for name in _phases(cursor):
                yield _named(cursor, Meaning("phase", name))
        case IntType() | FloatType():
            for key, row in RECIPE_SETTINGS.items():
                if isinstance(row.type, IntType | FloatType):
                    yield _named(cursor, Meaning("setting", key))
        case _:
            return


def _items(cursor: _Cursor, family: str) -> Iterator[Proposal]:
    for name in ITEMS[family]:
        yield _named(cursor, Meaning("item", name, owner=family))


def _phases(cursor: _Cursor) -> Iterator[str]:
    tokens = cursor.tokens
    for i in range(cursor.head or 0, max(cursor.before - 1, 0)):
        group = [token.type for token in tokens[i : i + 3]] == ["NAME", "NAME", "LBRACE"]
        if (
            group and i + 2 not in cursor.opened
        ):  # of one that is being written it is no earlier one
            yield tokens[i + 1].text


def _in_item(cursor: _Cursor, opening: int, target: Meaning | None) -> Iterator[Proposal]:
    """The arguments of an optimizer, a loss and their like."""
    setting = RECIPE_SETTINGS.get(_line(cursor)[0])
    if target is None and setting is not None and isinstance(setting.type, ChangeType):
        if _argument_name(cursor, opening) is not None:
            yield from _items(cursor, setting.type.family)
        return
    if target is None or target.owner not in ITEMS:
        yield from _values(cursor, _line(cursor)[0], "number")
        return
    item = ITEMS[target.owner][target.name]
    name = _argument_name(cursor, opening)
    if name is None and cursor.last is not None and cursor.last.type in ("LPAR", "COMMA"):
        for row in item.arguments:
            yield _argument(cursor, row.name, target.name)
    wanted = argument_of(item, name)
    if wanted is not None:
        yield from _of_type(cursor, wanted.type)


def _called(cursor: _Cursor, callee: Token, opening: int) -> Meaning | None:
    """What the call around the cursor calls."""
    module = cursor.analysis.module
    if module is None:
        return None
    if cursor.kind == "recipe":
        line = RECIPE_SETTINGS.get(_line(cursor)[0])
        family = getattr(line.type, "family", "") if line is not None else ""
        return (
            Meaning("item", callee.text, owner=family)
            if callee.text in ITEMS.get(family, {})
            else None
        )
    local = dict(_local(cursor))
    names = Names(cursor.kind if cursor.in_body else "", local)
    if callee.text == "spike":
        return _network_neuron(cursor, module)
    return MeaningReader(module).name(callee.text, names, _want_of(cursor, opening - 1))


def _want_of(cursor: _Cursor, number: int) -> Want:
    """What is asked for where a token begins a value of a line."""
    before = cursor.tokens[number - 1].type if number else ""
    if before == "EQUAL" and cursor.in_body:
        return WANTED.get(cursor.kind, {}).get(_line(cursor)[0], "layer")
    return {"VIA": "connection", "BY": "rule"}.get(before, "layer")


def _network_neuron(cursor: _Cursor, module: Module) -> Meaning | None:
    """The neuron of the network around the cursor."""
    tokens = cursor.tokens
    for i in range(cursor.head or 0, len(tokens) - 3):
        if [token.text for token in tokens[i : i + 2]] == ["neuron", "="]:
            return MeaningReader(module).name(tokens[i + 2].text, Names("", {}), "neuron")
    return None


def _parameters(cursor: _Cursor, target: Meaning, opening: int) -> Iterator[Proposal]:
    """The parameters of what is called, those that are not given yet, as ``name = ``."""
    tokens = cursor.tokens
    given = {
        tokens[i].text
        for i in range(opening, min(len(tokens) - 1, _closing(cursor, opening)))
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
        rows = list(SPECIAL[target.name].parameters or ())
    for name in rows:
        if name not in given:
            yield _argument(cursor, name, target.name)


def _closing(cursor: _Cursor, opening: int) -> int:
    return cursor.analysis.brackets.partner.get(opening, cursor.before + 1)


def _argument(cursor: _Cursor, name: str, owner: str) -> Proposal:
    meaning = Meaning("argument", name, owner=owner)
    row = parameter_of(meaning)
    detail, text = (row.usage, parameter_text(row)) if row is not None else ("", "")
    return Proposal(name, "argument", f"{name} = ", cursor.span, detail, text)


def _of_library(cursor: _Cursor) -> Iterator[Proposal]:
    """The declarations of the standard library."""
    for entry in sorted(section("std"), key=lambda entry: entry.name):
        yield _declaration(cursor, entry)


def _of_file(cursor: _Cursor, quoted: str) -> Iterator[Proposal]:
    """The declarations of another file, as it is open or on disk."""
    texts = cursor.analysis.texts
    name = os.path.join(os.path.dirname(cursor.analysis.source.name), quoted.strip('"'))
    name = os.path.normpath(name)
    try:
        text = texts.get(os.path.realpath(name))
        source = SourceFile(name, read_text(Path(name), name) if text is None else text)
    except (Unreadable, OSError, ValueError):
        return
    module = load_module(source, Reporter(), texts)
    for declaration in module.own.values():
        yield _declaration(cursor, entry_of(module, declaration))


def _declaration(cursor: _Cursor, entry: Entry) -> Proposal:
    return Proposal(
        entry.name, entry.kind, entry.name, cursor.span, entry.signature, markdown(entry)
    )


def _named(cursor: _Cursor, meaning: Meaning, *, suffix: str = "", detail: str = "") -> Proposal:
    entry = entry_for(meaning)
    return Proposal(
        meaning.name,
        meaning.kind,
        meaning.name + suffix,
        cursor.span,
        detail or (entry.signature if entry is not None else meaning.kind),
        markdown(entry) if entry is not None else "",
    )


def _local(cursor: _Cursor) -> Iterator[tuple[str, Meaning]]:
    """The parameters and lines of the declaration around the cursor, but for the line it stands in,
    from its tokens: they may not parse."""
    if cursor.head is None:
        return
    tokens, source = cursor.tokens, cursor.analysis.source
    head = cursor.head
    depth = 0
    for i in range(head + 2, len(tokens) - 1):
        token = tokens[i]
        if i > head + 2 and starts_declaration(tokens, i) and first_on_line(source, tokens, i):
            return
        span = Span(source, token.start, token.end)
        if token.type in NAME_LIKE and tokens[head + 2].type == "LPAR" and depth == 1:
            opens = tokens[i - 1].type in ("LPAR", "COMMA")
            if opens and tokens[i + 1].type in ("EQUAL", "COMMA", "RPAR"):
                yield token.text, Meaning("parameter", token.text, span, tokens[head + 1].text)
        depth += (token.type in _OPENING.values()) - (token.type in _OPENING)
        if token.type == "RBRACE" and depth <= 0:
            return
        in_body = depth >= 1 and token.type in NAME_LIKE and starts_statement(tokens, i)
        if in_body and (
            tokens[i - 1].type in ("LBRACE", "SEMICOLON") or first_on_line(source, tokens, i)
        ):
            state = token.type == "STATE" and tokens[i + 1].type in NAME_LIKE
            named = tokens[i + 1] if state else token
            if tokens[i + 1].type == "LBRACE" or tokens[i + 2].type == "LBRACE":
                continue
            if not named.start <= cursor.span.start <= named.end:
                at = Span(source, named.start, named.end)
                kind = "state" if state else "line"
                yield named.text, Meaning(kind, named.text, at, tokens[head + 1].text)
