"""Grids: how axes and specs are read, what cells are called, and what is refused before training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import danetc as package
from danetc.tasks.grid.cells import cell_name, find_networks, make_cells, parse_axis
from danetc.tasks.training.request import TrainingRequest

from .conftest import SMALL, Run
from .test_train import QUICK

BASE = TrainingRequest(spec="", data="digits", settings={})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("steps=1, 4", (1, 4)),
        ("width=0.5,1.0", (0.5, 1.0)),
        ("rule=chain,window(k = 2)", ("chain", "window(k = 2)")),
        ("neuron=LIF(tau = 2.0, v_rest = 0.0),IF", ("LIF(tau = 2.0, v_rest = 0.0)", "IF")),
        ("recipe.ema=none,0.99", ("none", 0.99)),
        ("zero_init=true,false", (True, False)),
    ],
)
def test_commas_in_brackets_part_nothing(text: str, values: tuple[object, ...]) -> None:
    axis = parse_axis(text)
    assert axis.name == text.partition("=")[0]
    assert axis.values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "is not NAME=VALUE"),
        ("steps=", "is not NAME=VALUE"),
        ("steps=1,,2", "is not NAME=VALUE"),
        ("steps=1,2,1", "has the value 1 twice"),
        ("seed=1,2", "say --seeds N"),
        ("data=digits,cifar10", "run it for each"),
        ("classes=1,5", "2 or more"),
        ("recipe=1,2", "names of recipes"),
    ],
)
def test_what_is_no_axis_is_wrong_usage(danetc: Run, small: Path, text: str, message: str) -> None:
    result = danetc("compare", small, "--data", "digits", "--grid", text)
    assert result.status == 2
    assert message in " ".join(result.err.split())


def test_names_are_folders_and_tell_cells_apart() -> None:
    assert cell_name("net", {"classes": 5, "zero_init": True}) == "net,classes=5,zero_init=true"
    names = {cell_name("net", {"a": value}) for value in ("f(1, 2)", "f(1 ,2)", "f_1_2", "f/1/2")}
    assert len(names) == 4
    assert all("/" not in name and " " not in name for name in names)
    long = cell_name("net", {"a": "x" * 500})
    assert len(long) < 60


def test_specs_are_files_patterns_and_shipped_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.danet").write_text(SMALL.replace("small", name))
    (tmp_path / "two.danet").write_text(
        SMALL.replace("small", "c") + "network d = c { steps = 3 }\n"
    )
    found = find_networks([f"{tmp_path}/*.danet", "*_a_r20"], [])
    assert [each.name for each in found] == ["a", "b", "c", "d", "danet_a_r20"]
    assert [each.name for each in find_networks([f"{tmp_path}/two.danet"], ["d"])] == ["d"]


def test_each_cell_asks_for_its_combination(tmp_path: Path) -> None:
    networks = find_networks(["origin_r20", "danet_c_r20"], [])
    axes = [
        parse_axis(text) for text in ("classes=5,10", "depth=20,56", "steps=1", "recipe=digits")
    ]
    cells = make_cells(networks, axes, replace(BASE, settings={"width": 4}), tmp_path)
    assert len(cells) == 8 == len({cell.name for cell in cells})
    last = cells[-1]
    assert last.name == "danet_c_r20,classes=10,depth=56,steps=1,recipe=digits"
    request = last.request
    assert request.output == tmp_path / last.name
    assert (request.spec, request.network) == ("danet_c_r20", "danet_c_r20")
    assert (request.classes, request.recipe) == (10, "digits")
    assert request.settings == {
        "width": 4,
        "stages": "resnet56(width = width) via origin by densely_additive",
        "steps": 1,
        "classes": 10,  # told to the network too
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing_*.danet"], "no file and no shipped spec matches `nothing_*.danet`"),
        (["origin_r2"], "did you mean `origin_r20`?"),
        (["small.danet", "./small.danet"], "is given 2 times"),
        (["small.danet", "same.danet"], "both have a network `small`"),
        (["small.danet", "-n", "smal"], "did you mean `small`?"),
        (["small.danet", "bad.danet"], "every cell of bad.danet:\nerror[E"),
        (["small.danet", "--grid", "clases=5,10"], "did you mean `classes`?"),
        (["small.danet", "--grid", "rul=chain"], "did you mean `rule`?"),
        (["small.danet", "--grid", "epochs=1,2"], "did you mean `recipe.epochs`?"),
        (["small.danet", "--grid", "steps=1,2", "--grid", "steps=3"], "is an axis twice"),
        (["small.danet", "--grid", "steps=1,2", "--set", "steps=3"], "also set by --set"),
        (["small.danet", "--grid", "classes=2,5", "--classes", "5"], "leave one of them out"),
        (["small.danet", "--grid", "rule=chain", "--grid", "stages=conv(4)"], "part of the stages"),
        (["small.danet", "--grid", "depth=20,56"], "has no depth in its name"),
        (
            ["small.danet", "--grid", "rule=chain,densely_additve"],
            "cell small,rule=densely_additve: error[E0210]",
        ),
        (["small.danet", "--grid", "recipe.epoch=1"], "did you mean `epochs`?"),
        (["small.danet", "--grid", "recipe=quick,quik"], "cell small,recipe=quik: "),
        (["small.danet", "--grid", "steps=0,1"], "cell small,steps=0: error["),
        (["small.danet", "large.danet"], "cell large: the images of digits are"),
        (["small.danet", "--set", "classes=7"], "set the network's classes to 10"),
        (["small.danet", "--data", "digitz"], "did you mean `digits`?"),
        (["small.danet", "--grid", "classes=5,11"], "cell small,classes=11: "),
        (["small.danet", "-o", "mine"], "is no folder of a comparison"),
        (["--only-report", "-o", "nowhere"], "does not exist, so there is nothing to report"),
    ],
)
def test_everything_is_checked_before_anything_is_trained(
    danetc: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "small.danet").write_text(SMALL + QUICK)
    (tmp_path / "same.danet").write_text(SMALL + QUICK)
    (tmp_path / "bad.danet").write_text(SMALL.replace("origin", "orign"))
    large = SMALL.replace("small", "large").replace("8, 8", "9, 9")
    (tmp_path / "large.danet").write_text(large + QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [] if "--data" in arguments or "--only-report" in arguments else ["--data", "digits"]
    result = danetc("compare", *arguments, *given, "--backend", "eager")
    assert result.status == 1
    assert message in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_usage(danetc: Run, small: Path) -> None:
    for arguments in (
        ["--data", "digits"],
        [small],
        [small, "--data", "digits", "--fresh", "--override"],
        [small, "--only-report"],
        [small, "--data", "digits", "--jobs", "0"],
    ):
        assert danetc("compare", *arguments).status == 2


@pytest.mark.thorough
@pytest.mark.usefixtures("few_timed")
def test_a_dry_run_tells_cells_cost_and_time(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.danet").write_text(SMALL + QUICK)
    arguments = ("compare", "a.danet", "--data", "digits", "--seeds", "3", "--backend", "eager")
    grid = ("--grid", "steps=1,4", "--set", "recipe.epochs=2", "--dry-run")
    result = danetc(*arguments, *grid, "--json")
    assert result.status == 0
    record = json.loads(result.out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.danet"]  # nothing was written
    one, four = record["cells"]
    assert (one["cost"], four["cost"]) == (2, 8)  # epochs x T
    assert one["runs"] == {"0": "new", "1": "new", "2": "new"}
    assert record["seconds"] == pytest.approx(one["seconds"] + four["seconds"])
    model = package.build(tmp_path / "a.danet", set={"steps": 4})
    assert four["parameters"] == sum(p.numel() for p in model.parameters())
    assert four["depth"] == 6  # a stem, two blocks of two convolutions, and a linear layer
    text = danetc(*arguments, *grid)
    assert "2 cells, 6 runs, 30 epochs x T in all" in text.out
    assert "3 new" in text.out
    monkeypatch.setattr("danetc.tasks.training.dry_run.free_memory", lambda: 1000)
    untimed = danetc(*arguments, *grid)
    assert untimed.status == 0
    assert "phase train: not timed: a step holds at least" in untimed.out
    assert "the runs take about" not in untimed.out
    record = json.loads(danetc(*arguments, *grid, "--json").out)
    assert record["seconds"] is record["cells"][0]["seconds"] is None
