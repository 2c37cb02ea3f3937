"""Copies of an optimizer, of weights and of random generators, their restoration, and modes of torch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danetc.runtime.system.errors import TrainingError

GROUPS = "groups"
"""Key of the options of an optimizer's groups, beside the names of parameters."""


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, groups: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return copies of an optimizer's tensors by ``PARAMETER/KEY``, and its state as JSON data.

    ``groups`` adds the options of its groups. Raises TrainingError for state that is not such data.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, path: str, like: Tensor) -> Any:
        match value:
            case Tensor():
                tensors[path] = value
                return value.device == like.device
            case dict() if all(isinstance(key, str) for key in value):
                return {key: plain(item, f"{path}/{key}", like) for key, item in value.items()}
            case list() | tuple():
                return [plain(item, f"{path}/{number}", like) for number, item in enumerate(value)]
            case None | bool() | int() | str():
                return value
            case float() if isfinite(value):
                return value
        raise TrainingError(
            f"`{path}` of the optimizer is {repr(value)[:60]}; a checkpoint stores finite numbers, "
            "texts, tensors, and lists and dicts of these"
        )

    names: dict[Tensor, str] = {value: name for name, value in model.named_parameters()}
    if others := [key for key in optimizer.state if key not in names]:
        raise TrainingError(f"the optimizer has a state for {others[0]!r}, which is no parameter")
    state = {names[key]: plain(value, names[key], key) for key, value in optimizer.state.items()}
    if groups:
        options = [{k: g[k] for k in g if k != "params"} for g in optimizer.param_groups]
        state[GROUPS] = plain(options, GROUPS, next(iter(names)))
    return copies(tensors), state


def set_optimizer_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Restore what ``optimizer_state`` returned. Raises TrainingError if it does not fit."""
    left = dict(tensors)

    def whole(value: Any, path: str, like: Tensor) -> Any:
        if (found := left.pop(path, None)) is not None:
            if (found.shape, found.dtype) == (like.shape, like.dtype):
                # in the memory layout of the parameter, as the optimizer allocated it
                return torch.empty_like(like).copy_(found)
            return found.to(like.device if value else "cpu", copy=True)
        if isinstance(value, dict):
            return {key: whole(item, f"{path}/{key}", like) for key, item in value.items()}
        if isinstance(value, list):
            return [whole(item, f"{path}/{number}", like) for number, item in enumerate(value)]
        return value

    parameters = dict(model.named_parameters())
    options = whole(state.get(GROUPS, []), GROUPS, next(iter(parameters.values())))
    for group, found in zip(optimizer.param_groups, options, strict=False):
        group.update(found)
    for name in state.keys() & parameters.keys():
        optimizer.state[parameters[name]] = whole(state[name], name, parameters[name])
    if others := [*(state.keys() - {GROUPS, *parameters}), *left]:
        raise TrainingError(f"the checkpoint's optimizer has an unknown `{min(others)}`")


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    text = json.dumps([random.getstate(), np.random.get_state()], default=np.ndarray.tolist)
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


PRECISIONS = {"float32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Autocast type of each ``precision`` of a recipe."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of a forward pass in this precision."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def determinism(device: torch.device, wanted: bool) -> Iterator[None]:
    """On a GPU, select deterministic kernels if ``wanted``, else the fastest.

    New memory is not filled with NaN, which torch does by default and takes as long as a kernel.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    cudnn.benchmark, cudnn.deterministic = not wanted, wanted
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory = flags
