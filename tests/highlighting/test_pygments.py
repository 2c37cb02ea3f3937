"""The lexer of Pygments on every text, token by token against the compiler's own tokens."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
from pygments import token
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.highlighting.lexer import DanetLexer
from tests.highlighting.texts import ROOT, TEXTS


def lexed(text: str) -> list[tuple[token._TokenType, str]]:
    """The tokens of a text but white space."""
    found = DanetLexer(stripnl=False, ensurenl=False).get_tokens(text)
    return [(kind, value) for kind, value in found if kind not in token.Whitespace]


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_are_those_of_the_compiler(name: str) -> None:
    text = TEXTS[name]
    seen = lexed(text)
    assert [value for kind, value in seen if kind in token.Error] == []
    read = scan(SourceFile(name, text))
    assert read.errors == []
    own = [(token.start, token.text) for token in read.tokens if token.text]
    own += [(comment.span.start, comment.text) for comment in read.comments]
    assert [value.rstrip() for _, value in seen] == [value for _, value in sorted(own)]


KINDS: dict[str, dict[str, token._TokenType]] = {
    "network a(b = 1) { }": {"network": Keyword.Declaration, "a": Name.Class},
    "x = network -> conv": {"network": Name},
    "use std": {"std": Name.Namespace},
    "state u = 0.0": {"state": Keyword.Declaration},
    "y = state + 1": {"state": Name},
    "sum(out[j] for j in 0 .. i-1)": {"for": Keyword, "in": Keyword, "..": Operator},
    "a = in -> conv(64, kernel = 7)": {
        "in": Name.Variable.Magic, "conv": Name.Function, "kernel": Name.Attribute, "64": Number,
    },
    "a = b == c": {"b": Name},
    "a = max(over = time)": {"time": Name.Constant, "over": Name.Attribute},
    "init = normal(0.02)": {"normal": Name.Function},
    "s = resnet50 via sew": {"via": Keyword, "resnet50": Name.Builtin},
    "a = b and not c": {"not": Operator.Word},
    'use "a.danet" (b) # all': {'"a.danet"': String.Double, "# all": Comment.Single},
    "a = true; b = 2": {"true": Keyword.Constant, ";": token.Punctuation},
    "network b = a via sew { }": {"via": Keyword},
    "phase full { epochs = 5 }": {"phase": Keyword.Declaration, "full": Name.Class},
    "android = orange": {"android": Name.Attribute, "orange": Name},
}  # fmt: skip


@pytest.mark.parametrize("text", KINDS)
def test_a_word_in_its_place(text: str) -> None:
    found = lexed(text)
    for word, kind in KINDS[text].items():
        assert {each for each, value in found if value == word} == {kind}


def test_wrong_signs_are_errors() -> None:
    assert [value for kind, value in lexed("a = b @ 3x") if kind in token.Error] == ["@", "3"]


def test_pyproject_names_the_lexer_and_pygments_finds_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    place = f"{DanetLexer.__module__}:{DanetLexer.__name__}"
    assert project["entry-points"]["pygments.lexers"] == {"danet": place}
    assert isinstance(get_lexer_by_name("danet"), DanetLexer)
    assert isinstance(get_lexer_for_filename("a.danet"), DanetLexer)


def test_it_loads_nothing_of_the_compiler() -> None:
    code = (
        "import sys; import danetc.highlighting.lexer; "
        "print([m for m in sys.modules if m.startswith('danetc.') or m in ('lark', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['danetc.highlighting', 'danetc.highlighting.lexer']\n"
