"""Comparison of an exported file with its model, on random samples.

A membrane potential at its threshold is rounded up by one program and down by another, and one spike
may change all that follows. So only samples without such a spike agree. How many to expect is
estimated by the model itself with its weights changed by about as much as rounding changes numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of, random_input
from danetc.tasks.formats import Content, Format
from danetc.tasks.networks import emit_model

SAMPLES, BATCH = 100, 20
VARIED = 0.01
"""Least standard deviation of outputs over samples; otherwise the norms are warmed first."""
TOLERANCE = 1e-5
"""Largest difference, relative to the largest output plus 1."""
ROUNDING = 0.25
"""Relative change of the weights that stands for rounding, in units of the tolerance."""
_MACS = 2e10  # large networks are compared on fewer samples


@dataclass(frozen=True, slots=True)
class FileComparison:
    """Comparison of a file with its model on random samples.

    Attributes:
        samples: number of samples.
        agreeing: samples whose outputs are within the tolerance. Other samples have a spike at its
            threshold.
        largest: largest difference of the samples that agree.
        deviation: standard deviation of the model's outputs over samples.
        warmed: True if norms were warmed first, since the network's own outputs do not vary.
    """

    samples: int
    agreeing: int
    largest: float
    deviation: float
    warmed: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def compare_file(content: Content, row: Format, data: bytes) -> FileComparison | str:
    """Compare a file's bytes with the model; a string says why that is not possible.

    If the model's outputs do not vary, a file of the network with warmed norms is written and
    compared instead. Raises UserError if the differences are not due to rounding.
    """
    graph = content.graph
    drawn = (n.path for n in graph.nodes.values() if OPS[n.op].random and not OPS[n.op].training)
    if (path := next(drawn, None)) is not None:
        return f"{path} draws random numbers"
    macs = graph.steps * sum(macs_of(graph, node) for node in graph.nodes.values())
    samples = max(4, min(SAMPLES, int(_MACS // max(macs, 1))))
    batches = [_inputs(graph, min(BATCH, samples - at), at) for at in range(0, samples, BATCH)]
    model = emit_model(graph, 0, "eager").eval()
    model.load_state_dict(content.model.state_dict())
    run = _stepwise(model, graph) if content.streaming else lambda *x: outputs_of(model(*x))
    expected = _outputs(graph, run, batches)
    warmed = _deviation(expected) < VARIED
    if warmed:
        make_vary(model, graph, min(samples, BATCH))
        content = replace(content, model=model)
        data = row.write(content)
        expected = _outputs(graph, run, batches)
    assert row.run is not None
    gap = _gaps(expected, _outputs(graph, row.run(data, content), batches))
    room = TOLERANCE * (1 + max(float(y.abs().max()) for y in expected))
    agrees = gap <= room
    agreeing = int(agrees.sum())
    if agreeing < samples:
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(1 + ROUNDING * TOLERANCE)
        control = _gaps(expected, _outputs(graph, run, batches))
        if agreeing < (int((control <= room).sum()) - 1) / 2:
            raise UserError(
                "read back, the file gives other numbers than the model: the outputs of "
                f"{samples - agreeing} of {samples} random samples differ, by up to "
                f"{float(gap.max()):.1e}; it was not written. Please report this, with the spec"
            )
    if not agreeing:
        return f"rounding alone changes spikes in each of {samples} random samples"
    return FileComparison(samples, agreeing, float(gap[agrees].max()), _deviation(expected), warmed)


def _gaps(mine: Iterable[Tensor], theirs: Iterable[Tensor]) -> Tensor:
    """Return the largest difference of each sample, [N]."""
    each = [(x - y).flatten(1).abs().amax(1) for x, y in zip(mine, theirs, strict=True)]
    return torch.stack(each).amax(0)


def _deviation(outputs: Iterable[Tensor]) -> float:
    """Return the standard deviation over samples, of the output where it is largest."""
    return max(float(y.float().std(0).mean()) for y in outputs)


def _inputs(graph: Graph, samples: int, seed: int) -> tuple[Tensor, ...]:
    """Return random inputs; each sample of real numbers has a scale of its own."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for node in graph.inputs:
        size = (*[graph.steps] * node.value.varies, samples, *node.value.shape)
        x = random_input(node.value.kind, size, generator)
        if not node.value.kind.is_integer:
            scales = 0.25 + 2.75 * torch.rand(samples, generator=generator)
            x = x * scales.view(-1, *[1] * len(node.value.shape))
        found.append(x)
    return tuple(found)


def _outputs(
    graph: Graph,
    run: Callable[..., Sequence[Tensor]],
    batches: Iterable[tuple[Tensor, ...]],
) -> list[Tensor]:
    """Return the outputs for all samples, [N, ...]; those over time as [N, T, ...]."""
    found = zip(*(run(*inputs) for inputs in batches), strict=True)
    ranks = [len(graph[id].value.shape) for id in graph.outputs.values()]
    return [
        torch.cat([y.movedim(y.dim() - rank - 1, 0) for y in parts])
        for rank, parts in zip(ranks, found, strict=True)
    ]


def _stepwise(model: Model, graph: Graph) -> Callable[..., Sequence[Tensor]]:
    """Return a function that runs a model step by step; its outputs are those of all steps."""

    def run(*inputs: Tensor) -> list[Tensor]:
        states, steps = None, []
        for t in range(graph.steps):
            frames = tuple(
                x[t] if node.value.varies else x
                for x, node in zip(inputs, graph.inputs, strict=True)
            )
            given, states = model.stream(frames if len(frames) > 1 else frames[0], states)
            steps.append(outputs_of(given))
        return [torch.stack(values) for values in zip(*steps, strict=True)]

    return run


def make_vary(model: Model, graph: Graph, samples: int = BATCH) -> None:
    """Warm norms and enlarge weights until the outputs vary twice as much as they must.

    Only weights of norms and linear layers, and biases, are changed, in up to five attempts.
    """
    generator = torch.Generator().manual_seed(0)
    for attempt in range(5):
        for parameter in model.parameters():
            if attempt and parameter.dim() == 1:
                parameter.add_(0.4 * torch.rand(parameter.shape, generator=generator))
            elif attempt and parameter.dim() == 2:
                parameter.mul_(2.0)
        for seed in range(3):
            model.train()(*_inputs(graph, samples, 1000 + seed))
        model.eval()
        outputs = _outputs(graph, lambda *x: outputs_of(model(*x)), [_inputs(graph, samples, 0)])
        if _deviation(outputs) >= 2 * VARIED:
            return
