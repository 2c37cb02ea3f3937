"""Formatting of expressions: line breaks, and the parentheses that precedence requires."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from danetc.dsl.record import record
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.tree import Expr

WIDTH = 100
INDENT = 2


@record
class Text:
    """Text without line breaks."""

    flat: str


@record
class Bracketed:
    """``before(item, item)``, broken into one item per line."""

    before: str
    items: tuple[Doc, ...]
    after: str
    flat: str


@record
class Chain:
    """Operands with a prefix each, such as ``-> ``; a line takes as many operands as fit.

    If the steps of a flow do not fit on one line, each step has its own.
    """

    items: tuple[tuple[str, Doc], ...]
    flat: str
    steps: bool


Doc: TypeAlias = Text | Bracketed | Chain


def print_expr(expr: Expr) -> str:
    """Return an expression on one line."""
    return document(expr).flat


def render(doc: Doc, column: int, indent: int, reserve: int = 0) -> str:
    """Return the text of a document that starts at ``column``, with line breaks where needed.

    ``reserve`` is the width of the text that follows on the last line.
    """
    if column + len(doc.flat) + reserve <= WIDTH:
        return doc.flat
    match doc:
        case Text(flat=flat):
            return flat
        case Bracketed():
            inner = indent + INDENT
            lines = [render(item, inner, inner, reserve=1) for item in doc.items]
            return (
                doc.before
                + "\n"
                + ",\n".join(" " * inner + line for line in lines)
                + f"\n{' ' * indent}{doc.after}"
            )
        case Chain():
            return _fill(doc, column, indent, reserve)
        case _:
            assert_never(doc)


def _fill(chain: Chain, column: int, indent: int, reserve: int) -> str:
    out = ""
    inner = indent + INDENT
    for number, (prefix, doc) in enumerate(chain.items):
        is_last = number == len(chain.items) - 1
        after = reserve if is_last else 0
        if number > 0:
            fits = column + 1 + len(prefix) + len(doc.flat) + after <= WIDTH
            if fits and not chain.steps:
                out += " "
                column += 1
            else:
                out += "\n" + " " * inner
                column = inner
        text = render(doc, column + len(prefix), indent if number == 0 else inner, after)
        out += prefix + text
        column = len(text) - text.rfind("\n") - 1 if "\n" in text else column + len(prefix + text)
    return out


# Precedence levels of the grammar, in ascending order. An operand needs parentheses if its level is
# lower than the minimum of its place.
STEP = 9  # minimum level of the steps of a flow
_VALUE, _EITHER, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _PART, _POSTFIX = range(11)
_BINARY = {
    "or": (_OR, _AND), "and": (_AND, _NOT),
    "+": (_SUM, _PRODUCT), "-": (_SUM, _PRODUCT), "*": (_PRODUCT, _UNARY), "/": (_PRODUCT, _UNARY),
}  # fmt: skip


def _level(expr: Expr) -> int:
    match expr:
        case syntax.Flow() | syntax.Each() | syntax.Range():
            return _VALUE
        case syntax.IfElse():
            return _EITHER
        case syntax.Binary(op=op):
            return _BINARY.get(op, (_COMPARE, _SUM))[0]
        case syntax.Unary(op=op):
            return _NOT if op == "not" else _UNARY
        case syntax.Via() | syntax.By() | syntax.With():
            return _PART
        case syntax.Name() | syntax.Word() | syntax.Number() | syntax.String():
            return _POSTFIX
        case syntax.Call() | syntax.At():
            return _POSTFIX
        case _:
            assert_never(expr)


def document(expr: Expr, least: int = _VALUE, tight: bool = False) -> Doc:
    """Return the document of an operand whose place requires at least the level ``least``.

    ``tight`` omits spaces around arithmetic, as in ``out[0 .. i-1]``.
    """
    if _level(expr) < least:
        return bracketed("(", [document(expr, _VALUE, tight)], ")")
    match expr:
        case syntax.Name(id=text) | syntax.Word(id=text) | syntax.Number(text=text):
            return Text(text)
        case syntax.String(value=value):
            return Text(f'"{value}"')
        case syntax.Call():
            function = document(expr.function, _POSTFIX, tight).flat
            return bracketed(f"{function}(", [_arg(arg, tight) for arg in expr.args], ")")
        case syntax.At():
            base = document(expr.base, _POSTFIX, tight).flat
            return bracketed(f"{base}[", [index(item) for item in expr.indices], "]")
        case syntax.Range():
            return chain(
                ("", document(expr.low, _SUM, tight)), (".. ", document(expr.high, _SUM, tight))
            )
        case syntax.Each():
            return _each(expr, tight)
        case syntax.Binary():
            return _binary(expr, tight)
        case syntax.Unary(op=op):
            prefix, level = ("not ", _NOT) if op == "not" else (op, _UNARY)
            return chain((prefix, document(expr.operand, level, tight)))
        case syntax.IfElse():
            return chain(
                ("", document(expr.then, _OR, tight)),
                ("if ", document(expr.condition, _OR, tight)),
                ("else ", document(expr.otherwise, _EITHER, tight)),
            )
        case syntax.Flow():
            steps = [document(step, _PART, tight) for step in expr.steps]
            items = [("-> " if number else "", step) for number, step in enumerate(steps)]
            return chain(*items, steps=True)
        case syntax.Via() | syntax.By() | syntax.With():
            return _wiring(expr, tight)
        case _:
            assert_never(expr)


def index(expr: Expr) -> Doc:
    """Return an index: arithmetic, or a range."""
    return document(expr, _VALUE if isinstance(expr, syntax.Range) else _SUM, tight=True)


def bracketed(before: str, items: list[Doc], after: str) -> Doc:
    flat = before + ", ".join(item.flat for item in items) + after
    return Bracketed(before, tuple(items), after, flat) if items else Text(flat)


def chain(*items: tuple[str, Doc], steps: bool = False) -> Doc:
    return Chain(items, " ".join(prefix + doc.flat for prefix, doc in items), steps)


def _arg(arg: syntax.Arg, tight: bool) -> Doc:
    value = document(arg.value, _VALUE, tight)
    return value if arg.name is None else chain((f"{arg.name} = ", value))


def _each(expr: syntax.Each, tight: bool) -> Doc:
    low, high = document(expr.low, _SUM, tight), document(expr.high, _SUM, tight)
    items = [
        ("", document(expr.value, _VALUE, tight)),
        (f"for {expr.variable} in ", chain(("", low), (".. ", high))),
    ]
    if expr.condition is not None:
        items.append(("if ", document(expr.condition, _OR, tight)))
    return chain(*items)


def _binary(expr: syntax.Binary, tight: bool) -> Doc:
    """Return one chain for operators of one level, as in ``a + b - c``."""
    level, right = _BINARY.get(expr.op, (_COMPARE, _SUM))
    chains = level != _COMPARE
    operands: list[tuple[str, Expr]] = []
    node: Expr = expr
    while isinstance(node, syntax.Binary) and _level(node) == level:
        operands.append((f"{node.op} ", node.right))
        node = node.left
        if not chains:
            break
    first = document(node, level if chains else _SUM, tight)
    items = [("", first), *((op, document(item, right, tight)) for op, item in reversed(operands))]
    if tight and level in (_SUM, _PRODUCT):
        return Text("".join(prefix.strip() + doc.flat for prefix, doc in items))
    return chain(*items)


def _wiring(expr: syntax.Via | syntax.By | syntax.With, tight: bool) -> Doc:
    """Return ``backbone via connection by rule with (...)``."""
    items: list[tuple[str, Doc]] = []
    node: Expr = expr
    while isinstance(node, syntax.Via | syntax.By | syntax.With):
        match node:
            case syntax.Via():
                items.append(("via ", document(node.connection, _POSTFIX, tight)))
            case syntax.By():
                items.append(("by ", document(node.rule, _POSTFIX, tight)))
            case syntax.With():
                settings = [_arg(setting, tight) for setting in node.settings]
                items.append(("", bracketed("with (", settings, ")")))
        node = node.subject
    return chain(("", document(node, _POSTFIX, tight)), *reversed(items))
