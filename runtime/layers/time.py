"""Small layers of tokens, and of values that may vary in time."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import danetc.runtime.kernels.composed_operators  # noqa: F401 (registers torch.ops.danetc)
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.neuron import within


def affine(x: Tensor, factor: float, offset: float) -> Tensor:
    """Return ``factor * x + offset``."""
    return factor * x + offset


class Embedding(Leaf, nn.Embedding):
    """Rows of a table, chosen by tokens: a vector [..., D] of [..., 1], a map [..., D, 1, L] of [..., L].

    Of vectors [..., D] or a map [..., D, H, W] of real numbers, the products with all rows.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.is_floating_point():
            dim = -1 if input.dim() < 4 else -3
            products = nn.functional.linear(input.movedim(dim, -1), self.weight)
            return products.movedim(-1, dim)
        rows = super().forward(input)
        return rows.squeeze(-2) if input.shape[-1] == 1 else rows.mT.unsqueeze(-2)


class Delay(Leaf):
    """Delays [T, N, ...] by ``steps`` time steps: the first ones are 0, the last ones are dropped."""

    def __init__(self, steps: int, rank: int = 3) -> None:
        super().__init__()
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        late = min(self.steps, x.shape[0])
        return torch.cat([torch.zeros_like(x[:late]), x[: x.shape[0] - late]])

    def advance(
        self, inputs: Sequence[Tensor], before: Sequence[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output of one time step [N, ...] and the inputs that later steps output."""
        (x,) = inputs
        kept = [*(before or []), x]
        if len(kept) <= self.steps:
            return torch.zeros_like(x), kept
        return kept[0], kept[1:]

    def extra_repr(self) -> str:
        return f"{self.steps}"


class DropPath(Leaf):
    """Stochastic depth (Huang et al., ECCV 2016): in training, a sample's branch is dropped with
    probability ``p`` at all its time steps; otherwise it is divided by 1 - p.

    Takes and returns [N, ...] or [T, N, ...]; ``rank`` is the number of dimensions of one sample.
    """

    def __init__(self, p: float, rank: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability to drop lies in 0 .. 1, not {p}")
        self.p = p
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.danetc.drop_path(x, self.p, self.training, self.rank)
        return out

    def extra_repr(self) -> str:
        return f"p={self.p}"


class SampleDropout(DropPath):
    """Dropout with the same mask at all time steps of a sample: [N, ...] or [T, N, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        draw = torch.rand(x.shape[-self.rank - 1 :], dtype=x.dtype, device=x.device)
        return x * (draw.ge(self.p).to(x.dtype) / (1 - self.p))

    def advance(
        self, inputs: Sequence[Tensor], drawn: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output of one time step [N, ...] and the mask drawn at the first."""
        (x,) = inputs
        if not self.training or self.p == 0.0:
            return x, drawn
        drawn = self.forward(torch.ones_like(x)) if drawn is None else drawn
        return x * drawn, drawn


class Random(Leaf):
    """Random numbers of the size of ``x``, drawn in float32 at each call; in evaluation their mean, if
    ``evaluate`` is ``mean``. ``law`` is ``uniform LOW HIGH`` or ``normal MEAN STD``.
    """

    def __init__(self, law: str, evaluate: str = "draw") -> None:
        super().__init__()
        self.law = law
        self.evaluate = evaluate

    def forward(self, x: Tensor) -> Tensor:
        name, *ends = self.law.split()
        first, second = map(float, ends)
        if self.evaluate == "mean" and not self.training:
            return torch.full_like(x, first if name == "normal" else (first + second) / 2)
        if name == "normal":
            return (first + second * torch.randn(x.shape, device=x.device)).to(x.dtype)
        return (first + (second - first) * torch.rand(x.shape, device=x.device)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.law}, evaluate={self.evaluate}"


class SampleRandom(Random):
    """The same random numbers at all time steps of a sample: [N, ...] or [T, N, ...]."""

    def __init__(self, law: str, evaluate: str, rank: int) -> None:
        super().__init__(law, evaluate)
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        drawn = super().forward(x[0] if x.dim() == self.rank + 2 else x)
        return drawn.expand_as(x)

    def advance(
        self, inputs: Sequence[Tensor], drawn: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the numbers of one time step [N, ...], which are drawn at the first."""
        drawn = self.forward(inputs[0]) if drawn is None else drawn
        return drawn, drawn


class TimeConv(Leaf, nn.Conv1d):
    """A convolution over time of each pixel, padded by ``before`` and ``after`` steps of 0."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        before: int = 0,
        after: int = 0,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = True,
        rank: int = 3,
    ) -> None:
        super().__init__(channels, width, kernel, dilation=dilation, groups=groups, bias=bias)
        self.before = before
        self.after = after
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        return self._padded(x, self.before)

    def _padded(self, x: Tensor, before: int) -> Tensor:
        """Convolve x [T, N, ...] with ``before`` steps of 0 before it."""
        size = x.shape[3:]
        y = x.movedim(0, 2).reshape(*x.shape[1:3], len(x), -1)  # [N, C, T, pixels]
        y = nn.functional.pad(y, (0, 0, before, self.after))
        dilation = (*self.dilation, 1)
        y = nn.functional.conv2d(
            y, self.weight.unsqueeze(-1), self.bias, dilation=dilation, groups=self.groups
        )
        return y.movedim(2, 0).reshape(y.shape[2], x.shape[1], -1, *size)

    def advance(self, inputs: Sequence[Tensor], before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the output of one step [N, ...] and the inputs [K, N, ...] that the kernel reads later."""
        (x,) = inputs
        past = x.new_zeros(self.before, *x.shape) if before is None else before
        seen = torch.cat((past, x.unsqueeze(0)))
        return self._padded(seen, 0)[-1], seen[1:]


class TimeLinear(Leaf, nn.Linear):
    """y[t] = sum over k of weight[t, k] * x[k], plus bias[t]."""

    def __init__(self, steps: int, bias: bool = True) -> None:
        super().__init__(steps, steps, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self._mixed(x, self.weight, self.bias)

    def _mixed(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Combine steps [K, N, ...] by weights [T, K] and biases [T]."""
        flat, shape = x.flatten(1), (len(weight), *x.shape[1:])
        if bias is None:
            return (weight @ flat).view(shape)
        return torch.addmm(bias.unsqueeze(1), weight, flat).view(shape)


class MaskedTimeLinear(TimeLinear):
    """The same over the ``window`` latest steps: other weights are multiplied by 1 - ``masked``
    (masked PSN: Fang et al., NeurIPS 2023, where ``masked`` is lambda).

    With ``masked`` = 1 they count as 0 and get no gradient. It is a buffer if it has a ``schedule``.
    """

    masked: float | Tensor

    def __init__(
        self,
        steps: int,
        window: int,
        bias: bool = True,
        rank: int = 3,
        masked: float = 1.0,
        schedule: str = "",
    ) -> None:
        super().__init__(steps, bias)
        self.window = window
        self.rank = rank
        self.scheduled = {schedule: "masked"} if schedule else {}
        if schedule:
            self.register_buffer("masked", torch.tensor(masked))
        else:
            self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        return self._mixed(x, self.seen(), self.bias)

    @property
    def hides(self) -> bool:
        """True if weights outside the window always count as 0."""
        return not self.scheduled and float(self.masked) == 1

    def seen(self) -> Tensor:
        """Return the masked weights, [T, T]."""
        if self.hides:
            return self.weight.tril().triu(1 - self.window)
        inside = torch.ones_like(self.weight).tril().triu(1 - self.window)
        return (self.masked * inside + (1 - self.masked)) * self.weight

    def advance(
        self, inputs: Sequence[Tensor], before: tuple[int, list[Tensor]] | None
    ) -> tuple[Tensor, tuple[int, list[Tensor]]]:
        """Return the output of one step [N, ...], and the number of steps so far with the latest of them."""
        (x,) = inputs
        now, past = before or (0, [])
        if now >= len(self.weight):
            raise ValueError(f"the network has weights for {len(self.weight)} steps, not for more")
        seen = [*past, x]
        row = self.weight[now : now + 1, now + 1 - len(seen) : now + 1]
        bias = None if self.bias is None else self.bias[now : now + 1]
        y = self._mixed(torch.stack(seen), row, bias)
        return y.squeeze(0), (now + 1, seen[max(0, len(seen) + 1 - self.window) :])

    def extra_repr(self) -> str:
        share = ", masked" if self.scheduled else f", masked={self.masked}"
        return f"{super().extra_repr()}, window={self.window}" + share * (not self.hides)


def drawn_numbers(
    shape: Sequence[int],
    law: str,
    above: float | None = None,
    below: float | None = None,
    source: torch.Generator | None = None,
) -> Tensor:
    """Return random initial values of a learnable parameter, as it is stored, in float64 on the CPU.

    ``law`` is ``uniform LOW HIGH`` or ``normal MEAN STD``; bounds truncate the normal distribution.
    """
    name, *ends = law.split()
    first, second = map(float, ends)
    value = torch.empty([*shape], dtype=torch.float64, device="cpu")
    if name == "uniform":
        value.uniform_(first, second, generator=source)
    elif above is None and below is None:
        value.normal_(first, second, generator=source)
    else:
        low = -math.inf if above is None else math.nextafter(above, math.inf)
        high = math.inf if below is None else math.nextafter(below, -math.inf)
        nn.init.trunc_normal_(value, first, second, low, high, generator=source)
    if above is not None and below is not None:
        return torch.log(value - above) - torch.log(below - value)
    if above is not None:
        value = value - above
    elif below is not None:
        value = below - value
    else:
        return value
    return value + torch.log(-torch.expm1(-value))


class ConstantTable(nn.Module):
    """Constant numbers, a buffer: their text has the sizes of the axes and float64 numbers in base64."""

    def __init__(self, text: str) -> None:
        super().__init__()
        _, sizes, data = text.split(":")
        numbers = torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.float64)
        numbers = numbers.reshape([*map(int, sizes.split("x"))])
        self.register_buffer("numbers", torch.empty(numbers.shape).copy_(numbers))

    def forward(self) -> Tensor:
        return self.get_buffer("numbers")


class Learnt(nn.Module):
    """Learnable numbers of the shape ``size``, initialised by ``raw`` or drawn (``drawn_numbers``).

    Returns ``size``, or [T, 1, *size] if each of ``steps`` has its own. The parameter is ``weight``;
    bounded numbers are computed from ``weight_raw``.
    """

    def __init__(
        self,
        raw: float,
        *size: int,
        steps: int = 0,
        above: float | None = None,
        below: float | None = None,
        law: str = "",
    ) -> None:
        super().__init__()
        self.steps = steps
        self.above = above
        self.below = below
        bounded = above is not None or below is not None
        self.name = "weight_raw" if bounded else "weight"
        shape = (steps, *size) if steps else size
        start = torch.full(shape, raw)
        if law:
            start.copy_(drawn_numbers(shape, law, above, below))
        self.register_parameter(self.name, nn.Parameter(start))

    def forward(self) -> Tensor:
        value = within(getattr(self, self.name), self.above, self.below)
        return value.unsqueeze(1) if self.steps else value

    def at(self, step: int) -> Tensor:
        """Return the numbers of one time step, as a sequence of that step. Raises ValueError after the last."""
        if not self.steps:
            return self.forward()
        if step >= self.steps:
            raise ValueError(f"the network has numbers for {self.steps} steps, not for more")
        return self.forward()[step : step + 1]

    def extra_repr(self) -> str:
        shape = list(self.get_parameter(self.name).shape)
        bounds = {"above": self.above, "below": self.below}
        return ", ".join([str(shape), *(f"{k}={v}" for k, v in bounds.items() if v is not None)])
