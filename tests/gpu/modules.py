"""Modules that Inductor wrote for a GPU, loaded where there is none."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kernel:
    """A kernel of a module that Inductor wrote."""

    name: str
    text: str

    @cached_property
    def launcher(self) -> Any:
        """Inductor's launcher: the function for Triton, its metadata and the configurations to try."""
        place = f"<{self.name} {hash(self.text)}>"
        linecache.cache[place] = (len(self.text), None, self.text.splitlines(True), place)
        scope = {"__name__": self.name, "__file__": place}
        with mock.patch("torch._inductor.runtime.triton_helpers.set_driver_to_gpu"):
            exec(compile(self.text, place, "exec"), scope)
        return scope[self.name]

    @property
    def signature(self) -> dict[str, str]:
        """The type of each parameter, such as ``*bf16``, ``i32`` or ``constexpr``."""
        found: dict[str, str] = self.launcher.triton_meta["signature"]
        return found

    @property
    def blocks(self) -> dict[str, int]:
        """Block sizes of the first configuration."""
        found: dict[str, int] = self.launcher.configs[0].kwargs
        return found

    def divisible(self) -> set[str]:
        """Return the parameters that are promised to be multiples of 16 (pointers: of 16 bytes)."""
        names, (promises,) = list(self.signature), self.launcher.triton_meta["configs"]
        return {
            names[place] for (place,), known in promises.items() if ["tt.divisibility", 16] in known
        }


class Module:
    """A module that Inductor wrote, to run on tensors of the CPU.

    ``launch(kernel, *args)`` runs each kernel, whose text ``change`` may edit. New memory is
    filled with NaN (integers: 77).
    """

    def __init__(
        self, text: str, launch: Callable[..., None], change: Callable[[str], str] = str
    ) -> None:
        self.kernels: list[Kernel] = []
        self._scope: dict[str, Any] = {"__name__": "written"}
        module = self

        class Compile:
            def triton(self, name: str, text: str, **_: Any) -> Any:
                module.kernels.append(Kernel(name, change(text)))
                return SimpleNamespace(run=partial(launch, module.kernels[-1]))

            def wait(self, scope: object) -> None:
                pass

        imported = {
            "torch._inductor.async_compile.AsyncCompile": Compile,
            "torch._C._cuda_getCurrentRawStream": lambda index: 0,
            "torch._C._dynamo.guards._empty_strided_cuda": _fresh,
        }
        with ExitStack() as patches:
            for name, value in imported.items():
                patches.enter_context(mock.patch(name, value, create=True))
            exec(compile(text, "<written>", "exec"), self._scope)

    def __call__(self, *args: Tensor) -> Sequence[Tensor]:
        device = {"_DeviceGuard": nullcontext, "set_device": lambda index: None}
        with mock.patch.multiple("torch.cuda", **device):
            found: Sequence[Tensor] = self._scope["call"]([*args])
        return found


def _fresh(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    value = float("nan") if dtype.is_floating_point else 77
    return torch.empty_strided(size, stride, dtype=dtype).fill_(value)
