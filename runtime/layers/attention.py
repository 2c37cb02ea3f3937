"""Products of attention, for each head: queries with keys, and scores with values.

Tokens are pixels. A map [..., C, H, W] is split into heads, [..., heads, C / heads, H * W]; scores are
[..., heads, queries, keys]. Leading dimensions are [N], [T, N] or [T * N]; a static value is repeated over time.
Factors of a given kind are saved in bits.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from danetc.dsl.kinds import PRECISIONS, Kind
from danetc.runtime.kernels.torch_internals import is_traced
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.packed import autocast_dtype, packed_product


def tokens(x: Tensor, heads: int) -> Tensor:
    """Reshape a map [..., C, H, W] to [..., heads, C / heads, H * W]."""
    parts: Tensor = x.unflatten(-3, (heads, -1)).flatten(-2)
    return parts


class Attention(Leaf):
    """A product of ``factors`` operands; a further operand gives the size of the result."""

    factors: ClassVar[int] = 2

    def __init__(self, heads: int = 0, **kinds: Any) -> None:
        super().__init__()
        self.heads = heads
        self.kinds = tuple(
            Kind(*(kinds.get(f"{name}{place}", 0) for name in ("low", "high", "unit")))
            for place in range(self.factors)
        )

    def extra_repr(self) -> str:
        return f"heads={self.heads}" if self.heads else ""

    def product(self, *factors: Tensor, like: Tensor) -> Tensor:
        """Return the product, in operations of torch: a map with the pixels of ``like``."""
        a, b = self.multiplied(*factors)[-1]
        whole: Tensor = (a @ b).flatten(-3, -2).unflatten(-1, like.shape[-2:])
        return whole

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of matrices [..., n, m] and [..., m, p] that are multiplied; the last gives the result."""
        raise NotImplementedError

    def forward(self, *operands: Tensor) -> Tensor:
        factors, like = operands[: self.factors], operands[-1]
        if is_traced(*factors):
            return self.product(*factors, like=like)
        dtype = autocast_dtype(factors[0])
        if dtype is not None:
            factors = tuple(x.to(dtype) for x in factors)
        like = like.new_empty(1).expand(like.shape)  # only its shape counts, and is saved
        return packed_product(partial(self.product, like=like), self.kinds, factors)


class Scores(Attention):
    """``scores(q, k)``: q^T k of each head of maps [..., C, H, W], [..., heads, queries, keys]."""

    def product(self, *factors: Tensor, like: Tensor) -> Tensor:
        ((queries, keys),) = self.multiplied(*factors)
        return queries @ keys

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        q, k = (tokens(x, self.heads) for x in factors)
        return [(q.mT, k)]


class Mix(Attention):
    """``mix(a, v, like)``: the sum of values over keys, weighted by scores [..., heads, queries, keys], as a map with the
    pixels of ``like``, by default of ``v``."""

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        a, v = factors
        return [(tokens(v, a.shape[-3]), a.mT)]


class KeysFirst(Attention):
    """``mix(scores(q, k), v, like)`` as ``q (k^T v)``, [..., heads, d, d] between; only q, k and v are saved.

    ``most`` is the largest integer in the computation: in a precision that does not represent it exactly, queries and
    keys are multiplied first.
    """

    factors: ClassVar[int] = 3

    def __init__(self, heads: int, most: int, **kinds: Any) -> None:
        super().__init__(heads, **kinds)
        self.most = most

    def is_exact(self, dtype: torch.dtype) -> bool:
        """True if the order does not affect the result in a precision."""
        if dtype == torch.float64:
            return True
        name = str(dtype).removeprefix("torch.")
        if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
            name = "float16" if torch.get_float32_matmul_precision() == "high" else "bfloat16"
        return name in PRECISIONS and self.most <= PRECISIONS[name].whole

    def multiplied(self, *factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        q, k, v = (tokens(x, self.heads) for x in factors)
        if self.is_exact(autocast_dtype(factors[0]) or factors[0].dtype):
            return [(v, k.mT), (v @ k.mT, q)]
        return [(q.mT, k), (v, (q.mT @ k).mT)]
