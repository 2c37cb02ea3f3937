"""Run directories: `danetc train` resumes a run, refuses it or moves it aside."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import danetc as package
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.requests import TrainingRequest
from danetc.runtime.data.images import DECODERS
from danetc.runtime.system.files import read_record, save_record
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot
from danetc.runtime.training.distributed import World
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.training.directory import (
    RunDirectory,
    checkpoint_in,
    compare,
    opened,
    refuse_run,
    state_of,
)
from danetc.tasks.training.repeat import request_of
from danetc.tasks.training.trials import Trial, with_plan

from .conftest import FEW, SMALL, Run

QUICK = "recipe quick { epochs = 2; batch = 100; optimizer = sgd(lr = 0.05, momentum = 0.9) }\n"
QUIET = ("--data", FEW, "--backend", "eager", "--quiet")
UNLIKE = ("seconds", "images_per_second", "shares")


def weights(directory: Path) -> bytes:
    return (directory / "weights.safetensors").read_bytes()


def figures(directory: Path) -> list[dict[str, Any]]:
    epochs = read_record(directory / "training.json")["epochs"]
    return [{k: v for k, v in row.items() if k not in UNLIKE} for row in epochs]


@pytest.fixture
def run(danetc: Run, quick: Path, tmp_path: Path) -> Path:
    assert danetc("train", quick, *QUIET, "-o", "run", "--seed", "1").status == 0
    return tmp_path / "run"


def test_a_run_that_is_there_is_resumed(danetc: Run, quick: Path, run: Path) -> None:
    """The run is complete. Damaged checkpoints and settings that change no number do not affect it."""
    before = weights(run)
    command = ("train", quick, *QUIET, "-o", "run", "--seed", "1")
    assert "the run is complete" in danetc(*command).err
    other = ("--set", "recipe.checkpoint_every=7", "--set", "recipe.workers=1")
    assert danetc(*command, *other, "--memory", "recompute").status == 0
    damaged = run / "checkpoints" / "last" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    shutil.rmtree(run / "checkpoints" / "best")
    result = danetc.passes(*command)
    assert "last/model.safetensors is damaged" in result.err
    assert "taking run/checkpoints/previous" in result.err
    assert weights(run) == before
    danetc.fails("channels_last: false there, true now", *command, "--channels-last")
    assert "holds a training run" in danetc("build", quick, "-o", "run").err


@pytest.mark.thorough
def test_weights_that_do_not_fit_on_the_disk(
    danetc: Run, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notice is printed during training. Weights that are still missing at its end are an error."""
    real, left = os.fsync, [0]

    def full(handle: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        if name.startswith(".weights.safetensors") and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    for failures, status in ((1, 0), (3, 1)):
        left[0] = failures
        result = danetc("train", quick, *QUIET, "-o", f"run-{failures}")
        assert result.status == status
        assert "the weights of train 1 were not written" in result.err
        assert "the disk is full" in result.err
        assert (tmp_path / f"run-{failures}" / "weights.safetensors").exists() == (status == 0)
    assert danetc("train", quick, *QUIET, "-o", "run-3").status == 0
    assert weights(tmp_path / "run-3") == weights(tmp_path / "run-1")


# -- contents of a directory, without a training ---------------------------------------------------


BEFORE = {"seed": 1, "spec": "a -> b", "recipe": {"lr": 0.5, "steps": [1, 2], "ema": None}}


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        ({}, []),
        ({"spec": "a\n  -> b"}, []),
        ({"seed": 2}, ["seed: 1 there, 2 now"]),
        (
            {"recipe": {"lr": 0.25, "steps": (1, 2), "ema": 0.5}},
            ["recipe.lr: 0.5 there, 0.25 now", "recipe.ema: none there, 0.5 now"],
        ),
        ({"recipe": {"lr": 0.5, "ema": None}}, ["recipe.steps: [1, 2] there, none now"]),
        ({"last": True, "name": "x"}, ["last: none there, true now", "name: none there, x now"]),
        ({"spec": "a\n-> c"}, ["the network's text:\n    -a -> b\n    +a\n    +-> c"]),
        (
            {"spec": "\n".join("bcdefgh")},
            ["the network's text:" + "".join(f"\n    {each}" for each in (
                "-a -> b", "+b", "+c", "+d", "+e", "+f", "..."
            ))],
        ),
    ],
)  # fmt: skip
def test_settings_that_differ_are_listed(now: dict[str, Any], differences: list[str]) -> None:
    assert compare(BEFORE, {**BEFORE, **now}) == differences


