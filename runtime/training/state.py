"""State of a training that a resumed run needs for bit-equal results: copied and restored."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from danetc.runtime.system.errors import CheckpointError
from danetc.runtime.training.checkpoints import Position, Snapshot
from danetc.runtime.training.distributed import World
from danetc.runtime.training.evaluation import read_evaluation
from danetc.runtime.training.observer import read_epochs
from danetc.runtime.training.optim import put_at
from danetc.runtime.training.totals import Totals


@dataclass
class TrainingState:
    """State of a running phase.

    ``done`` counts its steps over all epochs. ``tested`` describes the last evaluation
    (``Evaluation.as_dict``), before the first one the next.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    totals: Totals
    world: World
    tested: dict[str, Any]
    done: int = 0
    best: float | None = None
    seconds: float = 0.0  # of the current epoch, summed over interrupted runs
    history: list[dict[str, Any]] = field(default_factory=list)

    def snapshot(self, position: Position, extra: Mapping[str, Any]) -> Snapshot | None:
        """Copy the state on rank 0; None elsewhere. All processes call it together."""
        everyone = self.world.gather(
            (random_state(self.world.device), list(self.totals.read().values))
        )
        tensors = {"model": tensors_of(self.model)}
        moments, numbers = self._optimizer()
        tensors["optimizer"] = moments
        if self.average is not None:
            tensors["ema"] = tensors_of(self.average.module)
        if not self.world.first:
            return None
        for rank, (random_numbers, _) in enumerate(everyone):
            tensors[f"rank-{rank}"] = random_numbers
        state = {
            "world": self.world.size,
            "done": self.done,
            "best": self.best,
            "seconds": self.seconds,
            "history": list(self.history),
            "tested": dict(self.tested),
            "totals": [totals for _, totals in everyone],
            "optimizer": numbers,
            "scheduler": {"last_epoch": self.scheduler.last_epoch},
            "scaler": self.scaler.state_dict(),
            "averaged": None if self.average is None else int(self.average.n_averaged.item()),
            **extra,
        }
        return Snapshot(position, tensors, state)

    def restore(self, snapshot: Snapshot, *, with_optimizer: bool = True) -> None:
        """Restore a snapshot, which every process has.

        With another number of processes, the random states are not restored. Raises CheckpointError
        if the snapshot is of another network.
        """
        state = snapshot.state
        set_tensors(self.model, snapshot.tensors["model"], "the checkpoint")
        if with_optimizer:
            self._set_optimizer(snapshot.tensors["optimizer"], state["optimizer"])
        self.done = index(state["done"])
        put_at(self.scheduler, state["scheduler"]["last_epoch"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and "ema" in snapshot.tensors:
            set_tensors(self.average.module, snapshot.tensors["ema"], "the checkpoint's mean")
            self.average.n_averaged.fill_(state["averaged"])
        self.best = None if state["best"] is None else float(state["best"])
        self.seconds = float(state["seconds"])
        self.history = read_epochs(state["history"])
        self.tested = read_evaluation(state["tested"]).as_dict()
        rank = self.world.rank
        if state["world"] == self.world.size:
            self.totals.set(state["totals"][rank])
            set_random_state(snapshot.tensors[f"rank-{rank}"], self.world.device)
        elif rank == 0:
            self.totals.set([sum(column) for column in zip(*state["totals"], strict=True)])

    # -- the optimizer, by the names of parameters -------------------------------------------------

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter

    def _optimizer(self) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
        """Return the optimizer's tensors by ``PARAMETER/KEY``, and numbers by parameter and key."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, dict[str, Any]] = {}
        for name, parameter in self._named():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/{key}"] = _copy(value)
                else:
                    numbers.setdefault(name, {})[key] = value
        return tensors, numbers

    def _set_optimizer(
        self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Mapping[str, Any]]
    ) -> None:
        found: dict[str, dict[str, Any]] = {name: dict(rest) for name, rest in numbers.items()}
        for path, value in tensors.items():
            name, _, key = path.rpartition("/")
            found.setdefault(name, {})[key] = value
        needed = _state_keys(self.optimizer)
        for name, parameter in self._named():
            entries = found.pop(name, None)
            if entries is not None:
                if lacking := needed - entries.keys():
                    raise CheckpointError(
                        f"the checkpoint's optimizer has no {min(lacking)} of {name}"
                    )
                self.optimizer.state[parameter] = {
                    key: _placed(value, key, parameter) for key, value in entries.items()
                }
        if found:
            raise CheckpointError(
                f"the checkpoint's optimizer knows {next(iter(found))}, which the network has not"
            )


def _state_keys(optimizer: torch.optim.Optimizer) -> set[str]:
    """Return the keys of an optimizer's state of a parameter after a step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    taken = inspect.signature(type(optimizer)).parameters
    given = {key: value for key, value in optimizer.defaults.items() if key in taken}
    other = type(optimizer)([parameter], **given)
    other.step()
    return set(other.state[parameter])


def _placed(value: Any, key: str, parameter: Tensor) -> Any:
    """Return a value of an optimizer's state on the parameter's device.

    Raises CheckpointError if its shape or type does not fit the parameter.
    """
    if value is None:
        return None
    if key == "step" and isinstance(value, Tensor) and value.numel() == 1:
        return value.clone()  # a count, which torch keeps on the CPU
    form = (value.shape, value.dtype) if isinstance(value, Tensor) else None
    if form != (parameter.shape, parameter.dtype):
        raise CheckpointError(
            f"the checkpoint's optimizer has a {key} that is not of its parameter"
        )
    # in the memory layout of the parameter, as the optimizer allocated it
    return torch.empty_like(parameter).copy_(value)


def set_tensors(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Set a model's parameters and buffers. Raises like ``check_tensors``, before any change."""
    check_tensors(model, tensors, what)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(tensors[name])


def check_tensors(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError if names, shapes or types differ from the model's."""
    wanted = model.state_dict()
    missing, unknown = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    if missing or unknown:
        which = f"lacks {min(missing)}" if missing else f"has {min(unknown)}"
        raise CheckpointError(f"{what} is of another network: it {which}")
    for name, value in wanted.items():
        if (value.shape, value.dtype) != (tensors[name].shape, tensors[name].dtype):
            raise CheckpointError(
                f"{what} is of another network: {name} is {list(tensors[name].shape)} of "
                f"{tensors[name].dtype}, not {list(value.shape)} of {value.dtype}"
            )


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's parameters and buffers to the CPU."""
    return {name: _copy(value) for name, value in model.state_dict().items()}


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True).contiguous()


# -- random numbers --------------------------------------------------------------------------------


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's, Python's and NumPy's generators."""
    _, words, gauss = random.getstate()
    legacy: Any = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(legacy[1].astype(np.int64)),
        "numpy_position": torch.tensor([legacy[2], legacy[3]], dtype=torch.int64),
        "numpy_gauss": torch.tensor([legacy[4]], dtype=torch.float64),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the states that ``random_state`` returned."""
    torch.set_rng_state(state["torch"])
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = state["numpy_position"].tolist()
    np.random.set_state(
        (
            "MT19937",
            state["numpy"].numpy().astype(np.uint32),
            position,
            has_gauss,
            state["numpy_gauss"].item(),
        )
    )
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_everything(*seeds: int) -> None:
    """Seed all generators by a sequence of numbers; different sequences give different streams."""
    word = np.random.SeedSequence(seeds).generate_state(2, np.uint64)
    torch.manual_seed(int(word[0] >> np.uint64(1)))
    random.seed(int(word[1]))
    np.random.seed(int(word[1] & np.uint64(0xFFFFFFFF)))


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Restore the global generators on exit."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(before, device)
