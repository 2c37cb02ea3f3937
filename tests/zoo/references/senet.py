"""torchvision's bottlenecks, with its squeeze and excitation behind the last norm of each."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import SqueezeExcitation

from tests.zoo.harness import Case


class Excited(Bottleneck):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        wide = 4 * width
        super().__init__(channels, width, stride)
        if stride != 1 or channels != wide:
            projection = nn.Conv2d(channels, wide, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(wide))
        self.gate = SqueezeExcitation(wide, wide // 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.gate(self.bn3(self.conv3(y)))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class Frames(nn.Sequential):
    """Of [T, N, ...] the mean over T of what it makes of each frame."""

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input.flatten(0, 1))
        return out.unflatten(0, input.shape[:2]).mean(0)


def network(
    classes: int = 1000, image: int = 224, steps: int = 1, width: int = 64, inter: str = "relu"
) -> nn.Module:
    stem = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    blocks, channels = [], width
    for factor, count in ((1, 3), (2, 4), (4, 6), (8, 3)):
        for i in range(count):
            stride = 2 if factor > 1 and i == 0 else 1
            blocks.append(Excited(channels, factor * width, stride))
            channels = 4 * factor * width
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    return Frames(*stem, nn.MaxPool2d(3, 2, 1), *blocks, *head)


CASE = Case(
    network,
    "torchvision's Bottleneck and SqueezeExcitation; timm's seresnet50 has as many parameters",
    small=(
        {"width": 4, "image": 64, "steps": 1, "classes": 4},
        {"width": 8, "image": 64, "steps": 2, "classes": 3},
    ),
    published={"28.1 M": {}},
)