def begun(path: Path) -> Path:
    (path / "checkpoints" / "last").mkdir(parents=True)
    save_record({"format": 1, "settings": BEFORE}, path / "run.json")
    return path


def test_a_directory_is_opened_for_its_own_settings(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    told: list[str] = []
    how, changed = TrainingRequest("a.danet"), {**BEFORE, "seed": 2}
    known = read_record(path / "run.json")

    def found(settings: dict[str, Any], **more: Any) -> tuple[Any, list[str]]:
        with opened(path, settings, replace(how, **more), told.append) as (directory, differences):
            return directory.known, differences

    (path / ".weights.tmp").touch()  # left by a killed process
    with opened(path, BEFORE, how, told.append) as (directory, differences):
        assert (directory.known, differences) == (known, [])
        assert not (path / ".weights.tmp").exists()
        other = subprocess.run(  # another process cannot lock it
            [sys.executable, "-c", "import sys, filelock; filelock.FileLock(sys.argv[1], 0).acquire()",
             str(path / ".lock")], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Timeout" in other.stderr
    with pytest.raises(UserError) as error:
        found(changed)
    message = str(error.value)
    assert "other settings:\n  seed: 1 there, 2 now\nchoose another directory" in message
    assert all(advice in message for advice in ("-o DIR", "--override", "--fresh"))
    assert found(changed, override=True) == (known, ["seed: 1 there, 2 now"])
    for number in (1, 2):
        assert found(changed, fresh=True) == (None, [])
        moved = path.with_name(f"run.before-{number}")
        assert read_record(moved / "run.json")["settings"] == BEFORE
        assert told[number - 1] == f"the run in {path} is now in {moved}"
        assert list(path.glob("[!.]*")) == []
        begun(path)
    (path / "checkpoints" / "last").rmdir()  # nothing was trained, so nothing is lost
    assert found(changed) == (None, [])


@pytest.mark.parametrize("deterministic", [True, False])
def test_cublas_is_told_of_determinism_in_advance(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ""})
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    with pytest.raises(SpecError, match="nothing"):
        with_plan(TrainingRequest("nothing", deterministic=deterministic), print, print)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic


def test_what_a_training_would_find(tmp_path: Path) -> None:
    assert state_of(tmp_path / "new", BEFORE) == "new"
    path = begun(tmp_path / "run")
    assert state_of(path, BEFORE) == "holds a run with these settings, which is resumed"
    assert state_of(path, {**BEFORE, "seed": 2, "spec": "b"}) == (
        "holds a run with other settings (seed: 1 there, 2 now; the network's text:\n    -a -> b"
        "\n    +b), so --override or --fresh is needed"
    )
    with pytest.raises(UserError, match="holds a single run; choose"):
        refuse_run(path)
    refuse_run(tmp_path / "new")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "trials.json").touch()
    with pytest.raises(UserError, match=r"holds trials; choose one of .*/seed-\.\.\."):
        state_of(tmp_path / "trials", BEFORE)
    for record, message in (
        ({"format": 1}, "does not contain the settings of the run"),
        ({"settings": BEFORE}, "does not contain the settings of the run"),
        ({"format": 2, "settings": BEFORE}, "by a newer danetc, in format 2"),
    ):
        save_record(record, path / "run.json")
        with pytest.raises(UserError, match=message):
            state_of(path, BEFORE)


def test_facts_of_before_are_kept_where_they_matter(tmp_path: Path) -> None:
    facts = {"torch": "1.0", "command": "a", "began": "then"}
    known = {"facts": facts, "changes": [["seed: 1 there, 2 now"]], "earlier": [{"torch": "0.9"}]}
    for version, earlier in (("1.0", []), ("2.0", [facts])):
        now = {"torch": version, "command": "b"}
        RunDirectory(tmp_path, known).write_run(BEFORE, now, ["lr: 1 there, 2 now"])
        record = read_record(tmp_path / "run.json")
        assert record["changes"] == [["seed: 1 there, 2 now"], ["lr: 1 there, 2 now"]]
        assert (record["facts"], record["settings"]) == (now, BEFORE)
        found = [{key: value for key, value in each.items() if value} for each in record["earlier"]]
        assert found == [{"torch": "0.9"}, *earlier]
    RunDirectory(tmp_path, known).write_run(BEFORE, now, [])
    assert read_record(tmp_path / "run.json")["changes"] == known["changes"]


