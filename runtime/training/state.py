"""Copies of an optimizer, of weights and of random generators, and their restoration."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danetc.runtime.system.errors import CheckpointError

# -- the optimizer, by the names of parameters -----------------------------------------------------


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of an optimizer's tensors by ``PARAMETER/KEY``."""
    return _copies(
        {
            f"{name}/{key}": value
            for name, parameter in model.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
    )


def set_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Restore what ``optimizer_state`` returned. Raises CheckpointError if it does not fit."""
    parameters, needed = dict(model.named_parameters()), _state_keys(optimizer)
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise CheckpointError(
                f"the checkpoint's optimizer knows {name}, which the network does not have"
            )
        fused = bool(optimizer.defaults.get("fused"))
        optimizer.state[parameters[name]][key] = _placed(value, key, parameters[name], fused)
    for name, parameter in parameters.items():
        if (state := optimizer.state.get(parameter)) and (lacking := needed - state.keys()):
            raise CheckpointError(f"the checkpoint's optimizer has no {min(lacking)} of {name}")


def _state_keys(optimizer: torch.optim.Optimizer) -> set[str]:
    """Return the keys of the tensors of an optimizer's state after a step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    taken = inspect.signature(type(optimizer)).parameters
    given = {key: value for key, value in optimizer.defaults.items() if key in taken}
    other = type(optimizer)([parameter], **given)
    other.step()
    return {key for key, value in other.state[parameter].items() if isinstance(value, Tensor)}


def _placed(value: Tensor, key: str, parameter: Tensor, fused: bool) -> Tensor:
    """Return a tensor of an optimizer's state where the optimizer keeps it.

    Raises CheckpointError if its shape or type does not fit the parameter.
    """
    if key == "step" and value.numel() == 1:
        return value.to(parameter.device if fused else "cpu", copy=True)
    if (value.shape, value.dtype) != (parameter.shape, parameter.dtype):
        raise CheckpointError(
            f"the checkpoint's optimizer has a {key} that does not fit its parameter"
        )
    # in the memory layout of the parameter, as the optimizer allocated it
    return torch.empty_like(parameter).copy_(value)


# -- weights ---------------------------------------------------------------------------------------


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
    return _copies(model.state_dict())


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU; the host waits once for all of them."""
    copies = {
        name: value.detach().to("cpu", non_blocking=True, copy=True)
        for name, value in tensors.items()
    }
    for device in {value.device for value in tensors.values()} - {torch.device("cpu")}:
        torch.accelerator.synchronize(device)
    return {name: value.contiguous() for name, value in copies.items()}


# -- random numbers --------------------------------------------------------------------------------


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's, Python's and NumPy's generators, and of the device's current one."""
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
    if device.type != "cpu":
        found[device.type] = torch.get_device_module(device).get_rng_state()
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
    if device.type in state:  # those of another device do not fit
        torch.get_device_module(device).set_rng_state(state[device.type])


def seed_everything(*seeds: int) -> None:
    """Seed all generators by a sequence of numbers; different seeds give different streams of numbers."""
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
