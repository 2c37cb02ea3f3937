"""What the forward pass of an operation keeps for its backward pass, in bytes. Rules of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

from danetc.compiler.ir.graph import Node
from danetc.dsl.record import record

PLACE = 8
"""Bytes of the place of a maximum (int64)."""
STATISTIC = 4
"""Bytes of a mean or a variance (float32)."""
WIDE = 4
"""Bytes of a number of float32: of weights, of statistics, of what the loss computes with."""
FACTOR = 8
"""Bytes of a constant that values are multiplied by (float64)."""


@record
class Sizes:
    """An operation's sizes in one step: elements of its operands and of its result, and bytes of a
    number of the first operand."""

    node: Node
    inputs: tuple[int, ...]
    output: int
    width: int
    steps: int
    columns: int = 1  # of the first operand
    computed: int = WIDE  # bytes of a number that convolutions compute with
    trained: bool = True  # the first operand has a gradient


Count: TypeAlias = Callable[[Sizes], int]


def nothing(sizes: Sizes) -> int:
    return 0


def never(node: Node) -> bool:
    return False


Wanted: TypeAlias = Callable[[Sequence[bool]], Sequence[bool]]
"""Which operands are kept, by which of them have a gradient."""


def all_of_them(trained: Sequence[bool]) -> Sequence[bool]:
    return [True] * len(trained)


def for_others(trained: Sequence[bool]) -> Sequence[bool]:
    """A factor is kept for the gradients of the other factors."""
    return [any(trained[:place]) or any(trained[place + 1 :]) for place in range(len(trained))]


def for_quotient(trained: Sequence[bool]) -> Sequence[bool]:
    """What is divided is kept for the divisor's gradient, the divisor for both."""
    return [trained[1], True]


@record
class Saved:
    """What the forward pass of an operation keeps for its backward pass.

    ``inputs`` (those that are ``wanted``) and ``output`` are kept as they are. ``extra`` and ``small`` are kept besides, in
    bytes: where a segment is to run again it makes what is ``extra`` anew, and keeps what is
    ``small`` (vectors, bytes). ``copies`` says of which nodes ``extra`` has a copy of the input,
    which is then not kept itself. ``half`` says that autocast computes it in half precision, with
    copies of what it multiplies (of a ``product``, that of its weights for the gradient of its input
    alone); ``wide`` that it gives float32 all the same.
    """

    inputs: bool = False
    output: bool = False
    wanted: Wanted = all_of_them
    extra: Count = nothing
    small: Count = nothing
    copies: Callable[[Node], bool] = never
    view: bool = False  # the result is a view of the operand
    is_weight: Callable[[Node], bool] = never  # the result is a weight, which is there anyway
    half: bool = False
    product: bool = False
    wide: bool = False

    def keeps_little(self, sizes: Sizes) -> bool:
        """Whether a segment that runs again does so for other operations alone."""
        return not (self.inputs or self.output or self.extra(sizes))


def distance(sizes: Sizes) -> int:
    """Bytes of the distance of a maximum from the corner of its window."""
    kernel = sizes.node.attrs["kernel"]
    assert isinstance(kernel, int)
    return 1 if (kernel - 1) * (sizes.columns + 1) < 2**8 else 2


def statistics(sizes: Sizes) -> int:
    """Mean and variance of each channel."""
    return 2 * STATISTIC * sizes.node.value.shape[0]


def per_step(node: Node) -> bool:
    return bool(node.attrs.get("per_step"))


def copied(node: Node) -> bool:
    """Whether a batch norm keeps its input in another order: with time among the channels."""
    return per_step(node) and node.attrs.get("statistics") is None


def batch_statistics(sizes: Sizes) -> int:
    """Those, at each step where they differ; where one step stands for several, also the variance
    that the running one is updated with."""
    if per_step(sizes.node):
        return sizes.steps * statistics(sizes)
    if sizes.node.attrs.get("statistics") is not None:
        return statistics(sizes) * (sizes.steps if sizes.node.value.varies else 1)
    still = not sizes.node.value.varies and sizes.steps > 1
    return statistics(sizes) + (STATISTIC * sizes.node.value.shape[0] if still else 0)


def group_statistics(sizes: Sizes) -> int:
    """Mean and variance of each group of each sample at each step."""
    groups = sizes.node.attrs["groups"]
    assert isinstance(groups, int)
    return 2 * STATISTIC * groups * (sizes.output // prod(sizes.node.value.shape))


def pixel_statistics(sizes: Sizes) -> int:
    """Mean and variance of the channels of each pixel."""
    return 2 * STATISTIC * (sizes.output // sizes.node.value.shape[0])


def factor_of(sizes: Sizes) -> int:
    """The factor, where one is multiplied by."""
    factor, offset = sizes.node.attrs["factor"], sizes.node.attrs["offset"]
    return 0 if offset and factor in (1, -1) else FACTOR


def is_between(sizes: Sizes) -> bool:
    """Whether numbers lie between two bounds: a share of the way, times the width."""
    return sizes.node.attrs["above"] is not None and sizes.node.attrs["below"] is not None


def way(sizes: Sizes) -> int:
    """The width between two bounds."""
    return FACTOR if is_between(sizes) else 0


def share_of_way(sizes: Sizes) -> int:
    """The shares of it."""
    return STATISTIC * sizes.output if is_between(sizes) else 0


def mask(sizes: Sizes) -> int:
    """A number for each sample."""
    node = sizes.node
    samples = sizes.output // prod(node.value.shape) // (sizes.steps if node.value.varies else 1)
    return samples * sizes.width if node.attrs["p"] else 0
