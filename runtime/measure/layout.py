"""What of a network is measured, by the names of its modules.

The compiler's graph knows which neuron stands on the main path, what kind of values a weight
reads and what a block gives; the runtime does not ask the compiler, so whoever measures hands
these facts in (``danetc.tasks.measuring.layout.layout_of`` makes them from a graph).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from danetc.dsl.kinds import Kind


@dataclass(frozen=True, slots=True)
class NeuronLayer:
    """A layer of neurons, in the order of the forward pass.

    ``name`` is the module's qualified name. ``main`` says that it stands on the main path (stem,
    branches, interblock modules, head) and not in a shortcut, ``interblock`` that it stands behind
    the addition that joins a block, ``fires`` that it is one of neurons with a state or a step
    function and no activation function. ``kind`` is that of what it gives.
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
    """A layer that multiplies its operands. ``kinds`` are those of both factors of each product."""

    name: str
    main: bool
    kinds: tuple[tuple[Kind, Kind], ...]


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """What a block passes on: what module ``name`` gives, or item ``index`` of the tuple."""

    name: str
    index: int | None


@dataclass(frozen=True, slots=True)
class StageLayout:
    """A stage and the outputs of its blocks. ``kind`` is theirs, as it is written."""

    name: str
    connection: str
    rule: str
    kind: str
    blocks: tuple[BlockOutput, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """All that can be measured of a network, which runs ``steps`` time steps."""

    network: str
    steps: int
    neurons: tuple[NeuronLayer, ...]
    weights: tuple[WeightLayer, ...]
    stages: tuple[StageLayout, ...]
    products: tuple[ProductLayer, ...] = ()

    @property
    def depth(self) -> int:
        """Convolutions and linear layers of the main path, as in ResNet-20."""
        return sum(layer.main for layer in self.weights)

    @property
    def connection(self) -> str:
        """Of its stages; where they differ, all with slashes between them."""
        return _joined(stage.connection for stage in self.stages)

    @property
    def rule(self) -> str:
        """Of its stages, in the same way."""
        return _joined(stage.rule for stage in self.stages)


def _joined(names: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(name for name in names if name))
