"""Trainings that start from a run or a pretrained network, and the stated figures of the latter."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import danetc as package
from danetc import pretrained
from danetc.errors import UserError
from danetc.pretrained import PREFIX, directory_of, pretrained_names
from danetc.reference import topic
from danetc.runtime.system.files import read_record
from danetc.runtime.training.checkpoints import read_checkpoint

from .conftest import FEW, QUICK, SMALL, Run

ALIVE = SMALL.replace("= LIF", "= LIF(v_threshold = 0.2)")
NAME = "pretrained:ann_c_small_digits"
SHORT = {"recipe.epochs": 1, "recipe.batch": 100}


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "weights.safetensors")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.train(
        text=ALIVE + QUICK, data=FEW, backend="eager", output=tmp_path_factory.mktemp("runs") / "a"
    ).directory


COMMANDS: dict[str, tuple[object, ...]] = {
    "show": (), "check": (), "summary": (), "draw": ("-o", "x.gv"), "eval": ("--data", FEW),
    "measure": ("--data", FEW, "--batches", 1, "--only", "operations"),
    "export": ("-o", "x.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("source", [NAME, "run"])
def test_every_command_takes_it(danetc: Run, first: Path, source: str, command: str) -> None:
    before = contents(first)
    place = first if source == "run" else source
    said = danetc.passes(command, place, *COMMANDS[command])
    if command == "show":
        assert said.out == (directory_of(place) / "spec.danet").read_text()
    assert contents(first) == before


def test_a_run_is_trained_on(danetc: Run, first: Path) -> None:
    """Training starts in a new directory from its weights and recipe. The record repeats it exactly."""
    before = contents(first)
    done = package.train(first, FEW, backend="eager", set={"recipe.freeze": "stem + stages"})
    assert done.directory == Path("runs/small-tuned")
    record = read_record(done.directory / "run.json")
    assert record["settings"]["recipe"]["name"] == "quick"
    assert record["settings"]["init"].startswith("weights.safetensors (SHA-256 ")
    frozen = record["settings"]["recipe"]["phases"]["train"]["freeze"]
    assert [part["name"] for part in frozen] == ["stem", "stages"]
    old, new = tensors(first), tensors(done.directory)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    danetc.passes("train", "--from", done.directory, "-o", "again")
    one, other = (Path(place, "weights.safetensors") for place in ("again", done.directory))
    assert one.read_bytes() == other.read_bytes()
    for place in (first, first / "sub"):
        told = f"the training starts from {first} and must not write there"
        danetc.fails(told, "train", first, "--data", FEW, "-o", place)
        assert danetc("train", first, "--data", FEW, "--fresh", "-o", place).status == 1
    assert contents(first) == before


def test_other_classes_need_a_new_head(danetc: Run) -> None:
    """The error names the flag. With the flag, the head starts like that of an untrained network."""
    wanted = {"classes": 3, **SHORT}
    with pytest.raises(UserError, match=r"3x32, but the file has 10x32; --init-skip head starts"):
        package.train(NAME, "digits", set=wanted, classes=3, output="a")
    model = package.build(NAME, init=NAME, init_skip="head", set={"classes": 3}, seed=5)
    new = package.build(NAME, set={"classes": 3}, seed=5).state_dict()
    old = tensors(directory_of(NAME))
    for name, value in model.state_dict().items():
        assert torch.equal(value, (new if name.startswith("head.") else old)[name]), name
    options = [f"--set={name}={value}" for name, value in wanted.items()]
    danetc.passes("train", NAME, "--data", "digits", "--classes", 3, *options, "--init-skip", "head",
                  "--backend", "eager", "--set", "recipe.freeze=stem + stages", "-o", "b")  # fmt: skip
    tuned = tensors(Path("b"))
    assert tuned["head.linear.weight"].shape == (3, 32)
    assert torch.equal(tuned["stem.conv.weight"], old["stem.conv.weight"])
    assert read_record(Path("b/run.json"))["settings"]["init_skip"] == "head"


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
def test_wrong_options_are_refused(danetc: Run, options: list[str], message: str) -> None:
    danetc.fails(message, "train", NAME, "--data", "digits", "-o", "run", *options)
    assert not Path("run/training.json").exists()


def test_init_skip_needs_init(danetc: Run) -> None:
    danetc.fails("--init-skip is for --init", "build", NAME, "--init-skip", "head", "-o", "x")


def test_the_check_of_a_file_knows_its_parts(danetc: Run, small: Path) -> None:
    small.write_text(SMALL + QUICK.replace(" }", "; freeze = stm; lr_scale = 2 * head }"))
    said = danetc.fails("did you mean `stem`?", "check", small)
    assert "E0804" in said.err
    assert f"{small}:12:" in said.err
    variant = "\nnetwork other = small { head = avgpool -> mean_over_time -> linear(3) }\n"
    flow = "use std\nnetwork n { input = image(1, 4, 4); steps = 1; out = in -> linear(3) }\n"
    for text, setting in ((SMALL + variant, "freeze = stem"), (flow, "lr_scale = 2 * linear")):
        small.write_text(text + QUICK.replace(" }", f"; {setting} }}"))
        danetc.passes("check", small)


def test_a_later_phase_trains_what_an_earlier_one_froze(danetc: Run, first: Path) -> None:
    Path("two.danet").write_text("""recipe two {
      batch = 100; optimizer = adamw(lr = 0.01); keep_every = 1
      phase head { epochs = 1; freeze = stem + stages }
      phase all { epochs = 1; start = head }
    }""")
    asked = ("--data", FEW, "--recipe", "two.danet", "--backend", "eager")
    danetc.passes("train", first, *asked, "-o", "run")
    between = read_checkpoint(Path("run/checkpoints/phase-head")).tensors["model"]
    old, new = tensors(first), tensors(Path("run"))
    for name, value in between.items():
        assert torch.equal(value, old[name]) == (not name.startswith("head.")), name
    assert not torch.equal(new["stem.conv.weight"], old["stem.conv.weight"])


@pytest.mark.usefixtures("danetc")
def test_a_recipe_of_std_can_be_named() -> None:
    done = package.train(NAME, "digits", recipe="digits", set=SHORT, backend="eager")
    assert done.record["recipe"]["name"] == "digits"
    assert done.test_accuracy is not None
    assert done.test_accuracy > 0.9  # one epoch from untrained weights gives half of it


def test_a_folder_of_trials_is_refused(danetc: Run, quick: Path) -> None:
    danetc.passes("train", quick, "--data", FEW, "--seeds", 2, "-o", "two")
    danetc.fails("seed-", "train", "two", "--data", FEW, "-o", "x")


# -- the pretrained networks of danetc: each reaches its stated accuracy --------------------------


NAMES = pretrained_names()


def stated_of(name: str) -> Any:
    return read_record(directory_of(PREFIX + name) / "training.json")


BUILT_IN = [name for name in NAMES if stated_of(name)["data"] == "digits"]
"""Networks whose data also come with danetc."""


@pytest.mark.usefixtures("all_digits")
@pytest.mark.parametrize("name", BUILT_IN)
def test_it_classifies_as_well_as_is_stated(danetc: Run, name: str) -> None:
    """Two images may differ, because machines may round differently."""
    stated = stated_of(name)
    (found,) = danetc.json("eval", PREFIX + name)["evaluated"]
    (figures,) = found["results"]
    assert found["data"] == stated["data"]
    assert abs(figures["top1"] - stated["test_accuracy"]) <= 2 / figures["images"]
    assert stated["test_accuracy"] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_its_folder_is_small_and_names_no_machine(name: str) -> None:
    files = list(directory_of(PREFIX + name).rglob("*"))
    left_out = {"checkpoints", "tensorboard", "tensorboard.json", ".lock"}
    assert not {each.name for each in files} & left_out
    assert sum(each.stat().st_size for each in files) < 5_000_000
    facts = read_record(directory_of(PREFIX + name) / "run.json")["facts"]
    assert facts["command"][0] == "danetc"
    assert not [word for word in facts["command"] if Path(word).is_absolute()]
    for path in files:
        if path.suffix in (".json", ".py", ".danet", ".graph", ".csv", ".svg"):
            assert not re.search(r"/(home|root|work|Users)/", path.read_text(encoding="utf-8"))


def test_they_are_the_folders_and_listed(danetc: Run) -> None:
    folder = Path(pretrained.__file__ or "").parent
    assert {each.name for each in folder.iterdir() if each.is_dir()} - {"__pycache__"} == {*NAMES}
    listed = danetc("list", "pretrained").out
    for entry, name in zip(topic("pretrained"), NAMES, strict=True):
        stated = stated_of(name)
        assert entry.name == PREFIX + name
        assert f"{stated['test_accuracy']:.2%}" in entry.summary
        assert entry.summary in listed


def test_a_name_that_is_not_there_gets_a_hint(danetc: Run) -> None:
    wrong = PREFIX + NAMES[0][:-1]
    for line in (
        f"eval {wrong}",
        f"export {wrong} -o w.safetensors",
        f"measure {wrong} --data digits",
        f"build danet_c_small --init {wrong}",
        f"train danet_c_small --data digits --init {wrong}",
    ):
        danetc.fails(f"did you mean `{NAMES[0]}`", *line.split())
