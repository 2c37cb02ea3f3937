"""The word lists of all grammars, and the results of their lexers and parsers for every text."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from pygments import token
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.diagnostics.explain import examples
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.grammar import grammar_text
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.dsl.syntax.words import OF_PARAMETER
from danetc.highlighting.lexer import DanetLexer
from editors.highlighting import CONTEXTUAL, words, written

ROOT = Path(__file__).parents[2]


TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for folder in ("specs", "dsl/std")
    for path in sorted((ROOT / folder).rglob("*.danet"))
} | {f"{code}.danet": examples(code)[1] for code in CODES}


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
    """Names of the tables that all highlighters must have, in whatever groups."""
    names = {name for name, op in OPS.items() if op.public}
    names |= {name for name, row in OPCODES.items() if row.takes is not None}
    names |= {value for values in OF_PARAMETER.values() for value in values}
    for name in names:
        assert re.search(rf"[(|]{name}[|)]", TEXTMATE), name
        assert f'"{name}"' in QUERIES, name
        assert f'"{name}"' in PYGMENTS, name


# -- Pygments --------------------------------------------------------------------------------------


def lexed(text: str) -> list[tuple[token._TokenType, str]]:
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


# -- tree-sitter's parser, generated once (Debian: tree-sitter-cli nodejs gcc): the compiler's nodes


NODES: dict[type, str] = {
    s.Declaration: "declaration", s.Use: "use", s.Param: "parameter", s.Define: "definition",
    s.State: "state", s.Group: "group", s.Flow: "flow", s.IfElse: "if_else", s.Binary: "binary",
    s.Unary: "unary", s.Via: "via", s.By: "by", s.With: "with", s.Call: "call", s.At: "at",
    s.Range: "range", s.Each: "each", s.Number: "number", s.String: "string",
}  # fmt: skip
"""The node of tree-sitter's tree for each of ours."""


class TreeSitter:
    def __init__(self, folder: Path) -> None:
        self.grammar = folder / "grammar"
        source = ROOT / "editors/tree-sitter-danet"
        shutil.copytree(source, self.grammar, ignore=shutil.ignore_patterns("src", "bindings"))
        self.environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        self.run("generate", "--no-bindings")

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            ["tree-sitter", *arguments],
            cwd=self.grammar, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr + done.stdout[-2000:]
        return done.stdout

    def parsed(self, texts: Iterable[str], status: int = 0) -> list[str]:
        """The tree of each text as text."""
        files = []
        for number, text in enumerate(texts):
            files.append(self.grammar / f"{number}.danet")
            files[-1].write_text(text + "\n", encoding="utf-8")
        output = self.run("parse", *map(str, files), status=status)
        return re.split(r"^\(source_file", output, flags=re.MULTILINE)[1:]


@pytest.fixture(scope="module")
def tree_sitter(tmp_path_factory: pytest.TempPathFactory) -> TreeSitter:
    if missing := [name for name in ("tree-sitter", "node", "cc") if shutil.which(name) is None]:
        pytest.skip(f"{missing} missing (Debian: apt install tree-sitter-cli nodejs gcc)")
    return TreeSitter(tmp_path_factory.mktemp("tree-sitter"))


def test_every_text_has_the_compilers_nodes(tree_sitter: TreeSitter) -> None:
    trees = tree_sitter.parsed(TEXTS.values())
    for (name, text), tree in zip(TEXTS.items(), trees, strict=True):
        seen = Counter(re.findall(r"\((\w+) \[", tree))
        assert not {"ERROR", "MISSING"} & {*re.findall("[A-Z]+", tree)}, name
        program = parse(SourceFile(name, text), Reporter())
        own = Counter(NODES[type(node)] for node in s.walk(program) if type(node) in NODES)
        own["string"] += sum(use.is_path for use in program.uses)  # our tree has no node for a path
        for node in NODES.values():
            assert seen[node] == own[node], (name, node)


WRONG = [
    "network a { input = image(1, 8, 8)",
    "network { }",
    "rule r { in[i] = }",
    "neuron n { v = 2 u }",
    "network a { a = b -> c + }",
    "block b = conv(3",
    "block b = a -> -> c",
    "block b = a < b < c",
    "connection c { out = .5 * branch }",
]


def test_what_is_wrong_is_an_error(tree_sitter: TreeSitter) -> None:
    trees = tree_sitter.parsed(WRONG, status=1)
    for text, tree in zip(WRONG, trees, strict=True):
        reporter = Reporter()
        parse(SourceFile("wrong", text), reporter)
        assert reporter.diagnostics, text
        assert "ERROR" in tree or "MISSING" in tree, text


def test_the_queries_colour(tree_sitter: TreeSitter, tmp_path: Path) -> None:
    file = tmp_path / "a.danet"
    file.write_text(
        "use std\n"
        "network a(width = 1) { stem = conv(8, kernel = 3) -> max(over = time) -> spike  # one\n"
        "stages = resnet18 via sew }\n"
    )
    output = tree_sitter.run("query", "queries/highlights.scm", str(file))
    found = set(re.findall(r"capture: \d+ - ([\w.]+), .*text: `(.*)`", output))
    assert found >= {
        ("keyword", "use"), ("keyword", "network"), ("type", "a"), ("variable.parameter", "width"),
        ("property", "stem"), ("function.builtin", "conv"), ("number", "8"), ("operator", "->"),
        ("constant", "time"), ("function.builtin", "spike"), ("comment", "# one"),
        ("type.builtin", "resnet18"), ("keyword", "via"), ("punctuation.bracket", "{"),
    }  # fmt: skip
    assert "capture: fold" in tree_sitter.run("query", "queries/folds.scm", str(file))
