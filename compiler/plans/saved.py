"""What each operation keeps for its backward pass. No torch.

The memory side of the table of operations (``ops.OPS``), one row an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from danetc.compiler.ir.graph import Node

PLACE = 8
"""Bytes of the place of a maximum (int64)."""
STATISTIC = 4
"""Bytes of a mean or a variance (float32)."""
FACTOR = 8
"""Bytes of a constant that values are multiplied by (float64)."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """An operation's sizes in one step: elements of its operands and of its result, and bytes of a
    number of the first operand."""

    node: Node
    inputs: tuple[int, ...]
    output: int
    width: int
    steps: int
    columns: int = 1  # of the first operand


Count = Callable[[Sizes], int]


def _nothing(sizes: Sizes) -> int:
    return 0


def _never(node: Node) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Keeps:
    """What the forward pass of an operation keeps for its backward pass.

    ``inputs`` and ``output`` are kept as they are. ``extra`` and ``small`` are kept besides, in
    bytes: where a segment is to run again it makes what is ``extra`` anew, and keeps what is
    ``small`` (vectors, bytes). ``copies`` says of which nodes ``extra`` has a copy of the input,
    which is then not kept itself. ``half`` says that autocast computes it in half precision, with
    copies of what it multiplies; ``wide`` that it gives float32 all the same.
    """

    inputs: bool = False
    output: bool = False
    extra: Count = _nothing
    small: Count = _nothing
    copies: Callable[[Node], bool] = _never
    view: bool = False  # the result is a view of the operand
    half: bool = False
    wide: bool = False

    def keeps_little(self, sizes: Sizes) -> bool:
        """Whether a segment that runs again does so for other operations alone."""
        return not (self.inputs or self.output or self.extra(sizes))


def _distance(sizes: Sizes) -> int:
    """Bytes of the distance of a maximum from the corner of its window."""
    kernel = sizes.node.attrs["kernel"]
    assert isinstance(kernel, int)
    return 1 if (kernel - 1) * (sizes.columns + 1) < 2**8 else 2


def _statistics(sizes: Sizes) -> int:
    """Mean and variance of each channel."""
    return 2 * STATISTIC * sizes.node.value.shape[0]


def _per_step(node: Node) -> bool:
    return bool(node.attrs["per_step"])


def _batch_statistics(sizes: Sizes) -> int:
    """Those, at each step where they differ; where one step stands for several, also the variance
    that the running one is told."""
    if _per_step(sizes.node):
        return sizes.steps * _statistics(sizes)
    still = not sizes.node.value.varies and sizes.steps > 1
    return _statistics(sizes) + (STATISTIC * sizes.node.value.shape[0] if still else 0)


def _group_statistics(sizes: Sizes) -> int:
    """Mean and variance of each group of each sample at each step."""
    groups = sizes.node.attrs["groups"]
    assert isinstance(groups, int)
    return 2 * STATISTIC * groups * (sizes.output // prod(sizes.node.value.shape))


def _factor(sizes: Sizes) -> int:
    """The factor, where one is multiplied by."""
    factor, offset = sizes.node.attrs["factor"], sizes.node.attrs["offset"]
    return 0 if offset and factor in (1, -1) else FACTOR


def _mask(sizes: Sizes) -> int:
    """A number for each sample."""
    node = sizes.node
    samples = sizes.output // prod(node.value.shape) // (sizes.steps if node.value.varies else 1)
    return samples * sizes.width if node.attrs["p"] else 0


KEEPS: Mapping[str, Keeps] = {
    "input": Keeps(),
    "repeat": Keeps(),  # a view, which who reads it copies
    "conv": Keeps(inputs=True, half=True),
    "linear": Keeps(inputs=True, half=True),
    "batchnorm": Keeps(
        inputs=True,
        small=_batch_statistics,
        copies=_per_step,
        extra=lambda s: s.output * s.width if _per_step(s.node) else 0,
    ),
    "tebn": Keeps(  # what is normed but not yet scaled, by factors of float32
        inputs=True,
        small=_statistics,
        extra=lambda s: s.inputs[0] * s.width,
        wide=True,
    ),
    "groupnorm": Keeps(inputs=True, extra=_group_statistics),
    "tdbn": Keeps(inputs=True, small=_statistics),
    "neuron": Keeps(inputs=True),
    "add": Keeps(),
    "sub": Keeps(),
    "mul": Keeps(inputs=True),
    "div": Keeps(inputs=True),
    "maximum": Keeps(inputs=True),
    "minimum": Keeps(inputs=True),
    "affine": Keeps(small=_factor),
    "concat": Keeps(),
    "maxpool": Keeps(inputs=True, extra=lambda s: PLACE * s.output),
    "avgpool": Keeps(inputs=True),
    "global_avgpool": Keeps(),
    "upsample": Keeps(),
    "flatten": Keeps(view=True),
    "sigmoid": Keeps(output=True),
    "tanh": Keeps(output=True),
    "softplus": Keeps(inputs=True),
    "dropout": Keeps(extra=lambda s: s.output * s.width),
    "droppath": Keeps(extra=_mask),
    "mean_over_time": Keeps(),
    "poisson": Keeps(),
    "latency": Keeps(),
}
"""A row for each operation, as it runs operation by operation."""

FUSED: Mapping[str, Keeps] = {
    "maxpool": Keeps(
        small=lambda s: s.output if _distance(s) == 1 else 0,
        extra=lambda s: 2 * s.output if _distance(s) == 2 else 0,
    ),
    "avgpool": Keeps(),  # the shape of its input alone
}
"""Rows that the fused backend changes. What its regions keep, its plan says."""


def row_of(op: str, fused: bool) -> Keeps:
    """The row of an operation under a backend."""
    return FUSED.get(op, KEEPS[op]) if fused else KEEPS[op]


def packs(node: Node, sources: Sequence[Node]) -> bool:
    """Whether the fused backend keeps an operation's spikes and counts in bits."""
    if not any(source.value.kind.bits for source in sources):
        return False
    if node.op == "mul":
        a, b = sources
        return (a.value.shape, a.value.varies) == (b.value.shape, b.value.varies)
    return node.op == "conv"


def keeps_parts(node: Node, readers: Iterable[Node]) -> bool:
    """Whether the fused backend keeps what a value is joined of in place of the value.

    It would keep both where an operation besides neurons keeps the value itself.
    """
    return node.op == "concat" and all(
        reader.op == "neuron" or not row_of(reader.op, fused=True).inputs for reader in readers
    )


def elements(node: Node, batch: int, steps: int) -> int:
    """Elements of a node's value for a batch."""
    return batch * prod(node.value.shape) * (steps if node.value.varies else 1)
