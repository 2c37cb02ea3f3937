"""The devices of this machine, and the one that a command runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from danetc.dsl.errors import UserError


def accelerators() -> list[str]:
    """Return the names of this machine's accelerators, as in ``["cuda:0", "cuda:1"]``."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return []
    return [f"{found.type}:{index}" for index in range(torch.accelerator.device_count())]


def find_device(name: str | None = None) -> torch.device:
    """Return the device of a name, as in ``cpu``, ``cuda`` or ``cuda:1``.

    A name without a number is the current device of that type. By default it is the accelerator if
    there is one, else the CPU. Raises UserError, which lists the devices that exist.
    """
    found = accelerators()
    types = ["cpu", *{each.partition(":")[0] for each in found}]
    chosen = types[-1] if name is None else name
    if chosen not in (*types, *found):
        raise UserError(f"this machine has no device {name}; it has {', '.join(['cpu', *found])}")
    return torch.device(chosen)


def device_name(device: torch.device) -> str:
    """Return the name of the hardware as its driver has it, or the type of the device."""
    name = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type if name is None or device.type == "cpu" else str(name(device))


def has_streams(device: torch.device) -> bool:
    """Return True if copies and computations are queued on the device's streams, beside the host.

    Streams have only been tested with CUDA; on XPU and MPS, the host waits for each step.
    """
    return device.type == "cuda"


def has_tf32(device: torch.device) -> bool:
    """Return True if the device multiplies TensorFloat-32 numbers."""
    return device.type == "cuda" and torch.cuda.is_tf32_supported()


def float32_products(precision: str, device: torch.device) -> str:
    """Return ``tf32`` or ``ieee``: how a device multiplies float32 numbers in a precision."""
    return "tf32" if precision == "tf32" and has_tf32(device) else "ieee"


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Make a GPU the current one, and set how it multiplies float32 numbers.

    That applies to convolutions and matrix products. Within the context, torch raises an error if
    its deprecated switches such as ``allow_tf32`` are read.
    """
    cudnn: Any = torch.backends.cudnn
    switches = cudnn.conv, torch.backends.cuda.matmul
    before = [each.fp32_precision for each in switches]
    try:
        for each in switches:
            each.fp32_precision = float32_products(precision, device)
        with torch.accelerator.device_index(device.index):
            yield
    finally:
        for each, value in zip(switches, before, strict=True):
            each.fp32_precision = value
