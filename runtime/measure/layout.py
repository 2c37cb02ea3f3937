"""What of a network is measured, by the names of its modules.

The main path, the kinds of values and the outputs of blocks are known from the compiler's graph. The
runtime does not import the compiler, so that callers pass these facts (``danetc.tasks.measuring.layout.layout_of`` makes them from a graph).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from danetc.dsl.kinds import Kind


@dataclass(frozen=True, slots=True)
class NeuronLayer:
    """A layer of neurons, in the order of the forward pass.

    Args:
        name: qualified name of the module.
        main: True on the main path (stem, branches, interblock modules, head), False in a shortcut.
        interblock: True after the addition that joins a block.
        fires: True for neurons with a state or a step function, False for an activation function.
        kind: kind of the output.
    """

    name: str
    main: bool
    interblock: bool
    fires: bool
    kind: Kind
    stage: int | None


@dataclass(frozen=True, slots=True)
class WeightLayer:
    """A convolution or linear layer. ``kind`` is that of its input."""

    name: str
    main: bool
    kind: Kind


@dataclass(frozen=True, slots=True)
class ProductLayer:
    """A layer that multiplies its operands. ``kinds`` has both factors of each product."""

    name: str
    main: bool
    kinds: tuple[tuple[Kind, Kind], ...]


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """Output of a block: the output of module ``name``, or item ``index`` of it."""

    name: str
    index: int | None


@dataclass(frozen=True, slots=True)
class StageLayout:
    """A stage and the outputs of its blocks, with the text of their kind."""

    name: str
    connection: str
    rule: str
    kind: str
    blocks: tuple[BlockOutput, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Modules of a network that can be measured, over ``steps`` time steps."""

    network: str
    steps: int
    neurons: tuple[NeuronLayer, ...]
    weights: tuple[WeightLayer, ...]
    stages: tuple[StageLayout, ...]
    products: tuple[ProductLayer, ...] = ()

    @property
    def depth(self) -> int:
        """Number of convolutions and linear layers on the main path, as in ResNet-20."""
        return sum(layer.main for layer in self.weights)

    @property
    def connection(self) -> str:
        """Connections of its stages, separated by slashes."""
        return _joined(stage.connection for stage in self.stages)

    @property
    def rule(self) -> str:
        """Rules of its stages, separated by slashes."""
        return _joined(stage.rule for stage in self.stages)


def _joined(names: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(name for name in names if name))
