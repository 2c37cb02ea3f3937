"""A run once more from its run.json: the same bits, or a refusal that says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.requests import TrainingRequest
from danetc.runtime.data.images import DECODERS
from danetc.runtime.system.files import read_record, save_record
from danetc.tasks.training.directory import compare
from danetc.tasks.training.repeat import request_of
from danetc.tasks.training.trials import with_plan

from .conftest import SMALL, Run

pytestmark = pytest.mark.usefixtures("few_timed")

NETWORK = SMALL.replace("mean_over_time ->", "mean_over_time -> dropout(p = 0.2) ->")
RECIPE = """
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


@pytest.fixture
def run(danetc: Run, tmp_path: Path) -> Path:
    """A run of classes, settings and first weights that the command line chose."""
    (tmp_path / "a.danet").write_text(NETWORK + RECIPE)
    assert danetc("build", "a.danet", "--seed", "5", "-o", "first").status == 0
    danetc.passes(
        "train", "a.danet", "--data", DATA, "--classes", "10", "--subset-seed", "3", "--seed", "7",
        "--set", "neuron=LIF(tau = 3.0)", "--set", "recipe.second.epochs=2", "-o", "run", "-q",
        "--init", "first/weights.safetensors", "--backend", "eager",
    )  # fmt: skip
    return tmp_path / "run"


def settings_of(directory: Path) -> Any:
    return json.loads((directory / "run.json").read_text())["settings"]


@pytest.mark.thorough
def test_a_run_is_repeated_to_the_same_bits(danetc: Run, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text("not needed any more")
    result = danetc("train", "--from", "run/run.json", "-o", "again")
    assert (result.status, result.err) == (0, "")
    again = tmp_path / "again"
    assert settings_of(again) == settings_of(run)
    for name in ("weights.safetensors", "model.py", "spec.danet"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    figures = []
    for directory in (run, again):
        epochs = json.loads((directory / "training.json").read_text())["epochs"]
        changing = ("seconds", "images_per_second", "shares")
        figures.append([{k: v for k, v in e.items() if k not in changing} for e in epochs])
    assert figures[0] == figures[1]
    assert len(figures[0]) == 3
    # The repetition is a run like others: it goes on, and it can be repeated.
    assert "the run is complete" in danetc("train", "--from", "run", "-o", "again").err
    assert danetc("train", "--from", "again", "--dry-run", "--json").status == 0


def test_options_that_would_change_a_repetition_are_refused(danetc: Run) -> None:
    for arguments, message in (
        (("--from", "run", "--seed", "1"), "leave out seed"),
        (("--from", "run", "a.danet"), "leave out spec"),
        (("a.danet",), "Missing option '--data'"),
        (("--data", "digits"), "Missing argument"),
    ):
        danetc.fails(message, "train", *arguments, status=2)


def test_runs_of_a_later_danetc_are_refused_with_the_reason(danetc: Run, tmp_path: Path) -> None:
    """A record in another format, and one whose spec is of another version of the language."""
    shutil.copytree(directory_of("pretrained:ann_c_small_digits"), tmp_path / "run")
    record = read_record(tmp_path / "run" / "run.json")
    settings = {
        **record["settings"],
        "spec": record["settings"]["spec"].replace("# danet 1", "# danet 2"),
    }
    for changed, told in (
        ({**record, "format": 2}, "by a newer danetc, in format 2 of runs; this version reads 1"),
        (
            {**record, "settings": settings},
            "written in version 2 of the language, but this danetc reads version 1",
        ),
    ):
        save_record(changed, tmp_path / "run" / "run.json")
        danetc.fails(told, "train", "--from", "run/run.json", "-o", "again")
    assert not (tmp_path / "again").exists()


@pytest.fixture
def record(tmp_path: Path, all_digits: None) -> Any:
    """The record of a shipped run, which ``planned`` repeats from ``run``."""
    (tmp_path / "run").mkdir()
    return read_record(directory_of("pretrained:ann_c_small_digits") / "run.json")


def planned(record: Any, folder: Path, **how: Any) -> tuple[Any, list[str]]:
    """The plan of a repetition, and its notes."""
    save_record(record, folder / "run" / "run.json")
    request = request_of(folder / "run", TrainingRequest(**how), data=None)
    notes: list[str] = []
    return with_plan(request, notes.append, lambda plan, world, note: plan), notes


def test_a_run_by_cuda_graphs_is_repeated_by_them(
    record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by ordinary steps, with a note, on a device that has none."""
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
    moved = {
        **same,
        "facts": {**same["facts"], "torch": "1.0", "decoder": "Pillow 9", "threads": 99},
    }
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
    other = {**settings, "data": {**settings["data"], "fingerprint": "0"}}
    for changed, message in (
        ({**record, "settings": other}, "the settings differ:\n  data.fingerprint: 0 there, 011f"),
        ({**record, "facts": {}}, "lacks what a repetition needs ('request')"),
        (
            {
                **record,
                "settings": {**settings, "data": {**settings["data"], "text": "python:a.py:b"}},
            },
            "python:a.py:b",
        ),
    ):
        with pytest.raises(UserError) as error:
            planned(changed, tmp_path)
        assert message in str(error.value)
    (tmp_path / "run" / "trials.json").touch()
    with pytest.raises(UserError, match=r"holds trials; choose one of run/seed-.../run.json"):
        request_of(Path("run/run.json"), TrainingRequest(), data=None)
    for place in ("missing", "."):
        with pytest.raises(UserError, match=r"there is no run\.json in"):
            request_of(Path(place), TrainingRequest(), data=None)
