"""Damaged checkpoints are skipped, and a training that is killed resumes bit-identically."""

import errno
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, product, repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from danetc.errors import UserError
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.system.liveness import BEAT
from danetc.runtime.training import checkpoints
from danetc.runtime.training.checkpoints import BEST, LAST, PREVIOUS, STATE, Position, Snapshot
from danetc.runtime.training.signals import StopRequest
from tests.runtime.training.common import ADAM, phase, run, small
from tests.runtime.training.processes import KILLED, NOISY, Job, together


def snapshot(step: int) -> Snapshot:
    tensors = {
        "model": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(step)},
        "optimizer": {"a/momentum_buffer": torch.ones(2, 3)},
    }
    return Snapshot(Position(0, 1, step), tensors, {"done": step, "rate": 0.1})


class Folder(checkpoints.Checkpoints):
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
    assert checkpoints.read_checkpoint(folder.folder / PREVIOUS).position.step == 6
    found, written = folder.newest(), snapshot(9)
    assert (found.position, found.state) == (written.position, written.state)
    torch.testing.assert_close(found.tensors, written.tensors, rtol=0, atol=0)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change(path: Path, key: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: {}}, indent=2))


FILES = ("model.safetensors", "optimizer.safetensors", STATE)
BY_HAND = [(STATE, partial(change, key=key)) for key in ("position", "state", "files")]


@pytest.mark.parametrize(
    ("file", "damage"), [*product(FILES, (truncate, flip, empty, os.unlink)), *BY_HAND]
)
def test_damage_is_passed_over(folder: Folder, file: str, damage: Callable[[Path], None]) -> None:
    for step in (3, 6):
        folder.write(snapshot(step), LAST)
    damage(folder.folder / LAST / file)
    assert folder.newest().position.step == 3
    damaged, taken = folder.notices
    assert file in damaged
    assert ("not as it was written" if isinstance(damage, partial) else "damaged") in damaged
    assert PREVIOUS in taken
    damage(folder.folder / PREVIOUS / file)
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole; --fresh"):
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
def test_a_full_disk_keeps_them(folder: Folder, after: int) -> None:
    folder.write(snapshot(3), LAST)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with patch.object(os, "fsync", side_effect=chain(repeat(None, after), repeat(full))):
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
    assert checkpoints.read_checkpoint(folder.folder / BEST).position == Position(0, best, 0)
    model = checkpoints.read_checkpoint(folder.folder / "phase-train").tensors["model"]
    torch.testing.assert_close(model, done.weights, rtol=0, atol=0)


def test_one_of_another_network_is_refused(few: DataSet, folder: Folder) -> None:
    run(small(), few, replace(phase(ADAM), epochs=1), checkpoints=folder)
    found = folder.newest()
    model = {**found.tensors["model"], "head.linear.weight": torch.zeros(10, 9)}
    for says in ("of another network", "of another network: it lacks"):
        resume = replace(found, tensors={**found.tensors, "model": model})
        with pytest.raises(UserError, match=says):
            run(small(), few, phase(ADAM), resume=resume)
        model.pop("head.linear.weight", None)


def test_a_disk_that_stays_full_is_told_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder")
    folder.folder.write_text("")  # a file blocks the folder of checkpoints
    assert not any(folder.write(snapshot(3), LAST) for _ in range(3))
    assert len(folder.notices) == 1
    folder.folder.unlink()
    assert folder.write(snapshot(3), LAST)


FULL = (
    "epochs = 2; batch = 24; accumulate = 2; optimizer = sgd(lr = 0.1, momentum = 0.9); "
    "schedule = cosine; warmup = 0.5; augment = random_crop(8, padding = 1) -> mixup; ema = 0.8; "
    "clip = 1.0; loss = cross_entropy + 0.1 * mse"
)
OTHER = (
    "epochs = 2; batch = 24; optimizer = adamw(lr = 0.01, weight_decay = 0.1, decay = weights); "
    "precision = fp16; augment = random_crop(8, padding = 1) -> random_erasing -> cutmix; "
    "augment_on = device; change = surrogate(alpha = exponential(1, 8)); freeze = stages; "
    "lr_scale = 0.1 * stem"
)
STEPS = 2 * 9  # of 200 images: 8 batches of 24, and one of 8


