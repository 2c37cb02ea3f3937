"""Runs as processes of this machine: the engine that is there without anything else."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from danetc.runtime.system.files import append_own
from danetc.runtime.system.machine import usable_cores
from danetc.tasks.grid import attempt
from danetc.tasks.grid.plan import GridRun


@dataclass(frozen=True)
class LocalProcesses:
    """``jobs`` processes at a time, which share the cores."""

    jobs: int

    def start(self, run: GridRun, number: int) -> LocalProcess:
        return LocalProcess(run, number, self._threads())

    def close(self) -> None:
        pass

    def _threads(self) -> int | None:
        """Threads of each process where several share the cores and nothing else is said."""
        if self.jobs == 1 or "OMP_NUM_THREADS" in os.environ:
            return None
        return max(1, usable_cores() // self.jobs)


class LocalProcess(attempt.Attempt):
    """A run in a process of this machine."""

    def __init__(self, run: GridRun, number: int, threads: int | None) -> None:
        super().__init__(run, number)
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with append_own(self.log) as stream:
            # Ctrl-C goes to this process alone, which asks the others to save and stop. The pipe
            # ends with this process even where it is killed, and the training with the pipe.
            self._child = subprocess.Popen(
                attempt.process(attempt.train_arguments(run)),
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self._asked = False

    def ask_to_stop(self) -> None:
        if not self._asked and self._child.poll() is None:
            self._asked = True
            self._hang_up()

    def _hang_up(self) -> None:
        """End the pipe that the training watches. (Windows has no SIGTERM to send.)"""
        assert self._child.stdin is not None
        self._child.stdin.close()

    def wait(self) -> None:
        self._child.wait()

    def status(self) -> int | None:
        status = self._child.poll()
        if status is not None:
            self._hang_up()
        return status
