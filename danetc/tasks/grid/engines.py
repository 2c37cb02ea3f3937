"""THE engines that train the runs of a grid. A new one is a row here and a file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from danetc.arguments import check_choice, check_whole
from danetc.errors import UserError
from danetc.tasks.grid.attempt import Engine
from danetc.tasks.grid.local import LocalProcesses


@dataclass(frozen=True)
class EngineRequest:
    """Where runs are to be trained. ``jobs`` at a time (None: as the engine sees fit); the rest is of a
    cluster: its ``address``, and the ``cpus`` and ``gpus`` of each run."""

    name: str = "local"
    jobs: int | None = None
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.name, tuple(ENGINES))
        check_whole("jobs", self.jobs, 1, 100_000)
        cluster = self.address, self.cpus, self.gpus
        if self.name == "local" and any(each is not None for each in cluster):
            raise UserError(
                "address, cpus and gpus are those of a cluster: choose the engine ray (--engine ray)"
            )


def _local(asked: EngineRequest) -> Engine:
    return LocalProcesses(asked.jobs or 1)


def _ray(asked: EngineRequest) -> Engine:
    from danetc.tasks.grid.ray_cluster import RayCluster  # late: an extra

    return RayCluster(asked.jobs, asked.address, asked.cpus or 1.0, asked.gpus)


ENGINES: Mapping[str, Callable[[EngineRequest], Engine]] = {"local": _local, "ray": _ray}


def start_engine(asked: EngineRequest) -> Engine:
    """Raises UserError where it is not installed, or there is no such cluster."""
    return ENGINES[asked.name](asked)