def resumes(
    folder: Path,
    body: str,
    *kills: int | tuple[int, int],
    text: str = NOISY,
    compiled: bool = False,
    world: int = 1,
    every: int = 2,
    **settings: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check that a training in which a process is killed, or gets signals, after some steps ends with the
    same weights and figures as an undisturbed one, bit for bit. Neurons must fire. Return both results."""
    sync = {"sync_norm": world == 2}
    alone = Job(folder / "whole", body, text, compiled=compiled, settings=sync)
    settings |= {**sync, "checkpoint_steps": every}
    job = replace(alone, folder=folder / "killed", settings=settings)
    assert together(alone, world) == [0] * world
    for kill in kills:
        step, signum = kill if isinstance(kill, tuple) else (kill, signal.SIGKILL)
        code = together(job.with_signal(min(1, world - 1), step, signum), world)
        if signum != signal.SIGKILL:
            assert code == [128 + signum]
            assert f"stopped by {signal.Signals(signum).name}" in job.said()
            assert "the same command resumes" in job.said()
        elif world == 1:
            assert code == [KILLED]
        else:
            assert code == [1, KILLED, 1][:world]
            assert "rank 0: another process of the training has ended" in job.said()
    assert together(job, world) == [0] * world
    one, two = alone.result(), job.result()
    assert min(one["figures"][-1]["firing"].values()) > 0.01
    torch.testing.assert_close(one["weights"], two["weights"], rtol=0, atol=0)
    assert one["figures"] == two["figures"]
    assert two["steps"] < one["steps"] or len(kills) > 1
    return one, two


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_killed_twice_with_loaders(tmp_path: Path, compiled: bool) -> None:
    kills = [random.randint(1, STEPS // 2 - 2) for _ in range(2)]
    alone, _ = resumes(tmp_path, FULL, *kills, compiled=compiled, every=3, workers=2)
    assert alone["steps"] == STEPS


def test_other_settings_resume_too(tmp_path: Path) -> None:
    """Other settings are optimizer, precision, mixing, augmentation on the device, a schedule, and parts."""
    text = NOISY.replace("alpha = 4", "alpha = scheduled(4)")
    resumes(tmp_path, OTHER, random.randint(5, STEPS - 1), text=text)


def test_a_signal_saves_and_stops(tmp_path: Path) -> None:
    # Signals come after 5 steps, and then during the evaluation after the other 4.
    kills = (5, signal.SIGTERM), (6, signal.SIGINT)
    alone, stopped = resumes(tmp_path, FULL, *kills, every=0)
    assert (stopped["steps"], alone["steps"]) == (STEPS // 2, STEPS), "no step is done twice"


def test_random_numbers_and_drawn_steps_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """Neurons fire at random, and the weights are updated after two of three steps, drawn at random."""
    text = f"""{NOISY}
    neuron noisy {{ state v = 0.0; v = 0.5 * v + x; s = heaviside(1 / (1 + exp(1 - v)) - random()) }}
    """
    text = text.replace("LIF(v_threshold = 0.2)", "noisy").replace("steps = 2", "steps = 3")
    body = "epochs = 2; batch = 24; optimizer = adamw(lr = 0.01)"
    resumes(
        tmp_path, f"{body}; gradient = online(trace = 0.5, steps = 2, update = step)", 11, text=text
    )


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.thorough)])
def test_several_processes_of_which_one_is_killed(tmp_path: Path, world: int) -> None:
    """Sums of three numbers depend on their order, which DDP changes at its second step."""
    text = NOISY if world == 2 else NOISY.replace("(8)", "(32)").replace("(32), 1", "(32), 3")
    alone, _ = resumes(tmp_path, FULL, 9, text=text, world=world)
    assert min(alone["communication"]) > 0


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    """Rank 1 tolerates, while it waits, that rank 0 and its store have ended."""
    job = Job(tmp_path, FULL, settings={"sync_norm": True}, grace=BEAT + 0.5)
    # The 15th check follows 9 steps, 3 batches of the evaluation, and 3 steps.
    assert together(job.with_signal(0, 15, signal.SIGTERM), 2) == [128 + signal.SIGTERM] * 2
    assert together(job) == [0]
    assert job.result()["steps"] == STEPS - 12
    (notice,) = job.result()["notices"]
    assert "on 2 processes and is on 1 now" in notice


def test_a_second_signal_ends_the_process_at_once() -> None:
    process = os.fork()
    if not process:  # the child uses only the handlers
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            if stop.wanted:
                os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_handlers_are_those_of_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.wanted
        assert signal.getsignal(signal.SIGTERM) != before
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.wanted, stop.signal) == (True, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
