"""SpikingJelly's ms_resnet18, with the derivative and the threshold of the authors' code."""

from __future__ import annotations

from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.model.ms_resnet import MSResNet
from torch import Tensor, nn

from tests.zoo.harness import Case


class Network(nn.Module):
    def __init__(self, classes: int, steps: int, width: int) -> None:
        super().__init__()
        self.network = MSResNet(
            T=steps,
            num_classes=classes,
            base_channels=width,
            surrogate_function=surrogate.Rect(alpha=1.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        net = self.network
        x = net.stem(x)
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
        return net.head(net.avgpool(net.head_lif(x)).flatten(2).mean(0))  # type: ignore[no-any-return]


def network(classes: int = 1000, image: int = 224, steps: int = 6, width: int = 64) -> nn.Module:
    return Network(classes, steps, width)


CASE = Case(
    network,
    "SpikingJelly's ms_resnet18",
    small=(
        {"width": 3, "image": 64, "steps": 2, "classes": 5},
        {"width": 4, "image": 64, "steps": 3, "classes": 5},
    ),
)
