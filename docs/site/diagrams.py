"""Railroad diagrams of the grammar, from lark's own parse of ``danet.lark``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

import railroad
from lark import Token, Tree
from lark.grammar import NonTerminal, Terminal
from lark.load_grammar import load_grammar

from danetc.dsl.syntax.grammar import grammar_text

SYMBOLS = {
    "ARROW": "->",
    "RANGE": "..",
    "IN": "in",
    "STATE": "state",
    "KIND": "network | block | backbone | connection | rule | neuron | surrogate | recipe",
    "CMP": "== | != | <= | >= | < | >",
}
"""Terminals that are shown as their text."""

RULES: Mapping[str, str] = {
    "start": "A file.",
    "items": "Uses and declarations, in any order.",
    "use": "Takes the declarations of the standard library or of a file.",
    "module": "`std`, or the path of a file in quotes.",
    "use_names": "The names that are taken.",
    "use_name": "A name of the other file.",
    "declaration": "Declares a name: by a body, by a value, or as a variant of another with some lines changed.",
    "params": "Parameters, or none.",
    "param_list": "Parameters, one after the other.",
    "param": "A parameter, which may have a default.",
    "body": "Statements in braces.",
    "stmts": "Statements; `;` may stand between two.",
    "stmt": "A definition, one for each i (of a rule), a state (of a neuron), or a group (of a recipe).",
    "value": "What a name stands for: an expression, or a flow.",
    "steps": "A flow: what comes first is given to what follows.",
    "either": "One value or another, as a condition says.",
    "test": "True where one of several conditions is.",
    "conj": "True where all of several conditions are.",
    "neg": "The opposite of a condition.",
    "comp": "A comparison.",
    "sum": "Sums and differences, from the left.",
    "product": "Products and quotients, from the left.",
    "unary": "A value, or its negative.",
    "part": "A value with what wires it (`via`), feeds it (`by`) and sets it (`with`).",
    "postfix": "A name, a call, or a part of a value.",
    "indices": "Indices, one after the other.",
    "index": "One index, or a range with both its ends.",
    "args": "Arguments, one after the other.",
    "arg": "An argument: a value, one with its name, or one for each j of a range.",
    "settings": "Settings, one after the other.",
    "setting": "A setting.",
    "atom": "A name, a number, a string, or a value in parentheses.",
    "name": "A name. Words that begin a declaration, `in` and `state` are names elsewhere.",
}
"""Description of each rule of the grammar; a test compares the names with the grammar."""


def rules() -> Mapping[str, Any]:
    """Return the rules of the grammar by name, each as the tree of its alternatives."""
    grammar, _ = load_grammar(grammar_text(), "danet.lark", [], False)
    return {str(name): tree for name, _, tree, _ in grammar.rule_defs}


def diagram(name: str, alternatives: Tree[Any]) -> str:
    """Return a rule as SVG. A left-recursive rule, such as ``a: b | a "," b``, is a loop."""
    first: list[list[Any]] = []
    again: list[list[Any]] = []
    for parts in _alternatives(alternatives):
        if parts and _is_rule(parts[0], name):
            again.append(parts[1:])
        else:
            first.append(parts)
    shown = _choice([_sequence(parts) for parts in first])
    if again and first == [[]]:  # zero or more
        shown = railroad.ZeroOrMore(_choice([_sequence(parts) for parts in again]))
    elif len(again) == 1 and len(first) == 1 and again[0][1:] == first[0]:
        shown = railroad.OneOrMore(_sequence(first[0]), _item(again[0][0]))
    elif again:
        tails = railroad.ZeroOrMore(_choice([_sequence(parts) for parts in again]))
        shown = railroad.Sequence(shown, tails)
    text = StringIO()
    picture = railroad.Diagram(shown)
    picture.attrs["xmlns:xlink"] = "http://www.w3.org/1999/xlink"
    picture.writeSvg(text.write)
    return text.getvalue()


def _alternatives(tree: Tree[Any]) -> Iterator[list[Any]]:
    for child in tree.children:
        expansion = child.children[0] if child.data == "alias" else child
        yield [_symbol(part) for part in expansion.children]


def _symbol(part: Tree[Any]) -> Any:
    (symbol,) = part.children
    if isinstance(symbol, Tree):  # a literal
        (symbol,) = symbol.children
    return symbol


def _is_rule(symbol: Any, name: str) -> bool:
    return isinstance(symbol, NonTerminal) and symbol.name == name


def _choice(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else railroad.Choice(0, *items)


def _sequence(parts: list[Any]) -> Any:
    items = [_item(part) for part in parts]
    return items[0] if len(items) == 1 else railroad.Sequence(*items) if items else railroad.Skip()


def _item(symbol: Any) -> Any:
    if isinstance(symbol, NonTerminal):
        return railroad.NonTerminal(symbol.name, href=f"#{symbol.name}")
    if isinstance(symbol, Terminal):
        words = SYMBOLS.get(symbol.name)
        if words is None:
            return railroad.Terminal(symbol.name)
        return _choice([railroad.Terminal(word) for word in words.split(" | ")])
    assert isinstance(symbol, Token)
    return railroad.Terminal(str(symbol).strip('"'))
