"""Without a Graphviz program: pictures are missing, everything else is there, and a note says why."""

from __future__ import annotations

from pathlib import Path

import pytest

import danetc as package
from danetc.compiler.draw import engine

from .conftest import SMALL, Run
from .test_train import QUICK

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
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    program.chmod(0o755)
    found = None if why == WHY else str(program)
    monkeypatch.setattr(engine.shutil, "which", lambda *names, **where: found)
    for _ in range(2):  # again in its place
        result = danetc("build", small, "-o", "out")
        assert result.status == 0
        assert result.err.startswith("note: there is no topology.svg: ")
        assert why in result.err
    assert not (tmp_path / "out" / "topology.svg").exists()
    assert "topology.svg" not in (tmp_path / "out" / "summary.json").read_text()
    assert package.load(tmp_path / "out", backend="eager")


@pytest.mark.thorough
def test_train_eval_measure_and_report(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.danet").write_text(SMALL + QUICK)
    assert danetc("build", "a.danet", "-o", "run").status == 0
    assert (tmp_path / "run" / "topology.svg").exists()
    monkeypatch.setattr(engine.shutil, "which", lambda *names, **where: None)
    train = danetc("train", "a.danet", "--data", "digits", "-o", "run", "--backend", "eager", "-q")
    assert (train.status, WHY in train.err) == (0, True)
    assert not (tmp_path / "run" / "topology.svg").exists()  # it would be an older network's
    for command in (
        ("eval", "run"),
        ("export", "run", "-o", "w.pth"),
        ("measure", "run", "--data", "digits", "--only", "firing-rate", "--batches", 1),
    ):
        assert danetc(*command).status == 0, command
    report = danetc("report", "run", "-o", "a.html")
    assert report.status == 0
    assert report.err.count(WHY) == 1
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "the picture could not be drawn" in page
    assert "digits" in page


@pytest.mark.usefixtures("no_graphviz")
def test_draw_is_an_error_before_anything_is_compiled(
    danetc: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.svg").write_text("old")
    calls: list[object] = []
    monkeypatch.setattr(
        "danetc.tasks.drawing.compile_spec", lambda *arguments, **named: calls.append(named)
    )
    result = danetc("draw", small, "-o", "a.svg")
    assert result.status == 1
    assert WHY in result.err
    assert calls == []
    assert (tmp_path / "a.svg").read_text() == "old"


@pytest.mark.usefixtures("no_graphviz")
def test_a_notebook_shows_the_facts_alone(small: Path) -> None:
    model = package.build(small, backend="eager")
    with pytest.warns(UserWarning, match="there is no picture of small: neither"):
        shown = model._repr_html_() or ""
    assert ("<svg" in shown, "parameters" in shown) == (False, True)
