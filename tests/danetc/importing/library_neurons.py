"""Neurons with the names, the attributes and the equations of snnTorch 1.0 and Norse 1.1, which the
default tests do not install."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


def _spike(x: Tensor, soft: Tensor) -> Tensor:
    """Return 1 above 0 and 0 elsewhere, with the derivative of ``soft``."""
    return (x > 0).to(x.dtype) + (soft - soft.detach())


def atan(alpha: float = 2.0) -> Callable[[Tensor], Tensor]:
    return lambda x: _spike(x, (torch.pi / 2 * alpha * x).atan() / torch.pi)


def fast_sigmoid(slope: float = 25.0) -> Callable[[Tensor], Tensor]:
    return lambda x: _spike(x, x / (slope * x.abs() + 1))


class Leaky(nn.Module):
    __module__ = "snntorch._neurons.leaky"

    def __init__(
        self, beta: float, threshold: float = 1.0, spike_grad: Any = None, init_hidden: bool = False,
        reset_mechanism: str = "subtract", reset_delay: bool = True, **others: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.beta, self.threshold = torch.as_tensor(beta), torch.as_tensor(threshold)
        self.graded_spikes_factor = others.get("graded_spikes_factor", 1.0)
        self.state_quant, self.inhibition = (others.get(x) for x in ("state_quant", "inhibition"))
        self.spike_grad, self.init_hidden, self.output = spike_grad or atan(), init_hidden, False
        self.reset_mechanism, self.reset_delay = reset_mechanism, reset_delay
        self.reset_mem()

    def reset_mem(self) -> None:
        self.mem: Any = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        zeroed, subtracted = (self.reset_mechanism == name for name in ("zero", "subtract"))
        reset = (self.mem > self.threshold).to(x.dtype)
        mem = self.beta.clamp(0, 1) * self.mem * (1 - zeroed * reset)
        mem = mem + x - subtracted * reset * self.threshold
        spikes: Tensor = self.spike_grad(mem - self.threshold)
        if not self.reset_delay:
            late = spikes - reset
            mem = mem - zeroed * late * mem - subtracted * late * self.threshold
        self.mem = mem
        return spikes


def threshold(x: Tensor, method: str, alpha: Tensor) -> Tensor:
    assert method == "super"
    return fast_sigmoid(float(alpha))(x)


def reset_value(z: Tensor, v: Tensor, v_reset: float) -> Tensor:
    return v - (v - v_reset) * z


class Cell(nn.Module):
    def __init__(self, dt: float = 0.001, **p: Any) -> None:
        super().__init__()
        usual = {"tau_mem_inv": 100.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0, "alpha": 100.0}
        others: Any = {"method": "super", "reset_method": reset_value}
        self.p = SimpleNamespace(**{k: torch.as_tensor(v) for k, v in usual.items()} | others | p)
        self.dt = dt

    def forward(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        start = self.p.v_reset if type(self) is IAFCell else self.p.v_leak
        v = self.charged(x, torch.full_like(x, float(start)) if v is None else v)
        z = threshold(v - self.p.v_th, self.p.method, self.p.alpha)
        return z, self.p.reset_method(z, v, self.p.v_reset)


class LIFBoxCell(Cell):
    __module__ = "norse.torch.module.lif_box"

    def charged(self, x: Tensor, v: Tensor) -> Tensor:
        return v + self.dt * self.p.tau_mem_inv * (x + self.p.v_leak - v)


class IAFCell(Cell):
    __module__ = "norse.torch.module.iaf"

    def charged(self, x: Tensor, v: Tensor) -> Tensor:
        return v + x


class SequentialState(nn.Sequential):
    """A sequence of layers that also returns their states."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        states = list(state or [None] * len(self))
        for number, layer in enumerate(self):
            if isinstance(layer, Cell):
                x, states[number] = layer(x, states[number])
            else:
                x = layer(x)
        return x, states


surrogate = SimpleNamespace(fast_sigmoid=fast_sigmoid)
