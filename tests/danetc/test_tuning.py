"""Trainings that start from a run or a pretrained network: its spec, its weights, its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import danetc as package
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.runtime.system.files import read_record
from danetc.runtime.training.checkpoints import read_checkpoint

from .conftest import FEW, QUICK, SMALL, Run

ALIVE = SMALL.replace("= LIF", "= LIF(v_threshold = 0.2)")
"""A network whose neurons all fire."""
NAME = "pretrained:ann_c_small_digits"
SHORT = {"recipe.epochs": 1, "recipe.batch": 100}


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "weights.safetensors")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SMALL."""
    return package.train(
        text=ALIVE + QUICK, data=FEW, backend="eager", output=tmp_path_factory.mktemp("runs") / "a"
    ).directory


@pytest.mark.parametrize(
    "command", ["show", "check", "summary", "draw", "eval", "measure", "export"]
)
@pytest.mark.parametrize("source", [NAME, "run"])
def test_every_command_takes_it(
    danetc: Run, first: Path, tmp_path: Path, source: str, command: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(first)
    more: dict[str, tuple[object, ...]] = {
        "eval": ("--data", FEW), "draw": ("-o", "x.gv"), "export": ("-o", "x.safetensors"),
        "measure": ("--data", FEW, "--batches", 1, "--only", "operations"),
    }  # fmt: skip
    place = first if source == "run" else source
    said = danetc.passes(command, place, *more.get(command, ()))
    if command == "show":
        assert said.out == (directory_of(place) / "spec.danet").read_text()
    assert contents(first) == before


def test_a_run_is_trained_on(danetc: Run, first: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """In a new directory, from its weights, by its recipe; the record repeats it bit for bit."""
    monkeypatch.chdir(tmp_path)
    before = contents(first)
    done = package.train(first, FEW, backend="eager", set={"recipe.freeze": "stem + stages"})
    assert done.directory == Path("runs/small-tuned")
    record = read_record(done.directory / "run.json")
    assert record["settings"]["recipe"]["name"] == "quick"
    assert record["settings"]["init"].startswith("weights.safetensors (SHA-256 ")
    assert [part["name"] for part in record["settings"]["recipe"]["phases"]["train"]["freeze"]] == [
        "stem", "stages",
    ]  # fmt: skip
    old, new = tensors(first), tensors(done.directory)
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        "head.linear.weight", "head.linear.bias",
    }  # fmt: skip
    danetc.passes("train", "--from", done.directory, "-o", "again")
    assert (tmp_path / "again/weights.safetensors").read_bytes() == (
        done.directory / "weights.safetensors"
    ).read_bytes()
    danetc.passes("train", first, "--data", FEW, "--backend", "eager", "--set",
                  "recipe.freeze=stem + stages")  # fmt: skip
    assert contents(first) == before
    for place in (first, first / "sub"):
        said = danetc("train", first, "--data", FEW, "-o", place)
        assert said.status == 1
        assert f"the training starts from {first} and must not write there" in said.err
        said = danetc("train", first, "--data", FEW, "--fresh", "-o", place)
        assert said.status == 1
    assert contents(first) == before


def test_other_classes_need_a_new_head(danetc: Run, tmp_path: Path) -> None:
    """The message names the flag; with it, the head starts as that of an untrained network does."""
    wanted = {"classes": 3, **SHORT}
    with pytest.raises(UserError, match=r"3x32, but the file has 10x32; --init-skip head starts"):
        package.train(NAME, "digits", set=wanted, classes=3, output=tmp_path / "a")
    model = package.build(NAME, init=NAME, init_skip="head", set={"classes": 3}, seed=5)
    new = package.build(NAME, set={"classes": 3}, seed=5).state_dict()
    old = tensors(directory_of(NAME))
    for name, value in model.state_dict().items():
        assert torch.equal(value, (new if name.startswith("head.") else old)[name]), name
    options = [f"--set={name}={value}" for name, value in wanted.items()]
    danetc.passes("train", NAME, "--data", "digits", "--classes", 3, *options, "--init-skip", "head",
                  "--backend", "eager", "--set", "recipe.freeze=stem + stages", "-o", tmp_path / "b")  # fmt: skip
    tuned = tensors(tmp_path / "b")
    assert tuned["head.linear.weight"].shape == (3, 32)
    assert torch.equal(tuned["stem.conv.weight"], old["stem.conv.weight"])
    assert read_record(tmp_path / "b/run.json")["settings"]["init_skip"] == "head"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init-skip", "stages(9)"], "the network has no weights in stages.9"),
        (["--init-skip", "2 +"], "--init-skip"),
        (["--set", "recipe.freeze=stages(9)"], "stages.0, stages.1, stages.2"),
        (["--set", "recipe.freeze=stm"], "names the part stm"),
        (["--set", "recipe.freeze=2 * stem"], "`stem` has one factor"),
        (
            ["--set", "recipe.freeze=stages", "--set", "recipe.lr_scale=0.1 * stages(1)"],
            "`stages.1` has one factor of the learning rate, and none if it is frozen",
        ),
        (["--set", "recipe.lr_scale=2 * head + 3 * head"], "`head` has one factor"),
        (["--set", "recipe.freeze=stem + stages + head"], "freezes all weights"),
        (["--set", "recipe.lr_scale=0 * head"], "must be above 0"),
        (["--recipe", "digts"], "did you mean `digits`?"),
    ],
)
def test_wrong_options_are_refused(
    danetc: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    said = danetc("train", NAME, "--data", "digits", "-o", tmp_path / "run", *options)
    assert said.status == 1
    assert message in said.err
    assert not (tmp_path / "run/training.json").exists()


def test_init_skip_needs_init(danetc: Run, tmp_path: Path) -> None:
    said = danetc("build", NAME, "--init-skip", "head", "-o", tmp_path / "x")
    assert (said.status, "--init-skip is for --init" in said.err) == (1, True)


def test_the_check_of_a_file_knows_its_parts(danetc: Run, tmp_path: Path) -> None:
    spec = tmp_path / "small.danet"
    spec.write_text(SMALL + QUICK.replace(" }", "; freeze = stm; lr_scale = 2 * head }"))
    said = danetc("check", spec)
    assert said.status == 1
    assert "E0804" in said.err
    assert "did you mean `stem`?" in said.err
    assert f"{spec}:12:" in said.err
    variant = "\nnetwork other = small { head = avgpool -> mean_over_time -> linear(3) }\n"
    spec.write_text(SMALL + variant + QUICK.replace(" }", "; freeze = stem }"))
    danetc.passes("check", spec)
    flow = "use std\nnetwork n { input = image(1, 4, 4); steps = 1; out = in -> linear(3) }\n"
    spec.write_text(flow + QUICK.replace(" }", "; lr_scale = 2 * linear }"))
    danetc.passes("check", spec)


def test_a_later_phase_trains_what_an_earlier_one_froze(
    danetc: Run, first: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "two.danet"
    recipe.write_text("""recipe two {
      batch = 100; optimizer = adamw(lr = 0.01); keep_every = 1
      phase head { epochs = 1; freeze = stem + stages }
      phase all { epochs = 1; start = head }
    }""")
    place = tmp_path / "run"
    danetc.passes(
        "train", first, "--data", FEW, "--recipe", recipe, "-o", place, "--backend", "eager"
    )
    between = read_checkpoint(place / "checkpoints/phase-head").tensors["model"]
    old, new = tensors(first), tensors(place)
    for name, value in between.items():
        assert torch.equal(value, old[name]) == (not name.startswith("head.")), name
    assert not torch.equal(new["stem.conv.weight"], old["stem.conv.weight"])


def test_a_recipe_of_std_can_be_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = package.train(NAME, "digits", recipe="digits", set=SHORT, backend="eager")
    assert done.record["recipe"]["name"] == "digits"
    assert done.test_accuracy is not None
    assert done.test_accuracy > 0.9  # one epoch from new weights gives half of that


def test_a_folder_of_trials_is_refused(danetc: Run, tmp_path: Path) -> None:
    spec = tmp_path / "small.danet"
    spec.write_text(SMALL + QUICK)
    danetc.passes("train", spec, "--data", FEW, "--seeds", 2, "-o", tmp_path / "two")
    said = danetc("train", tmp_path / "two", "--data", FEW, "-o", tmp_path / "x")
    assert said.status == 1
    assert "seed-" in said.err