def test_checkpoints_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint `best`; there are no checkpoints"):
        checkpoint_in(tmp_path, "best")
    for name in ("last", "best", ".new"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    with pytest.raises(UserError, match="has no checkpoint `first`; there are best, last"):
        checkpoint_in(tmp_path, "first")
    with pytest.raises(UserError, match="last"):
        checkpoint_in(tmp_path, "last")  # the folder is empty


def test_a_phase_starts_from_the_end_of_another(tmp_path: Path) -> None:
    """The phase starts from the moving average if the checkpoint has one."""
    plan: Any = SimpleNamespace(places=lambda: [(0, tmp_path)])
    trial = Trial(plan, World(), StopRequest())
    own, average = ({"a": torch.tensor([number])} for number in (1.0, 2.0))
    for tensors, expected in (({"model": own}, own), ({"model": own, "ema": average}, average)):
        checkpoints = Checkpoints(tmp_path, print, print)
        checkpoints.write_later(Snapshot(Position(), tensors, {}), "phase-first")
        assert checkpoints.wait()
        assert trial._end_of("first", checkpoints) == expected


def test_notices_of_a_training_are_notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without progress, notices become notes. With progress, notices are only shown."""

    def run(request: Any, *, observer: Any, note: Any, stop: Any) -> Any:
        note("a note")
        observer.on_notice("a notice")
        return tmp_path, {"epochs": [], "test_accuracy": None}

    monkeypatch.setattr("danetc.tasks.training.train.run", run)
    assert package.train("small.danet").notes == ("a note", "a notice")
    assert package.train("small.danet", progress=True).notes == ("a note",)


# -- repeating a run from its run.json: the same bits, or an error that says why not ---------------


REPEATED = """
recipe two {
  phase first { steps = 1; epochs = 1; schedule = step(0.3, 0.7, factor = 1 / 3) }
  phase second { epochs = 1; start = first; schedule = cosine; clip = 1 / 3; ema = 0.9 }
  batch = 24
  optimizer = sgd(lr = 0.1 * batch / 7, momentum = 0.9)
  augment = random_crop(8, padding = 1) -> mixup(alpha = 0.2)
  loss = cross_entropy(label_smoothing = 0.1)
}
"""
DATA = "synthetic:size=8,channels=1,count=60,test=30,classes=12"


@pytest.mark.thorough
@pytest.mark.usefixtures("few_timed")
def test_a_run_is_repeated_to_the_same_bits(danetc: Run) -> None:
    """The command line chose the classes, the settings and the first weights of the run."""
    spec, original, again = (Path(name) for name in ("a.danet", "run", "again"))
    dropout = SMALL.replace("mean_over_time ->", "mean_over_time -> dropout(p = 0.2) ->")
    spec.write_text(dropout + REPEATED)
    danetc.passes("build", spec, "--seed", "5", "-o", "first")
    danetc.passes(
        "train", spec, "--data", DATA, "--classes", "10", "--subset-seed", "3", "--seed", "7",
        "--set", "neuron=LIF(tau = 3.0)", "--set", "recipe.second.epochs=2", "-o", "run", "-q",
        "--init", "first/weights.safetensors", "--backend", "eager",
    )  # fmt: skip
    spec.write_text("not needed any more")
    assert danetc.passes("train", "--from", "run/run.json", "-o", "again").err == ""
    one, other = (read_record(each / "run.json")["settings"] for each in (original, again))
    assert one == other
    for name in ("weights.safetensors", "model.py", "spec.danet"):
        assert (again / name).read_bytes() == (original / name).read_bytes()
    assert figures(original) == figures(again)
    assert len(figures(again)) == 3
    # The repetition is an ordinary run: it can be resumed and repeated.
    assert "the run is complete" in danetc("train", "--from", "run", "-o", "again").err
    assert danetc("train", "--from", "again", "--dry-run", "--json").status == 0


def test_options_that_would_change_a_repetition_are_refused(danetc: Run) -> None:
    for arguments, message in (
        (("--from", "run", "--seed", "1"), "leave out seed"),
        (("--from", "run", "a.danet"), "leave out spec"),
        (("a.danet",), "Missing option '--data'"),
    ):
        danetc.fails(message, "train", *arguments, status=2)


@pytest.fixture
def record(tmp_path: Path, all_digits: None) -> Any:
    """The record of a shipped run, which ``planned`` repeats from ``run``."""
    (tmp_path / "run").mkdir()
    return read_record(directory_of("pretrained:ann_c_small_digits") / "run.json")


def planned(record: Any, folder: Path, **how: Any) -> tuple[Any, list[str]]:
    save_record(record, folder / "run" / "run.json")
    request = request_of(folder / "run", TrainingRequest(**how), data=None)
    notes: list[str] = []
    return with_plan(request, notes.append, lambda plan, world, note: plan), notes


def test_a_run_by_cuda_graphs_is_repeated_by_them(
    record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without CUDA graphs takes ordinary steps, with a note."""
    record["facts"]["request"]["cuda_graphs"] = True
    plan, notes = planned(record, tmp_path, output="again")
    assert not plan.request.cuda_graphs
    assert "the run recorded its steps as CUDA graphs, which this device does not have" in notes
    monkeypatch.setattr("danetc.tasks.training.repeat.DEVICES", ("cpu",))
    plan, notes = planned(record, tmp_path, output="again")
    assert plan.request.cuda_graphs
    assert not any("CUDA" in note for note in notes)


def test_plan_of_a_repetition(record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    same = {**record, "facts": {**record["facts"], **now}}
    plan, notes = planned(same, tmp_path)
    assert notes == []
    assert plan.directory == Path("runs/danet_c_small-again")
    written = json.loads(json.dumps({**plan.settings(plan.seeds[0])}))
    assert compare(record["settings"], written) == []
    plan, _ = planned(same, tmp_path, output=tmp_path / "other")
    assert plan.directory == tmp_path / "other"
    other = {"torch": "1.0", "decoder": "Pillow 9", "threads": 99}
    moved = {**same, "facts": {**same["facts"], **other}}
    before = {"earlier": [{}], "changes": [["seed: 1 there, 2 now"]]}
    _, notes = planned({**moved, **before}, tmp_path)
    assert [note.partition(":")[0] for note in notes] == [
        "the run did not have these settings from the start, so it cannot be repeated",
        "the run was resumed under other versions or on another machine; see `earlier` in its run.json",
        f"torch is {torch.__version__} now and was 1.0",
        f"the decoder of images is {DECODERS} now and was Pillow 9",
        f"the number of threads is {torch.get_num_threads()} now and was 99",
    ]
    assert notes[0].endswith("earlier it had seed: 1 there, 2 now")


def test_not_repeatable(record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = record["settings"]

    def of_data(**change: str) -> Any:
        return {**record, "settings": {**settings, "data": {**settings["data"], **change}}}

    later = {**settings, "spec": settings["spec"].replace("# danet 1", "# danet 2")}
    for changed, message in (
        (of_data(fingerprint="0"), "the settings differ:\n  digest of the data: 0 there, 011f"),
        (of_data(text="python:a.py:b"), "python:a.py:b"),
        ({**record, "facts": {}}, "lacks what a repetition needs ('request')"),
        ({**record, "format": 2}, "by a newer danetc, in format 2 of runs; this version reads 1"),
        (
            {**record, "settings": later},
            "version 2 of the language, but this danetc reads version 1",
        ),
    ):
        with pytest.raises((UserError, SpecError)) as error:
            planned(changed, tmp_path)
        assert message in str(error.value)
    (tmp_path / "run" / "trials.json").touch()
    with pytest.raises(UserError, match=r"holds trials; choose one of run/seed-.../run.json"):
        request_of(Path("run/run.json"), TrainingRequest(), data=None)
    for place in ("missing", "."):
        with pytest.raises(UserError, match=r"there is no run\.json in"):
            request_of(Path(place), TrainingRequest(), data=None)
