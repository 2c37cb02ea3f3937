"""Claimed kinds against the values on every edge of networks as they run.

Small networks that between them use every operation, in every form of neuron and join, take random
images; every value then lies in its kind, and kinds claim no more numbers than appear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.graph import Graph, Node
from tests.differential.helpers import text
from tests.differential.networks import VARIETY, small

STEPS, BATCH, PASSES = 3, 4, 3

NEURONS = {
    "two": "neuron two { state u = 0; v = 0.5 * u + x; s = heaviside(v - 0.3) + heaviside(v - 1); u = v - s }",
    "double": "neuron double { state u = 0; v = 0.5 * u + x; h = heaviside(v - 0.5); s = 2 * h; u = v * (1 - h) }",
    "integer": "neuron integer { state u = 0; v = 0.5 * u + x; s = round(min(max(v, 0), 3)); u = v - s }",
    "normed": "neuron normed { state u = 0; v = 0.5 * u + x; s = round(min(max(2 * v, 0), 4)) / 4; u = v - s }",
    "ternary": "neuron ternary { state u = 0; v = 0.5 * u + x; s = heaviside(v - 0.7) - heaviside(-v - 0.7); u = v - s }",
    "delayed": "neuron delayed { state d = 0; h = heaviside(x - 0.2); s = d; d = h }",
    "bipolar": "neuron bipolar { s = 2 * heaviside(x) - 1 }",
}
XOR = """connection xor { each = conv -> norm -> spike; projection = conv -> norm -> spike
  out = branch + shortcut - 2 * branch * shortcut }"""
SIGNED = """connection signed { each = conv -> norm -> spike; projection = conv -> norm -> spike
  out = max(branch, -shortcut) - min(branch, 0.5 * shortcut) }"""
POOLED = """connection pooled { each = conv -> norm -> spike; projection = conv -> norm -> spike
  small = shortcut -> avgpool(3, stride = 1, padding = 1)
  half = shortcut -> avgpool(2, stride = 2) -> upsample(2)
  out = concat(branch, 1 - half, small) }"""

KINDS = {
    **VARIETY,
    **{f"neuron_{name}": small("stage(basic(4), 2) via sew", settings=f"neuron = {name}", more=body)
       for name, body in NEURONS.items()},
    "xor": small("stage(basic(4), 3) via xor by densely_additive_all", more=XOR),
    "signed": small("stage(basic(4), 2) via signed", more=SIGNED),
    "pooled": small("stage(single(4), 2) via pooled", more=POOLED),
    "delay": small("stage(basic(4), 2) via sew", stem="conv(4) -> norm -> spike -> late",
                   more="neuron late { state d = 0; s = d; d = x }"),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A network, and for each of its nodes the different values that it had."""

    graph: Graph
    values: dict[int, list[float]]


def run(source: str) -> Seen:
    """All values of a network that runs in float32, its norms moved to make all of it fire."""
    graph = text(source)
    outputs = {f"node{id}": id for id, node in graph.nodes.items() if node.op != "input"}
    model = emit(replace(graph, outputs=outputs))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.bias") or (".norm" in name and name.endswith("bias")):
                parameter.add_(0.6 * torch.randn(parameter.shape, generator=generator) + 0.3)
    found: dict[int, Tensor] = {}
    lead = (STEPS, BATCH) if graph.input.value.varies else (BATCH,)
    for _ in range(PASSES):
        x = torch.randn(*lead, *graph.input.value.shape, generator=generator)
        if not any(node.op in ("poisson", "latency") for node in graph.nodes.values()):
            x = 3 * x
        with torch.no_grad():
            result = model(x)
        for id, value in zip(outputs.values(), result, strict=True):
            seen = value.unique()
            found[id] = torch.cat([found[id], seen]).unique() if id in found else seen
    return Seen(graph, {id: values.tolist() for id, values in found.items()})


def assert_held(node: Node, values: list[float]) -> None:
    kind = node.value.kind
    if kind.is_integer:
        units = [value / kind.unit for value in values]
        assert all(unit.is_integer() for unit in units), (node.path, str(kind), values[:9])
        assert kind.low <= min(units), (node.path, str(kind))
        assert max(units) <= kind.high, (node.path, str(kind))


REAL = ("mean_over_time", "dropout", "droppath", "div", "sigmoid", "tanh", "softplus")
"""Operations that may give multiples of a power of two in a run, and are real numbers all the same:
T may be another one, and training divides what it does not drop."""


@pytest.mark.parametrize("name", KINDS)
def test_every_value_is_of_its_kind(name: str) -> None:
    seen = run(KINDS[name])
    for id, values in seen.values.items():
        assert_held(seen.graph[id], values)
    for id, values in seen.values.items():
        node = seen.graph[id]
        kinds = [item.value.kind for item in seen.graph.inputs_of(node)]
        if not node.value.kind.is_integer and all(kind.is_integer for kind in kinds):
            whole = all((64 * value).is_integer() for value in values)
            assert not whole or node.op in (*REAL, "conv", "linear"), (
                node.path,
                "could be a range",
            )


TIGHT = ("xor", "signed", "pooled", "delay", *(f"neuron_{name}" for name in NEURONS))


@pytest.mark.parametrize("name", TIGHT)
def test_kinds_claim_no_more_than_appears(name: str) -> None:
    """Of all that is made of few values, each end of the range is reached, and its unit needed: but
    for sums of -1 and 1, whose range holds the odd numbers too."""
    seen = run(KINDS[name])
    for id, values in seen.values.items():
        node, kind = seen.graph[id], seen.graph[id].value.kind
        if not kind.is_integer or kind.high - kind.low > 8:
            continue
        units = sorted(int(value / kind.unit) for value in values)
        assert (units[0], units[-1]) == (kind.low, kind.high), (node.path, str(kind), units)
        assert gcd(*units) == 1 or name == "neuron_bipolar", (node.path, str(kind), units)
