"""The examples of CONTRIBUTING.md are added to a copy of the repository, and its commands are run there."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reference_pages.documents import DocumentBlock, blocks, commands

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COPIED = ("danetc", "dsl", "compiler", "runtime", "specs", "tests")

_NEW = re.compile(r"A new file `(?P<file>[^`]+)`.*:")
_IN = re.compile(r"In `(?P<file>[^`]+)`, (?P<how>before|after|in place of) `(?P<line>.+)`:")

RUN = """
import contextlib, io, json, sys
from danetc.main import main
def run(words):
    if words[0] == "danetc":
        return main(words[1:])
    import pytest
    assert words[:3] == ["python", "-m", "pytest"], words
    return int(pytest.main([*words[3:], "-p", "no:cacheprovider"]))
results = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(words)
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""
"""Runs several commands in one process, so that modules are imported once."""


def added() -> list[tuple[str, DocumentBlock]]:
    """The blocks of the examples, each with the line above it, which names the place of its text."""
    examples = PAGE.partition("## Adding things")[2]
    lines = examples.splitlines()
    return [("\n".join(lines[: x.line - 1]).rstrip().split("\n")[-1], x) for x in blocks(examples)]


def perform(above: str, text: str, root: Path) -> None:
    if new := _NEW.fullmatch(above):
        path = root / new["file"]
        assert not path.exists(), f"{new['file']} is there already"
        path.write_text(text + "\n", encoding="utf-8")
        return
    place = _IN.fullmatch(above)
    assert place is not None, f"a block under {above!r}, which does not say where it goes"
    path = root / place["file"]
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [i for i, line in enumerate(lines) if line.strip().startswith(place["line"])]
    assert len(found) == 1, f"{len(found)} lines of {place['file']} begin with {place['line']}"
    start = found[0] + (place["how"] == "after")
    lines[start : start + (place["how"] == "in place of")] = text.splitlines()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house")
    for name in COPIED:  # with byte code, which is not compiled again
        shutil.copytree(ROOT / name, root / name, symlinks=True)
    shutil.copy2(ROOT / "pyproject.toml", root)
    for above, block in added():
        if block.language != "console":
            perform(above, block.text, root)
    return root


@pytest.mark.thorough
def test_the_commands_print_what_the_page_says(copy: Path) -> None:
    """The commands are those of danetc and tests of tables, which include the new rows."""
    consoles = [block for _, block in added() if block.language == "console"]
    found = [command for block in consoles for command in commands(block)]
    assert {command.words[0] for command in found} == {"danetc", "python"}
    more = {"PYTHONPATH": str(copy), "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([command.words for command in found])],
        cwd=copy, env=os.environ | more, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    for command, (status, out, err) in zip(found, results, strict=True):
        shown = f"{shlex.join(command.words)}\n{out}{err}"
        assert status == 0, shown
        assert not command.printed or command.fits(out.replace(os.sep, "/")), shown


def test_every_room_is_named_with_what_its_docstring_says() -> None:
    rooms = []
    for top in ("dsl", "compiler", "runtime", "danetc", "specs"):
        for path in (ROOT / top).rglob("__init__.py"):
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            first = " ".join(doc.partition("\n\n")[0].split()).replace("``", "`")
            rooms.append((path.parent.relative_to(ROOT).as_posix(), first))
    named = re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(rooms)
