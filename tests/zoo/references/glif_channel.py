"""The ResNet-19 of `glif` with SpikingJelly's gated LIF, a set of gates for each channel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from tests.zoo.harness import Case, by_order
from tests.zoo.parts import conv, norm, stages
from tests.zoo.references.glif import CALLED, Block, gated, head


def network(classes: int = 10, image: int = 32, steps: int = 4, width: int = 128) -> nn.Module:
    widths = _widths(width)

    def neurons() -> nn.Module:
        return neuron.GatedLIFNode(  # type: ignore[no-any-return]
            steps, next(widths), surrogate_function=surrogate.Rect(alpha=1.0)
        )

    return nn.Sequential(
        *(conv(3, width), norm(width), neurons()),
        stages(width, (width, 2 * width, 4 * width), (3, 3, 2), neurons, Block),
        *head(width, classes),
    )


def _widths(width: int) -> Iterator[int]:
    """Of the layers of neurons: the stem's, and two for each block."""
    yield width
    for factor, blocks in ((1, 3), (2, 3), (4, 2)):
        yield from [factor * width] * (2 * blocks)


CASE = Case(
    network,
    "SpikingJelly's GatedLIFNode",
    small=(
        {"width": 4, "image": 8, "steps": 2},
        {"width": 6, "image": 8, "steps": 3},
    ),
    prepare=gated,
    pairs=partial(by_order, called={key.removeprefix("gate."): CALLED[key] for key in CALLED}),
)
