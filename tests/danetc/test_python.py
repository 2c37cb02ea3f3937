"""`danetc.draw`, `train`, `evaluate`, `export`: the commands from Python, without printed output."""

import csv
import inspect
import os
import pickle
import re
import sys
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
from danetc.errors import UserError
from danetc.output.returned import frame
from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport

from .conftest import QUICK, SMALL, Run

FUNCTIONS = [name for name in dir(danetc) if inspect.isfunction(getattr(danetc, name))]
QUIET: dict[str, Any] = {"backend": "eager"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("python") / "run"
    return danetc.train(text=SMALL + QUICK, output=output, seed=3, **QUIET)


def test_what_is_listed_beside_functions() -> None:
    assert set(dir(danetc)) - set(FUNCTIONS) == {
        "Callback", "SpecError", "SpecWarning", "StopTraining", "UserError", "__version__",
    }  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_typed_and_explained(name: str) -> None:
    function = getattr(danetc, name)
    text = inspect.getdoc(function) or ""
    assert "Raises" in text
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert parameter.name in text, parameter


def test_draw(danetc: Run, small: Path, tmp_path: Path) -> None:
    import danetc as package

    assert danetc("draw", small, "-o", "by_command.svg").status == 0
    picture = package.draw(small, output=tmp_path / "by_python.svg")
    for way in ("command", "python"):
        assert picture == (tmp_path / f"by_{way}.svg").read_bytes()
    assert package.draw(text=small.read_text(), level="block", format="gv").startswith(b"digraph")
    assert package.draw(small, set={"neuron": "IF"}) != picture
    assert danetc("draw", "sew_r18", "origin_r18", "-o", "c.gv").status == 0
    both = package.draw("sew_r18", "origin_r18", format="gv")
    assert both == (tmp_path / "c.gv").read_bytes()


@pytest.mark.parametrize(
    ("function", "argument", "value", "message"),
    [
        ("train", "backend", "turbo", "is one of eager, fused, spikingjelly, not 'turbo'"),
        ("train", "seeds", 0, "is a whole number, 1 to 1000, not 0"),
        ("train", "seed", True, "`seed` is int, not True"),
        ("train", "memory", "much", "much"),
        ("train", "data", "nothing", "nothing"),
        ("evaluate", "split", "all", "split is one of test, train"),
        ("evaluate", "steps", [0], "steps is a whole number, 1 to 10000, not 0"),
        ("evaluate", "precision", "int8", "precision is one of"),
        ("evaluate", "checkpoint", "later", "later"),
        ("draw", "level", "layer", "no level layer"),
        ("draw", "format", "bmp", "no format bmp"),
        ("draw", "output", "nowhere/a.svg", "no folder nowhere"),
        ("draw", "output", "a", "no format"),
        ("draw", "theme", "pink", "theme is one of auto, light, dark"),
    ],
)
def test_wrong_arguments_say_what_is_taken(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, argument: str,
    value: Any, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = {"model": run.directory} if function == "evaluate" else {"text": SMALL + QUICK}
    with pytest.raises(danetc.UserError, match=message):
        getattr(danetc, function)(**given, **{argument: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_nothing_is_printed(run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = {"text": SMALL + QUICK, "set": {"recipe.epochs": 1}, **QUIET}
    danetc.train(output=tmp_path / "a", **quick)
    danetc.evaluate(tmp_path / "a")
    danetc.export(tmp_path / "a", tmp_path / "w.safetensors")
    danetc.draw(text=SMALL, output=tmp_path / "a.svg")
    assert capfd.readouterr() == ("", "")
    danetc.train(output=tmp_path / "b", progress=True, **quick)
    assert "train loss" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("train", "data"), ("train", "set"), ("evaluate", "model"), ("evaluate", "steps"),
        ("export", "source"), ("compare", "specs"), ("search", "specs"), ("convert", "source"),
    ],
)  # fmt: skip
def test_arguments_of_wrong_types_say_what_is_taken(function: str, argument: str) -> None:
    called = getattr(danetc, function)
    parameters = inspect.signature(called).parameters
    needed = [
        name for name, each in parameters.items() if each.default is each.empty and name != argument
    ]
    for value in (torch.nn.ReLU6, object(), b"digits", 1.5):
        with pytest.raises(danetc.UserError, match=rf"`{argument}` is .*, not "):
            called(**dict.fromkeys(needed, "nothing"), **{argument: value})


def test_functions_of_the_interface_are_found_by_pickle() -> None:
    for name in FUNCTIONS:
        assert pickle.loads(pickle.dumps(getattr(danetc, name))) is getattr(danetc, name)


TEXT = f"""{SMALL}
recipe few {{ batch = 60; optimizer = adamw(lr = 0.01)
  phase one {{ epochs = 2 }} phase two {{ epochs = 1; start = one }} }}
"""


class Noting(danetc.Callback):
    def __init__(self, stop: str = "") -> None:
        self.told: list[str] = []
        self.stop = stop

    def note(self, text: str) -> None:
        self.told.append(text)
        if text == self.stop:
            raise danetc.StopTraining

    def on_phase_start(self, plan: PhasePlan) -> None:
        self.note(f"begin {plan.phase.name} {plan.epoch} {plan.step}")

    def on_step_end(self, report: StepReport) -> None:
        self.note(f"step {report.phase} {report.epoch} {report.step}")

    def on_epoch_end(self, epoch: Epoch) -> None:
        self.note(f"epoch {epoch.phase} {epoch.epoch}")

    def on_phase_end(self) -> None:
        self.note("end")


def train(output: Path, *callbacks: danetc.Callback) -> Any:
    return danetc.train(text=TEXT, output=output, backend="eager", callbacks=callbacks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    seen = Noting()
    run = train(tmp_path_factory.mktemp("callbacks") / "run", seen)
    assert not run.stopped
    assert seen.told[:2] == ["begin one 0 0", "step one 1 1"]
    steps = [each for each in seen.told if each.startswith("step")]
    assert len(steps) == 3 * 5  # 288 digits, 60 at a time
    assert [each for each in seen.told if not each.startswith("step")] == [
        "begin one 0 0", "epoch one 1", "epoch one 2", "end", "begin two 0 0", "epoch two 1", "end",
    ]  # fmt: skip
    return run


KEYS = ("phase", "epoch", "train_loss", "test_loss", "test_accuracy")


def rows(run: Any) -> list[list[Any]]:
    return [[epoch[key] for key in KEYS] for epoch in run.record["epochs"]]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("stop", "done"),
    [
        ("step one 1 3", 0),
        ("epoch one 1", 1),
        ("epoch one 2", 2),
        ("step two 1 1", 2),
        ("epoch two 1", 3),
    ],
)
def test_stopped_by_a_callback_and_resumed(
    whole: Any, tmp_path: Path, stop: str, done: int
) -> None:
    stopping = Noting(stop)
    first = train(tmp_path / "run", stopping)
    assert first.stopped == (done < 3)  # a stop after the last epoch does not count
    assert rows(first) == rows(whole)[:done]
    if stop == "epoch one 1":  # the next epoch does not start
        assert "step one 2 1" not in stopping.told
    rest = Noting()
    second = train(tmp_path / "run", rest)
    assert not second.stopped
    assert rows(second) == rows(whole)
    assert not {*rest.told} & {each for each in stopping.told if each.startswith("step")}
    with (tmp_path / "run" / "metrics.csv").open() as table:
        assert [row["row"] for row in csv.DictReader(table)] == ["1", "2", "3"]


def test_a_run_that_is_stopped_in_its_first_epoch_has_its_network(tmp_path: Path) -> None:
    run = train(tmp_path / "run", Noting("step one 1 1"))
    assert run.stopped
    assert run.record["epochs"] == []
    assert repr(run) == f"<Training: {tmp_path / 'run'}: 0 epochs, no test yet, stopped>"
    names = {each.name for each in run.directory.iterdir()}
    assert {"model.py", "spec.danet", "summary.json", "run.json"} <= names
    assert not {"weights.safetensors", "training.json"} & names


def test_other_errors_of_callbacks_are_the_callers(tmp_path: Path) -> None:
    class Wrong(danetc.Callback):
        def on_step_end(self, report: StepReport) -> None:
            assert (tmp_path / "run" / "model.py").is_file()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train(tmp_path / "run", Wrong())
    with pytest.raises(danetc.UserError, match=r"a callback is a danetc.Callback, not function"):
        train(tmp_path / "run", lambda epoch: None)  # type: ignore[arg-type]


# -- in a notebook: models and results as pictures, tables and figures -----------------------------


ROOT = Path(__file__).parents[2]


def test_a_model_shows_its_topology_and_an_error_is_no_traceback() -> None:
    shell = InteractiveShell()

    def outcome(cell: str) -> tuple[Any, str]:
        with capture_output() as said:
            result = shell.run_cell(cell)
        return result.result, said.stdout + said.stderr

    outcome("import danetc")
    found, said = outcome(f"danetc.build(text={SMALL!r}, backend='eager')")
    assert "Error" not in said
    html = found._repr_html_()
    assert html.count("<svg") == 1
    assert re.search(rf"parameters +{sum(each.numel() for each in found.parameters()):,}", html)
    for wrong, told in (
        (f"danetc.build(text={SMALL.replace('basic(4)', 'basik(4)')!r})", "did you mean `basic`?"),
        ("danetc.build('no_such_network')", "no_such_network"),
    ):
        found, said = outcome(wrong)
        assert (found, "Traceback" in said) == (None, False)
        assert told in said
    shell.history_manager.end_session()


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


def test_without_pandas_and_matplotlib(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from danetc import build, record

    found = record(build(text=SMALL), torch.rand(2, 1, 8, 8))
    for module in ("danetc.runtime.system.figures", "danetc.output.returned"):
        monkeypatch.setattr(f"{module}.can_plot", lambda: False)
    told = "drawing needs matplotlib: pip install 'danetc[plot]'"
    for draw in (found.raster, found.traces):
        with pytest.raises(UserError, match=re.escape(told)):
            draw()
    danetc.fails(told, "eval", "pretrained:danet_c_small_digits", "--over-time", "-o", "a.svg")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'danetc\[notebook\]'"):
        frame([{"a": 1}])


@pytest.mark.thorough
def test_the_example_runs(tmp_path: Path) -> None:
    """The notebook runs from top to bottom in its own kernel and shows a table of epochs and figures."""
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
