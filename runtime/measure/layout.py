"""Modules of a network that are measured, by name.

The main path, the kinds of values and the outputs of blocks are known from the compiler's graph, which
the runtime does not import; ``danetc.compiler.emit.layout.layout_of`` returns the layout of a graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from danetc.dsl.kinds import Kind


@dataclass(frozen=True, slots=True)
class NeuronLayer:
    """A layer of neurons, in the order of the forward pass.

    ``main`` is True on the main path (stem, branches, interblock modules, head), False in a shortcut;
    ``interblock`` is True after the addition that joins a block; ``fires`` is False for an activation
    function. ``kind`` is that of the output.
    """

    name: str
    main: bool
    interblock: bool
    fires: bool
    kind: Kind
    stage: int | None


@dataclass(frozen=True, slots=True)
class WeightLayer:
    """A layer that multiplies. ``kinds`` holds the kind of the input of a convolution or linear layer,
    or both factors of each product of attention.
    """

    name: str
    main: bool
    kinds: tuple[tuple[Kind, ...], ...]


@dataclass(frozen=True, slots=True)
class StageLayout:
    """A stage, the text of the kind of its blocks' outputs, and where these are: the output of a
    module, or an item of it.
    """

    name: str
    connection: str
    rule: str
    kind: str
    blocks: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Modules of a network that can be measured, over ``steps`` time steps."""

    network: str
    steps: int
    neurons: tuple[NeuronLayer, ...]
    weights: tuple[WeightLayer, ...]
    stages: tuple[StageLayout, ...]

    @property
    def depth(self) -> int:
        """Number of convolutions and linear layers on the main path, as in ResNet-20."""
        return sum(layer.main and len(layer.kinds[0]) == 1 for layer in self.weights)

    @property
    def connection(self) -> str:
        """Connections of its stages, separated by slashes."""
        return " / ".join(dict.fromkeys(filter(None, (each.connection for each in self.stages))))

    @property
    def rule(self) -> str:
        """Rules of its stages, separated by slashes."""
        return " / ".join(dict.fromkeys(filter(None, (each.rule for each in self.stages))))
