"""Engines that train ``jobs`` runs of a grid at a time: on this machine, or on a Ray cluster.

All engines run the same process in the same directory, so one can resume the runs of another.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from danetc.errors import UserError
from danetc.requests import GridRequest
from danetc.runtime.system.devices import accelerators
from danetc.runtime.system.machine import usable_cores
from danetc.tasks.grid import process
from danetc.tasks.grid.plan import GridRun


class LocalProcesses:
    """``jobs`` processes at a time, which share the cores and the accelerators of this machine.

    All of them use a ``device`` that is ``cpu`` or has a number.
    """

    def __init__(self, jobs: int, device: str | None = None) -> None:
        self.jobs = jobs
        chosen = device == "cpu" or ":" in (device or "")
        devices: list[str | None] = [device] if chosen else [*accelerators()] or [device]
        self._free = deque(devices[number % len(devices)] for number in range(jobs))
        shared = jobs > 1 and "OMP_NUM_THREADS" not in os.environ
        self.threads = max(1, usable_cores() // jobs) if shared else None

    def train(self, run: GridRun, log: Path, look: Callable[[], bool]) -> int | str:
        """Train a run. Return its exit status, or the reason why there is none.

        ``look`` is called regularly, and returns True to stop the training. Several threads may call
        this method at the same time.
        """
        device = self._free.popleft()
        try:
            request = replace(run.request, device=device)
            return process.train(request.to_json(), str(log), look, threads=self.threads)
        finally:
            self._free.append(device)

    def close(self) -> None:
        pass


class RayCluster:
    """Tasks of Ray (https://docs.ray.io), on a cluster or on one started here for this machine.

    Ray decides where and when a run is trained, and repeats a task whose worker is lost: it resumes
    from the run's last checkpoint. All machines see the grid's directory and the data under the same
    names.
    """

    def __init__(self, request: GridRequest) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("Ray is not installed: pip install 'danetc[ray]'") from error
        self._ray: Any = ray
        # The future default of Ray: tasks without a GPU keep CUDA_VISIBLE_DEVICES.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = request.address
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
        found = self._ray.cluster_resources()
        cpus = request.cpus or 1.0
        some = found.get("GPU", 0) > 0 and request.device != "cpu"
        gpus = float(some) if request.gpus is None else request.gpus
        wanted = {"CPU": cpus, "GPU": gpus}
        # A run without a GPU of its own would see those of others.
        self.device = request.device or (None if gpus else "cpu")
        self.options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": -1}
        room = min(int(found.get(name, 0) / each) for name, each in wanted.items() if each)
        if request.jobs is None and room < 1:
            self.close()
            raise UserError(
                f"the cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs, and "
                f"a run asks for {cpus:g} and {gpus:g}"
            )
        self.jobs = request.jobs or room

    def train(self, run: GridRun, log: Path, look: Callable[[], bool]) -> int | str:
        ray, stopping = self._ray, False
        request = replace(run.request, device=self.device)
        task = ray.remote(**self.options)(process.train).remote(
            request.to_json(), str(log.absolute()), folder=os.getcwd()
        )
        while not ray.wait([task], timeout=process.POLL)[0]:
            if look() and not stopping:
                stopping = True
                ray.cancel(task)  # raises KeyboardInterrupt in the worker, which stops the training
        try:
            status: int = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return 128 + signal.SIGTERM
        except ray.exceptions.RayError as error:
            return f"Ray gave up the run: {str(error).strip().splitlines()[-1]}"
        return status

    def close(self) -> None:
        self._ray.shutdown()


Engine = LocalProcesses | RayCluster


def start_engine(request: GridRequest) -> Engine:
    """Start the engine of a request. Raises UserError if it is not installed, or has no cluster."""
    if request.engine == "ray":
        return RayCluster(request)
    return LocalProcesses(request.jobs or 1, request.device)
