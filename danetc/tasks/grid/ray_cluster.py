"""Runs as tasks of Ray (https://docs.ray.io), on one machine or a cluster: the extra ``danetc[ray]``.

Ray decides where and when a run is trained. All machines see the grid's directory and the data under the same
names, and have danetc installed. A task starts the same process as the engine of one machine does; a task
whose worker is lost is started again by Ray, somewhere, and resumes from the run's last checkpoint.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.errors import UserError
from danetc.runtime.system.files import append_own
from danetc.tasks.grid import attempt
from danetc.tasks.grid.plan import GridRun

LOST = 100
"""How often a run is started again whose worker is lost."""
POLL = 0.5
"""Seconds between two looks of a worker at its training."""


def command(arguments: list[str]) -> list[str]:
    """The process that trains."""
    return attempt.process(arguments)


def train(arguments: list[str], log: str, stop: str, folder: str) -> int:
    """What a worker does: one training, until it ends or a file ``stop`` is there. Its exit status."""
    if not Path(log).parent.is_dir():
        raise FileNotFoundError(f"{Path(log).parent} is not there: all machines must see the grid")
    with append_own(Path(log)) as stream:
        child = subprocess.Popen(
            command(arguments),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            cwd=folder,
            start_new_session=True,
        )
    assert child.stdin is not None
    while child.poll() is None:
        if Path(stop).exists() and not child.stdin.closed:
            child.stdin.close()  # the training saves its state and ends
        time.sleep(POLL)
    return child.returncode


@dataclass(frozen=True)
class Resources:
    """What a run asks of the cluster."""

    cpus: float
    gpus: float


class RayCluster:
    """A cluster of Ray, or one that is started here, of this machine alone."""

    def __init__(
        self, jobs: int | None, address: str | None, cpus: float, gpus: float | None
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("there is no Ray: pip install 'danetc[ray]'") from error
        self._ray: Any = ray
        # Ray tells each worker its share of threads, unless this says otherwise.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            place = f" at {address}" if address else ""
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"there is no cluster of Ray{place}: {reason}") from error
        found: dict[str, float] = self._ray.cluster_resources()
        self.wanted = Resources(cpus, gpus if gpus is not None else float(found.get("GPU", 0) > 0))
        self.jobs = jobs if jobs is not None else self._room(found)

    def _room(self, found: dict[str, float]) -> int:
        """How many runs the cluster has room for."""
        rooms = [
            int(found.get(name, 0) / each)
            for name, each in (("CPU", self.wanted.cpus), ("GPU", self.wanted.gpus))
            if each
        ]
        if rooms and min(rooms) < 1:
            self.close()
            raise UserError(
                f"the cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs, and "
                f"a run asks for {self.wanted.cpus:g} and {self.wanted.gpus:g}"
            )
        return min(rooms, default=1)

    def start(self, run: GridRun, number: int) -> RayTask:
        task = self._ray.remote(
            num_cpus=self.wanted.cpus, num_gpus=self.wanted.gpus, max_retries=LOST
        )(train)
        return RayTask(run, number, self._ray, task)

    def close(self) -> None:
        self._ray.shutdown()


class RayTask(attempt.Attempt):
    """A run as a task of Ray, whose worker learns from a file that it is to end."""

    def __init__(self, run: GridRun, number: int, ray: Any, task: Any) -> None:
        super().__init__(run, number)
        self._ray = ray
        self._stop = run.path.with_name(f".stop-{run.path.name}").absolute()
        self._stop.unlink(missing_ok=True)  # of a grid that was killed
        self._result = task.remote(
            attempt.train_arguments(run), str(self.log.absolute()), str(self._stop), os.getcwd()
        )

    def ask_to_stop(self) -> None:
        self._stop.touch()

    def wait(self) -> None:
        self._ray.wait([self._result])
        self._stop.unlink(missing_ok=True)  # what looks for it has ended

    def status(self) -> int | str | None:
        ready, _ = self._ray.wait([self._result], timeout=0)
        if not ready:
            return None
        self._stop.unlink(missing_ok=True)
        try:
            status: int = self._ray.get(self._result)
        except self._ray.exceptions.RayError as error:
            return f"Ray has given it up: {str(error).strip().splitlines()[-1]}"
        return status
