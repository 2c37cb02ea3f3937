"""The word lists of all grammars against the grammar of the language and the tables of words."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pygments import token
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from danetc.compiler.ir.ops import OPS
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.syntax.grammar import grammar_text
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.dsl.syntax.words import OF_PARAMETER
from danetc.highlighting.lexer import DanetLexer
from editors.highlighting import CONTEXTUAL, words, written

ROOT = Path(__file__).parents[2]
_FIXED = re.compile(r"## Fixed\n\n```danet\n(.+?\n)```", re.DOTALL)


def texts() -> dict[str, str]:
    found = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for folder in ("specs", "dsl/std")
        for path in sorted((ROOT / folder).rglob("*.danet"))
    }
    for page in sorted((ROOT / "dsl/diagnostics/explain").glob("*.md")):
        for number, example in enumerate(_FIXED.findall(page.read_text("utf-8"))):
            found[f"{page.stem}-{number}.danet"] = example
    return found


TEXTS = texts()


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


# -- Pygments --------------------------------------------------------------------------------------


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
