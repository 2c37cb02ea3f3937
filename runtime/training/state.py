"""Copies of an optimizer, of weights and of random generators, and their restoration."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danetc.runtime.system.errors import TrainingError


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
    """Restore what ``optimizer_state`` returned. Raises TrainingError if it does not fit."""
    parameters = dict(model.named_parameters())
    needed = {path.rpartition("/")[2] for path in tensors}
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise TrainingError(
                f"the checkpoint's optimizer knows {name}, which the network does not have"
            )
        parameter = parameters[name]
        if key == "step" and value.numel() == 1:
            device = parameter.device if optimizer.defaults.get("fused") else "cpu"
            placed = value.to(device, copy=True)
        elif (value.shape, value.dtype) == (parameter.shape, parameter.dtype):
            # in the memory layout of the parameter, as the optimizer allocated it
            placed = torch.empty_like(parameter).copy_(value)
        else:
            raise TrainingError(f"the checkpoint's optimizer has a {key} that does not fit {name}")
        optimizer.state[parameter][key] = placed
    for name, parameter in parameters.items():
        if (state := optimizer.state.get(parameter)) and (lacking := needed - state.keys()):
            raise TrainingError(f"the checkpoint's optimizer has no {min(lacking)} of {name}")


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


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generator, the device's current one, and those of Python and NumPy as JSON."""
    legacy: Any = np.random.get_state()
    name, words, *rest = legacy
    text = json.dumps([random.getstate(), [name, words.tolist(), *rest]])
    found = {
        "torch": torch.get_rng_state(),
        "python": torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8),
    }
    if device.type != "cpu":
        found[device.type] = torch.get_device_module(device).get_rng_state()
    return found


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the states that ``random_state`` returned."""
    torch.set_rng_state(state["torch"])
    (version, words, gauss), legacy = json.loads(bytes(state["python"].tolist()))
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(legacy))
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
