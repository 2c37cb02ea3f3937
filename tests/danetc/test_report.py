"""``danetc report`` without a browser: the files that it reads, its messages, and wrong input."""

import base64
import json
import math
import os
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.draw import LEVELS, engine
from danetc.pretrained import directory_of
from danetc.runtime.system.figures import can_plot
from danetc.runtime.system.files import save_record
from danetc.tasks.reporting import figures
from danetc.tasks.reporting.figures import PageFigure, training_curves
from danetc.tasks.reporting.layer_values import (
    MEASURES,
    layer_name,
    neurons_in_order,
    of_nodes,
    scale_of,
    step_of,
)
from danetc.tasks.reporting.page import highlighted, make_page
from danetc.tasks.reporting.runs import ShownRun, open_runs
from danetc.tasks.reporting.tables import _best, compared, layers, results, stages
from danetc.tasks.reporting.topology import colours, pictures
from tests.compiler.draw.test_legible import contrast, luminance
from tests.danetc import runs
from tests.danetc.conftest import Run as Command

ROOT = Path(__file__).parents[2]
SHIPPED = min((ROOT / "specs").glob("*.danet"))
MEASURED = '{{"format": 1, "measured": [{{{}"network": "other", "source": "run"}}]}}'
BARE = "use std\nnetwork bare { input = image(1, 8, 8); steps = 1; out = in -> linear(2) }"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.built(tmp_path_factory.mktemp("runs"))


def shown(label: str = "a", network: str = "danet_c_small", **more: Any) -> ShownRun:
    return ShownRun(label, Path(label), graph_of(check_file(network)), "", **more)


def _texts(page: str) -> list[str]:
    parser, found = HTMLParser(), []
    parser.handle_data = lambda data: found.append(data.strip())  # type: ignore[method-assign]
    parser.feed(page)
    return found


