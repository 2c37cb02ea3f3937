"""Symbols, folding, semantic tokens and formatting, also in files with errors."""

from __future__ import annotations

import pytest

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile
from danetc.editor import analyse
from danetc.editor.navigation import edited
from danetc.editor.outline import MODIFIERS, TYPES, OutlineSymbol, folds, semantic_tokens, symbols
from danetc.editor.positions import TextLines
from danetc.editor.problems import format_edits, problems
from tests.editor.marked import network

BROKEN = """use std

network a(k = 3) {
  input = image(3, 8, 8)
  steps = 2
  stem = conv(64, -> norm
  head = avgpool ->
}

neuron N(a = ) { s = x }

recipe r {
  epochs = 3
  phase first { steps = 1 }
  quick
}

network z {
  out = in ->
"""


def named(found: tuple[OutlineSymbol, ...]) -> list[tuple[str, str, list[str]]]:
    return [(item.kind, item.name, [child.name for child in item.children]) for item in found]


def test_a_file_with_errors_keeps_its_symbols() -> None:
    analysis = analyse(BROKEN)
    assert len(problems(analysis)) >= 4
    assert named(symbols(analysis)) == [
        ("network", "a", ["k", "input", "steps", "stem", "head"]),
        ("neuron", "N", []),
        ("recipe", "r", ["epochs", "first"]),
        ("network", "z", ["out"]),
    ]
    for item in symbols(analysis):
        assert item.name_span.text == item.name
        for child in item.children:
            assert item.span.start <= child.span.start < child.span.end <= item.span.end


def test_details_say_the_values() -> None:
    (found,) = symbols(analyse("neuron N(tau = 2.0) = LIF(tau = tau)\n"))
    assert (found.detail, found.children[0].detail) == ("neuron", "= 2.0")


def test_bodies_comments_and_uses_fold() -> None:
    text = "# one\n# two\nuse std\nuse std\n\n" + network("out = in", "  -> conv(3)") + "# last\n"
    analysis = analyse(text)
    lines = [
        (analysis.source.position(fold.start)[0], analysis.source.position(fold.end)[0], fold.kind)
        for fold in folds(analysis)
    ]
    assert lines == [(1, 2, "comment"), (3, 4, "imports"), (8, 15, "region")]


def test_what_is_wrong_in_a_used_file_stands_at_the_use() -> None:
    analysis = analyse(
        'use "b.danet"\nuse std\n', "/nowhere/a.danet", {"/nowhere/b.danet": "block b = ("}
    )
    (found,) = {item.code: item for item in problems(analysis)}.values()
    assert found.span.text == 'use "b.danet"'
    assert found.message.startswith("in b.danet: ")
    assert found.labels[0].span.source.name == "/nowhere/b.danet"


def test_positions_count_utf_16_units_and_know_every_line_end() -> None:
    text = "a\U0001f600b\r\nc\rd\n\u00e9e"
    lines = TextLines(text)
    assert [lines.position(i) for i in (0, 1, 2, 3, 5, 7, 9, 10)] == [
        (0, 0), (0, 1), (0, 3), (0, 4), (1, 0), (2, 0), (3, 0), (3, 1),
    ]  # fmt: skip
    for offset in range(len(text) + 1):
        if text[offset - 1 : offset + 1] != "\r\n":
            assert lines.offset(*lines.position(offset)) == offset
    assert lines.offset(0, 99) == 3 + 0
    assert lines.offset(99, 0) == len(text)
    assert [TextLines(text, "utf-8").position(i) for i in (2, 10)] == [(0, 5), (3, 2)]
    assert TextLines(text, "utf-8").offset(0, 5) == 2
    assert TextLines(text, "utf-32").position(2) == (0, 2)


def test_formatting_is_that_of_fmt() -> None:
    text = network("stem=conv(8)   ->  norm", "head   = avgpool  # last")
    (edit,) = format_edits(analyse(text))
    formatted = edited(text, [edit])
    assert formatted == format_source(parse(SourceFile("x", text), Reporter()))
    assert format_edits(analyse(formatted)) == ()
    assert format_edits(analyse(network("stem=conv(8"))) == (), "a syntax error"


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
