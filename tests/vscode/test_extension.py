"""The extension without the editor: its own tests, and that what it contributes is there and holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import pytest

from danetc.compiler import check_text
from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from tests.highlighting.test_words import ROOT

FOLDER = ROOT / "editors/vscode"


@cache
def missing() -> str:
    """Why nothing can be built; empty where it can."""
    if shutil.which("node") is None:
        return "there is no node (Debian: apt install nodejs npm)"
    if not (FOLDER / "node_modules").is_dir():
        return "editors/vscode has no packages (make editors)"
    return ""


def run(*command: str) -> str:
    """What a command prints in the extension's folder; it must succeed."""
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@cache
def build() -> None:
    run("node", "build.mjs", "--tests")


PACKAGE = json.loads((FOLDER / "package.json").read_text("utf-8"))
SNIPPETS = json.loads((FOLDER / "snippets/danet.json").read_text("utf-8"))
PLACEHOLDER = re.compile(r"\$\{\d+:([^{}]*)\}|\$\d+")


def test_its_own_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server itself, where pygls is there."""
    if missing():
        pytest.skip(missing())
    build()
    if find_spec("pygls") is not None:
        monkeypatch.setenv("DANETC_LSP", json.dumps([sys.executable, "-m", "danetc", "lsp"]))
    tests = [str(path) for path in sorted((FOLDER / "build/test").glob("*.test.js"))]
    printed = run("node", "--test", "--test-reporter=tap", *tests)
    assert "\n# fail 0\n" in printed
    found = re.search(r"\n# pass (\d+)\n", printed)
    assert int(found.group(1)) > 20


def filled(body: list[str]) -> str:
    """A snippet as it stands before anything is typed."""
    text = PLACEHOLDER.sub(lambda match: match.group(1) or "", "\n".join(body))
    # A placeholder that comes again as `${4:32}` reads the same.
    assert "${" not in text
    return text


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_is_a_spec(name: str) -> None:
    text = filled(SNIPPETS[name]["body"])
    if name.startswith("Variant"):
        network = filled(SNIPPETS["Network"]["body"])
        text = network.replace("network name", "network other") + text
    elif "use std" not in text:
        text = "use std\n" + text
    checked = check_text(text)
    assert checked.module.own


def test_what_it_contributes_is_there() -> None:
    given = PACKAGE["contributes"]
    written = {filled(snippet["body"]) for snippet in SNIPPETS.values()}
    for kind in DECLARATION_KINDS:
        assert any(re.search(rf"^{kind} ", text, re.MULTILINE) for text in written), kind
    assert (FOLDER / given["languages"][0]["configuration"]).is_file()
    for part in ("grammars", "snippets"):
        assert (FOLDER / given[part][0]["path"]).is_file()
    levels = given["configuration"]["properties"]["danet.preview.level"]
    assert (levels["enum"], levels["default"]) == ([*LEVELS], DEFAULT_LEVEL)
    assert len(levels["enumDescriptions"]) == len(LEVELS)
    source = (FOLDER / "src/extension.ts").read_text("utf-8")
    for command in given["commands"]:
        assert f'registerCommand("{command["command"]}"' in source
