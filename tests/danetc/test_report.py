"""``danetc report`` without a browser: what is read, what is told, and what is wrong input."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.draw import engine
from danetc.runtime.system.files import read_record, save_record
from danetc.tasks.reporting import ShownRun, make_page, open_runs
from danetc.tasks.reporting.chart import Chart, Point, Series, layer_charts
from danetc.tasks.reporting.highlight import pieces
from danetc.tasks.reporting.layer_values import MEASURES, Scale, of_nodes, scale_of
from danetc.tasks.reporting.topology import colours, pictures
from tests.danetc import runs
from tests.danetc.conftest import Run as Command
from tests.danetc.test_compare import comparison
from tests.danetc.test_main import modules_after

SHIPPED = sorted((Path(__file__).parents[2] / "specs").glob("*.danet"))
MEASURED = '{{"format": 1, "measured": [{{{}"network": "other", "source": "run"}}]}}'
STANDARD = sorted((Path(__file__).parents[2] / "dsl" / "std").glob("*.danet"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return runs.trained(folder)


@pytest.fixture(scope="module")
def built(folder: Path) -> Path:
    return runs.built(folder)


class _Texts(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.mark.thorough
def test_a_run_is_measured_once_and_its_figures_are_on_the_page(
    danetc: Command, trained: Path, built: Path, tmp_path: Path
) -> None:
    result = danetc("report", trained, built, "--data", "digits", "-o", "a.html", "--json")
    assert result.status == 0
    told = json.loads(result.out)
    assert [run["measured"] for run in told["runs"]] == [True, True]
    assert [run["epochs"] for run in told["runs"]] == [2, 0]
    assert "measures are not kept" in result.err  # of the network that was built
    assert not (built / "measures.json").exists()
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert told["bytes"] == len(page.encode()) < 1_000_000
    texts = _Texts(page).texts
    last = json.loads((trained / "training.json").read_text())["epochs"][-1]
    measured = json.loads((trained / "measures.json").read_text())["measured"][0]
    assert f"{last['test_accuracy']:.2%}" in texts
    assert f"{measured['gradient_stability']['overall']:.3g}" in texts
    assert f"{measured['firing_rate']['layers'][-1]['rate']:.3f}" in texts
    spread = measured["potential"]["layers"][2]["distribution"]
    assert f"{spread['mean']:.3f} ± {spread['std']:.3f}" in texts
    weights = measured["operations"]["layers"]
    assert f"{weights[-1]['macs']:,.0f}" in texts
    assert {row["layer"] for row in weights} <= set(texts)
    # Now that there are measures they are read, not taken again.
    before = (trained / "measures.json").stat().st_mtime_ns
    assert danetc("report", trained, "--data", "digits", "-o", "b.html").status == 0
    assert (trained / "measures.json").stat().st_mtime_ns == before


def test_a_network_without_measures_is_measured_for_the_page(
    danetc: Command, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.tasks.measuring.record.MeasuredOn.batches", 1)
    result = danetc("report", built, "--data", "synthetic:size=8,channels=1,count=8,test=4",
                    "-o", "a.html", "--json")  # fmt: skip
    assert result.status == 0
    assert [run["measured"] for run in json.loads(result.out)["runs"]] == [True]
    assert f"measures are not kept in {built}, which holds no run" in result.err
    assert not (built / "measures.json").exists()
    assert "firing rate" in _Texts((tmp_path / "a.html").read_text(encoding="utf-8")).texts


def test_a_run_without_measures_says_how_to_get_them(
    danetc: Command, built: Path, tmp_path: Path
) -> None:
    result = danetc("report", built, "-o", "a.html")
    assert result.status == 0
    assert "without measures.json, whose pictures have no colours: 1 of 1" in result.err
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"danetc measure {built} --data DATA" in page
    assert "firing rate" not in _Texts(page).texts  # a column of nothing
    assert "built, not trained" in page
    assert "<option" not in page.split('id="topology"')[1]  # there is nothing to choose from


@pytest.mark.thorough
def test_measures_from_elsewhere(danetc: Command, built: Path, tmp_path: Path) -> None:
    assert danetc("measure", built, "--data", "digits", "--batches", "1", "--only", "firing-rate",
                  "-o", "m").status == 0  # fmt: skip
    assert danetc("report", built, "--measures", "m", "-o", "a.html").status == 0
    assert "Firing rate by layer" in (tmp_path / "a.html").read_text(encoding="utf-8")
    other = tmp_path / "elsewhere"
    runs.do("build", "danet_c_small", "-o", other)
    result = danetc("report", other, "--measures", "m", "-o", "b.html")
    assert result.status == 1
    assert "which is none of the runs" in result.err
    record = read_record(tmp_path / "m" / "measures.json")
    record["measured"][0]["network"] = "another"
    save_record(record, tmp_path / "m" / "measures.json")
    result = danetc("report", built, "--measures", "m", "-o", "b.html")
    assert result.status == 1
    assert "holds measures of another, not of other" in result.err
    assert not (tmp_path / "b.html").exists()


@pytest.mark.thorough
def test_torch_is_not_imported_without_data(built: Path, tmp_path: Path) -> None:
    status, modules = modules_after("report", str(built), "-o", str(tmp_path / "a.html"))
    assert status == 0
    assert "danetc.tasks.reporting.page" in modules
    assert "torch" not in modules


@pytest.mark.thorough
def test_many_runs_are_named_by_their_networks(built: Path, tmp_path: Path) -> None:
    for seed in range(7):
        shutil.copytree(built, tmp_path / f"seed-{seed}")
    few, many = (
        _Texts(make_page(open_runs([tmp_path / f"seed-{seed}" for seed in range(count)]))).texts
        for count in (2, 7)
    )
    assert "seed-0, seed-1" in few
    assert "7 runs of other" in many


@pytest.mark.thorough
def test_a_grid_stands_for_its_runs(danetc: Command, trained: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    cells = [
        {"runs": [{"directory": f"a,depth={depth}/seed-{seed}"} for seed in (0, 1)]}
        for depth in (56, 20)
    ]
    for depth, seed in ((56, 0), (20, 0), (20, 1)):
        run = grid / f"a,depth={depth}" / f"seed-{seed}"
        shutil.copytree(trained, run)
        (run / "measures.json").unlink(missing_ok=True)
    save_record({"cells": cells}, grid / "grid.json")
    result = danetc("report", grid, "-o", "a.html", "--json")
    assert result.status == 0
    assert [run["label"] for run in json.loads(result.out)["runs"]] == [
        "a,depth=56/seed-0", "a,depth=20/seed-0", "a,depth=20/seed-1",
    ]  # fmt: skip
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count("have no colours") == 1  # not once for each
    shutil.rmtree(grid / "a,depth=56")
    shutil.rmtree(grid / "a,depth=20")
    for record, message in (({"cells": cells}, "holds no run yet"), ({}, "no runs")):
        save_record(record, grid / "grid.json")
        result = danetc("report", grid, "-o", "b.html")
        assert result.status == 1
        assert message in result.err


@pytest.mark.thorough
def test_a_grid_has_the_figures_of_compare(
    danetc: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    shutil.copytree(trained, tmp_path / "grid" / "a" / "seed-0")
    save_record({"cells": [{"runs": [{"directory": "a/seed-0"}]}]}, tmp_path / "grid" / "grid.json")
    result = danetc("report", "grid", "-o", "a.html")
    assert result.status == 0
    assert "no figures of grid" in result.err  # whose record is not a whole one
    assert "<img" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    monkeypatch.setattr("danetc.tasks.grid.results.read_results", lambda *_: comparison())
    result = danetc("report", "grid", "-o", "a.html")
    assert "figures" not in result.err
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/svg+xml;base64,') == 2
    assert "img-src data:" in page
    monkeypatch.setattr("danetc.runtime.system.figures.can_plot", lambda: False)
    result = danetc("report", "grid", "-o", "a.html")
    assert "pip install" in result.err


def test_trials_and_measures_that_are_old(built: Path, tmp_path: Path) -> None:
    for name in ("seed-9", "seed-10", "seed-9.before-1"):  # the last was moved aside
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
def test_damaged_files(
    danetc: Command, built: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    shutil.copytree(built, tmp_path / "run")
    (tmp_path / "run" / name).write_text(text)
    if text[:2] == '{"':  # what was written so, and is no record of that name
        save_record(json.loads(text), tmp_path / "run" / name)
    result = danetc("report", "run", "-o", "a.html")
    assert result.status == 1
    assert message in result.err
    assert not (tmp_path / "a.html").exists()


def test_wrong_usage(danetc: Command, built: Path, tmp_path: Path) -> None:
    assert danetc("report").status == 2
    assert danetc("report", built, "-o", "a.txt").status == 2
    for arguments, message in (
        (("nothing",), "there is no model directory"),
        ((tmp_path,), "no summary.json"),
        ((built, built), "given twice"),
        ((built, "-o", "no/a.html"), "there is no folder no"),
        ((built, "--measures", "x.json"), "there are no measures in x.json"),
        ((built, "--data", "mnits"), "mnits"),
    ):
        result = danetc("report", *arguments)
        assert result.status == 1, arguments
        assert message in result.err


# -- values ---------------------------------------------------------------------------------------


def test_a_box_has_the_mean_of_its_layers_on_the_main_path() -> None:
    graph = graph_of(check_file("sew_r18"))
    neurons = [node for node in graph.nodes.values() if node.op == "neuron"]
    assert any("shortcut" in node.scope for node in neurons)
    names = [".".join((*node.scope, node.name)) for node in neurons]
    values = {name: 0.1 + 0.01 * i for i, name in enumerate(names)}
    main = [v for n, v in values.items() if "shortcut" not in n]
    firing, stability = MEASURES[:2]
    shown = of_nodes(firing, values, neurons)
    assert shown is not None
    assert shown.value == pytest.approx(sum(main) / len(main))
    assert (shown.least, shown.most, shown.count) == (min(main), max(main), len(main))
    product = of_nodes(stability, values, neurons)
    assert product is not None
    whole = 1.0
    for value in main:
        whole *= value
    assert product.value ** len(main) == pytest.approx(whole)
    assert of_nodes(firing, {}, neurons) is None
    assert stability.joined([0.0, 1.0]) == 0.0


def test_boxes_are_named_by_their_layers() -> None:
    run = ShownRun("a", Path("a"), graph_of(check_file("danet_c_small")), "")
    names = {
        picture.level: [part["name"] for part in picture.parts.values()]
        for picture in pictures(run, ())
    }
    assert names["network"] == [
        "input", "stem", *(f"stages.{n}.blocks.0 to 2" for n in range(3)), "head",
    ]  # fmt: skip
    assert names["stage"][:4] == ["input", "stem", "stages.0.blocks.0", "stages.0.blocks.1"]
    assert names["op"][:4] == ["input", "stem.conv", "stem.norm", "stem.spike"]
    assert names["op"][4] == "stages.0.blocks.0.branch.conv1 to stages.0.blocks.2.branch.conv1"


def test_layers_have_their_names_where_all_runs_agree() -> None:
    """Only the first layers of neurons of the two networks have the same name."""
    shown = []
    for name in ("danet_c_small", "sew_r18"):
        graph = graph_of(check_file(name))
        paths = [node.path for node in graph.nodes.values() if node.op == "neuron"][:3]
        layers = [{"layer": path, "rate": 0.5, "stability": 0.5} for path in paths]
        measures = {"firing_rate": {"layers": layers}}
        shown.append(ShownRun(name, Path(name), graph, "", measures=measures))
    firing = MEASURES[:1]
    (alone,) = layer_charts(shown[:1], firing)
    assert list(alone.names.values()) == ["stem.spike", "0.0.branch.spike", "0.0.spike"]
    (both,) = layer_charts(shown, firing)
    assert [line.name for line in both.series] == ["danet_c_small", "sew_r18"]
    assert both.names == {1: "stem.spike", 2: "2", 3: "3"}


def test_scales_are_common_to_all_runs_and_ordered() -> None:
    graph = graph_of(check_file("danet_c_small"))
    run = ShownRun("a", Path("a"), graph, "")

    def measured(*values: float) -> ShownRun:
        layers = [{"layer": str(i), "stability": v} for i, v in enumerate(values)]
        return replace(run, measures={"gradient_stability": {"layers": layers}})

    stability = MEASURES[1]
    scale = scale_of(stability, [measured(0.01, 1.0), measured(100.0, 0.0, float("nan"))])
    assert scale == Scale(0.01, 100.0, True)
    assert [scale.step(v) for v in (0.0, 0.01, 1.0, 99.0, 100.0)] == [0, 0, 3, 6, 6]
    edges = scale.edges()
    assert edges == sorted(edges)
    assert (edges[0], edges[-1]) == (pytest.approx(0.01), pytest.approx(100.0))
    assert all(scale.step(edge * 1.001) == i for i, edge in enumerate(edges[:-1]))
    assert scale_of(stability, [run]) is None
    assert Scale(0.5, 0.5, False).step(0.5) == 3


# -- highlighting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED[:4] + STANDARD, ids=lambda path: path.stem)
def test_a_spec_is_itself_in_pieces(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = pieces(text)
    assert "".join(piece.text for piece in found) == text
    comments = [line[line.index("#") :].rstrip() for line in text.split("\n") if "#" in line]
    assert [piece.text for piece in found if piece.kind == "comment"] == comments
    declared = re.findall(
        r"^(?:network|block|rule|connection|neuron|surrogate|backbone|recipe) (\w+)", text, re.M
    )
    assert [piece.text for piece in found if piece.kind == "declared"][: len(declared)] == declared


@pytest.mark.parametrize("text", ["", "\ufeffuse std", "a ** b 'x' \x00 3abc \"open", runs.SCRIPT])
def test_wrong_text_is_kept_whole(text: str) -> None:
    assert "".join(piece.text for piece in pieces(text)) == text


# -- colours --------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    """Relative luminance, of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read_and_told_apart_in_grey(dark: bool) -> None:
    css = (Path(__file__).parents[2] / "danetc/tasks/reporting/page.css").read_text(
        encoding="utf-8"
    )
    blocks = re.findall(r":root[^{]*\{([^}]*)\}", css)
    of = dict(re.findall(r"--([\w-]+):\s*(#\w{6})", blocks[dark] + colours(dark)))
    heats = [of[f"heat-{i}"] for i in range(7)]
    for heat in heats:
        assert _contrast(of["t-ink"], heat) >= 4.5
    light = [_luminance(heat) for heat in heats]
    assert light == sorted(light, reverse=not dark)
    assert min(_contrast(a, b) for a, b in pairwise(heats)) > 1.1
    for text in ("text", "quiet", "accent", "comment", "keyword", "number", "string", "declared"):
        assert _contrast(of[text], of["page"]) >= 4.5
        assert _contrast(of[text], of["panel"]) >= 4.5
    assert _contrast(of["note-text"], of["note"]) >= 4.5
    for i in range(8):
        assert _contrast(of[f"line-{i}"], of["page"]) >= 3
    assert _contrast(of["edge"], of["page"]) >= 3


