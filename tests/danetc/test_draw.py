"""``danetc draw``: what it writes, and what it says about wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest

import danetc as package
from danetc.compiler.draw import engine

from .conftest import SMALL, Run

TWO = f"""{SMALL}
network other = small {{ stages = stage(basic(4), 2) via sew }}
network bare = small {{ stages = conv(4) -> norm -> spike }}
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.danet"
    path.write_text(TWO, encoding="utf-8")
    return path


def test_the_ending_says_the_format(danetc: Run, two: Path, tmp_path: Path) -> None:
    for name, start in (("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.gv", b"digraph")):
        result = danetc("draw", two, "-n", "small", "-o", name)
        assert (result.status, result.out, result.err) == (0, "", "")
        assert (tmp_path / name).read_bytes().startswith(start)
    assert danetc("draw", "danet_c_small", "sew_r18", "-o", "b.svg").status == 0
    assert ">(b) sew_r18</text>" in (tmp_path / "b.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "bare", "--level", "block", "-o", "a.svg"), "bare has no stages of blocks"),
        (("-n", "small", "-o", "folder.svg"), "folder.svg is a folder"),
        (("-n", "small", "-o", "no/a.svg"), "there is no folder no"),
        (("-n", "small", "-o", "/proc/a.svg"), "/proc/a.svg: "),
        (("danet_c_small", "-n", "other", "-o", "a.svg"), "other"),
    ],
)
def test_what_cannot_be_drawn_or_written(
    danetc: Run, two: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "a.svg").write_text("old", encoding="utf-8")
    danetc.fails(message, "draw", two, *arguments)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a.svg", "folder.svg", "two.danet"}


# -- without Graphviz ------------------------------------------------------------------------------


WHY = "neither `dot` nor `graphviz-pure` is installed"


@pytest.fixture
def no_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nothing on the PATH, and nothing beside Python, can draw."""
    monkeypatch.setattr(engine.shutil, "which", lambda *names, **where: None)


@pytest.mark.parametrize("why", [WHY, "broken"])
def test_build_costs_the_picture_and_a_note(
    danetc: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Without a program, and with one that ends with an error."""
    danetc.passes("build", small, "-o", "out")
    assert (tmp_path / "out" / "topology.svg").exists()
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    program.chmod(0o755)
    found = None if why == WHY else str(program)
    monkeypatch.setattr(engine.shutil, "which", lambda *names, **where: found)
    for _ in range(2):  # the picture of an older network goes
        result = danetc.passes("build", small, "-o", "out")
        assert result.err.startswith("note: there is no topology.svg: ")
        assert why in result.err
    assert not (tmp_path / "out" / "topology.svg").exists()
    assert "topology.svg" not in (tmp_path / "out" / "summary.json").read_text()
    assert package.load(tmp_path / "out", backend="eager")


@pytest.mark.usefixtures("no_graphviz")
def test_draw_is_an_error_before_anything_is_compiled(
    danetc: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.svg").write_text("old")
    calls: list[object] = []
    monkeypatch.setattr(
        "danetc.tasks.drawing.compile_spec", lambda *arguments, **named: calls.append(named)
    )
    danetc.fails(WHY, "draw", small, "-o", "a.svg")
    assert calls == []
    assert (tmp_path / "a.svg").read_text() == "old"


@pytest.mark.usefixtures("no_graphviz")
def test_a_notebook_shows_the_facts_alone(small: Path) -> None:
    model = package.build(small, backend="eager")
    with pytest.warns(UserWarning, match="there is no picture of small: neither"):
        shown = model._repr_html_() or ""
    assert ("<svg" in shown, "parameters" in shown) == (False, True)
