"""The word lists of all grammars against the grammar of the language and the tables of words."""

from __future__ import annotations

import re

import pytest

from danetc.compiler.ir.ops import OPS
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.syntax.grammar import grammar_text
from danetc.dsl.syntax.words import OF_PARAMETER
from editors.highlighting import CONTEXTUAL, words, written
from tests.highlighting.texts import ROOT

TREE_SITTER = (ROOT / "editors/tree-sitter-danet/grammar.js").read_text("utf-8")
TEXTMATE = (ROOT / "editors/vscode/syntaxes/danet.tmLanguage.json").read_text("utf-8")
QUERIES = (ROOT / "editors/tree-sitter-danet/queries/highlights.scm").read_text("utf-8")
PYGMENTS = (ROOT / "danetc/highlighting/words.json").read_text("utf-8")


def of_grammar() -> set[str]:
    """The words of danet.lark: those in quotes and those of its terminals."""
    rules, _, terminals = grammar_text().partition("KIND.2:")
    rules = re.sub(r"//[^\n]*", "", rules)
    quoted = {word for word in re.findall(r'"([^"]+)"', rules) if word.isalpha()}
    kinds = re.match(r" /\(([a-z|]+)\)", terminals)
    fixed = re.findall(r"^[A-Z]+\.2: /([a-z]+)\(", terminals, re.MULTILINE)
    return quoted | set(kinds.group(1).split("|")) | set(fixed)


@pytest.mark.parametrize("place", written())
def test_what_is_written_is_up_to_date(place: str) -> None:
    assert (ROOT / place).read_text("utf-8") == written()[place], (
        "python -m editors.highlighting writes it anew"
    )


def test_the_words_of_the_grammar_have_groups() -> None:
    found = words()
    groups = ("declarations", "keywords", "operators", "contextual")
    assert {word for group in groups for word in found[group]} == of_grammar()
    assert set(CONTEXTUAL) == {"in", "state"}
    every = [word for name, group in found.items() if name != "contextual" for word in group]
    assert len(every) == len(set(every))  # no word is in two groups


def test_the_words_of_tree_sitter() -> None:
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", TREE_SITTER)
    _, _, rules = code.partition("rules: {")
    rules = re.sub(r'(field|name:)\(?\s*"[a-z]+"', "", rules)
    assert {word for word in re.findall(r'"([^"]+)"', rules) if word.isalpha()} == of_grammar()


def test_names_of_tables_are_everywhere() -> None:
    """Of each table some names that its highlighters must have, whatever groups there are."""
    names = {name for name, op in OPS.items() if op.public}
    names |= {name for name, row in OPCODES.items() if row.takes is not None}
    names |= {value for values in OF_PARAMETER.values() for value in values}
    for name in names:
        assert re.search(rf"[(|]{name}[|)]", TEXTMATE), name
        assert f'"{name}"' in QUERIES, name
        assert f'"{name}"' in PYGMENTS, name
