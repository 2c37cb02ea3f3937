"""SpikingJelly's spiking_vgg16_bn at any width: torchvision's VGG-16 with neurons."""

from __future__ import annotations

from collections.abc import Callable

from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model.spiking_vgg import SpikingVGG, cfgs
from torch import nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, Make, conv, linear, norm


def features(width: int, neurons: Make, pool: Callable[[], nn.Module]) -> list[nn.Module]:
    """The convolutions of VGG-16, with norms."""
    layers: list[nn.Module] = []
    channels = 3
    for count, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            layers += [conv(channels, factor * width, bias=True), norm(factor * width), neurons()]
            channels = factor * width
        layers.append(pool())
    return layers


def neurons() -> nn.Module:
    return neuron.IFNode(surrogate_function=surrogate.ATan(), step_mode="m")  # type: ignore[no-any-return]


def network(
    classes: int = 1000, image: int = 224, steps: int = 4, width: int = 64, drop: float = 0.5
) -> nn.Module:
    scaled = [size if isinstance(size, str) else size * width // 64 for size in cfgs["D"]]
    convolutions = SpikingVGG.make_layers(
        scaled,
        batch_norm=True,
        neuron=neuron.IFNode,
        surrogate_function=surrogate.ATan(),
    )
    functional.set_step_mode(convolutions, "m")
    hidden = 64 * width
    return nn.Sequential(
        *(convolutions, Flatten(), linear(8 * width * (image // 32) ** 2, hidden)),
        *(neurons(), nn.Dropout(drop), linear(hidden, hidden), neurons(), nn.Dropout(drop)),
        linear(hidden, classes),
    )


CASE = Case(
    network,
    "SpikingJelly's spiking_vgg16_bn",
    small=(
        {"width": 2, "image": 32, "steps": 2, "drop": 0.0},
        {"width": 3, "image": 32, "steps": 3, "drop": 0.0},
    ),
    published={"138.37 M": {}},
)
