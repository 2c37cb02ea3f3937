"""Hypothesis strategies for syntactically valid trees, over every kind of node."""

from __future__ import annotations

from hypothesis import strategies as st

from danetc.dsl.diagnostics.visible import HIDDEN
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.tokens import JOINERS
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from danetc.dsl.syntax.words import AXES

RESERVED = ("use", "via", "by", "with", "if", "else", "for", "and", "or", "not")
WORDS_ELSEWHERE = (*DECLARATION_KINDS, "in", "state")  # words that are names where they may be

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
statements: st.SearchStrategy[syntax.Stmt] = st.recursive(
    _settings,
    lambda inner: st.builds(
        syntax.Group, plain_names, st.none() | plain_names, st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=4,
)
bodies = st.lists(statements, max_size=4).map(tuple)

_parameters = st.lists(st.builds(syntax.Param, names, st.none() | expressions), max_size=3).map(
    tuple
)
declarations = st.one_of(
    st.builds(syntax.Declaration, kinds, names, _parameters, expressions, st.none() | bodies),
    st.builds(syntax.Declaration, kinds, names, _parameters, st.none(), bodies),
)
_use_names = st.none() | st.lists(st.builds(syntax.UseName, names), min_size=1, max_size=3).map(
    tuple
)
uses = st.one_of(
    st.builds(syntax.Use, names, st.just(False), _use_names),
    st.builds(syntax.Use, string_values, st.just(True), _use_names),
)
programs = st.lists(st.one_of(uses, declarations), max_size=4).map(
    lambda items: syntax.Program(tuple(items))
)
