"""Finds the kernels that a call of a model is going to need, before the first one is compiled.

The call is gone through once by tensors that have a form and no values (torch's fake tensors):
forward, and backward where gradients are wanted. Nothing of the model changes by it and no hook of
it runs. This takes some seconds where kernels take minutes, so it is done only where one has to be
compiled; where it fails, kernels are compiled as they are met, and how many is not known.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels import upcoming
from danetc.runtime.kernels.upcoming import Job, ModelCall, Notes
from danetc.runtime.layers.loop import Loop
from danetc.runtime.model.built import ScopeModule

_later: list[Job] = []  # of the backward pass of a call in eval mode, which may never come


def look_ahead() -> list[Job] | None:
    """The kernels of the call under way; None where they are not known, or known already.

    In training those of the backward pass are among them; in eval mode they are known when the first
    of them is asked for, in the backward pass.
    """
    global _later
    call = upcoming.take_call()
    if call is None:
        found, _later = _later, []
        return found or None
    looked = _in_own_thread(call)
    if looked is None:
        return None
    forward, backward = looked
    if call.model.training:
        _later = []
        return forward + backward
    _later = backward
    return forward


def _in_own_thread(call: ModelCall) -> tuple[list[Job], list[Job]] | None:
    """A thread of its own has none of the modes, hooks and tapes that its starter is in."""
    found: list[tuple[list[Job], list[Job]]] = []
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
                found.append(_look(call))
        except Exception:  # what it would have reported is not needed to continue
            pass

    thread = threading.Thread(target=work, name="look-ahead")
    thread.start()
    thread.join()
    return found[0] if found else None


def _look(call: ModelCall) -> tuple[list[Job], list[Job]]:
    """The kernels of the forward and of the backward pass."""
    mode = internals.find("FakeTensorMode")(allow_non_fake_inputs=True)
    fakes = _Fakes(mode)
    notes = Notes(type(fakes.of(torch.empty(0))))
    with mode, torch.set_grad_enabled(call.gradients):
        upcoming.notes = notes
        try:
            args = [fakes.of(x) if isinstance(x, Tensor) else x for x in call.args]
            out = _Walk(call.model, fakes).run(*args)
            forward = list(notes.jobs.values())
            outputs = out if isinstance(out, tuple | list) else [out]
            wanted = [y.float().sum() for y in outputs if isinstance(y, Tensor) and y.requires_grad]
            if wanted:
                torch.stack(wanted).sum().backward()
            backward = list(notes.jobs.values())[len(forward) :]
        finally:
            upcoming.notes = None
    return forward, backward


class _Fakes:
    """Fake tensors in place of real ones, and modules that have them in place of their own."""

    def __init__(self, mode: Any) -> None:
        self._mode = mode
        self._modules: dict[nn.Module, nn.Module] = {}

    def of(self, x: Tensor) -> Tensor:
        if type(x) not in (Tensor, nn.Parameter):
            raise TypeError(f"a {type(x).__name__} may be a part of what its module computes with")
        fake: Tensor = self._mode.from_tensor(x)
        return fake

    def module(self, real: Any) -> Any:
        """A copy of a module, equal but for its tensors; what it refers to is copied with it."""
        if real not in self._modules:
            twin = self._modules[real] = internals.blank(real)
            internals.fill(twin, real, self.of, self.module)
            if hasattr(twin, "replace_norms"):
                twin.replace_norms(self.module)
        return self._modules[real]


class _Walk(fx.Interpreter):
    """Runs a scope's graph on fake tensors. (Forward functions are called, and no hooks.)"""

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
        module = self.fetch_attr(target)
        if isinstance(module, ScopeModule):
            return _Walk(module, self._fakes).run(*args)
        if isinstance(module, Loop):
            return module.over_time(args, _Walk(module.step, self._fakes).run)
        return self._fakes.module(module).forward(*args, **kwargs)
