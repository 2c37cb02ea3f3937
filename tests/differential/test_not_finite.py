"""NaN and infinity are the same in every form of a network: nothing hides that a value diverged."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.runtime.model.built import Model
from tests.differential.networks import VARIETY, variety
from tests.differential.test_forms import executed, packed
from tests.fuzzing.compare import compiling
from tests.fuzzing.forms import streamed

DIVERGES = """use std
neuron diverges { state c = 0.5
  c = log(x) * heaviside(c); s = heaviside(c - 1) + 0.1 * c }
neuron whole { state u = 0.0
  v = u + x; s = min(max(round(v), 0), 4); u = v - s }
network n { input = events(2, 8, 8); steps = 3; neuron = IF; surrogate = atan
  a = in -> conv(4) -> norm -> diverges -> maxpool(2)
  b = in -> conv(4) -> norm -> whole -> conv(4) -> norm -> spike -> avgpool(2)
  c = in -> norm -> LIF_soft -> conv(4) -> tanh -> PLIF -> maxpool(2)
  out = (a + b + c + 0 * a + (b - b) * c) -> linear(5) }
"""
VALUES = [math.nan, math.inf, -math.inf, 1e30]
DETERMINISTIC = [
    name for name in VARIETY
    if not any(OPS[node.op].random for node in variety(name).nodes.values())
]  # fmt: skip


def forms(graph: Graph, training: bool) -> Iterator[tuple[str, nn.Module]]:
    eager, fused = emit(graph), emit(graph, backend="fused")
    yield "eager", eager
    yield "fused", fused
    yield "recompute", emit(graph, backend="fused", memory="recompute")
    if not training:
        yield "folded", fused


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    found = model(x)
    return found if isinstance(found, tuple) else (found,)


def check_all_forms(graph: Graph, where: str, value: float, compiled: bool = False) -> None:
    """Hold each form against ``model.py``, whose operations are torch's own."""
    written = packed(executed(emit_python(graph)).float(), graph)
    generator = torch.Generator().manual_seed(1)
    leading = (graph.steps, 4) if taken(graph).varies else (4,)
    x = torch.rand(*leading, *taken(graph).shape, generator=generator)
    if taken(graph).kind.is_integer:
        x = (x * (taken(graph).kind.high + 1)).floor()
    state = emit(graph).state_dict()
    with torch.no_grad():
        for tensor in state.values():
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor += 0.2 * torch.rand(tensor.shape, generator=generator)
    if where == "input":
        x.view(-1)[torch.randperm(x.numel(), generator=generator)[:3]] = value
    else:
        weights = [key for key in state if key.endswith("weight")]
        state[weights[len(weights) // 2]].view(-1)[1] = value
    for training in (False, True):
        written.load_state_dict(state)
        expected = run(written.train(training), x)
        for form, model in forms(graph, training):
            model.load_state_dict(state)
            model.train(training)
            assert isinstance(model, Model)
            with compiling(compiled), torch.no_grad():
                check(form, run(danetc.fold(model) if form == "folded" else model, x), expected)
        ops = {node.op for node in graph.nodes.values()}
        if not training and not model.signature.whole and not ops & {"mean_over_time", "latency"}:
            with compiling(compiled), torch.no_grad():
                found = streamed(model, graph)(x)
                check("stream", found if isinstance(found, tuple) else (found,), expected)


def check(form: str, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for y, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(
            y,
            wanted.detach(),
            rtol=1e-3,
            atol=1e-3,
            equal_nan=True,
            msg=lambda text: f"{form}: {text}",
        )


@pytest.mark.parametrize("value", VALUES[:3])
@pytest.mark.parametrize("where", ["input", "weight"])
def test_one_meaning(where: str, value: float) -> None:
    check_all_forms(graph_of(check_text(DIVERGES)), where, value)


@pytest.mark.thorough
@pytest.mark.parametrize("value", VALUES)
def test_one_meaning_compiled(value: float) -> None:
    for where in ("input", "weight"):
        check_all_forms(graph_of(check_text(DIVERGES)), where, value, compiled=True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_meaning_of_every_operation(name: str) -> None:
    for where in ("input", "weight"):
        for value in VALUES[:2]:
            check_all_forms(variety(name), where, value)