@pytest.mark.parametrize(
    ("values", "logarithmic", "labels"),
    [
        ((0.0, 1.0), False, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((40.0, 100.0), False, ["0", "20", "40", "60", "80", "100"]),
        ((90.0, 100.0), False, ["90", "92", "94", "96", "98", "100"]),
        ((0.001, 1000.0), True, ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]),
        ((1e-6, 1e6), True, ["1e-06", "0.0001", "0.01", "1", "100", "10000", "1e+06"]),
        ((1.0, 20.0), True, ["1", "3", "10"]),
        ((1.0, 8.0), True, ["1", "2", "5"]),
        ((3.0, 6.0), True, ["3", "4", "5", "6"]),
        ((1.0, 1.5), True, ["1", "1.2", "1.4"]),
    ],
)
def test_axes_have_round_numbers(
    values: tuple[float, ...], logarithmic: bool, labels: list[str]
) -> None:
    points = tuple(Point(number, value, "") for number, value in enumerate(values, 1))
    chart = Chart("k", "t", "epoch", "loss", (Series("a", 0, points),), logarithmic)
    assert [text for _, text in chart.ticks_up] == labels
    heights = [height for height, _ in chart.ticks_up]
    assert heights == sorted(heights, reverse=True)
    assert [text for _, text in chart.ticks_across] == ["1", "2"]
    last = chart.up_at(values[-1])
    assert chart.path(chart.series[0]).split()[-1] == f"{chart.across_at(2):.1f},{last:.1f}"
    assert chart.up_at(values[0]) > last
    named = replace(chart, names={1: "a", 2: "b"})
    assert [text for _, text in named.ticks_across] == ["a", "b"]
    assert named.height > chart.height > chart.up_at(values[0])


