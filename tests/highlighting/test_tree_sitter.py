"""The tree-sitter grammar on every text, node by node against the compiler's own tree.

The parser is generated and compiled once (Debian: apt install tree-sitter-cli nodejs gcc).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from tests.highlighting.test_words import ROOT, TEXTS

NODES: dict[type, str] = {
    s.Declaration: "declaration", s.Use: "use", s.Param: "parameter", s.Define: "definition",
    s.State: "state", s.Group: "group", s.Flow: "flow", s.IfElse: "if_else", s.Binary: "binary",
    s.Unary: "unary", s.Via: "via", s.By: "by", s.With: "with", s.Call: "call", s.At: "at",
    s.Range: "range", s.Each: "each", s.Number: "number", s.String: "string",
}  # fmt: skip
"""The node of tree-sitter's tree for each of ours."""


class TreeSitter:
    """The program, its parsers and settings in a folder of their own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.grammar = folder / "grammar"
        source = ROOT / "editors/tree-sitter-danet"
        shutil.copytree(source, self.grammar, ignore=shutil.ignore_patterns("src", "bindings"))
        self.environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        self.run("generate", "--no-bindings")

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.grammar, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr + done.stdout[-2000:]
        return done.stdout


@pytest.fixture(scope="module")
def tree_sitter(tmp_path_factory: pytest.TempPathFactory) -> TreeSitter:
    program = shutil.which("tree-sitter")
    missing = [name for name in ("tree-sitter", "node", "cc") if shutil.which(name) is None]
    if program is None or missing:
        pytest.skip(
            f"{', '.join(missing)} missing (Debian: apt install tree-sitter-cli nodejs gcc)"
        )
    return TreeSitter(program, tmp_path_factory.mktemp("tree-sitter"))


def parsed(tool: TreeSitter, folder: Path, texts: Iterable[str], status: int = 0) -> list[str]:
    """The tree of each text as text."""
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.danet")
        files[-1].write_text(text + "\n", encoding="utf-8")
    output = tool.run("parse", *map(str, files), status=status)
    trees = re.split(r"^\(source_file", output, flags=re.MULTILINE)[1:]
    assert len(trees) == len(files)
    return trees


def test_every_text_has_the_compilers_nodes(tree_sitter: TreeSitter, tmp_path: Path) -> None:
    trees = parsed(tree_sitter, tmp_path, TEXTS.values())
    for (name, text), tree in zip(TEXTS.items(), trees, strict=True):
        seen = Counter(re.findall(r"\((\w+) \[", tree))
        assert not {"ERROR", "MISSING"} & {*re.findall("[A-Z]+", tree)}, name
        program = parse(SourceFile(name, text), Reporter())
        own = Counter(NODES[type(node)] for node in s.walk(program) if type(node) in NODES)
        own["string"] += sum(use.is_path for use in program.uses)  # a path is no node of ours
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


def test_what_is_wrong_is_an_error(tree_sitter: TreeSitter, tmp_path: Path) -> None:
    trees = parsed(tree_sitter, tmp_path, WRONG, status=1)
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
    folds = tree_sitter.run("query", "queries/folds.scm", str(file))
    assert "capture: fold" in folds
