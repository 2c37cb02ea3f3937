"""Pretends CUDA devices in a process (``pretended.cpp``); imported before torch.

``pytest -p tests.gpu.device`` runs tests there. DANETC_PRETENDED_LIBRARY names the compiled library, PRETENDED_DEVICES the number of
devices. Kernels of the fused backend run operation by operation; each call counts as one launch.
"""

import atexit
import ctypes
import os
import sys
import time
from collections.abc import Sequence
from functools import partialmethod
from types import SimpleNamespace
from typing import Any

assert "torch" not in sys.modules, "torch looks for CUDA when it is imported"
ctypes.CDLL(os.environ["DANETC_PRETENDED_LIBRARY"], ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor  # noqa: E402
from torch._C._distributed_c10d import _create_work_from_future  # noqa: E402

from danetc.runtime.kernels import compiled  # noqa: E402

_own: Any = torch.ops.pretended
atexit.register(time.sleep, 0.2)  # autograd's threads may not release tensors while Python ends
DEVICES = int(os.environ.get("PRETENDED_DEVICES", "1"))


def counts() -> dict[str, int]:
    """Counts of kernel launches, and of host waits to read or to write memory of a device."""
    return dict(zip(("launches", "reads", "writes"), _own.counts(), strict=True))


def _index(device: Any = None) -> int:
    if isinstance(device, int):
        return device
    found = None if device is None else torch.device(device).index
    return torch.accelerator.current_device_index() if found is None else found


def _seed_all(seed: int) -> None:
    for index in range(DEVICES):
        _own.seed(index, seed)


class _Stream:
    def __new__(cls, device: Any = None, **_: Any) -> Any:
        return torch.Stream(torch.device("cuda", _index(device)))


class _Event:
    def __new__(cls, enable_timing: bool = False, **_: Any) -> Any:
        return torch.Event("cuda", enable_timing=enable_timing)


_properties = SimpleNamespace(
    name="pretended", major=9, minor=0, multi_processor_count=132, warp_size=32,
    regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048,
    total_memory=80 << 30, gcnArchName="", is_integrated=False,
)  # fmt: skip
_accelerator = torch.accelerator
for _name, _value in {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: DEVICES,
    "current_device": _accelerator.current_device_index,
    "set_device": _accelerator.set_device_index,
    "synchronize": _accelerator.synchronize,
    "Stream": _Stream,
    "Event": _Event,
    "current_stream": _accelerator.current_stream,
    "default_stream": _accelerator.current_stream,
    "stream": lambda stream: stream,
    "get_device_name": lambda device=None: _properties.name,
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_properties": lambda device=None: _properties,
    "get_rng_state": lambda device="cuda": _own.random_state(_index(device)),
    "set_rng_state": lambda state, device="cuda": _own.set_random_state(_index(device), state),
    "manual_seed": lambda seed: _own.seed(_index(), seed),
    "manual_seed_all": _seed_all,
    "memory_allocated": _accelerator.memory_allocated,
    "max_memory_allocated": _accelerator.max_memory_allocated,
    "reset_peak_memory_stats": _accelerator.reset_peak_memory_stats,
    "mem_get_info": _accelerator.get_memory_info,
    "empty_cache": lambda: None,
    "is_bf16_supported": lambda *_, **__: True,
    "is_current_stream_capturing": lambda: False,
}.items():
    setattr(torch.cuda, _name, _value)


def _deepcopy(self: Tensor, memo: Any, plain: Any = Tensor.__deepcopy__) -> Tensor:
    """Copies by an operation: torch's own copy needs the storage class of a torch with CUDA."""
    if self.is_cuda and self.is_leaf and type(self) is Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        return memo.setdefault(id(self), copy)
    return plain(self, memo)


Tensor.__deepcopy__ = _deepcopy


def _call(self: compiled.CompiledFunction, *args: Tensor) -> Sequence[Tensor]:
    devices = {x.device for x in args}
    assert len(devices) == 1, f"the kernel of {self.name} gets tensors on {devices}"
    before, _, _ = _own.counts()
    found = self.function(*args)
    if args[0].is_cuda:
        _own.set_launches(before + 1)
    return found


compiled.CompiledFunction.__call__ = _call
compiled.missing_compiler = lambda device: None


class Collectives(dist.ProcessGroup):
    """Replaces NCCL: Gloo exchanges the memory of devices, and finishes before a call returns."""

    def __init__(self, store: Any, rank: int, size: int, timeout: Any) -> None:
        super().__init__(rank, size)
        self._gloo = dist.ProcessGroupGloo(store, rank, size, timeout)

    def getBackendName(self) -> str:
        return "pretended"

    def _call(self, name: str, *arguments: Any) -> Any:
        getattr(self._gloo, name)(*map(_host, arguments)).wait()
        done = torch.futures.Future()
        done.set_result(arguments[0] if arguments else None)
        return _create_work_from_future(done)


def _host(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_host, value)]
    return _own.host(value) if isinstance(value, Tensor) and value.is_cuda else value


for _name in ("allreduce", "broadcast", "allgather", "_allgather_base", "barrier"):
    setattr(Collectives, _name, partialmethod(Collectives._call, _name))
Collectives.all_gather_single = Collectives._allgather_base
dist.Backend.register_backend("pretended", Collectives, devices=["cuda"])
dist.Backend.default_device_backend_map["cuda"] = "pretended"


def _as_tested(name: str) -> Any:
    def run(x: Tensor, *args: Any) -> Any:
        from tests.runtime.test_sync import OF_A_GPU

        found = OF_A_GPU[name](*map(_wide, (x, *args)))
        return found.to(x.dtype) if isinstance(found, Tensor) else found

    return run


def _wide(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


_cpu = torch.library.Library("aten", "IMPL")  # kernels of norms over processes, which the CPU lacks
for _name in ("stats", "gather_stats_with_counts", "elemt", "backward_reduce", "backward_elemt"):
    _cpu.impl(f"batch_norm_{_name}", _as_tested(f"batch_norm_{_name}"), "CPU")
