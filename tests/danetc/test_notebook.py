"""Specs in the cells of a notebook, results as tables and figures, and progress there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML
from IPython.utils.capture import capture_output
from nbclient import NotebookClient

import danetc
from danetc.notebook import Network, danet
from danetc.output import notebook as output
from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport

from .test_train import phase

ROOT = Path(__file__).parents[2]
SPEC = """use std

network small(classes = 3) {
  input     = image(1, 8, 8)
  steps     = 2
  neuron    = IF
  surrogate = sigmoid(alpha = 4)

  stem   = conv(4, kernel = 3) -> norm -> spike
  stages = stage(basic(4), 2) via origin by chain
  head   = avgpool -> mean_over_time -> linear(classes)
}
"""


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell()
    with capture_output():
        shell.run_line_magic("load_ext", "danetc")
    yield shell
    shell.history_manager.end_session()


def run(shell: InteractiveShell, cell: str) -> tuple[Any, str]:
    """What a cell gives, and what it prints."""
    with capture_output() as said:
        result = shell.run_cell(cell)
    return result.result, said.stdout + said.stderr


# -- cells -----------------------------------------------------------------------------------------


def test_a_cell_gives_its_networks_their_names(shell: InteractiveShell) -> None:
    found, said = run(shell, f"%%danet\n{SPEC}")
    assert found is shell.user_ns["small"]
    assert "Error" not in said
    html = found._repr_html_()
    assert html.count("<svg") == 1
    assert f"{found.summary.parameters:,} parameters" in html
    assert "<td" in html
    model = found.build(backend="eager")
    assert sum(each.numel() for each in model.parameters()) == found.summary.parameters
    assert model._repr_html_() == html


def test_an_error_stands_under_the_cell_without_a_traceback(shell: InteractiveShell) -> None:
    found, said = run(shell, f"%%danet\n{SPEC.replace('basic(4)', 'basik(4)')}")
    assert found is None
    assert "error[E0210]" in said
    assert "--> <cell>:11:18" in said  # the magic is line 1
    assert "did you mean `basic`?" in said
    assert "Traceback" not in said
    assert "small" not in shell.user_ns
    _, said = run(shell, "import danetc\ndanetc.build('no_such_network')")
    assert "no_such_network" in said
    assert "Traceback" not in said


def test_a_warning_stands_under_the_cell_once(shell: InteractiveShell) -> None:
    text = f"{SPEC}\nrule never {{\n  in[i] = out[i-1]\n  result = out[n-1]\n}}\n"
    found, said = run(shell, f"%%danet\n{text}")
    assert said.count("warning[W0102]") == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: pytest.fail("it was said already"))
        found.build(backend="eager")


def test_levels() -> None:
    names: dict[str, Any] = {}
    found = danet("--level block", SPEC, names)
    assert found == Network(SPEC, "small", "block")
    assert (
        found.draw("block")._repr_html_() == found._repr_html_() != found.draw("op")._repr_html_()
    )
    for line in ("--level", "--level side", "small"):
        with pytest.raises(danetc.UserError, match="network, stage, block, op, neuron"):
            danet(line, SPEC, names)


# -- results ---------------------------------------------------------------------------------------


def test_measures_as_tables_and_figures() -> None:
    model = danetc.build(text=SPEC, backend="eager")
    batch = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    found = danetc.measure(model, [batch])
    assert found.firing_rate is not None
    rates = found.frame("firing-rate")
    assert list(rates["layer"]) == [layer.layer for layer in found.firing_rate.layers]
    assert list(rates["rate"]) == [layer.rate for layer in found.firing_rate.layers]
    for name in danetc.runtime.measure.MEASURES:
        assert len(found.frame(name)), name
        assert found.figure(name).axes, name
    assert "distribution.mean" in found.frame("potential")
    only = danetc.measure(model, [batch], only=["input"])
    for wrong in ("firing-rate", "colour"):
        with pytest.raises(danetc.UserError, match="there is input"):
            only.frame(wrong)
        with pytest.raises(danetc.UserError, match="there is input"):
            only.figure(wrong)


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    from danetc.output.returned import frame

    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(danetc.UserError, match=r"pip install 'danetc\[notebook\]'"):
        frame([{"a": 1}])


# -- progress --------------------------------------------------------------------------------------


def test_the_progress_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(output.CellOutput, "show", lambda self, html, now=True: shown.append(html))
    plan = PhasePlan(
        phase("recipe full { epochs = 2; optimizer = sgd(lr = 0.1) }"),
        0,
        1,
        2,
        10,
        0,
        0,
        8,
        80,
        8,
        1,
        "cpu",
    )
    with output.NotebookProgress() as progress:
        progress.begin(plan)
        progress.step(StepReport("train", 1, 3, 10, 3, 0.5, 0.25, 0.9, 100.0, 0.1, {}))
        assert 'value="3" max="20"' in shown[-1]
        assert "loss 0.5000, top-1 25.0%" in shown[-1]
        progress.epoch(Epoch("train", 1, 0.1, 0.5, 0.25, 0.4, 0.75, 3.0, warnings=("<slow>",)))
        assert "<td>75.00%</td>" in shown[-1]
        assert shown[-1].count("warning: &lt;slow&gt;") == 1
    assert "<progress" not in shown[-1]
    assert "<td>75.00%</td>" in shown[-1]


def test_an_output_is_displayed_once_and_then_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []

    class Handle:
        def update(self, html: HTML) -> None:
            calls.append(("update", html.data))

    def display(html: HTML, display_id: bool) -> Handle:
        assert display_id
        calls.append(("display", html.data))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    shown = output.CellOutput()
    shown.show("<b>one</b>")
    shown.show("<b>two</b>", now=False)  # too soon
    shown.show("<b>three</b>")
    assert calls == [("display", "<b>one</b>"), ("update", "<b>three</b>")]


def test_a_bar_over_images(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(output.CellOutput, "show", lambda self, html, now=True: shown.append(html))
    with output.image_bar_of_notebook("a <b>", 4) as advance:
        advance(1)
        advance(3)
    assert ['value="1" max="4"' in shown[0], 'value="4" max="4"' in shown[1]] == [True, True]
    assert "a &lt;b&gt;" in shown[0]
    assert shown[2] == ""


@pytest.mark.thorough
def test_the_example_runs(tmp_path: Path) -> None:
    """From top to bottom in a kernel of its own, with a table of epochs and figures."""
    book = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    client = NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    html = [
        "".join(item["data"].get("text/html", ""))
        for cell in book.cells
        if cell.cell_type == "code"
        for item in cell.outputs
        if "data" in item
    ]
    assert sum("<svg" in each for each in html) == 2
    assert any(re.search(r"<td>train</td><td>1</td>", each) for each in html)
    figures = [
        item
        for cell in book.cells
        if cell.cell_type == "code"
        for item in cell.outputs
        if "image/png" in item.get("data", {})
    ]
    assert len(figures) == 1
    assert not any(
        cell.cell_type == "code" and "Traceback" in str(cell.outputs) for cell in book.cells
    )
