"""The formatter keeps the tree and the comments, and a second pass changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.diagnostics.visible import HIDDEN
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.printer import format_source, print_program
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import JOINERS, scan
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Program
from danetc.dsl.syntax.words import AXES
from tests.dsl.test_parser import read
from tests.generating import examples
from tests.tables import each_of

RESERVED = ("use", "via", "by", "with", "if", "else", "for", "and", "or", "not")
WORDS_ELSEWHERE = (*DECLARATION_KINDS, "in", "state")  # words that may also be names

plain_names = st.one_of(
    st.sampled_from(["a", "conv", "norm", "spike", "out", "tau", "v_threshold", "_x", "in1"]),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True),
).filter(lambda word: word not in (*RESERVED, *WORDS_ELSEWHERE))
names = st.one_of(plain_names, st.sampled_from(WORDS_ELSEWHERE))
kinds = st.sampled_from(DECLARATION_KINDS)
numerals = st.one_of(
    st.integers(0, 10**6).map(str),
    st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["1e-4", "0", "007", "2E5"]),
)
string_values = st.text(
    st.characters(exclude_characters='"\n', exclude_categories=["Cs"]).filter(
        lambda character: character in JOINERS or not HIDDEN.match(character)
    ),
    max_size=8,
)

_atoms = st.one_of(
    st.builds(syntax.Name, names),
    st.builds(syntax.Number, numerals),
    st.builds(syntax.String, string_values),
)
_ARITHMETIC = ("+", "-", "*", "/")
_OTHER = ("==", "!=", "<=", ">=", "<", ">", "and", "or")


def _compound(inner: st.SearchStrategy[syntax.Expr]) -> st.SearchStrategy[syntax.Expr]:
    name = st.builds(syntax.Name, names)
    settings = st.lists(st.builds(syntax.Arg, names, inner), min_size=1, max_size=2).map(tuple)
    each = st.builds(syntax.Each, inner, names, inner, inner, st.none() | inner)
    args = st.one_of(
        st.builds(syntax.Arg, st.none() | names, inner),
        st.builds(syntax.Arg, st.none(), each),
        st.builds(syntax.Arg, st.just("over"), st.builds(syntax.Word, st.sampled_from(AXES))),
    )
    indices = st.one_of(inner, st.builds(syntax.Range, inner, inner))
    return st.one_of(
        st.builds(syntax.Call, name, st.lists(args, max_size=3).map(tuple)),
        st.builds(syntax.At, inner, st.lists(indices, min_size=1, max_size=2).map(tuple)),
        st.builds(syntax.Binary, st.sampled_from(_ARITHMETIC + _OTHER), inner, inner),
        st.builds(syntax.Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(syntax.IfElse, inner, inner, inner),
        st.builds(syntax.Flow, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(syntax.Via, inner, inner),
        st.builds(syntax.By, inner, inner),
        st.builds(syntax.With, inner, settings),
    )


expressions: st.SearchStrategy[syntax.Expr] = st.recursive(_atoms, _compound, max_leaves=12)

_settings = st.one_of(
    st.builds(syntax.Define, names, st.none() | expressions, expressions),
    st.builds(syntax.State, names, expressions),
)


def _group(inner: st.SearchStrategy[syntax.Stmt]) -> st.SearchStrategy[syntax.Stmt]:
    body = st.lists(inner, max_size=3).map(tuple)
    return st.builds(syntax.Group, plain_names, st.none() | plain_names, body)


statements: st.SearchStrategy[syntax.Stmt] = st.recursive(_settings, _group, max_leaves=4)
bodies = st.lists(statements, max_size=4).map(tuple)

_parameter = st.builds(syntax.Param, names, st.none() | expressions)
_parameters = st.lists(_parameter, max_size=3).map(tuple)
declarations = st.one_of(
    st.builds(syntax.Declaration, kinds, names, _parameters, expressions, st.none() | bodies),
    st.builds(syntax.Declaration, kinds, names, _parameters, st.none(), bodies),
)
_some_names = st.lists(st.builds(syntax.UseName, names), min_size=1, max_size=3)
_use_names = st.none() | _some_names.map(tuple)
uses = st.one_of(
    st.builds(syntax.Use, names, st.just(False), _use_names),
    st.builds(syntax.Use, string_values, st.just(True), _use_names),
)
programs = st.lists(st.one_of(uses, declarations), max_size=4).map(
    lambda items: syntax.Program(tuple(items))
)


# -- the formatter ---------------------------------------------------------------------------------


def fmt(text: str) -> str:
    return format_source(read(text))


def comments(program: Program) -> list[str]:
    return sorted(comment.text for comment in program.comments)


@examples(60)
@given(programs, st.data())
def test_comments_and_trees_outlive_the_formatter(program: Program, data: st.DataObject) -> None:
    """Comments and blank lines are put before any token: no comment is lost, and one pass is enough."""
    printed = print_program(program)
    assert fmt(printed) == printed
    tokens = scan(SourceFile("test.danet", printed)).tokens
    gap = st.sampled_from([" ", "\n", "\n\n", " # c\n", "\n# own\n", "\n\n# far\n\n"])
    gaps = data.draw(st.lists(gap, min_size=len(tokens), max_size=len(tokens)))
    text = "".join(gap + token.text for gap, token in zip(gaps, tokens, strict=True))
    once = fmt(text)
    before, after = read(text), read(once)
    assert read(printed) == before == after == program
    assert comments(after) == comments(before)
    assert fmt(once) == once


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
    "as many signs as the parser takes, which in parentheses would be too deep for it": (
        f"block a {{ out = conv({'-' * 95}1, {'not ' * 95}1) }}",
        f"block a {{\n  out = conv(\n    {'-' * 95}1,\n    {'not ' * 95}1\n  )\n}}\n",
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
    """With so many letters for ``@``, the longest line has 100 characters; with one more, fewer."""
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


def test_a_text_that_cannot_be_read_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "block a { " + "; ".join(f"a{i}=1" for i in range(9)) + "; out=in }"
    monkeypatch.setattr("danetc.dsl.syntax.parser.MAX_CHARACTERS", len(text))
    with pytest.raises(SpecError, match="canonical text of this file has an error") as caught:
        fmt(text)
    assert caught.value.diagnostics[0].code == "E0901"
