"""Modules and their first weights, as torchvision's ResNet sets them.

Convolutions are He-normal over their outputs (He et al. 2015, ``fan_out``), norms start at the
weight their node says and bias 0, linear layers and convolution biases as torch does. Weights
come from a generator of their own: the global random state is neither read nor moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from danetc.compiler.graph import Node
from danetc.compiler.ops import Module
from torch import nn


def construct(module: Module, create: Callable[..., Any]) -> nn.Module:
    """The torch module a node becomes. Large weights are left unset: ``initialise`` sets them."""
    made: nn.Module
    if create in (nn.Conv2d, nn.Linear):
        with torch.device("meta"):
            made = create(*module.args, **module.kwargs)
        return made.to_empty(device=torch.get_default_device())
    made = create(*module.args, **module.kwargs)
    return made


@torch.no_grad()
def initialise(module: nn.Module, node: Node, generator: torch.Generator) -> None:
    """Give the parameters of a node's module their first values."""
    match module:
        case nn.Conv2d():
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            _bias(module, generator)
        case nn.Linear():
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            _bias(module, generator)
        case _ if "init" in node.attrs:
            weight = module.get_parameter("weight")
            weight.fill_(float(node.attrs["init"] or 0.0))


def _bias(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """Uniform within 1 / sqrt(fan_in), torch's default."""
    if module.bias is not None:
        bound = 1 / math.sqrt(module.weight[0].numel())
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)
