"""danetc in a notebook: models and results as pictures, tables and figures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbclient import NotebookClient

import danetc

from .conftest import SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell()
    with capture_output():
        shell.run_cell("import danetc")
    yield shell
    shell.history_manager.end_session()


def run(shell: InteractiveShell, cell: str) -> tuple[Any, str]:
    """What a cell gives, and what it prints."""
    with capture_output() as said:
        result = shell.run_cell(cell)
    return result.result, said.stdout + said.stderr


def test_a_model_shows_its_topology_and_an_error_is_no_traceback(shell: InteractiveShell) -> None:
    found, said = run(shell, f"danetc.build(text={SMALL!r}, backend='eager')")
    assert "Error" not in said
    html = found._repr_html_()
    assert html.count("<svg") == 1
    assert re.search(rf"parameters +{sum(each.numel() for each in found.parameters()):,}", html)
    for wrong, told in (
        (f"danetc.build(text={SMALL.replace('basic(4)', 'basik(4)')!r})", "did you mean `basic`?"),
        ("danetc.build('no_such_network')", "no_such_network"),
    ):
        found, said = run(shell, wrong)
        assert found is None
        assert told in said
        assert "Traceback" not in said


# -- results ---------------------------------------------------------------------------------------


def test_measures_as_tables_and_figures() -> None:
    model = danetc.build(text=SMALL, backend="eager")
    batch = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    found = danetc.measure(model, [batch])
    rates = found.frame("firing-rate")
    assert list(rates["layer"]) == [layer.layer for layer in found.firing_rate.layers]
    assert list(rates["rate"]) == [layer.rate for layer in found.firing_rate.layers]
    for name in danetc.runtime.measure.MEASURES:
        assert len(found.frame(name)), name
        assert found.figure(name).axes, name
    assert "distribution.mean" in found.frame("potential")
    only = danetc.measure(model, [batch], only=["input"])
    for show, wrong in product((only.frame, only.figure), ("firing-rate", "colour")):
        with pytest.raises(danetc.UserError, match="measure is one of input, not"):
            show(wrong)


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    from danetc.output.returned import frame

    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(danetc.UserError, match=r"pip install 'danetc\[notebook\]'"):
        frame([{"a": 1}])


@pytest.mark.thorough
def test_the_example_runs(tmp_path: Path) -> None:
    """From top to bottom in a kernel of its own, with a table of epochs and figures."""
    book = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    client = NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    outputs = [item for cell in book.cells for item in cell.get("outputs", ())]
    assert "Traceback" not in str(outputs)
    shown = [item["data"] for item in outputs if "data" in item]
    html = ["".join(each.get("text/html", "")) for each in shown]
    assert sum("<svg" in each for each in html) == 1
    for kind in ("image/svg+xml", "image/png"):
        assert sum(kind in each for each in shown) == 1
    assert any("train_loss" in each for each in html), html