@pytest.mark.thorough
def test_resnet_152_is_small() -> None:
    """With measures of every layer the page stays far below 2 MB."""
    graph = graph_of(check_file("danet_c_r152"))
    names = [".".join((*n.scope, n.name)) for n in graph.nodes.values() if n.op == "neuron"]
    layers = [{"layer": n, "rate": 0.123456789, "silent": 0.1, "stability": 1.1} for n in names]
    part = {"layers": layers}
    measures = {"firing_rate": part, "gradient_stability": part, "images": 1, "statistics": "running",
                "trained": True}  # fmt: skip
    run = ShownRun("danet_c_r152", Path("runs/danet_c_r152"), graph, "", measures=measures)
    page = make_page([run])
    assert len(page.encode()) < 1_000_000
    assert page.count('class="node part"') > 100
    assert "33 more like 1" in page


def test_a_network_without_stages(danetc: Command, tmp_path: Path) -> None:
    text = runs.NETWORK.format(name="flat")
    text = re.sub(r"stages = .*", "stages = conv(4) -> norm -> spike", text)
    (tmp_path / "flat.danet").write_text(text)
    runs.do("build", "flat.danet", "-o", "flat")
    assert danetc("report", "flat", "-o", "a.html").status == 0
    assert "has no stages of blocks" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_graphviz_that_fails_costs_the_picture(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(engine, "program", lambda system=False: "/nowhere/dot")
    notes: list[str] = []
    page = make_page(open_runs([built]), notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("the picture could not be drawn: ")
    assert "the picture could not be drawn: " in page
