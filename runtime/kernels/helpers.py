"""Other processes that compile kernels beside this one, one for each further core.

A helper imports torch, which takes some seconds, and says that it is ready; until then this process
compiles alone. It is told what makes a kernel (``Recipe``) and of which form its arguments are, compiles
it into the cache on disk, and says so. What a helper cannot do is left to this process, which then says
why: helpers say nothing else, and end with it.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from danetc.runtime.kernels.upcoming import Job, Kernel
from danetc.runtime.system.machine import free_memory, usable_cores
from danetc.runtime.system.torchrun import processes_here

HELPERS: int | None = None
"""How many there are at most; None is one for each core but one."""
WORTH = 4
"""Kernels from which on it is worth starting them."""
PATIENCE = 300.0
"""Seconds after which a helper that says nothing is given up."""
AHEAD = 4
"""How many are started at most before it is known what they are to do."""
_MEMORY = 2**30  # bytes that a helper and its compiler need

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from danetc.runtime.kernels.helping import serve; serve()"
)
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
READY, DONE, FAILED = b"ready\n", b"done\n", b"failed\n"
"""What a helper answers: when it can begin, and to each request."""

Recipe = Callable[[], Kernel]
"""Makes a kernel: a function of a module, or a ``partial`` of one with plain arguments."""
Form = tuple[tuple[int, ...], torch.dtype]


@dataclass(frozen=True, slots=True)
class Request:
    """A kernel for a CPU, and the forms of its arguments."""

    recipe: Recipe
    forms: tuple[Form, ...]

    @classmethod
    def of(cls, job: Job) -> Request | None:
        """What to ask of a helper; None where it could not know the kernel."""
        recipe = job.kernel.recipe
        if recipe is None or any(x.device.type != "cpu" for x in job.args):
            return None
        return cls(recipe, tuple((tuple(x.shape), x.dtype) for x in job.args))

    def job(self) -> Job:
        """The job again; its arguments have a form and no memory."""
        args = (torch.empty((), dtype=dtype).expand(shape) for shape, dtype in self.forms)
        return Job(self.recipe(), tuple(args))


def compile_all(
    jobs: Sequence[Job],
    here: Callable[[Job], None],
    there: Callable[[Job], bool],
    compiled: Callable[[int], None],
    folder: Path,
) -> None:
    """Compile all jobs: ``here`` does one in this process, and ``there`` takes one from the disk that a
    helper has done, if it finds it. ``compiled`` hears how many are done; what it raises ends all.
    ``folder`` is that of the cache.
    """
    waiting = deque(jobs)
    results: queue.SimpleQueue[tuple[Job, bool]] = queue.SimpleQueue()
    open_jobs = {id(job): job for job in jobs}
    crew = [_Helper(waiting, results, folder) for _ in range(_how_many(jobs))]

    def finish(job: Job, by_helper: bool) -> None:
        if not (by_helper and there(job)):
            here(job)
        del open_jobs[id(job)]
        compiled(len(jobs) - len(open_jobs))

    try:
        while open_jobs:
            try:
                finish(*results.get_nowait())
            except queue.Empty:
                if not (waiting and _take(waiting, finish)) and open_jobs:
                    finish(*results.get(timeout=PATIENCE))
    except queue.Empty:  # a helper hangs
        for helper in crew:
            helper.end()
        for job in list(open_jobs.values()):
            finish(job, False)
    finally:
        for helper in crew:
            helper.end()


_SPARE: list[subprocess.Popen[bytes]] = []


@contextmanager
def started_ahead(folder: Path) -> Iterator[None]:
    """Start helpers that import torch while it is found out what is to be compiled. Those that nobody
    takes meanwhile are ended."""
    try:
        for _ in range(min(AHEAD, _most())):
            process = _start(folder)
            if process is not None:
                _SPARE.append(process)
        yield
    finally:
        while _SPARE:
            _end(_SPARE.pop())


def _start(folder: Path) -> subprocess.Popen[bytes] | None:
    """The process of a helper; None where none can be started."""
    with suppress(OSError, ValueError):
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "DANETC_CACHE_DIR": str(folder.parent)},
            start_new_session=True,  # Ctrl-C is for this process, which ends it
        )
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _take(waiting: deque[Job], finish: Callable[[Job, bool], None]) -> bool:
    """Do the next job here; whether there was one."""
    try:
        job = waiting.popleft()
    except IndexError:  # a helper was faster
        return False
    finish(job, False)
    return True


def _how_many(jobs: Sequence[Job]) -> int:
    """How many helpers to start. One costs as much as the kernel or two that it is to compile."""
    known = sum(Request.of(job) is not None for job in jobs)
    return 0 if known < WORTH else min(_most(), known // 2)


def _most() -> int:
    """How many there are at most."""
    if getattr(sys, "frozen", False):  # a program of its own is no Python
        return 0
    most = usable_cores() // processes_here() - 1 if HELPERS is None else HELPERS
    return max(0, min(most, free_memory() // _MEMORY))


class _Helper:
    """A process that takes jobs from the end of ``waiting``, once it is ready, and the thread that
    talks to it."""

    def __init__(
        self, waiting: deque[Job], results: queue.SimpleQueue[tuple[Job, bool]], folder: Path
    ) -> None:
        self._waiting, self._results = waiting, results
        self._process = _SPARE.pop() if _SPARE else _start(folder)
        if self._process is not None:  # else the process that asks does it all
            threading.Thread(target=self._work, args=(self._process,), daemon=True).start()

    def _work(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        alive = process.stdout.readline() == READY
        while alive:
            try:
                job = self._waiting.pop()
            except IndexError:
                return
            answer = b""
            request = Request.of(job)
            if request is not None:
                with suppress(OSError, ValueError, pickle.PicklingError, AttributeError, TypeError):
                    pickle.dump(request, process.stdin)
                    process.stdin.flush()
                    answer = process.stdout.readline()
                alive = answer != b""
            self._results.put((job, answer == DONE))

    def end(self) -> None:
        if self._process is not None:
            _end(self._process)
