"""Checkpoints on disk: whole or passed over, and never at the price of the one before."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from danetc.errors import UserError
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.training.checkpoints import (
    BEST,
    LAST,
    PREVIOUS,
    STATE,
    Checkpoints,
    Position,
    Snapshot,
    read_checkpoint,
)
from danetc.runtime.training.state import (
    own_random_state,
    random_state,
    seed_everything,
    set_random_state,
)
from tests.runtime.training.common import ADAM, phase, run, small


def snapshot(step: int, scale: float = 1.0) -> Snapshot:
    tensors = {
        "model": {"a": torch.arange(6.0).view(2, 3) * scale, "b": torch.tensor(step)},
        "optimizer": {"a/momentum_buffer": torch.ones(2, 3)},
    }
    return Snapshot(Position(0, 1, step), tensors, {"done": step, "rate": 0.1})


class Folder(Checkpoints):
    """Checkpoints that note what they say."""

    def __init__(self, path: Path) -> None:
        self.notices: list[str] = []
        self.kinds: list[str] = []
        super().__init__(path, self.notices.append, lambda path: self.kinds.append(path.name))

    def write(self, snapshot: Snapshot, *names: str) -> bool:
        self.write_later(snapshot, *names)
        return self.wait()

    def newest(self) -> Snapshot:
        found = self.latest()
        assert found is not None
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "checkpoints")


def test_what_is_read_is_what_was_written(folder: Folder) -> None:
    assert folder.latest() is None
    for step in (3, 6, 9):
        folder.write_later(snapshot(step), *((LAST, BEST) if step == 9 else (LAST,)))
    folder.wait()
    assert folder.kinds == [LAST, LAST, LAST, BEST]
    assert {path.name for path in folder.folder.iterdir()} == {LAST, PREVIOUS, BEST}
    assert read_checkpoint(folder.folder / PREVIOUS).position.step == 6
    found, written = folder.newest(), snapshot(9)
    assert (found.position, found.state) == (written.position, written.state)
    for stem, tensors in written.tensors.items():
        for name, value in tensors.items():
            assert torch.equal(found.tensors[stem][name], value)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", STATE])
@pytest.mark.parametrize("damage", [truncate, flip, empty, os.unlink])
def test_damage_is_passed_over(folder: Folder, file: str, damage: Callable[[Path], None]) -> None:
    for step in (3, 6):
        folder.write(snapshot(step), LAST)
    damage(folder.folder / LAST / file)
    assert folder.newest().position.step == 3
    damaged, taken = folder.notices
    assert file in damaged
    assert "damaged" in damaged
    assert PREVIOUS in taken
    damage(folder.folder / PREVIOUS / file)
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole; --fresh"):
        folder.latest()


@pytest.mark.parametrize("key", ["position", "state", "files"])
def test_a_state_changed_by_hand_is_not_believed(folder: Folder, key: str) -> None:
    folder.write(snapshot(3), LAST)
    path = folder.folder / LAST / STATE
    record = json.loads(path.read_text())
    record[key] = {}
    path.write_text(json.dumps(record, indent=2))
    with pytest.raises(UserError, match="not as it was written"):
        folder.latest()


def test_what_a_process_that_died_has_left_is_removed_or_comes_back(folder: Folder) -> None:
    folder.write(snapshot(3), LAST)
    half = folder.folder / ".last.tmp-1"
    shutil.copytree(folder.folder / LAST, half)
    (half / STATE).unlink()
    (folder.folder / LAST).rename(folder.folder / ".best.old-1")  # moved out of the way
    assert folder.newest().position.step == 3
    assert folder.notices == []
    assert {path.name for path in folder.folder.iterdir()} == {BEST}


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_full_disk_keeps_them(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    folder.write(snapshot(3), LAST)
    real, calls = os.fsync, [after]

    def full(handle: int) -> None:
        calls[0] -= 1
        if calls[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert not folder.write(snapshot(6), LAST)
    (notice,) = folder.notices
    assert "the disk is full" in notice
    assert "step 3 stays" in notice
    assert {path.name for path in folder.folder.iterdir()} == {LAST}
    assert folder.newest().position.step == 3
    assert folder.write(snapshot(9), LAST), "room was made"
    assert folder.newest().position.step == 9


def test_which_are_kept(few: DataSet, folder: Folder) -> None:
    chosen = phase(ADAM.replace("epochs = 3", "epochs = 4"))
    done = run(small(), few, chosen, checkpoints=folder, keep_every=2, phases=2)
    names = {path.name for path in folder.folder.iterdir()}
    assert names == {LAST, PREVIOUS, BEST, "epoch-0002", "epoch-0004", "phase-train"}
    assert folder.newest().position == Position(0, 4, 0)
    accuracies = [row["test_accuracy"] for row in done.history]
    best = accuracies.index(max(accuracies)) + 1
    assert read_checkpoint(folder.folder / BEST).position == Position(0, best, 0)
    for name, value in read_checkpoint(folder.folder / "phase-train").tensors["model"].items():
        assert torch.equal(value, done.weights[name])


def test_one_of_another_network_is_refused(few: DataSet, folder: Folder) -> None:
    run(small(), few, replace(phase(ADAM), epochs=1), checkpoints=folder)
    found = folder.newest()
    model = {**found.tensors["model"], "head.linear.weight": torch.zeros(10, 9)}
    for says in ("of another network", "of another network: it lacks"):
        resume = replace(found, tensors={**found.tensors, "model": model})
        with pytest.raises(UserError, match=says):
            run(small(), few, phase(ADAM), resume=resume)
        model.pop("head.linear.weight", None)


def test_random_states_are_taken_and_put_back() -> None:
    device = torch.device("cpu")

    def draw() -> list[float]:
        numbers = torch.rand(()).item(), random.gauss(0, 1), random.random()
        return [*numbers, np.random.normal(), np.random.rand()]

    with own_random_state(device):
        seed_everything(1, 2)
        random.gauss(0, 1)  # leaves its second half behind
        np.random.normal()
        state = random_state(device)
        first = draw()
        assert draw() != first
        set_random_state(state, device)
        assert draw() == first
        seed_everything(1, 3)
        assert draw() != first


def test_a_disk_that_stays_full_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")  # a file, where the folder of checkpoints would be made
    folder = Folder(tmp_path / "folder")
    for _ in range(3):
        assert not folder.write(Snapshot(Position(0), {}, {}), "last")
    assert len(folder.notices) == 1
    (tmp_path / "folder").unlink()
    assert folder.write(Snapshot(Position(0), {}, {}), "last")
