"""The processes of a training: one alone, or those that torchrun has started.

``World`` is what a process knows of the others. With one process every method of it is trivial, so
that the loop has no branches for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from danetc.runtime.kernels.torch_internals import waited
from danetc.runtime.layers.leaf import ReadsWhatItMoves
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.torchrun import local_rank, under_torchrun
from danetc.runtime.system.user_code import failure_of_user
from danetc.runtime.training.heartbeat import Heartbeat, meet

Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=Exception)
OF_ONE = "of_one_process"
"""What an error is marked by that other processes may not have met."""
TIMEOUT = timedelta(minutes=30)
"""How long a collective waits for the others, as for a rank 0 that writes to a slow disk."""


class FailedElsewhere(Exception):
    """Rank 0 has met an error, which it reports itself."""


@dataclass(frozen=True, slots=True)
class World:
    """Which of how many processes this is, and its device. ``control`` carries what is agreed on
    the CPU, whatever the gradients travel by.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    control: Any = None
    heartbeat: Heartbeat | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, where one process has it set."""
        if self.size == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in found.tolist())

    def gather(self, item: Result) -> list[Result]:
        """The item of each process, in their order, everywhere."""
        if self.size == 1:
            return [item]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, item, group=self.control)
        return found

    def from_first(self, item: Result) -> Result:
        """The item of rank 0, everywhere."""
        if self.size == 1:
            return item
        held: list[Any] = [item]
        dist.broadcast_object_list(held, src=0, group=self.control)
        found: Result = held[0]
        return found

    def on_first(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives on rank 0, everywhere. Its error is raised there, and elsewhere
        FailedElsewhere.
        """
        if self.size == 1:
            return work()
        result: Any = None
        failure: Exception | None = None
        if self.first:
            try:
                result = work()
            except Exception as error:
                failure = error
        failed, result = self.from_first((failure is not None, result))
        if failure is not None:
            raise failure
        if failed:
            raise FailedElsewhere
        found: Result = result
        return found

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors on the CPU that rank 0 has, everywhere."""
        if self.size == 1:
            return dict(tensors)
        forms = self.from_first([(k, tuple(v.shape), v.dtype) for k, v in tensors.items()])
        found: dict[str, Tensor] = {}
        for name, shape, dtype in forms:
            value = tensors[name].contiguous() if self.first else torch.empty(shape, dtype=dtype)
            if value.numel():
                dist.broadcast(value.reshape(-1).view(torch.uint8), src=0, group=self.control)
            found[name] = value
        return found

    def own(self, error: Failure) -> Failure:
        """An error that this process meets and others may not, which says whose it is."""
        if self.size == 1:
            return error
        found = type(error)(f"rank {self.rank}: {error}")
        setattr(found, OF_ONE, True)
        return found

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes in place of each tensor."""
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor.div_(self.size)

    def buffers_from_first(self, model: nn.Module) -> None:
        """Give every process the buffers of rank 0, whose running statistics are the ones kept."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def alone(device: torch.device | None = None) -> World:
    """One process, on the GPU where there is one."""
    return World(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def device_name(device: torch.device) -> str:
    """What a record says of a device: the GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def joined(*together: type[Exception], timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """The world that the environment names: NCCL between GPUs, gloo between CPUs.

    Errors of the types ``together`` are met by every process at once, unless they are marked as
    one's own (``World.own``); any other one ends the other processes too, with its message.
    Raises TrainingError where the processes do not find each other, or share a GPU.
    """
    if not under_torchrun():
        yield alone()
        return
    local = local_rank()
    cuda = torch.cuda.is_available()
    if cuda and local >= torch.cuda.device_count():
        raise TrainingError(
            f"process {local} of this machine has no GPU of its own: there are "
            f"{torch.cuda.device_count()}; start as many processes (--nproc-per-node)"
        )
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    try:
        store, rank, size = meet(timeout)
        dist.init_process_group(
            "nccl" if cuda else "gloo", store=store, rank=rank, world_size=size, timeout=timeout
        )
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes do not find each other: {error}") from error
    control = dist.new_group(backend="gloo", timeout=timeout) if cuda else dist.group.WORLD
    heartbeat = Heartbeat(store, rank, size)
    dist.barrier(group=control)
    heartbeat.start()
    world = World(device, rank, size, control, heartbeat)
    try:
        yield world
    except BaseException as error:
        if isinstance(error, (FailedElsewhere, *together)) and not is_own(error):
            heartbeat.all_fail()
            raise
        if _lost_a_partner(error):
            heartbeat.find_the_dead()
        message = str(error).removeprefix(f"rank {rank}: ")
        where = None if is_own(error) else failure_of_user(error)
        if where is not None:
            message = where
        elif not is_own(error):
            message = f"{type(error).__name__}: {message}"
        heartbeat.failed(message)
        raise
    dist.barrier(group=control)
    heartbeat.done()
    dist.destroy_process_group()


def is_own(error: BaseException) -> bool:
    """Whether other processes may not have met this error."""
    return getattr(error, OF_ONE, False)


def _lost_a_partner(error: BaseException) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("gloo" in text.lower() or "NCCL" in text)


# -- the model on several processes ----------------------------------------------------------------


def share(
    model: nn.Module,
    world: World,
    *,
    synchronised: bool = False,
    unused: bool = False,
) -> nn.Module:
    """What the loop calls in place of ``model``: the same one, or DDP around it.

    ``synchronised`` says that norms keep the same statistics everywhere by themselves, ``unused``
    that the loss does not depend on all parameters. Buffers travel before each pass only where one
    reads them in training: rank 0's are the ones kept (``World.buffers_from_first``).
    """
    if world.size == 1:
        return model
    read = any(isinstance(module, ReadsWhatItMoves) for module in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.parallel.DistributedDataParallel(
            model,
            device_ids=[world.device] if world.device.type == "cuda" else None,
            broadcast_buffers=read and not synchronised,
            gradient_as_bucket_view=True,
            find_unused_parameters=unused,
        )


def settle(shared: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Let DDP see a pass whose ``loss`` means nothing, and leave no trace but in random states.

    DDP groups gradients anew after the first pass, in the order of their arrival, and sums of
    several processes round by their place in a group. Without this the first step after a resume
    would round otherwise than the same step of a training that was never interrupted.
    """
    if not isinstance(shared, nn.parallel.DistributedDataParallel):
        return
    buffers = [buffer.clone() for buffer in shared.module.buffers()]
    shared.train()
    for _ in range(2):  # the groups change when the second pass begins
        loss().backward()
    for parameter in shared.parameters():
        parameter.grad = None
    for buffer, before in zip(shared.module.buffers(), buffers, strict=True):
        buffer.copy_(before)


def quiet_gradients(shared: nn.Module, last: bool) -> AbstractContextManager[object]:
    """For a part of a batch: gradients travel with the last part alone."""
    if isinstance(shared, nn.parallel.DistributedDataParallel) and not last:
        return shared.no_sync()
    return nullcontext()


def communication(shared: nn.Module) -> float:
    """Seconds of a backward pass that DDP waited for others, as it has sampled them."""
    if not isinstance(shared, nn.parallel.DistributedDataParallel):
        return 0.0
    return waited(shared) or 0.0


def split_evenly(total: int, world: World, what: str) -> int:
    """A share of ``total`` for each process. Raises TrainingError where it does not divide."""
    if total % world.size:
        raise TrainingError(
            f"{what} of {total} has no {world.size} equal parts, one for each process; choose a "
            f"multiple of {world.size}"
        )
    return total // world.size
