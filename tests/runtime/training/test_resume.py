"""A training that is killed resumes bit-identically: it ends as one that was never interrupted."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from danetc.runtime.training.signals import StopRequest
from tests.runtime.training.processes import KILLED, NOISY, Job, together

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


def same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Weights and figures, bit for bit, of a network that is alive."""
    assert min(one["figures"][-1]["firing"].values()) > 0.01
    assert one["weights"].keys() == two["weights"].keys()
    for name, value in one["weights"].items():
        assert torch.equal(value, two["weights"][name]), name
    assert one["figures"] == two["figures"]


def resumes(folder: Path, body: str, step: int, text: str = NOISY, **settings: Any) -> None:
    """Check that a training which is killed after a step ends as one that is left alone."""
    alone = Job(folder / "whole", body, text=text)
    assert together(alone) == [0]
    job = Job(folder / "killed", body, text=text, settings={"checkpoint_steps": 2, **settings})
    assert together(job.with_signal(0, step)) == [KILLED]
    assert together(job) == [0]
    assert job.result()["steps"] < alone.result()["steps"]
    same(alone.result(), job.result())


def whole(folder: Path, **rest: Any) -> dict[str, Any]:
    """A run of FULL that was left alone."""
    job = Job(folder, FULL, **rest)
    assert together(job) == [0]
    assert job.result()["steps"] == STEPS
    return job.result()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_killed_twice_with_loaders(tmp_path: Path, compiled: bool) -> None:
    """Compiled kernels, as people have them, are loaded by the processes after the first."""
    alone = whole(tmp_path / "whole", compiled=compiled)
    settings = {"checkpoint_steps": 3, "workers": 2}
    job = Job(tmp_path / "killed", FULL, compiled=compiled, settings=settings)
    for step in (random.randint(1, STEPS // 2 - 2) for _ in range(2)):
        assert together(job.with_signal(0, step)) == [KILLED]
    assert together(job) == [0]
    same(alone, job.result())


def test_other_settings_resume_too(tmp_path: Path) -> None:
    """Optimizer, precision, mixing, augmentation on the device; a schedule, and parts apart."""
    text = NOISY.replace("alpha = 4", "alpha = scheduled(4)")
    # Each checkpoint waits for the one before it: after 5 steps the one of step 2 is whole.
    resumes(tmp_path, OTHER, random.randint(5, STEPS - 1), text)


def test_a_signal_saves_and_stops(tmp_path: Path) -> None:
    job = Job(tmp_path / "stopped", FULL)
    # Asked after 5 steps; then in the middle of the evaluation, after the 4 that are left.
    for step, signum in ((5, signal.SIGTERM), (6, signal.SIGINT)):
        assert together(job.with_signal(0, step, signum)) == [128 + signum]
        assert f"stopped by {signal.Signals(signum).name}" in job.said()
        assert "the same command resumes" in job.said()
    assert together(job) == [0]
    assert job.result()["steps"] == STEPS // 2, "no step is done twice"
    same(whole(tmp_path / "whole"), job.result())


def test_random_numbers_and_drawn_steps_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """Neurons fire at random, and the optimizer changes the weights after two of three random steps."""
    text = f"""{NOISY}
    neuron noisy {{ state v = 0.0; v = 0.5 * v + x; s = heaviside(1 / (1 + exp(1 - v)) - random()) }}
    """
    text = text.replace("LIF(v_threshold = 0.2)", "noisy").replace("steps = 2", "steps = 3")
    body = "epochs = 2; batch = 24; optimizer = adamw(lr = 0.01)"
    resumes(tmp_path, f"{body}; gradient = online(trace = 0.5, steps = 2, update = step)", 11, text)


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.thorough)])
def test_several_processes_of_which_one_is_killed(tmp_path: Path, world: int) -> None:
    """Sums of three numbers depend on their order, in which DDP has them from its second step."""
    settings = {"checkpoint_steps": 2, "sync_norm": world == 2}
    text = NOISY if world == 2 else NOISY.replace("(8)", "(32)").replace("(32), 1", "(32), 3")
    alone = Job(tmp_path / "whole", FULL, text=text, settings=settings)
    assert together(alone, world) == [0] * world
    assert min(alone.result()["communication"]) > 0
    job = Job(tmp_path / "killed", FULL, text=text, settings=settings)
    assert together(job.with_signal(1, 9), world) == [1, KILLED, 1][:world]
    assert "rank 0: another process of the training has ended" in job.said(0)
    assert together(job, world) == [0] * world
    assert job.result()["steps"] < STEPS
    same(alone.result(), job.result())


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    job = Job(tmp_path, FULL, settings={"sync_norm": True})
    # Asked for the 15th time after 9 steps, 3 batches of the evaluation, and 3 steps.
    assert together(job.with_signal(0, 15, signal.SIGTERM), 2) == [128 + signal.SIGTERM] * 2
    assert together(job) == [0]
    assert job.result()["steps"] == STEPS - 12
    (notice,) = job.result()["notices"]
    assert "on 2 processes and is on 1 now" in notice


def test_a_second_signal_ends_the_process_at_once() -> None:
    process = os.fork()
    if not process:  # nothing but the handlers is used here
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
