"""A graph of NIR by its equations, step by step: what a file of NIR means, without a simulator.

Neurons are taken by forward Euler steps. Several edges into a node are a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from graphlib import TopologicalSorter
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class NirProgram:
    """Nodes of NIR by their names, what each reads, and an order in which they can run."""

    nodes: Mapping[str, Any]
    sources: Mapping[str, Sequence[str]]
    order: Sequence[str]
    dt: float
    """Seconds of a time step."""

    def run(self, entry: str, inputs: Iterable[Tensor]) -> list[dict[str, Tensor]]:
        """What all nodes give at each step, of the inputs [N, ...] of the node ``entry``."""
        potentials: dict[str, Tensor] = {}
        steps = []
        for x in inputs:
            values = {entry: x}
            for name in self.order:
                if self.sources[name]:
                    taken = reduce(torch.add, (values[source] for source in self.sources[name]))
                    values[name] = _step(self.nodes[name], name, taken, potentials, self.dt)
            steps.append(values)
        return steps


def nir_program(graph: Any) -> NirProgram:
    """A graph of NIR as what can be run; without ``dt`` its steps are those of ``danetc export``.

    Raises graphlib.CycleError for a loop.
    """
    from danetc.compiler.emit.nir import DT  # late: it needs nir

    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    order = [*TopologicalSorter(sources).static_order()]
    return NirProgram(graph.nodes, sources, order, float((graph.metadata or {}).get("dt", DT)))


def _step(node: Any, name: str, x: Tensor, potentials: dict[str, Tensor], dt: float) -> Tensor:
    """What one node of NIR makes of one step's input."""
    functional = nn.functional

    def array(label: str) -> Tensor:
        return torch.from_numpy(getattr(node, label)).to(x)

    match type(node).__name__:
        case "Output":
            return x
        case "Flatten":
            return x.flatten(1)
        case "Affine":
            return functional.linear(x, array("weight"), array("bias"))
        case "Conv2d":
            stride, padding, dilation = (
                [int(size) for size in getattr(node, label)]
                for label in ("stride", "padding", "dilation")
            )
            weight, bias = array("weight"), array("bias")
            return functional.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))
        case "AvgPool2d":
            sizes = (getattr(node, label).tolist() for label in ("kernel_size", "stride", "padding"))  # fmt: skip
            return functional.avg_pool2d(x, *sizes)
        case "IF" | "LIF" | "LI":
            v = potentials.get(name, torch.zeros_like(x))
            if "v_reset" in vars(node) and name not in potentials:
                v = v + array("v_reset")
            change = array("r") * x
            if hasattr(node, "tau"):
                # in the precision of the file: dt / tau is a ratio of small numbers
                ratio = torch.from_numpy(dt / node.tau).to(x)
                v = v + ratio * (array("v_leak") - v + change)
            else:
                v = v + torch.from_numpy(dt * node.r).to(x) * x
            if not hasattr(node, "v_threshold"):
                potentials[name] = v
                return v
            s = (v >= array("v_threshold")).to(x)
            potentials[name] = torch.where(s > 0, array("v_reset"), v)
            return s
        case kind:
            raise ValueError(f"{name}: no reader for {kind}")
