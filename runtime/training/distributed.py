"""The processes of a training: a single one, or those started by torchrun."""

from __future__ import annotations

import platform
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from danetc.runtime.layers.leaf import ReadsWhatItMoves
from danetc.runtime.model.built import Model
from danetc.runtime.system.devices import accelerators, find_device
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.liveness import Liveness
from danetc.runtime.system.torchrun import local_rank, under_torchrun

Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=Exception)
OF_ONE = "of_one_process"
"""Attribute of errors that other processes may not have met."""
TIMEOUT = timedelta(minutes=10)
"""Limit of a collective, long enough for a rank 0 that writes to a slow disk."""
GRACE = 3.0
"""Seconds that the other processes leave rank 0 to report an error of all. torchrun ends every
process as soon as one has ended."""


class FailedElsewhere(Exception):
    """Rank 0 has met an error and reports it."""


@dataclass(frozen=True, slots=True)
class World:
    """A process's view of the others; by default, there are none.

    ``control`` is the group for agreements on the CPU, whatever the backend of the gradients.
    """

    device: torch.device = field(default_factory=find_device)
    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any process has set it."""
        if self.size == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in found.tolist())

    def gather(self, item: Result) -> list[Result]:
        """Return the items of all processes by rank, in every process."""
        found = [item] * self.size
        if self.size > 1:
            dist.all_gather_object(found, item, group=self.control)
        return found

    def from_first(self, item: Result) -> Result:
        """Return the item of rank 0 in every process."""
        held = [item]
        if self.size > 1:
            dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]

    def on_first(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` on rank 0 and return its result in every process.

        An error is raised on rank 0, and FailedElsewhere in the other processes.
        """
        results: list[Result] = []
        failure: Exception = FailedElsewhere()
        if self.first:
            try:
                results = [work()]
            except Exception as error:
                failure = error
        if not (results := self.from_first(results)):
            raise failure
        return results[0]

    def own(self, error: Failure) -> Failure:
        """Mark an error that other processes may not meet, and name its rank."""
        if self.size == 1:
            return error
        found = type(error)(f"rank {self.rank}: {error}")
        setattr(found, OF_ONE, True)
        return found


def meet(timeout: timedelta) -> tuple[Any, int, int]:
    """Return a store for this start of the processes, this rank and the number of processes.

    torchrun keeps its store when it restarts processes, so each start uses a prefix that rank 0 chooses.
    Others ask for it under random names and confirm it, unlike any key of an earlier start.
    """
    store, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    own = start = uuid.uuid4().hex
    if rank:
        store.set(f"danetc/asks/{rank}", own)
        start = store.get(f"danetc/start/{own}").decode()
        store.set(f"danetc/{start}/{rank}", "")
    end = time.monotonic() + timeout.total_seconds()
    left: Sequence[int] = () if rank else range(1, size)
    while left := [other for other in left if not store.check([f"danetc/{start}/{other}"])]:
        for other in left:
            if store.check([f"danetc/asks/{other}"]):
                store.set(f"danetc/start/{store.get(f'danetc/asks/{other}').decode()}", start)
        if time.monotonic() > end:
            raise RuntimeError(f"rank {left[0]} did not join in {timeout}")
        time.sleep(0.02)
    return PrefixStore(f"danetc/{start}", store), rank, size


_GROUPS: list[Any] = []  # kept: torch frees the last with the GIL, which threads of gloo may need


@contextmanager
def joined(
    *together: type[Exception], device: str | None = None, timeout: timedelta = TIMEOUT
) -> Iterator[World]:
    """Join the processes that torchrun has started, with NCCL on GPUs and gloo on CPUs.

    All processes raise errors of the types ``together``, unless marked by ``World.own``; rank 0 is left
    the time to report them. Raises UserError if there is no such ``device``, TrainingError if the
    processes cannot connect to each other or share a GPU, and if one of them ends before this one.
    """
    if not under_torchrun():
        yield World(find_device(device))
        return
    place, local, found = find_device(device), local_rank(), accelerators()
    if place.type == "mps" and device is None:
        place = torch.device("cpu")  # processes cannot exchange tensors on MPS
    on_gpu = place.type != "cpu"
    if place.index is not None:
        raise TrainingError(f"each process uses its own device; write --device {place.type}")
    if on_gpu:
        if local >= len(found):
            raise TrainingError(
                f"process {local} of this machine has no GPU: there are {len(found)}; start as many "
                "processes (--nproc-per-node), or use --device cpu"
            )
        place = torch.device(found[local])
        torch.accelerator.set_device_index(local)
    try:
        store, rank, size = meet(timeout)
        backend = dist.get_default_backend_for_device(place)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes cannot connect to each other: {error}") from error
    control = dist.new_group(backend="gloo", timeout=timeout) if on_gpu else dist.group.WORLD
    _GROUPS.extend((dist.group.WORLD, control))
    world = World(place, rank, size, control)
    liveness = Liveness(PrefixStore("alive", store.clone()), rank, world.gather(platform.node()))
    dist.barrier(group=control)
    with liveness:
        try:
            yield world
            dist.barrier(group=control)
        except Exception as error:
            if isinstance(error, (FailedElsewhere, *together)) and not is_own(error):
                liveness.stop()  # rank 0, which may hold the store, ends first
                time.sleep(0.0 if world.first else GRACE)
                raise
            lost = any(word in str(error).lower() for word in ("gloo", "nccl"))
            if lost or isinstance(error, dist.DistError):
                reason = liveness.verdict() or "or does not answer"
                raise world.own(
                    TrainingError(
                        f"another process of the training has ended, {reason}; the same command "
                        "resumes from the newest checkpoint"
                    )
                ) from error
            liveness.publish(f"rank {rank} has failed: {error}")
            raise
    dist.destroy_process_group()


def is_own(error: BaseException) -> bool:
    """True if other processes may not have met this error."""
    return getattr(error, OF_ONE, False)


def share(model: Model, world: World, *, synchronised: bool) -> nn.Module:
    """Return DDP around a model, in which the loss may not depend on all of several outputs.

    ``synchronised``: norms have the same statistics in all processes. The buffers are broadcast before
    each pass if a layer reads them in training; otherwise those of rank 0 before each evaluation.
    """
    read = any(isinstance(module, ReadsWhatItMoves) for module in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=None if world.device.type == "cpu" else [world.device],
            broadcast_buffers=read and not synchronised,
            gradient_as_bucket_view=True,
            find_unused_parameters=len(model.signature.outputs) > 1,
        )


def form_buckets(shared: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Run passes with a dummy ``loss`` so that DDP forms its final buckets; only the random states change.

    DDP regroups the gradients after the first pass, and the rounding of a sum depends on its place in a
    bucket, so the first step of a resumed training would differ without this.
    """
    if not isinstance(shared, DistributedDataParallel):
        return
    buffers = [buffer.clone() for buffer in shared.module.buffers()]
    shared.train()
    for _ in range(2):  # the buckets change when the second pass begins
        loss().backward()
    shared.zero_grad(set_to_none=True)
    for buffer, before in zip(shared.module.buffers(), buffers, strict=True):
        buffer.copy_(before)