def test_a_network_without_measures_is_measured_for_the_page(
    danetc: Command, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.requests.MeasuredOn.batches", 1)
    data = "synthetic:size=8,channels=1,count=8,test=4"
    result = danetc.passes("report", built, "--data", data, "-o", "a.html", "--json")
    assert [run["measured"] for run in json.loads(result.out)["runs"]] == [True]
    assert f"measures are not kept in {built}, which holds no run" in result.err
    assert not (built / "measures.json").exists()
    assert "firing rate" in _texts(Path("a.html").read_text("utf-8"))


def test_no_measures_says_how_to_measure(danetc: Command, built: Path) -> None:
    result = danetc.passes("report", built, "-o", "a.html")
    assert "1 of 1 runs have no measures.json; --data" in result.err
    page = Path("a.html").read_text("utf-8")
    assert f"danetc measure {built} --data DATA" in page
    assert "firing rate" not in _texts(page)  # the column would be empty
    assert "built, not trained" in page
    assert 'name="measure"' not in page  # there are no measures to choose from


def test_measures_in_the_directory(danetc: Command, built: Path) -> None:
    """The measures name their data and must be of this network. Nothing is measured again."""
    shutil.copytree(built, "run")
    layers = [{"layer": "stem.spike", "rate": 0.25, "silent": 0.0}]
    entry = {
        "network": "other", "source": "run", "trained": False, "images": 8,
        "statistics": "batch", "firing_rate": {"layers": layers, "mean_of_layers": 0.25},
    }  # fmt: skip
    record = {"format": 1, "measured": [entry], "data": {"text": "digits", "split": "test"}}
    save_record(record, Path("run/measures.json"))
    danetc.passes("report", "run", "--data", "digits", "-o", "a.html")
    texts = _texts(Path("a.html").read_text("utf-8"))
    assert {"Firing rate by layer", "0.2500"} <= set(texts)
    assert "Measured on 8 images of digits (test), norms by batch statistics, untrained." in texts
    entry["network"] = "another"
    save_record(record, Path("run/measures.json"))
    danetc.fails("holds measures of another, not of other", "report", "run", "-o", "b.html")
    assert not Path("b.html").exists()


def test_a_grid_stands_for_its_runs(danetc: Command, built: Path) -> None:
    """The report shows the runs that have begun, in the order of the grid."""
    grid = Path("grid")
    cells = [
        {"runs": [{"directory": f"a,depth={depth}/seed-{seed}"} for seed in (0, 1)]}
        for depth in (56, 20)
    ]
    for depth, seed in ((56, 0), (20, 0), (20, 1)):
        run = grid / f"a,depth={depth}" / f"seed-{seed}"
        shutil.copytree(built, run)
        save_record({"format": 1, "settings": {}}, run / "run.json")
    save_record({"cells": cells}, grid / "grid.json")
    result = danetc.passes("report", grid, "-o", "a.html", "--json")
    labels = ["a,depth=56/seed-0", "a,depth=20/seed-0", "a,depth=20/seed-1"]
    assert [run["label"] for run in json.loads(result.out)["runs"]] == labels
    assert "drawing needs matplotlib" not in result.err
    assert Path("a.html").read_text("utf-8").count("have no colours") == 1  # not once for each run
    for depth in (56, 20):
        shutil.rmtree(grid / f"a,depth={depth}")
    for record, message in (({"cells": cells}, "holds no run yet"), ({}, "no runs")):
        save_record(record, grid / "grid.json")
        danetc.fails(message, "report", grid, "-o", "b.html")


def test_figures_of_grids_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    places = [tmp_path / "g", tmp_path / "h", tmp_path]
    for place in places[:2]:
        place.mkdir()
        runs.recorded(place)
    titles = ["Accuracy over the epochs, and test accuracy after the last one"]
    titles += ["Training loss and accuracy over the epochs"]
    notes: list[str] = []
    assert [each.title for each in figures.grid_figures(places[::2], notes.append)] == titles
    found = [each.title for each in figures.grid_figures(places, notes.append)]
    assert found == [f"{title}, {name}" for name in "gh" for title in titles]
    monkeypatch.setattr(figures, "can_plot", lambda: False)
    assert (figures.grid_figures(places[2:], notes.append), notes) == ([], [])
    assert figures.grid_figures(places, notes.append) == []
    assert notes == [f"the page has no figures of the grid: {figures.WITHOUT}"]
    monkeypatch.undo()
    save_record({"cells": [{}]}, places[0] / "grid.json")
    assert figures.grid_figures(places[:1], notes.append) == []
    assert notes[1].startswith(f"the page lacks figures of {places[0]}: ")


def test_trials_and_measures_that_are_old(built: Path, tmp_path: Path) -> None:
    for name in ("seed-9", "seed-10", "seed-9.before-1"):  # the last one was moved aside
        shutil.copytree(built, tmp_path / "t" / name)
    trials = [{"directory": name} for name in ("seed-9", "seed-10")]
    save_record({"trials": trials}, tmp_path / "t" / "trials.json")
    assert [run.label for run in open_runs([tmp_path / "t"])] == ["seed-9", "seed-10"]
    run = tmp_path / "t" / "seed-9"
    entry = {"network": "other", "source": str(run)}
    save_record({"format": 1, "measured": [entry]}, run / "measures.json")
    assert "older" not in open_runs([run])[0].notes[-1]
    os.utime(run / "measures.json", (1, 1))
    assert "older than the weights" in open_runs([run])[0].notes[-1]


def test_classes_that_eval_has_counted(danetc: Command) -> None:
    """A table and a confusion matrix, from the file that eval writes beside a training."""
    run = Path("run")
    shutil.copytree(directory_of("pretrained:danet_c_small_digits"), run)
    assert "Classes" not in make_page(open_runs([run]))
    (found,) = danetc.json("eval", "run", "--per-class")["evaluated"]
    texts = [text for text in _texts(make_page(open_runs([run]))) if text]
    top1 = f"{found['results'][0]['top1']:.2%}"
    start = texts.index(f"Classes of danet_c_small on digits (test), T = 4: {top1}")
    heads = ["class", "images", "accuracy", "most often confused with"]
    assert texts[start + 1 : start + 5] == heads
    cells = texts[start + 5 :]
    for number, row in enumerate(found["results"][0]["confusion"]):
        row_of = [str(number), str(sum(row)), f"{row[number] / sum(row):.2%}"]
        assert cells[4 * number : 4 * number + 3] == row_of
    if can_plot():
        assert "Confusion matrix of danet_c_small" in cells
    os.utime(run / "evaluation.json", (1, 1))
    assert "`danetc eval --per-class` again" in open_runs([run])[0].notes[-1]
    del found["results"][0]["confusion"]
    save_record(found, run / "evaluation.json")
    danetc.fails("evaluation.json lacks what danetc writes there", "report", "run")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("training.json", "{", "training.json is damaged"),
        ("training.json", "[]", "training.json is damaged"),
        ("training.json", '{"epochs": 3}', "has no list of epochs"),
        ("run.json", "\x00", "run.json is damaged"),
        ("measures.json", '{"format": 1}', "not written by `danetc measure`"),
        ("measures.json", '{"format": 9, "measured": []}', "another version"),
        ("measures.json", MEASURED.format(""), "the records in run are damaged"),
        (
            "measures.json",
            MEASURED.format(
                '"images": 1, "statistics": "running", "trained": true, '
                '"firing_rate": {"layers": [{"layer": "stem.spike"}]}, '
            ),
            "KeyError: 'rate'",
        ),
        ("other.graph", "graph 1", "other.graph is damaged"),
        ("spec.danet", "network other { }", "spec.danet is damaged"),
        ("summary.json", "{}", "summary.json is damaged"),
    ],
)
def test_damaged_files(danetc: Command, built: Path, name: str, text: str, message: str) -> None:
    shutil.copytree(built, "run")
    Path("run", name).write_text(text)
    if text[:2] == '{"':  # a sealed record that does not fit its name
        save_record(json.loads(text), Path("run", name))
    danetc.fails(message, "report", "run", "-o", "a.html")
    assert not Path("a.html").exists()


