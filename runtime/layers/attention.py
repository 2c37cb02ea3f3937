"""Products of attention, for each head: queries with keys, and scores with values.

Tokens are pixels. A map [..., C, H, W] is split into heads, [..., heads, C / heads, H * W]; scores are
[..., heads, queries, keys]. Leading dimensions are [N], [T, N] or [T * N]; a static value is repeated over time.
Factors of a given kind are saved in bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, fx

from danetc.dsl.kinds import ANALOG, PRECISIONS, Kind
from danetc.runtime.kernels.torch_internals import is_traced
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.packed import SavedProduct, autocast_dtype


def tokens(x: Tensor, heads: int) -> Tensor:
    """Reshape a map [..., C, H, W] to [..., heads, C / heads, H * W]."""
    parts: Tensor = x.unflatten(-3, (heads, -1)).flatten(-2)
    return parts


def as_map(x: Tensor, like: Tensor) -> Tensor:
    """Reshape tokens [..., heads, d, P] to a map with the pixels of ``like``."""
    whole: Tensor = x.flatten(-3, -2).unflatten(-1, like.shape[-2:])
    return whole


def scores(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """Return q^T k of each head: maps [..., C, H, W] to [..., heads, queries, keys]."""
    return tokens(q, heads).mT @ tokens(k, heads)


def mix(a: Tensor, v: Tensor, like: Tensor) -> Tensor:
    """Return the sum of values over keys, weighted by scores [..., heads, queries, keys], as a map."""
    return as_map(tokens(v, a.shape[-3]) @ a.mT, like)


def keys_first(q: Tensor, k: Tensor, v: Tensor, like: Tensor, heads: int) -> Tensor:
    """Return ``mix(scores(q, k), v)``, multiplying keys and values first: [..., heads, d, d]."""
    memory = tokens(v, heads) @ tokens(k, heads).mT
    return as_map(memory @ tokens(q, heads), like)


Gradients = Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]]


def _of_scores(heads: int) -> Gradients:
    def pull(grad: Tensor, factors: Sequence[Tensor]) -> Sequence[Tensor]:
        q, k = factors
        dq = tokens(k, heads) @ grad.mT
        dk = tokens(q, heads) @ grad
        return as_map(dq, q), as_map(dk, k)

    return pull


def _of_mix(grad: Tensor, factors: Sequence[Tensor]) -> Sequence[Tensor]:
    a, v = factors
    grad = tokens(grad, a.shape[-3])
    return grad.mT @ tokens(v, a.shape[-3]), as_map(grad @ a, v)


def _of_keys_first(heads: int) -> Gradients:
    def pull(grad: Tensor, factors: Sequence[Tensor]) -> Sequence[Tensor]:
        q, k, v = (tokens(x, heads) for x in factors)
        grad = tokens(grad, heads)
        dq = (k @ v.mT) @ grad
        by_memory = grad @ q.mT
        dk, dv = by_memory.mT @ v, by_memory @ k
        return tuple(as_map(d, x) for d, x in zip((dq, dk, dv), factors, strict=True))

    return pull


def _of_queries_first(heads: int) -> Gradients:
    def pull(grad: Tensor, factors: Sequence[Tensor]) -> Sequence[Tensor]:
        q, k, v = factors
        a = scores(q, k, heads)
        da, dv = _of_mix(grad, (a, v))
        return *_of_scores(heads)(da, (q, k)), dv

    return pull


class Attention(Leaf):
    """A product of ``factors`` operands; a further operand gives the size of the result."""

    factors: ClassVar[int] = 2

    def __init__(self, **kinds: float) -> None:
        super().__init__()
        self.kinds = tuple(_kind(kinds, place) for place in range(self.factors))

    def product(self, *factors: Tensor, like: Tensor) -> Tensor:
        """Return the product, in operations of torch."""
        raise NotImplementedError

    def gradients(self, dtype: torch.dtype) -> Gradients:
        """Return the function that computes the gradients of the factors."""
        raise NotImplementedError

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of matrices [..., n, m] and [..., m, p] that are multiplied."""
        raise NotImplementedError

    def forward(self, *operands: Tensor) -> Tensor:
        factors, like = operands[: self.factors], operands[-1]
        plain = is_traced() or not torch.is_grad_enabled()
        if plain or any(isinstance(x, fx.Proxy) for x in factors):
            return self.product(*factors, like=like)
        if not any(x.requires_grad for x in factors):
            return self.product(*factors, like=like)
        dtype = autocast_dtype(factors[0])
        if dtype is not None:
            factors = tuple(x.to(dtype) for x in factors)
        run = partial(self.product, like=like)
        call = run, self.gradients(factors[0].dtype), self.kinds
        out: Tensor = SavedProduct.apply(call, *factors)
        return out


def _kind(numbers: dict[str, float], place: int) -> Kind:
    if f"unit{place}" not in numbers:
        return ANALOG
    low, high, unit = (numbers[f"{name}{place}"] for name in ("low", "high", "unit"))
    return Kind(int(low), int(high), unit)


class Scores(Attention):
    """``scores(q, k)`` of maps [..., C, H, W]."""

    def __init__(self, heads: int, **kinds: float) -> None:
        super().__init__(**kinds)
        self.heads = heads

    def product(self, *factors: Tensor, like: Tensor) -> Tensor:
        q, k = factors
        return scores(q, k, self.heads)

    def gradients(self, dtype: torch.dtype) -> Gradients:
        return _of_scores(self.heads)

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        q, k = (tokens(x, self.heads) for x in factors)
        return [(q.mT, k)]

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class Mix(Attention):
    """``mix(a, v, like)``: a map with the pixels of ``like``, by default of ``v``."""

    def product(self, *factors: Tensor, like: Tensor) -> Tensor:
        a, v = factors
        return mix(a, v, like)

    def gradients(self, dtype: torch.dtype) -> Gradients:
        return _of_mix

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        a, v = factors
        return [(tokens(v, a.shape[-3]), a.mT)]


class KeysFirst(Attention):
    """``mix(scores(q, k), v, like)`` as ``q (k^T v)``; only q, k and v are saved.

    ``most`` is the largest integer in the computation: in a precision that does not represent it exactly, queries and
    keys are multiplied first.
    """

    factors: ClassVar[int] = 3

    def __init__(self, heads: int, most: int, **kinds: float) -> None:
        super().__init__(**kinds)
        self.heads = heads
        self.most = most

    def is_exact(self, dtype: torch.dtype) -> bool:
        """True if the order does not affect the result in a precision."""
        if dtype == torch.float64:
            return True
        name = str(dtype).removeprefix("torch.")
        if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
            name = "float16" if torch.get_float32_matmul_precision() == "high" else "bfloat16"
        return name in PRECISIONS and self.most <= PRECISIONS[name].whole

    def product(self, *factors: Tensor, like: Tensor) -> Tensor:
        q, k, v = factors
        if not self.is_exact(autocast_dtype(q) or q.dtype):
            return mix(scores(q, k, self.heads), v, like)
        return keys_first(q, k, v, like, self.heads)

    def gradients(self, dtype: torch.dtype) -> Gradients:
        return _of_keys_first(self.heads) if self.is_exact(dtype) else _of_queries_first(self.heads)

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        q, k, v = (tokens(x, self.heads) for x in factors)
        return [(v, k.mT), (v @ k.mT, q)]

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
