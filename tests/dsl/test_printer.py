"""The formatter: the tree stays, the comments stay, a second pass changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.syntax.printer import format_source, print_expr, print_program
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.dsl.syntax.tree import Define, Expr, Program
from tests.dsl.examples import EXAMPLES
from tests.dsl.strategies import expressions, programs
from tests.dsl.test_parser import read
from tests.generating import examples
from tests.tables import each_of

quick = examples(30)


def fmt(text: str) -> str:
    return format_source(read(text))


@quick
@given(expressions)
def test_an_expression_reads_back(expression: Expr) -> None:
    text = f"block b {{ x = {print_expr(expression)} }}"
    (declaration,) = read(text).declarations
    assert declaration.body == (Define("x", None, expression),)


@quick
@given(programs)
def test_a_program_reads_back(program: Program) -> None:
    text = print_program(program)
    assert read(text) == program
    assert fmt(text) == text


@quick
@given(programs, st.data())
def test_comments_and_trees_outlive_the_formatter(program: Program, data: st.DataObject) -> None:
    """Comments and blank lines put at any place of a text: none is lost, one pass is enough."""
    scanned = scan(SourceFile("test.danet", print_program(program)))
    gaps = data.draw(
        st.lists(
            st.sampled_from([" ", "\n", "\n\n", " # c\n", "\n# own\n", "\n\n# far\n\n"]),
            min_size=len(scanned.tokens),
            max_size=len(scanned.tokens),
        )
    )
    text = "".join(gap + token.text for gap, token in zip(gaps, scanned.tokens, strict=True))
    before = read(text)
    once = fmt(text)
    after = read(once)
    assert before == program
    assert after == program
    assert sorted(comment.text for comment in after.comments) == sorted(
        comment.text for comment in before.comments
    )
    assert fmt(once) == once


@each_of(EXAMPLES)
def test_examples_keep_their_meaning(title: str) -> None:
    text = EXAMPLES[title]
    once = fmt(text)
    assert read(once) == read(text)
    assert [c.text for c in read(once).comments] == [c.text for c in read(text).comments]
    assert fmt(once) == once
    code = [line.split("#")[0] for line in once.splitlines()]
    assert all(len(line.rstrip()) <= 100 for line in code)


CASES = {
    "a body on one line stays there": (
        "rule chain   {in[i]=out[i-1];result=out[ n - 1 ]}",
        "rule chain { in[i] = out[i-1];  result = out[n-1] }\n",
    ),
    "a body over lines has one statement a line": (
        "network a {\nsteps = 1; neuron = IF }",
        "network a {\n  steps  = 1\n  neuron = IF\n}\n",
    ),
    "a body too long for its line": (
        f"network a {{ x = {'long' * 15}; y = {'long' * 15} }}",
        f"network a {{\n  x = {'long' * 15}\n  y = {'long' * 15}\n}}\n",
    ),
    "blank lines end the alignment": (
        "network a {\n\n\nsteps = 1\n\n\n\nneuron = IF\n\n}",
        "network a {\n  steps = 1\n\n  neuron = IF\n}\n",
    ),
    "names of up to 20 letters are aligned": (
        f"network a {{\n {20 * 'x'} = 1\n b = 2 }}",
        f"network a {{\n  {20 * 'x'} = 1\n  b{19 * ' '} = 2\n}}\n",
    ),
    "longer names are not": (
        f"network a {{\n {21 * 'x'} = 1\n b = 2 }}",
        f"network a {{\n  {21 * 'x'} = 1\n  b = 2\n}}\n",
    ),
    "only names are aligned": (
        "neuron a {\n long = 1\n state u = 0\n c = 3\n g { y = 1 }\n dd = 4\n}",
        "neuron a {\n  long = 1\n  state u = 0\n  c = 3\n  g { y = 1 }\n  dd = 4\n}\n",
    ),
    "comments": (
        "#  head\n\nuse std # all\n# above\nnetwork a { # open\n# own\na = 1;# one\nbcd = 2 # two\n"
        "# last\n}# end\n# file",
        "#  head\n\nuse std  # all\n\n# above\nnetwork a {  # open\n  # own\n  a   = 1  # one\n"
        "  bcd = 2  # two\n  # last\n}  # end\n# file\n",
    ),
    "comments between the steps of a flow": (
        "block a { out = in -> # first\nconv(3) # weights\n # then\n -> norm # last\n}",
        "block a {\n  out = in      # first\n    -> conv(3)  # weights\n    # then\n"
        "    -> norm  # last\n}\n",
    ),
    "braces in comments and strings before a body": (
        'neuron a(x = 1, # {\n y = "{") { # open\n out = in }\nneuron b = c("{" # {\n) { d = 1 }',
        '# {\nneuron a(x = 1, y = "{") {  # open\n  out = in\n}\n\n# {\nneuron b = c("{") { d = 1 }\n',
    ),
    "a comment inside a call": (
        "block a { out = conv(3, # why\n 4) }",
        "block a {\n  # why\n  out = conv(3, 4)\n}\n",
    ),
    "long flows have one step a line": (
        "block a { out = " + " -> ".join(["convolution(64, kernel = 3)"] * 5) + "\n}",
        "block a {\n  out = convolution(64, kernel = 3)"
        + "\n    -> convolution(64, kernel = 3)" * 4
        + "\n}\n",
    ),
    "long calls have one argument a line": (
        "block a { out = concat(" + ", ".join(["f(" + "b" * 40 + ")"] * 3) + ") }",
        "block a {\n  out = concat(\n" + ",\n".join(["    f(" + "b" * 40 + ")"] * 3) + "\n  )\n}\n",
    ),
    "parentheses that say nothing go": (
        "block a { out = ((a) * (b)) + (c) - ((d - e)) }",
        "block a { out = a * b + c - (d - e) }\n",
    ),
    "a sign of a sign needs no parentheses": (
        "block a { out = conv(- - -1 if not (not true) else 1 - -(-2)) }",
        "block a { out = conv(---1 if not not true else 1 - --2) }\n",
    ),
    "an empty file": ("", ""),
    "comments alone": ("\n# a\n\n\n# b", "# a\n\n# b\n"),
    "windows line ends": ("use std # a\r\n# b\r\n", "use std  # a\n# b\n"),
}


@each_of(CASES)
def test_canonical_text(case: str) -> None:
    text, expected = CASES[case]
    assert fmt(text) == expected
    assert fmt(expected) == expected


def test_lines_have_up_to_100_characters() -> None:
    """Each text has a line of 100 characters if ``@`` is a name of so many letters, and none with one more."""
    for text, (letters, lines) in {
        "block x { out = A + @ + A }": (59, 4),
        "block x { out = f(A + @, A) }": (62, 6),
        "block x { out = f(A + A + in + A + @, A) }": (58, 7),
        "block x { out = f(A, A, A, A) + A + @ }": (61, 8),
        "block x { out = f(A) -> g(@) }": (52, 3),
        "block x { a = 1; b = f(@) }": (73, 1),
        "block x { a = 1 \n g { b = A + @ } }": (55, 4),
        "block x = y { a = 1; b = A + @ }": (39, 1),
        "block x(v) = f(A, @)": (63, 2),
        "block x(w = A, v = @) { out = in }": (49, 3),
        "use std (A, @)": (58, 1),
    }.items():
        whole, broken = (
            fmt(text.replace("A", "a" * 30).replace("@", "b" * length)).splitlines()
            for length in (letters, letters + 1)
        )
        assert (max(map(len, whole)), max(map(len, broken)) < 100) == (100, True), text
        assert len(whole) == lines, text


@each_of(["-", "not "])
def test_as_many_signs_as_the_parser_takes(sign: str) -> None:
    """Each in parentheses would be nested deeper than the parser takes."""
    text = f"block a {{ out = conv({sign * 95}1) }}"
    assert read(fmt(text)).items == read(text).items


def test_a_text_that_cannot_be_read_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "block a { " + "; ".join(f"a{i}=1" for i in range(9)) + "; out=in }"
    monkeypatch.setattr("danetc.dsl.syntax.parser.MAX_CHARACTERS", len(text))
    program = read(text)
    with pytest.raises(SpecError, match="canonical text of this file has an error") as caught:
        format_source(program)
    assert caught.value.diagnostics[0].code == "E0901"