def test_wrong_usage(danetc: Command, built: Path) -> None:
    assert danetc("report").status == 2
    assert danetc("report", built, "-o", "a.txt").status == 2
    for arguments, message in (
        (("nothing",), "there is no model directory"),
        ((".",), "no summary.json"),
        ((built, built), "given twice"),
        ((built, "-o", "no/a.html"), "there is no folder no"),
        ((built, "--data", "mnits"), "mnits"),
    ):
        danetc.fails(message, "report", *arguments)


def test_a_box_has_the_mean_of_its_layers_on_the_main_path() -> None:
    neurons = neurons_in_order(graph_of(check_file("sew_r18")))
    assert any("shortcut" in node.scope for node in neurons)
    values = {layer_name(node): 0.1 + 0.01 * i for i, node in enumerate(neurons)}
    main = [v for n, v in values.items() if "shortcut" not in n]
    firing, stability = MEASURES[:2]
    mean = of_nodes(firing, values, neurons)
    assert mean.value == pytest.approx(sum(main) / len(main))
    assert (mean.least, mean.most, mean.size) == (min(main), max(main), len(main))
    product = of_nodes(stability, values, neurons)
    assert product.value ** len(main) == pytest.approx(math.prod(main))
    assert of_nodes(firing, {}, neurons) is None
    assert stability.joined([0.0, 1.0]) == 0.0


