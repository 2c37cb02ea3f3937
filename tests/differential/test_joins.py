"""Joins of values of which some are the same at each time step."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.ops import OPS
from tests.differential.helpers import assert_same, built, observe, randn, text
from tests.differential.networks import small


def attended(q: Tensor, k: Tensor, v: Tensor | None = None) -> Tensor:
    """Of two heads, which are the two channels."""
    a = q.flatten(-2).unsqueeze(-1) * k.flatten(-2).unsqueeze(-2)
    if v is None:
        return a
    return (a * v.flatten(-2).unsqueeze(-2)).sum(-1).view_as(q)


JOINS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "add": ("{} + {}", torch.add),
    "sub": ("{} - {}", torch.sub),
    "mul": ("{} * {}", torch.mul),
    "div": ("{} / {}", torch.div),
    "maximum": ("max({}, {})", torch.maximum),
    "minimum": ("min({}, {})", torch.minimum),
    "concat": ("concat({}, {})", lambda *xs: torch.cat(xs, -3)),
    "scores": ("scores({}, {}, heads = 2)", lambda q, k: attended(q, k)),
    "mix": ("mix(scores({0}, {1}, heads = 2), {1})", lambda a, b: attended(a, b, b)),
}
"""For each operation with operands: how it is written, and what it is in torch."""


EXACTNESS = {"mix": 1e-12}
"""What sums over keys in another order."""


def test_all_joins_are_here() -> None:
    joins = {row.name for row in OPS.values() if row.operands[1] not in (0, 1)}
    assert set(JOINS) == joins - {
        "beside",
        "keys_first",
    }  # it has what a neuron of several inputs reads


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("first", ["m", "in"])
@pytest.mark.parametrize("name", JOINS)
def test_every_join_takes_static_and_varying_values(name: str, first: str, backend: str) -> None:
    """For sequences of any length; the network's own T is another one."""
    form, function = JOINS[name]
    second = {"m": "in", "in": "m"}[first]
    graph = text(
        "network n { input = events(2, 4, 4); steps = 3; m = in -> mean_over_time; "
        f"out = {form.format(first, second)} }}"
    )
    (node,) = (node for node in graph.nodes.values() if node.op == name)
    assert node.value.varies
    model = emit(graph, 0, backend).double()
    for steps in (3, 5):
        x = randn(steps, 2, 2, 4, 4)
        still = torch.stack([x.mean(0)] * steps)
        given = {"m": still, "in": x}
        wanted = reduce(function, (given[first], given[second]))
        torch.testing.assert_close(model(x), wanted, rtol=0, atol=EXACTNESS.get(name, 0.0))


@pytest.mark.parametrize("input", ["image(3, 8, 8)", "events(3, 8, 8)"])
def test_a_stage_that_begins_without_time(input: str) -> None:
    """Its first blocks' outputs vary and its input does not; both are fed to the others."""
    stages = "mean_over_time -> stage(dense(2), 3) via dense_layer by densely_concatenated"
    graph = text(small(stages, input=input))
    (stage,) = graph.stages
    assert not graph[stage.entry].value.varies
    assert graph[stage.result].value.varies
    x = randn(3, 2, 3, 8, 8)
    model, written = built(graph), built(text(small(stages, input=input), ()))
    assert_same(
        observe(model, x), observe(written, x), outputs=1e-12, gradients=1e-12, buffers=1e-12
    )
