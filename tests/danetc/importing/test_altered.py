"""Networks of SpikingJelly and torchvision with one block altered by a draw: it is not called std's, and
the spec computes what the model computes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

import danetc

torchvision = pytest.importorskip("torchvision")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import functional, layer, neuron, surrogate  # noqa: E402
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet  # noqa: E402

Change = Callable[[Any], None]


def fires(threshold: float = 1.0, **unused: Any) -> nn.Module:
    module: nn.Module = neuron.IFNode(
        threshold, surrogate_function=surrogate.ATan(), detach_reset=True
    )
    return module


def _stride_moved(block: Any) -> None:
    """From the first convolution to the second one, or to both where there was none."""
    if block.conv1.stride == (2, 2):
        block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)
    else:
        block.conv1 = nn.Sequential(nn.Upsample(scale_factor=2), block.conv1)
        block.conv2.stride = (2, 2)


def _extra_convolution(block: Any) -> None:
    width = block.conv2.out_channels
    made = layer.Conv2d if hasattr(block, "sn1") else nn.Conv2d
    block.conv2 = nn.Sequential(block.conv2, made(width, width, 3, padding=1, bias=False))


def _other_kernel(block: Any) -> None:
    made = layer.Conv2d if hasattr(block, "sn1") else nn.Conv2d
    width = block.conv2.out_channels
    block.conv2 = made(width, width, 1, bias=False)


def _norm_dropped(block: Any) -> None:
    block.bn2 = nn.Identity()


def _norm_order(block: Any) -> None:
    block.bn1, block.sn1 = block.sn1, block.bn1


def _threshold(block: Any) -> None:
    block.sn2 = fires(0.75)


def _activation_dropped(block: Any) -> None:
    setattr(block, "sn1" if hasattr(block, "sn1") else "relu", nn.Identity())


def _other_join(block: Any) -> None:
    block.cnf = "AND" if block.cnf == "ADD" else "ADD"


SHARED: tuple[Change, ...] = (
    _extra_convolution, _other_kernel, _norm_dropped, _activation_dropped,
)  # fmt: skip
SPIKING: tuple[Change, ...] = (*SHARED, _norm_order, _threshold)


def _sew(layers: tuple[int, ...], drawn: random.Random) -> nn.Module:
    join = drawn.choice(["ADD", "IAND"])
    model: nn.Module = sew_resnet.SEWResNet(
        sew_resnet.BasicBlock, layers, num_classes=5, cnf=join, spiking_neuron=fires
    )
    return model


def _spiking(layers: tuple[int, ...], drawn: random.Random) -> nn.Module:
    model: nn.Module = spiking_resnet.SpikingResNet(
        spiking_resnet.BasicBlock, layers, num_classes=5, spiking_neuron=fires
    )
    return model


def _vision(layers: tuple[int, ...], drawn: random.Random) -> nn.Module:
    model: nn.Module = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, layers, num_classes=5
    )
    return model


NETWORKS: Mapping[str, tuple[Callable[..., nn.Module], tuple[Change, ...]]] = {
    "sew": (_sew, (*SPIKING, _stride_moved, _other_join)),
    "spiking": (_spiking, (*SPIKING, _stride_moved)),
    "torchvision": (_vision, SHARED),
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(2, 6))]
)
def test_an_altered_block_is_not_called_std(seed: int) -> None:
    drawn = random.Random(seed)
    name = [*NETWORKS][seed % len(NETWORKS)]
    make, changes = NETWORKS[name]
    layers = (2, *drawn.choices((1, 2), k=3))
    torch.manual_seed(seed)
    model: Any = make(layers, drawn)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    blocks = [block for stage in stages for block in stage]
    place, change = drawn.randrange(len(blocks)), drawn.choice(changes)
    change(blocks[place])
    if name != "torchvision":
        functional.set_step_mode(model, "m")
    steps = 1 if name == "torchvision" else 2
    found = danetc.import_network(model, (3, 16, 16), steps=steps, samples=4)
    what = f"{name} {layers}: {change.__name__} in block {place}"
    assert found.agreement.deviation > 0.01, what
    assert found.agreement.difference < 1e-5, what
    each = [stage for stage in found.found.stages for _ in range(stage.blocks)]
    named = Counter(stage.connection for stage in each if not stage.own)
    ((_, usual),) = named.most_common(1)  # AND in place of ADD is std's too, by another name
    assert usual < len(blocks), what