def test_other_losses_and_data_have_other_axes() -> None:
    epochs = ({"train_loss": 1.0, "test_accuracy": 0.5},)

    def run(name: str, data: str, *terms: tuple[float, str], subset: Any = None) -> ShownRun:
        loss = [{"factor": factor, "name": term} for factor, term in terms]
        found = {"text": data, "fingerprint": f"{name}0123456789", "subset": subset}
        settings = {"data": found, "recipe": {"phases": {"train": {"loss": loss}}}}
        return shown(name, record={"settings": settings}, epochs=epochs)

    tet, plain = ((1.0, "tet"), (0.5, "rates")), ((1.0, "cross_entropy"),)
    runs = [run("a", "digits", *plain), run("b", "digits", *tet), run("c", "folder:x", *plain)]
    runs += [run("e", "digits", *plain, subset=[1, 5]), run("f", "memory", *plain)]
    runs += [shown("d")]  # it was never trained
    assert {title: [*lines] for title, lines in training_curves(runs).items()} == {
        "Loss, cross_entropy on digits": ["a, train"],
        "Loss, tet + 0.5 rates on digits": ["b, train"],
        "Loss, cross_entropy on folder:x": ["c, train"],
        "Loss, cross_entropy on classes 1, 5 of digits": ["e, train"],
        "Loss, cross_entropy on memory (f0123456)": ["f, train"],
        "Accuracy [%], classes 1, 5 of digits": ["e, test"],
        "Accuracy [%], memory (f0123456)": ["f, test"],
        "Accuracy [%], digits": ["a, test", "b, test"],
        "Accuracy [%], folder:x": ["c, test"],
    }
    assert [*training_curves([runs[0], runs[-1]])] == ["Loss", "Accuracy [%]"]


def test_curves_are_figures() -> None:
    """A value that is not a finite number has no point."""
    pytest.importorskip("matplotlib")
    names = [layer_name(node) for node in neurons_in_order(shown().graph)]
    layers = [{"layer": name, "stability": 0.5 + n} for n, name in enumerate(names)]
    losses = (1.0, float("nan"), 0.25)
    epochs = tuple({"train_loss": loss, "test_accuracy": 0.5, "test_loss": "x"} for loss in losses)
    runs = [shown(epochs=epochs), shown("b", measures={"gradient_stability": {"layers": layers}})]
    assert training_curves(runs) == {
        "Loss": {"a, train": ((1, 3), (1.0, 0.25))},
        "Accuracy [%]": {"a, test": ((1, 2, 3), (50.0, 50.0, 50.0))},
    }
    made = [*figures.training_figures(runs), *figures.layer_figures(runs)]
    assert [each.title for each in made] == ["Loss", "Accuracy [%]", "Gradient stability by layer"]
    assert all(each.data.startswith("data:image/svg+xml;base64,") for each in made)
    (by_layer,) = figures.layer_figures(runs[1:])
    svg = base64.b64decode(by_layer.data.partition(",")[2]).decode()
    assert all(f">{tick}</text>" in svg for tick in ("stem.spike", "0.0.branch.spike"))
    assert "10^{0}" in svg, "the axis is logarithmic"


def test_settings_are_compared() -> None:
    """Rows in which the runs differ come first. Each leaf is named by its path."""
    phases = [{"name": "one", "lr": 0.5}, 3]
    shared = {"batch": 4, "steps": ["a", "b"], "phases": phases, "none": None}
    runs = [
        shown(name, record={"settings": {**shared, **more}})
        for name, more in (("a", {"seed": 0, "spec": "x"}), ("b", {"seed": 1, "only": True}))
    ]
    table = compared("Settings", runs, "settings", ["spec"])
    assert (table.heads, table.of_runs) == (("name", "a", "b"), "columns")
    assert [(row.name, row.cells, row.marked) for row in table.rows] == [
        ("seed", ("0", "1"), True), ("only", ("-", "true"), True), ("batch", ("4", "4"), False),
        ("steps", ("a b", "a b"), False), ("phases.one.name", ("one", "one"), False),
        ("phases.one.lr", ("0.5", "0.5"), False), ("phases.1", ("3", "3"), False),
        ("none", ("none", "none"), False),
    ]  # fmt: skip


