"""The Triton code that Inductor writes for a fusion group on a GPU, without a GPU and without Triton.

Torch gets a pretended GPU, and is stopped before it compiles the code that it has written.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels.compiled import CompiledFunction

H100 = SimpleNamespace(
    multi_processor_count=132, major=9, minor=0, warp_size=32, regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, total_memory=80 * 2**30, gcnArchName="",
)  # fmt: skip

PRETENDED: dict[str, Any] = {
    "torch.cuda.get_device_properties": lambda device=None: H100,
    "torch.cuda.get_device_capability": lambda device=None: (9, 0),
    "torch.cuda.current_device": lambda: 0,
    "torch._dynamo.device_interface.CudaInterface.get_device_properties": lambda device=None: H100,
    "torch._dynamo.device_interface.CudaInterface.get_compute_capability": lambda device=None: 90,
    "torch._dynamo.device_interface.CudaInterface.is_available": lambda: True,
    "torch._dynamo.device_interface.CudaInterface.raise_if_triton_unavailable": lambda device=None: None,
    "torch._dynamo.device_interface.CudaInterface.Worker.get_device_properties": lambda device=None: H100,
    "torch._inductor.scheduler.has_triton": lambda: True,
    "torch._inductor.compile_fx._check_triton_bf16_support": lambda graph: None,
    "torch.utils._triton.has_triton": lambda: True,
    "torch.utils._triton.triton_hash_with_backend": lambda: "none",
    # Building these patterns runs operations on the device.
    "torch._inductor.fx_passes.joint_graph.lazy_init": lambda *rest: None,
    "torch._inductor.fx_passes.post_grad.lazy_init": lambda *rest: None,
}  # fmt: skip
SETTINGS = {"joint_graph_constant_folding": False, "triton.autotune_at_compile_time": False}
"""Settings that turn off decisions made by runs on the device."""


class _Written(Exception):
    """Carries the complete code."""


@contextmanager
def pretended(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Pretend that there is a GPU; by default Inductor stops after it has written its code."""

    def stop(graph: Any) -> None:
        raise _Written(graph.codegen()[0].value)

    with ExitStack() as patches:
        stops = {"torch._inductor.graph.GraphLowering.compile_to_module": stop}
        for name, function in (PRETENDED | (stops if more is None else more)).items():
            static = staticmethod(function) if "Interface" in name else function
            patches.enter_context(mock.patch(name, static, create=True))
        yield


@dataclass(frozen=True)
class TritonKernel:
    """What one kernel reads and writes: the types of its pointers and their uses."""

    text: str

    def _types(self) -> dict[str, str]:
        signature = re.search(r"'signature': (\{[^}]*\})", self.text)
        assert signature is not None
        return dict(re.findall(r"'(\w+)': '([*\w]+)'", signature[1]))

    def traffic(self) -> int:
        """Bytes read or written per element, without values that elements share."""
        sizes = {"*u8": 1, "*bf16": 2, "*fp16": 2, "*fp32": 4}
        types = self._types()
        element = re.search(r"(\w+) = xindex$", self.text, re.MULTILINE)
        assert element is not None
        uses = re.findall(rf"tl\.(?:load|store)\((\w+) \+ \({element[1]}\b", self.text)
        return sum(sizes[types[name]] for name in uses)

    def index_arithmetic(self) -> set[str]:
        """The divisors of the elements' indices."""
        lines = re.findall(r".*(?:xindex|tl\.load).*", self.text)
        return set(re.findall(r"(?://|%) ?(\(?\w+)", "\n".join(lines)))


def triton_kernels(kernel: CompiledFunction, args: Sequence[Tensor]) -> list[TritonKernel]:
    """The kernels that would be compiled for arguments on a GPU."""
    return [TritonKernel(text) for text in written(kernel, args).split("async_compile.triton(")[1:]]


def written(kernel: CompiledFunction, args: Sequence[Tensor]) -> str:
    """The code that Inductor writes for arguments on a GPU."""
    try:
        with pretended():
            compiler._compiled(kernel, args, SETTINGS)
    except Exception as error:
        found: BaseException | None = error
        while found is not None and not isinstance(found, _Written):
            found = getattr(found, "inner_exception", None) or found.__cause__ or found.__context__
        if found is None:
            raise
        return str(found)
    raise AssertionError("Inductor wrote nothing")


def on_gpu(*shape: int, dtype: torch.dtype = torch.bfloat16, index: int = 0) -> Tensor:
    """A fake tensor on a GPU."""
    with FakeTensorMode():
        return torch.empty(shape, dtype=dtype, device=f"cuda:{index}")


def uncompiled(kernel: CompiledFunction, *rest: object) -> tuple[str, Callable[..., Any]]:
    """Replaces ``compiled._compiled``: a kernel runs as its Python function."""
    return "", lambda args: kernel.function(*args)
