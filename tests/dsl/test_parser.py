"""The parser: trees and spans, every syntax error with its place, limits, the stored table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, render
from danetc.dsl.syntax import tree as t
from danetc.dsl.syntax.grammar import dump, grammar_text, make_table, table
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import scan
from tests.dsl.examples import EXAMPLES
from tests.generating import examples
from tests.tables import each_of


def parsed(text: str) -> tuple[t.Program, Reporter]:
    reporter = Reporter()
    return parse(SourceFile("test.danet", text), reporter), reporter


def read(text: str) -> t.Program:
    program, reporter = parsed(text)
    reporter.raise_if_errors()
    return program


def errors(text: str) -> list[Diagnostic]:
    return parsed(text)[1].diagnostics


def value(text: str) -> t.Expr:
    (declaration,) = read(f"block b = {text}").declarations
    return declaration.value  # type: ignore[return-value]


a, b, c, i = map(t.Name, "abci")
zero, one = t.Number("0"), t.Number("1")


def call(value: t.Node) -> t.Call:
    return t.Call(t.Name("f"), (t.Arg(None, value),))  # type: ignore[arg-type]


EXPRESSIONS: dict[str, t.Expr] = {
    "a": a,
    "0.5": t.Number("0.5"),
    '"a\\b # c"': t.String("a\\b # c"),
    "f()": t.Call(t.Name("f"), ()),
    "f(a, k = 3)": t.Call(t.Name("f"), (t.Arg(None, a), t.Arg("k", t.Number("3")))),
    "a -> b -> c": t.Flow((a, b, c)),
    "(a -> b) -> c": t.Flow((t.Flow((a, b)), c)),
    "a + b * c": t.Binary("+", a, t.Binary("*", b, c)),
    "a - b - c": t.Binary("-", t.Binary("-", a, b), c),
    "a - (b - c)": t.Binary("-", a, t.Binary("-", b, c)),
    "-a * b": t.Binary("*", t.Unary("-", a), b),
    "not a == b": t.Unary("not", t.Binary("==", a, b)),
    "a or b and c": t.Binary("or", a, t.Binary("and", b, c)),
    "a if b else c": t.IfElse(a, b, c),
    "a if b else b if c else a": t.IfElse(a, b, t.IfElse(b, c, a)),
    "a[b - 1, 0 .. c]": t.At(a, (t.Binary("-", b, one), t.Range(zero, c))),
    "a(b)[0]": t.At(t.Call(a, (t.Arg(None, b),)), (zero,)),
    "a[0..2]": t.At(a, (t.Range(zero, t.Number("2")),)),
    "f(a for in in 0 .. b)": call(t.Each(a, "in", zero, b, None)),
    "f(a[i] for i in 0 .. b if i < c or a)": call(
        t.Each(t.At(a, (i,)), "i", zero, b, t.Binary("or", t.Binary("<", i, c), a))
    ),
    "a via b by c with (d = 1)": t.With(t.By(t.Via(a, b), c), (t.Arg("d", one),)),
    "a via b -> c": t.Flow((t.Via(a, b), c)),
    "network -> in -> state": t.Flow((t.Name("network"), t.Name("in"), t.Name("state"))),
}


@each_of(EXPRESSIONS)
def test_expressions(text: str) -> None:
    assert value(text) == EXPRESSIONS[text]


def test_every_node_has_the_span_of_its_text() -> None:
    text = "use s (x)\nblock b(w, k = (1)) = f(a + (b), (c)) -> ((a - b) * c)[(i)] via x # end\n"
    text += "neuron n { state u = (0); in[i] = -(a) ; g { y = (a if b else (c)) } }"
    texts: dict[str, set[str]] = {}
    for node in t.walk(read(text)):
        texts.setdefault(type(node).__name__, set()).add(node.span.text)
    some = {
        "Use": {"use s (x)"},
        "UseName": {"x"},
        "Param": {"w", "k = (1)"},
        "Call": {"f(a + (b), (c))"},
        "Arg": {"a + (b)", "(c)"},
        "Flow": {"f(a + (b), (c)) -> ((a - b) * c)[(i)] via x"},
        "Via": {"((a - b) * c)[(i)] via x"},
        "At": {"((a - b) * c)[(i)]"},
        "Binary": {"a + (b)", "(a - b) * c", "a - b"},
        "State": {"state u = (0)"},
        "Define": {"in[i] = -(a)", "y = (a if b else (c))"},
        "Group": {"g { y = (a if b else (c)) }"},
        "Unary": {"-(a)"},
        "IfElse": {"a if b else (c)"},
    }
    assert {kind: texts[kind] for kind in some} == some
    block, neuron = read(text).declarations
    assert block.span.text == text.splitlines()[1].removesuffix(" # end")
    assert (block.name_span.text, neuron.name_span.text) == ("b", "n")
    (comment,) = read(text).comments
    assert (comment.text, comment.span.text) == ("# end", "# end")


def test_a_statement_outside_names_the_declaration_before() -> None:
    ((label,),) = (item.labels for item in errors("network a { x = 1 }\nhead = y"))
    assert (label.text, label.span.start) == ("the previous declaration ends here", 18)
    assert [item.labels for item in errors("use std\nsteps = 4")] == [()]


# The error marks the text between « and ».
ERRORS = {
    # files and declarations
    "« netwrk» foo { a = 1 }": ("E0114", "did you mean `network`?"),
    "«import» std": ("E0114", "`use`"),
    "«use» (x)": ("E0119", "needs a module"),
    "use std «,» b": ("E0116", "expected a declaration or `use`"),
    "«steps» = 4": ("E0115", "is outside of all"),
    "network a { x = 1 }\n«head» = y }\nnetwork b { }": ("E0115", "`head` is outside"),
    "network a { x = 1 } «}»\nnetwork b { }": ("E0104", "closes nothing"),
    "«network» { x = 1 }": ("E0101", "expected a name after `network`"),
    "network «if» { x = 1 }": ("E0113", "`if` is a reserved word"),
    "network «a»\n  steps = 4\n}": ("E0101", "expected `(`, `{` or `=` after `a`"),
    "network a = «b»\n  steps = 4\n}": ("E0101", "`{` or `use` after `b`"),
    "network a «= {»\n steps = 4 }": ("E0119", "braces hold the body"),
    "network a «b» { }": ("E0101", "expected `(`, `{` or `=`"),
    "network a«(»b = 3 {\n x = 4 }": ("E0103", "`a(` is not closed"),
    "block b(w, «with» = 1) = c": ("E0113", "`with` is a reserved word"),
    "block b(«w s») = c": ("E0108", "`,` is missing between `w` and `s`"),
    "network a {\n  x = 1\n\n«network b» {\n  x = 1\n}": (
        "E0102",
        "`network a` is not closed where `network b` begins",
    ),
    "network a {\n x = 1\n«use std»\nnetwork b { }": ("E0102", "where `use std` begins"),
    "network a {\n  x = «b»\n": ("E0102", "`network a` is not closed at the end of the file"),
    'network a {\n x = 1\n«use "f.danet"» (x)\nnetwork b { }': (
        "E0102",
        'where `use "f.danet"` begins',
    ),
    "network a {\n x = 1\n«use» = 4\n y = 3 }\nnetwork b { }": ("E0101", "found `use`"),
    "network a {\n x = 1\n «use» std\n}": ("E0101", "at the top of a file"),
    # statements
    "network a { x «==» 3 }": ("E0112", "assign a value to a name with `=`"),
    "network a { x = y «=» 3 }": ("E0112", "a second `=`"),
    "network a { x = 1 if y «=» 3 else 4 }": ("E0112", "to compare two values write `==`"),
    "network a { steps «4» }": ("E0111", "`=` is missing after `steps`"),
    "network a { «stem conv»(3) }": ("E0111", "`=` is missing after `stem`"),
    "network a { state u «0» }": ("E0111", "`=` is missing after `state u`"),
    "network a { «stat u» = 0 }": ("E0111", "did you mean `state`?"),
    "network a { «x x» = 0 }": ("E0111", "`x` is written twice"),
    "network a { «=» 0 }": ("E0111", "expected `name = value`"),
    "network a {\n x = 1\n «=» 0 }": ("E0111", "a name is missing"),
    "network a {\n «norm»\n x = 1 }": ("E0111", "`norm` has no value"),
    "network a { «conv(»3) -> norm }": ("E0111", "this value has no name"),
    "network a { «with» = 0 }": ("E0113", "`with_`"),
    "network a { x = 1;«;» y = 2 }": ("E0116", "nothing precedes this `;`"),
    "network a { x = 1«,» y = 2 }": ("E0116", "statements are separated by `;`"),
    "network a { x = conv(8)«,» norm, spike }": ("E0116", "connect layers with `->`"),
    "network a { x = conv(8)«,»\n norm,\n spike\n y = 2 }": ("E0116", "connect layers with `->`"),
    "network a { phase «full» x = 1 } y = 2 }": ("E0101", "expected `{` after `full`"),
    "network a { phase full «b» { x = 1 } }": ("E0101", "expected `{`, found `b`"),
    "network a { «block» block = b\n x = 1 }": ("E0111", "`block` is written twice"),
    # values
    "network a { x «=»\n y = 3 }": ("E0119", "`=` has no value after it"),
    "neuron a { x «=»\n state u = 0\n s = x }": ("E0119", "`=` has no value after it"),
    "network a { x = b «->»\n in[i] = 3 }": ("E0119", "`->` has no value after it"),
    "network a { x = b «-> ->» c }": ("E0119", "`->` is written twice"),
    "network a { x = b «+ *» c }": ("E0119", "expected a value after `+`, found `*`"),
    "network a { x = «()» }": ("E0119", "expected a value after `(`, found `)`"),
    "network a { x «= [»1, 2] }": ("E0119", "there are no lists"),
    "network a { x «= {»1} y = 2 }": ("E0119", "braces hold the body"),
    "network a { v = «2 u» }": ("E0108", "for a product write `*`"),
    "network a { v = (a«) (»b) }": ("E0108", "for a product write `*`"),
    "network a { v = conv(3«) norm» -> spike }": ("E0108", "steps are joined by `->`"),
    "network a { v = conv(«3 kernel» = 3) }": ("E0108", "separated by `,`"),
    "network a {\n x = f(«b c»,\n k = 3)\n y = 1 }": ("E0108", "separated by `,`"),
    "network a { v = «conv conv»(3) }": ("E0108", "is written twice"),
    "network a { out = «a + b» -> c }": ("E0109", "write `(a + b) -> ...`"),
    "network a { out = a -> «b if c else d» }": ("E0109", "put the choice in parentheses"),
    "network a { x = y «**» 2 }": ("E0110", "write `x * x`, or `exp(n * log(x))`"),
    "network a { x = y «^» 2 }": ("E0110", "no power operator"),
    "network a { x = 1 < y «<» 3 }": ("E0117", "`a < b and b < c`"),
    "network a { x = y if «z»\n w = 1 }": ("E0120", "`a if condition else b`"),
    "network a { x = y «else» z }": ("E0120", "`a if condition else b`"),
    "network a { x = f(1, k = (3«,» 3)) }": ("E0116", "there are no tuples"),
    "network a { x = f(1 «,» ) }": ("E0116", "expected a value after `,`"),
    "network a { x = f(«,» 1) }": ("E0116", "nothing precedes"),
    "network a { x = y «for» i in 0 .. 2 }": ("E0101", "is written in an argument"),
    "network a { x = y «..» z }": ("E0101", "a range is written in square brackets"),
    # brackets
    "network a { x = f«(»3\n y = 1 }": ("E0103", "`f(` is not closed"),
    "network a { x = y«[»3 }": ("E0103", "`y[` is not closed"),
    "network a { x = f(3)«)» -> z }": ("E0104", "closes nothing"),
    "network a { x = «conv 64», k = 3)\n y = 1 }": ("E0108", "is missing between `conv`"),
    "network a {\n x = f(«{» 3)\n}": ("E0104", "this `{` opens nothing"),
    "network a {\n x = y\n «{» }": ("E0101", "a body cannot be written here"),
}


@each_of(ERRORS)
def test_one_error_at_its_place(marked: str) -> None:
    before, rest = marked.split("«")
    wrong, after = rest.split("»")
    found = errors(before + wrong + after)
    code, words = ERRORS[marked]
    assert [error.code for error in found] == [code]
    (error,) = found
    leading = len(wrong) - len(wrong.lstrip(" "))
    assert (error.span.start, error.span.text) == (len(before) + leading, wrong.strip(" "))
    assert words in f"{error.message} {error.hint}"


def test_marks_stand_below_their_place() -> None:
    long = "x" * 200
    for text, start, end, line, mark in (
        ("ab\ncd\n", 3, 4, "2 | cd", "^"),
        ("ab\ncd\n", 2, 2, "1 | ab", "  ^"),
        ("ab\ncd\n", 1, 5, "1 | ab", " ^"),
        (long, 0, 200, f"1 | {long[:160]}", "^" * 160),
        (long, 199, 200, f"1 | {long[:81]}", " " * 80 + "^"),
        (long[:160], 160, 160, f"1 | {long[:160]}", " " * 160 + "^"),
        (long[:161], 81, 161, f"1 | {long[:160]}", " " * 80 + "^" * 80),
    ):
        found = Diagnostic("E0101", "wrong", Span(SourceFile("a", text), start, end))
        assert render(found).splitlines()[2:] == [line, f"  | {mark}"]


TOO_MUCH = [
    "network a { " + "a {" * 5000,
    "block b = a" + " + a" * 5000,
    "block b = -" + "(-" * 99 + "a" + ")" * 99 + " * b" * 200,
    "block b = a" + " if b else a" * 5000,
    "block b = a" + " via b" * 5000,
    "block b = a" + "[0]" * 5000,
    "block b { x = f(a" + " + a" * 5000 + ") }",
    "block b = " + "(" * 101 + "a" + ")" * 101,
]


@each_of(TOO_MUCH)
def test_trees_too_deep(text: str) -> None:
    assert [error.code for error in errors(text)] == ["E0902"]


def test_long_texts() -> None:
    assert value(" -> ".join(["a"] * 10_000)) == t.Flow((a,) * 10_000)
    assert repr(value(" + ".join(["a"] * 100))).count("Binary") == 99
    value("(" * 100 + "a" + ")" * 100)
    assert [error.code for error in errors("# " + "x" * 1_000_000)] == ["E0901"]


WORDS = [
    *"()[]{}=;,+-*/.@#'\"\n\x00xy3", "==", "->", "..", "**", "0.5", "network", "block", "in", "state",
    "use", "if", "else", "for", "via", "by", "with", "not", "and",
]  # fmt: skip
junk = st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join)


@pytest.mark.thorough
@examples(150)
@given(junk)
def test_junk_costs_an_error_and_no_more(text: str) -> None:
    found = errors(text)
    assert len(found) <= 100
    for error in found:
        assert 0 <= error.span.start <= error.span.end <= len(text)
        assert error.message


def test_a_megabyte_of_junk_gives_a_hundred_errors() -> None:
    found = errors("{ ( ] = @ x\x00 } \n" * 50_000)
    assert len(found) == 100
    assert "more errors" in (found[-1].hint or "")


def test_the_stored_table_is_that_of_the_grammar() -> None:
    made = make_table(grammar_text())
    assert made == table(), "run `python -m danetc.dsl.syntax.grammar` after a change of danet.lark"
    assert dump(made) == dump(table())


def test_lark_alone_reads_the_same_tokens() -> None:
    """The grammar file is complete: lark's own lexer and parser accept what ours accept."""
    lark = Lark(grammar_text(), parser="lalr", lexer="basic")
    for text in EXAMPLES.values():
        lark.parse(text)
        ours = [(token.type, token.text) for token in scan(SourceFile("t", text)).tokens[:-1]]
        assert ours == [(token.type, str(token)) for token in lark.lex(text)]
