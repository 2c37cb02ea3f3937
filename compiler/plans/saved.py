"""What each operation keeps for its backward pass, and how much it works with. No torch.

The memory side of the table of operations (``ops.OPS``), one row an operation. Work is what lives
only while an operation runs, beyond its operands and results; the numbers are those of torch on a
CPU, found by recording its allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from danetc.compiler.ir.graph import Node
from danetc.dsl.neuron.derivative import differentiate
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction

PLACE = 8
"""Bytes of the place of a maximum (int64)."""
WIDE = 4
"""Bytes of the numbers that membrane potentials are computed in at least (float32)."""
CHANNEL_BLOCK = 16
"""Channels in a block of oneDNN's maps (with AVX-512): fewer take as much memory as these."""
WORD_BYTES = 3
"""Bytes a value while spikes or counts are packed: the byte and two 64-bit words of eight."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """An operation's sizes in one step: elements of its operands and its result, and bytes each."""

    node: Node
    inputs: tuple[int, ...]
    output: int
    width: int
    steps: int
    columns: int = 1  # of the first operand
    channels: int = 1  # of the first operand
    program: NeuronProgram | None = None


Count = Callable[[Sizes], int]


def _nothing(sizes: Sizes) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Keeps:
    """``inputs`` and ``output`` are kept as they are; ``extra`` is kept besides, in bytes.

    ``gradient`` says where the gradient of an operand comes from: ``new`` memory, the same as
    the result's (``same``, where their sizes agree), or a view of it (``view``).
    """

    inputs: bool = False
    output: bool = False
    extra: Count = _nothing
    forward: Count = _nothing
    backward: Count = _nothing
    view: bool = False  # the result is a view of the operand
    gradient: str = "new"
    small: bool = False  # what is kept besides stays when a segment is to run again

    @property
    def keeps_little(self) -> bool:
        """Whether a segment that runs again does so for other operations alone."""
        return not (self.inputs or self.output) and (self.small or self.extra is _nothing)


def _blocked(sizes: Sizes) -> tuple[int, int]:
    """Bytes of a convolution's input and result as oneDNN lays them out, in blocks of channels."""
    channels = (sizes.channels, sizes.node.value.shape[0])
    given, made = (-(-count // CHANNEL_BLOCK) * CHANNEL_BLOCK / count for count in channels)
    return int(sizes.inputs[0] * given) * sizes.width, int(sizes.output * made) * sizes.width


def _conv_forward(sizes: Sizes) -> int:
    """The blocked result, before it is put in rows; and the input, while that is not there yet."""
    given, made = _blocked(sizes)
    if sizes.channels < CHANNEL_BLOCK and sizes.node.attrs["kernel"] != 1:
        return made  # such an input is read as it is
    return max(made, given + made - sizes.output * sizes.width)


def _conv_backward(sizes: Sizes) -> int:
    return sum(_blocked(sizes))


def _norm_backward(sizes: Sizes) -> int:
    return sizes.output * sizes.width


def _distances(sizes: Sizes) -> int:
    kernel, wide = sizes.node.attrs["kernel"], sizes.columns
    assert isinstance(kernel, int)
    return sizes.output * (1 if (kernel - 1) * (wide + 1) < 2**8 else 2)


def _statistics(sizes: Sizes) -> int:
    return 2 * 4 * sizes.node.value.shape[0]


def _normed(sizes: Sizes) -> int:
    """Statistics, and what is normed but not yet scaled."""
    return _statistics(sizes) + sizes.inputs[0] * sizes.width


@lru_cache(maxsize=256)
def _program(program: NeuronProgram | None) -> tuple[int, int, int]:
    """States of a neuron, and the maps that a step makes forward and back."""
    assert program is not None
    learnables = [item.parameter for item in program.learnables]
    forward, backward = (
        _maps(ops, learnables) for ops in (program.ops, differentiate(program).ops)
    )
    return len(program.states), forward, backward


def _maps(ops: Iterable[Instruction], learnables: Iterable[str]) -> int:
    """How many operations give a map, and not one number for the whole layer."""
    numbers = set(learnables)
    count = 0
    for op in ops:
        if op.opcode == "total" or all(isinstance(a, float) or a in numbers for a in op.args):
            numbers.add(op.name)
        else:
            count += 1
    return count


def _neuron_forward(sizes: Sizes) -> int:
    states, ops, _ = _program(sizes.program)
    return (ops + states + 1) * (sizes.output // sizes.steps) * max(sizes.width, WIDE)


def _neuron_backward(sizes: Sizes) -> int:
    states, _, ops = _program(sizes.program)
    step = sizes.output // sizes.steps * max(sizes.width, WIDE)
    return (sizes.steps * states + 2 * states + ops) * step


KEEPS: Mapping[str, Keeps] = {
    "input": Keeps(),
    "repeat": Keeps(view=True),
    "conv": Keeps(inputs=True, forward=_conv_forward, backward=_conv_backward),
    "linear": Keeps(inputs=True),
    "batchnorm": Keeps(inputs=True, extra=_statistics, small=True, backward=_norm_backward),
    "tebn": Keeps(inputs=True, extra=_normed, backward=_norm_backward),
    "groupnorm": Keeps(inputs=True, extra=_statistics, small=True, backward=_norm_backward),
    "tdbn": Keeps(inputs=True, extra=_statistics, small=True, backward=_norm_backward),
    "neuron": Keeps(inputs=True, small=True, forward=_neuron_forward, backward=_neuron_backward),
    "add": Keeps(gradient="same"),
    "sub": Keeps(gradient="same"),
    "mul": Keeps(inputs=True),
    "div": Keeps(inputs=True),
    "maximum": Keeps(inputs=True, backward=lambda s: s.output * (s.width + 2)),
    "minimum": Keeps(inputs=True, backward=lambda s: s.output * (s.width + 2)),
    "affine": Keeps(),
    "concat": Keeps(gradient="view"),
    "maxpool": Keeps(inputs=True, extra=lambda s: PLACE * s.output),
    "avgpool": Keeps(inputs=True),
    "global_avgpool": Keeps(),
    "upsample": Keeps(),
    "flatten": Keeps(view=True),
    "sigmoid": Keeps(output=True),
    "tanh": Keeps(output=True),
    "softplus": Keeps(inputs=True),
    "dropout": Keeps(extra=lambda s: s.output * s.width),
    "droppath": Keeps(),
    "mean_over_time": Keeps(),
    "poisson": Keeps(forward=lambda s: s.output * (s.width + 1)),
    "latency": Keeps(forward=lambda s: s.output),
}
"""A row for each operation, as it runs operation by operation."""

FUSED: Mapping[str, Keeps] = {
    # Distances from the corner of the window, and while it runs the places themselves.
    "maxpool": Keeps(
        extra=_distances,
        small=True,
        forward=lambda s: 2 * PLACE * s.output,
        backward=lambda s: PLACE * s.output + s.inputs[0] * s.width,
    ),
    "avgpool": Keeps(),  # the shape of its input alone
}
"""Rows that the fused backend changes. What its regions keep, its plan says."""


def row_of(op: str, fused: bool) -> Keeps:
    """The row of an operation under a backend."""
    return FUSED.get(op, KEEPS[op]) if fused else KEEPS[op]


def packs(node: Node, source: Node) -> bool:
    """Whether the fused backend keeps an operation's input in bits, and nothing else of it."""
    return node.op in ("conv", "mul") and bool(source.value.kind.bits)


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
