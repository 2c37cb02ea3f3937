"""Formatting and semantic tokens."""

from __future__ import annotations

import pytest

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile
from danetc.editor import analyse
from danetc.editor.navigation import edited
from danetc.editor.outline import MODIFIERS, TYPES, semantic_tokens
from danetc.editor.problems import format_edits
from tests.editor.marked import network


def test_formatting_is_that_of_fmt() -> None:
    text = network("stem=conv(8)   ->  norm", "head   = avgpool  # last")
    (edit,) = format_edits(analyse(text))
    formatted = edited(text, [edit])
    assert formatted == format_source(parse(SourceFile("x", text), Reporter()))
    assert format_edits(analyse(formatted)) == ()


def test_a_file_with_a_syntax_error_is_left_as_it_is() -> None:
    assert format_edits(analyse(network("stem=conv(8"))) == ()


def test_the_meaning_of_a_word_is_its_colour() -> None:
    text = (
        "use std\nneuron mine(tau = 2.0) { state u = 0.0; s = heaviside(u + x / tau) }  # mine\n"
        + network("stem = conv(8, over = time) -> mine(tau = 3.0)")
    )
    found = {
        (token.span.text, token.type, token.modifiers) for token in semantic_tokens(analyse(text))
    }
    assert {
        ("neuron", "keyword", ()),
        ("mine", "struct", ("declaration",)),
        ("mine", "struct", ()),
        ("tau", "parameter", ("declaration",)),
        ("tau", "parameter", ()),
        ("u", "property", ("declaration",)),
        ("heaviside", "function", ("defaultLibrary",)),
        ("x", "variable", ("defaultLibrary", "readonly")),
        ("# mine", "comment", ()),
        ("conv", "function", ("defaultLibrary",)),
        ("time", "enumMember", ("defaultLibrary",)),
        ("LIF", "struct", ("defaultLibrary",)),
        ("8", "number", ()),
        ("->", "operator", ()),
    } <= found


@pytest.mark.parametrize("name", list(shipped_specs())[::8])
def test_tokens_stand_in_order_and_apart(name: str) -> None:
    text = shipped_specs()[name].read_text(encoding="utf-8")
    tokens = semantic_tokens(analyse(text, str(shipped_specs()[name])))
    assert tokens
    for before, token in zip([None, *tokens], tokens, strict=False):
        assert before is None or before.span.end <= token.span.start
        assert "\n" not in token.span.text
        assert token.type in TYPES
        assert set(token.modifiers) <= set(MODIFIERS)
