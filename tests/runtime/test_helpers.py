"""Kernels are compiled by several processes: what they are told, who does what, and one for real."""

from __future__ import annotations

import io
import pickle
import queue
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch

from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels import fusion_group, helpers, helping
from danetc.runtime.kernels.bit_packing import _packing, _unpacking
from danetc.runtime.kernels.cache import kernel_folder
from danetc.runtime.kernels.compiled import CompiledFunction
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from danetc.runtime.kernels.helpers import DONE, FAILED, READY, Request, compile_all
from danetc.runtime.kernels.upcoming import Job
from danetc.runtime.layers import inference, statistics
from tests.runtime.test_propositions import program

IF = program("IF").text()
TERMS = (Term(True, False), Term(False, True))


def kernels() -> list[CompiledFunction]:
    """One of each that there is."""
    group = fusion_kernel(IF, TERMS, 3)
    found: list[Any] = [
        group.forward,
        group.backward,
        _packing(2),
        _unpacking(4, torch.bfloat16, True),
        _unpacking(4, torch.float32, False),
        statistics._finishing(),
        statistics._whole(True),
        statistics._gradients(),
        inference.summed_kernel(IF, TERMS, 3).forward,
        inference.in_place_kernel(IF, TERMS, 3, 0, False),
        fusion_group.step_kernel(IF, (Term(True, True),), False),
    ]
    return found


def job(kernel: CompiledFunction | None = None) -> Job:
    one = torch.ones(4)
    return Job(kernel or statistics._finishing(), (one, one, one, one, torch.tensor(1e-5)))


@pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.name)
def test_a_kernel_is_known_in_another_process(kernel: CompiledFunction) -> None:
    args = tuple(torch.ones(2, 3, 4, 5, dtype=torch.bfloat16)[:, i : i + 1] for i in range(2))
    request = Request.of(Job(kernel, args))
    assert request is not None
    again = pickle.loads(pickle.dumps(request)).job()
    assert again.kernel.text == kernel.text
    assert again.kernel.name == kernel.name
    assert again.kernel.key(again.args) == kernel.key(args)
    assert [x.shape for x in again.args] == [x.shape for x in args]
    assert all(x.untyped_storage().nbytes() < 8 for x in again.args)


def test_what_is_not_known_elsewhere_is_done_here() -> None:
    assert Request.of(job(CompiledFunction(lambda x: (x,), "own", (True,)))) is None


class Crew:
    """In place of a process: takes a job at once, and does it, fails of it, or loses it."""

    answers: deque[bool]

    def __init__(self, waiting: deque[Job], results: Any, folder: Path) -> None:
        while self.answers and waiting:
            results.put((waiting.pop(), self.answers.popleft()))

    def end(self) -> None:
        pass


@pytest.mark.parametrize("answers", [[], [True], [True, False, True], [True] * 6])
def test_each_job_is_done_once(monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> None:
    Crew.answers = deque(answers)
    monkeypatch.setattr(helpers, "_Helper", Crew)
    monkeypatch.setattr(helpers, "HELPERS", 1)
    jobs = [job() for _ in range(6)]
    here: list[Job] = []
    taken: list[Job] = []
    told: list[int] = []

    def there(each: Job) -> bool:
        taken.append(each)
        return len(taken) != 2  # one is not on the disk after all

    compile_all(jobs, here.append, there, told.append, Path())
    assert told == [1, 2, 3, 4, 5, 6]
    assert len(taken) == sum(answers)
    found = [each for number, each in enumerate(taken, 1) if number != 2]
    assert sorted(map(id, [*here, *found])) == sorted(map(id, jobs))


def test_few_kernels_or_cores_need_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "HELPERS", None)
    monkeypatch.setattr(helpers, "usable_cores", lambda: 8)
    assert helpers._how_many([job()] * 3) == 0
    monkeypatch.setattr(helpers, "free_memory", lambda: 5 * 2**30)
    assert helpers._how_many([job()] * 30) == 5
    assert helpers._how_many([job()] * 6) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert helpers._how_many([job()] * 30) == 0


def test_a_helper_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[object] = []

    class Hanging:
        def __init__(self, waiting: deque[Job], *rest: Any) -> None:
            waiting.pop()

        def end(self) -> None:
            ended.append(self)

    monkeypatch.setattr(helpers, "_Helper", Hanging)
    monkeypatch.setattr(helpers, "HELPERS", 2)
    monkeypatch.setattr(helpers, "PATIENCE", 0.01)
    jobs = [job() for _ in range(5)]
    here: list[Job] = []
    told: list[int] = []
    compile_all(jobs, here.append, lambda job: False, told.append, Path())
    assert sorted(map(id, here)) == sorted(map(id, jobs))
    assert told == [1, 2, 3, 4, 5]
    assert len(ended) == 4  # two, twice


def test_requests_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, False]
    monkeypatch.setattr(helping, "compile_to_disk", lambda job: answers.pop(0))
    monkeypatch.setattr(helping, "missing_compiler", lambda device: None)
    request, out = pickle.dumps(Request.of(job())), io.BytesIO()
    helping.answer(io.BytesIO(request + request), out)
    assert out.getvalue() == READY + DONE + FAILED


@pytest.mark.thorough
@pytest.mark.skipif(compiler.missing_compiler("cpu") is not None, reason="nothing is compiled here")
def test_a_process_puts_a_kernel_on_the_disk() -> None:
    results: queue.SimpleQueue[tuple[Job, bool]] = queue.SimpleQueue()
    helper = helpers._Helper(deque([job()]), results, kernel_folder())
    try:
        done, found = results.get(timeout=300)
    finally:
        helper.end()
    assert found
    with compiler.making_kernels() as settings:
        assert done.kernel.load(done.args, settings)


def test_without_a_process_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "nowhere/python")
    monkeypatch.setattr(helpers, "HELPERS", 2)
    here: list[Job] = []
    jobs = [job() for _ in range(4)]
    compile_all(jobs, here.append, lambda job: False, lambda done: None, kernel_folder())
    assert len(here) == 4


def test_helpers_may_be_started_before_it_is_known_what_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who needs one takes one that is there; the others are ended."""
    monkeypatch.setattr(helpers, "_PROGRAM", "import time; time.sleep(600)")
    monkeypatch.setattr(helpers, "HELPERS", 2)
    with helpers.started_ahead(tmp_path):
        left, taken = helpers._SPARE
        helper = helpers._Helper(deque(), queue.SimpleQueue(), tmp_path)
        assert helper._process is taken
        assert left.poll() is None
    assert not helpers._SPARE
    assert left.poll() is not None
    assert taken.poll() is None
    helper.end()
    assert taken.poll() is not None
    monkeypatch.setattr(helpers, "HELPERS", 0)
    with helpers.started_ahead(tmp_path):
        assert not helpers._SPARE
