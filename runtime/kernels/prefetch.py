"""Finds all kernels that a call of a model needs on a GPU, before the first one is compiled.

The model runs once on fake tensors, forward and, in training, backward. That changes nothing of the model and
runs no hook. It takes seconds where compiling takes minutes, so it happens only if a kernel has to be compiled.
If it fails, kernels are compiled as they are met, and their number is not known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from danetc.runtime.kernels import torch_internals as internals


class Kernel(Protocol):
    """A function of tensors, compiled once per ``key`` of its arguments."""

    @property
    def function(self) -> Callable[..., Sequence[Tensor]]: ...
    def key(self, args: Sequence[Tensor]) -> tuple[object, ...]: ...


@dataclass(frozen=True, slots=True)
class KernelRequest:
    """A kernel to compile for arguments like these; their values do not count."""

    kernel: Any
    args: tuple[Tensor, ...]


class Requests:
    """The kernels that are called while a model runs on fake tensors, which are of the class ``fake``."""

    def __init__(self, fake: type[Tensor]) -> None:
        self.fake = fake
        self.by_key: dict[tuple[object, ...], KernelRequest] = {}
        self._outputs: dict[tuple[object, ...], list[tuple[Any, ...]]] = {}

    def run(self, kernel: Kernel, args: Sequence[Tensor]) -> Sequence[Tensor]:
        """Record a call and return fake outputs."""
        key = (kernel, *kernel.key(args))
        self.by_key.setdefault(key, KernelRequest(kernel, tuple(args)))
        form = (*key, *[x.shape for x in args])
        known = self._outputs.get(form)
        if known is None:  # many layers are alike, and a kernel has many operations
            found = kernel.function(*args)
            self._outputs[form] = [(x.shape, x.stride(), x.dtype, x.device) for x in found]
            return found
        return tuple(
            torch.empty_strided(shape, stride, dtype=dtype, device=device)
            for shape, stride, dtype, device in known
        )


requests: Requests | None = None
"""Those of the model that runs on fake tensors at this moment."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call of a model that is under way."""

    model: nn.Module
    args: tuple[Any, ...]
    gradients: bool


_local = threading.local()


@contextmanager
def call_of(model: nn.Module, args: tuple[Any, ...]) -> Iterator[None]:
    """Within the context this thread calls ``model`` with these arguments."""
    before = call_under_way()
    _local.call = ModelCall(model, args, torch.is_grad_enabled())
    try:
        yield
    finally:
        _local.call = before


def call_under_way() -> ModelCall | None:
    """Return the call of a model that this thread runs, if any."""
    return getattr(_local, "call", None)


def prefetch() -> list[KernelRequest] | None:
    """Return the kernels of the current call; None if they are not known, or on the second request."""
    call = call_under_way()
    _local.call = None
    if call is None:
        return None
    found: list[list[KernelRequest]] = []
    devices = {"cpu"} | {x.device.type for x in call.args if isinstance(x, Tensor)}
    autocast = [
        (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        for device in sorted(devices)
        if torch.amp.is_autocast_available(device)
    ]

    def work() -> None:
        try:
            with ExitStack() as stack:
                for each in autocast:
                    stack.enter_context(torch.autocast(*each))
                found.append(_run_on_fakes(call))
        except Exception:  # the real call reports it
            pass

    thread = threading.Thread(target=work, name="prefetch")  # free of the caller's modes and hooks
    thread.start()
    thread.join()
    return found[0] if found else None


def _run_on_fakes(call: ModelCall) -> list[KernelRequest]:
    global requests
    mode = internals.find("FakeTensorMode")(allow_non_fake_inputs=True)
    fakes = _Fakes(mode)
    found = Requests(type(fakes.of(torch.empty(0))))
    with mode, torch.set_grad_enabled(call.gradients):
        requests = found
        try:
            args = [fakes.of(x) if isinstance(x, Tensor) else x for x in call.args]
            out = _Interpreter(call.model, fakes).run(*args)
            outputs = out if isinstance(out, tuple | list) else [out]
            sums = [y.float().sum() for y in outputs if isinstance(y, Tensor) and y.requires_grad]
            if sums and call.model.training:
                torch.stack(sums).sum().backward()
        finally:
            requests = None
    return list(found.by_key.values())


class _Fakes:
    """Makes fake tensors of real ones, and copies of modules with fake tensors."""

    def __init__(self, mode: Any) -> None:
        self._mode = mode
        self._modules: dict[nn.Module, nn.Module] = {}

    def of(self, x: Tensor) -> Tensor:
        if type(x) not in (Tensor, nn.Parameter):
            raise TypeError(f"{type(x).__name__} may define its own operations")
        fake: Tensor = self._mode.from_tensor(x)
        return fake

    def module(self, real: Any) -> Any:
        """A copy of a module; modules that it refers to are copied with it."""
        if real not in self._modules:
            twin = self._modules[real] = internals.blank(real)
            internals.fill(twin, real, self.of, self.module)
            if hasattr(twin, "replace_norms"):
                twin.replace_norms(self.module)
        return self._modules[real]


class _Interpreter(fx.Interpreter):
    """Runs a scope's graph on fake tensors, by the forward functions of its modules alone."""

    def __init__(self, scope: Any, fakes: _Fakes) -> None:
        super().__init__(scope)
        self._fakes = fakes

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = super().get_attr(target, args, kwargs)
        if isinstance(found, nn.Module):
            return self._fakes.module(found)
        if isinstance(found, dict):  # the neurons of a scope's fusion groups
            return {name: self._fakes.module(layer) for name, layer in found.items()}
        return self._fakes.of(found) if isinstance(found, Tensor) else found

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module: Any = self.fetch_attr(target)
        if isinstance(module, fx.GraphModule):
            return _Interpreter(module, self._fakes).run(*args)
        if hasattr(module, "over_time"):
            return module.over_time(args, _Interpreter(module.step, self._fakes).run)
        return self._fakes.module(module).forward(*args, **kwargs)
