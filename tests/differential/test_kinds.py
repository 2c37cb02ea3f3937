"""Claimed kinds against the values on every edge of running networks.

Small networks with many operations, neurons and joins take random images. Every value must lie in its
kind. In the networks of ``TIGHT``, kinds must not claim more numbers than appear.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import gcd

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import same_for_all, taken
from danetc.compiler.ir.graph import Graph, Node
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


def run(graph: Graph) -> Iterator[tuple[Node, list[float]]]:
    """Run a network in float32, with its biases moved so that all neurons fire. Yield each node
    with its distinct values, or with some of them if they are real numbers."""
    outer = {*(node.id for node in graph.inputs), *same_for_all(graph)}
    outputs = {f"node{id}": id for id in graph.nodes if id not in outer}
    model = emit(replace(graph, outputs=outputs))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.6 * torch.randn(parameter.shape, generator=generator) + 0.3)
    found: dict[int, Tensor] = {}
    lead = (STEPS, BATCH) if taken(graph).varies else (BATCH,)
    for _ in range(PASSES):
        x = torch.randn(*lead, *taken(graph).shape, generator=generator)
        encoded = any(node.op in ("poisson", "latency") for node in graph.nodes.values())
        x = x if encoded else 3 * x
        with torch.no_grad():
            result = model(x)
        for id, value in zip(outputs.values(), result, strict=True):
            whole = graph[id].value.kind.is_integer
            seen = (value if whole else value.flatten()[:1000]).unique()
            found[id] = torch.cat([found[id], seen]).unique() if id in found else seen
    for id, seen in found.items():
        yield graph[id], seen.tolist()


REAL = (
    "conv", "linear", "batchnorm", "mean_over_time", "dropout", "droppath", "div", "sigmoid", "tanh",
    "softplus", "sum_over_time", "conv_over", "conv_over_time", "linear_over_time",
)  # fmt: skip
"""Operations that return real numbers, even if all values in a run are multiples of a power of
two: T may differ, and training divides the values that it does not drop."""


@pytest.mark.parametrize("name", KINDS)
def test_every_value_is_of_its_kind(name: str) -> None:
    """A value that is computed from ranges and is itself a range must not be called real."""
    graph = text(KINDS[name])
    for node, values in run(graph):
        kind = node.value.kind
        if kind.is_integer:
            units = [value / kind.unit for value in values]
            assert all(unit.is_integer() for unit in units), (node.path, str(kind), values[:9])
            assert kind.low <= min(units) <= max(units) <= kind.high, (node.path, str(kind))
        elif graph.inputs_of(node) and all(n.value.kind.is_integer for n in graph.inputs_of(node)):
            whole = all((64 * value).is_integer() for value in values)
            assert not whole or node.op in REAL, (node.path, "could be a range")


TIGHT = ("xor", "signed", "pooled", "delay", *(f"neuron_{name}" for name in NEURONS))


@pytest.mark.parametrize("name", TIGHT)
def test_kinds_claim_no_more_than_appears(name: str) -> None:
    """If a range has at most 9 numbers, both its ends are reached and its unit is needed. Sums of -1
    and 1 may have a larger unit: their range contains the odd numbers too."""
    for node, values in run(text(KINDS[name])):
        kind = node.value.kind
        if not kind.is_integer or kind.high - kind.low > 8:
            continue
        units = sorted(int(value / kind.unit) for value in values)
        assert (units[0], units[-1]) == (kind.low, kind.high), (node.path, str(kind), units)
        assert gcd(*units) == 1 or name == "neuron_bipolar", (node.path, str(kind), units)