def test_page_without_matplotlib_or_graphviz(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.tasks.reporting.page.can_plot", lambda: False)
    monkeypatch.setattr(engine, "program", lambda system=False: "/nowhere/dot")
    notes: list[str] = []
    page = make_page(open_runs([built]), notes.append, [PageFigure("Fig", "data:,")])
    assert (page.count("<img"), page.count("<figcaption>Fig")) == (1, 1)
    failed = "the picture could not be drawn: "
    assert ("img-src data:" in page, failed in page) == (True, True)
    drawn, curves = sorted(notes, key=lambda note: "curves" in note)
    assert drawn.startswith(failed)
    assert curves == "the page has no curves: drawing needs matplotlib: pip install 'danetc[plot]'"


def test_scales_are_common_to_all_runs_and_ordered() -> None:

    def measured(part: str, name: str, *values: float) -> ShownRun:
        layers = [{"layer": str(i), name: v} for i, v in enumerate(values)]
        return shown(measures={part: {"layers": layers}})

    firing, stability = MEASURES[:2]
    factors = ("gradient_stability", "stability")
    runs = [measured(*factors, 0.01, 1.0), measured(*factors, 100.0, 0.0, float("nan"))]
    scale = scale_of(stability, runs)
    assert scale == pytest.approx([10 ** (n * 4 / 7 - 2) for n in range(8)])
    assert [step_of(v, scale) for v in (0.0, 0.01, 1.0, 99.0, 100.0)] == [0, 0, 3, 6, 6]
    assert all(step_of(edge * 1.001, scale) == i for i, edge in enumerate(scale[:-1]))
    assert scale_of(stability, [shown()]) is None
    assert scale_of(firing, [measured("firing_rate", "rate", 0, 7)]) == tuple(range(8))
    assert step_of(0.5, (0.5,) * 8) == 3


def test_the_best_epoch_is_the_first_of_equal_ones() -> None:
    epochs = [{"val_accuracy": value} for value in (0.5, None, 0.875, 0.875, 0.25)]
    assert _best(epochs) == "87.50% in 3"
    assert _best([{}, {"val_accuracy": None}]) is None


def test_tables_of_a_run_have_its_results_and_measures() -> None:
    names = [layer_name(node) for node in neurons_in_order(shown(network="sew_r18").graph)]
    rates = [{"layer": name, "rate": 0.25, "silent": 0.5} for name in names]
    weights = [{"layer": "a", "kind": "spike", "active": 0.25, "additions": 1200, "macs": 7}]
    counted = {"additions": 1200, "macs": 3400, "energy": 2e-6, "layers": weights}
    spread = {"layer": names[0], "distribution": {"mean": 1.0, "std": 0.5}}
    norm = {"parameter": "a.weight", "whole": 2.0, "spatial": 1.0, "temporal": 0.5}
    measures = {
        "firing_rate": {"layers": rates, "mean_of_layers": 0.25},
        "gradient_stability": {"layers": [], "overall": 2e-5}, "operations": counted,
        "values": {"stages": [{"stage": "stages.1", "least": 0.0, "most": 2.0}]},
        "potential": {"layers": [spread]}, "gradients": {"parameters": [norm], "neurons": []},
        "input": {"layers": [spread | {"distance": 0.25}, spread | {"layer": names[1]}]},
    }  # fmt: skip
    epochs = ({}, {"test_accuracy": 0.5, "test_loss": math.nan, "test_top5": True})
    run = shown(network="sew_r18", epochs=epochs, measures=measures)
    built = replace(run, epochs=(), measures=None)
    table = results([run, built])
    assert table.heads == (
        "run", "network", "T", "parameters", "epochs", "test top-1", "test loss", "firing rate",
        "gradient stability", "additions", "MACs", "energy, uJ",
    )  # fmt: skip
    assert [row.cells for row in table.rows] == [
        ("sew_r18", "4", "11,689,512", "2", "50.00%", "nan", "0.2500", "2e-05", "1,200", "3,400", "2"),
        ("sew_r18", "4", "11,689,512", *["-"] * 8),
    ]  # fmt: skip
    assert not any(row.marked for row in table.rows)
    assert "measured" not in stages(built).heads
    assert [row.cells[:8] for row in stages(run).rows[:2]] == [
        ("sew", "chain", "2", "64×56×56", "0 .. 2", "0 .. 3", "-", "0 .. 3"),
        ("sew", "chain", "2", "128×28×28", "0 .. 3", "0 .. 3", "0 to 2", "0 .. 3"),
    ]
    found = layers(run)
    assert [each.caption for each in found[:3]] == [
        f"{part} of neurons; firing rate 0.250; silent neurons 0.500"
        for part in ("stem: 1 layer", "stages.0: 4 layers", "stages.1: 5 layers")
    ]
    assert found[2].heads == ("layer", "firing rate", "silent neurons")
    assert [row.name.removeprefix("stages.1.blocks.") for row in found[2].rows[1:4]] == [
        "0.branch.spike2", "0.shortcut.spike (shortcut)", "1.branch.spike1",
    ]  # fmt: skip
    assert {row.cells for each in found[2:5] for row in each.rows} == {("0.250", "0.500")}
    assert found[0].heads[3:] == ("V, mean ± deviation", "X, mean ± deviation", "X to N(0, V_th²)")
    assert found[0].rows[0].cells[2:] == ("1.000 ± 0.500", "1.000 ± 0.500", "0.250")
    assert found[1].rows[0].cells == ("0.250", "0.500", "1.000 ± 0.500")
    (row,) = found[5].rows
    assert (row.name, row.cells[:4]) == ("a", ("spike", "25.0%", "1,200", "7"))
    assert row.cells[4:] == ("2.00e+00", "1.00e+00", "5.00e-01")
    assert [each.heads for each in layers(built)] == [("layer",)] * 5


def test_boxes_of_pictures_have_their_measures() -> None:
    names = [layer_name(node) for node in neurons_in_order(shown().graph)]
    layers = [{"layer": name, "rate": n / 18} for n, name in enumerate(names)][1:]
    run = shown(measures={"firing_rate": {"layers": layers}})
    firing, stability = MEASURES[:2]
    scales = [(stability, (1.0,) * 8), (firing, scale_of(firing, [run]))]
    drawn = {each.level: each for each in pictures(run, scales)}
    assert [*drawn] == [*LEVELS]
    assert not any(each.failed or each.why_not for each in drawn.values())
    assert 'aria-label="a on the level op"' in drawn["op"].svg
    root = ET.fromstring(drawn["op"].svg)
    assert root.find(f"{SVG}g").find(f"{SVG}title") is None  # type: ignore[union-attr]
    boxes = {}
    for box in root.iter(f"{SVG}g"):
        title = box.findtext(f"{SVG}title") or ""
        if "firing rate" in title:
            assert box.get("class") == "node part"
            boxes[title.partition(" ")[0]] = box.get("data-firing"), title.partition("\n")[2]
    assert boxes[names[1]] == ("0", "firing rate 0.167 (3 layers, 0.056 to 0.278)")
    assert boxes[names[7]] == ("2", "firing rate 0.389")
    assert len(boxes) == 10
    plain = graph_of(check_text(BARE))
    told = {each.level: each.why_not for each in pictures(replace(run, graph=plain), [])}
    assert {level for level, why_not in told.items() if why_not} == {"block", "neuron"}
    assert not any(";" in why_not for why_not in told.values())


TEXTS = ("", "use std", "a ** b 'x' 3abc \"open", "a\nb\n\n", runs.SCRIPT, SHIPPED.read_text())


@pytest.mark.parametrize("text", TEXTS)
def test_a_spec_is_itself_with_colours(text: str) -> None:
    html = highlighted(text)
    assert unescape(re.sub(r"<[^>]*>", "", html)).rstrip("\n") == text.rstrip("\n")
    assert set(re.findall(r"<(/?\w+)", html)) <= {"span", "/span"}


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read_and_told_apart_in_grey(dark: bool) -> None:
    css = (ROOT / "danetc/tasks/reporting/page.css").read_text("utf-8")
    pairs = re.findall(r"--([\w-]+):\s*light-dark\((#\w{6}),\s*(#\w{6})\)", css + colours())
    of = {name: pair[dark] for name, *pair in pairs}
    heats = [of[f"heat-{i}"] for i in range(7)]
    for heat in heats:
        assert contrast(of["t-ink"], heat) >= 4.5
    light = [luminance(heat) for heat in heats]
    assert light == sorted(light, reverse=not dark)
    assert min(contrast(a, b) for a, b in pairwise(heats)) > 1.1
    assert contrast(of["edge"], of["page"]) >= 3
