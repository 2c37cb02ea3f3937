"""What the page is made of: pinned, and the same as what danetc itself has."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from danetc.dsl.reading import ZOO, shipped_specs
from danetc.editor.analysis import analyse

ROOT = Path(__file__).parents[2]
NPM = "https://registry.npmjs.org/"
HERE = ROOT / "editors" / "playground"


def script(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(HERE / f"{name}.py")))


def read(name: str) -> Any:
    return json.loads((HERE / name).read_text("utf-8"))


def test_every_part_is_pinned_by_its_hash() -> None:
    package = read("package.json")
    named = package["dependencies"] | package["devDependencies"]
    locked = {
        path.rpartition("node_modules/")[2]: entry
        for path, entry in read("package-lock.json")["packages"].items()
        if path
    }
    for name, version in named.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[name]["version"] == version
    for name, entry in locked.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert entry.get("resolved", NPM).startswith(NPM), name
    for line in (HERE / "requirements.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"\w+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line)


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = (HERE / "index.html").read_text("utf-8")
    assert "default-src 'none'" in page
    for path in (HERE / "index.html", HERE / "style.css", *(HERE / "src").glob("*.js")):
        text = path.read_text("utf-8").replace("http://www.w3.org/", "")
        assert "://" not in text, path.name


def test_examples_are_the_shipped_networks_and_the_library() -> None:
    found = {example["id"]: example for example in script("data").examples()}
    assert set(shipped_specs()) < set(found)
    assert {name for name in found if name.startswith("std/")} == {
        f"std/{path.stem}" for path in (ROOT / "dsl" / "std").glob("*.danet")
    }
    assert {found[name]["group"] for name in found if name.startswith(ZOO)} == {"The zoo"}


@pytest.mark.parametrize("id", ["first", "std/neurons", "std/backbones", "zoo/srnn"])
def test_an_example_checks_as_the_page_names_it(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "specs")  # in the browser too
    example = next(each for each in script("data").examples() if each["id"] == id)
    assert analyse(example["text"], example["file"]).diagnostics == ()


def test_a_page_is_current_until_a_source_changes(tmp_path: Path) -> None:
    make = script("make")
    assert not make.is_current(tmp_path)
    (tmp_path / make.STAMP).write_text(make.fingerprint())
    assert make.is_current(tmp_path)
    names = {path.relative_to(ROOT).as_posix() for path in make.sources()}
    assert {
        "editors/playground/src/main.js",
        "dsl/syntax/danet.lark",
        "compiler/draw/gv.py",
    } <= names
    assert not any("node_modules" in name for name in names)
