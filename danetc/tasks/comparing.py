"""Comparison of an exported file with its model, on random samples.

A membrane potential at its threshold is rounded up by one program and down by another, and one spike
may change all that follows. So only samples without such a spike agree. How many to expect is
estimated by the model itself with its weights changed by about as much as rounding changes numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

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
TOLERANCE: Mapping[bool, float] = {False: 1e-5, True: 2e-3}
"""Largest difference, relative to the largest output plus 1, of float32 and (True) float16 files."""
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
def compare_file(content: Content, row: Format, data: bytes, seed: int = 0) -> FileComparison | str:
    """Compare a file's bytes with the model; a string says why that is not possible.

    If the model's outputs do not vary, a file of the network with warmed norms is written and
    compared instead. Raises UserError if the differences are not due to rounding.
    """
    graph, half = content.graph, content.options.half
    drawn = (n.path for n in graph.nodes.values() if OPS[n.op].random and not OPS[n.op].training)
    if (path := next(drawn, None)) is not None:
        return f"{path} draws random numbers"
    macs = graph.steps * sum(macs_of(graph, node) for node in graph.nodes.values())
    samples = max(4, min(SAMPLES, int(_MACS // max(macs, 1))))
    model = emit_model(graph, 0, "eager").eval()
    model.load_state_dict(content.model.state_dict())
    seeds = range(seed * SAMPLES, seed * SAMPLES + samples, BATCH)
    batches = [_inputs(graph, min(BATCH, seeds.stop - start), start) for start in seeds]
    expected = [_outputs(model, content, inputs) for inputs in batches]
    warmed = _deviation(expected) < VARIED
    if warmed:
        make_vary(model, graph, min(samples, BATCH))
    if half:
        model.half().float()
    if warmed or half:
        expected = [_outputs(model, content, inputs) for inputs in batches]
    if warmed:
        content = replace(content, model=model)
        data = row.write(content)
    assert row.run is not None
    run = row.run(data, content)
    gap = _gaps(expected, [_by_sample(graph, run(inputs)) for inputs in batches])
    room = TOLERANCE[half] * (1 + max(float(y.abs().max()) for each in expected for y in each))
    agrees = gap <= room
    agreeing = int(agrees.sum())
    if agreeing < samples:
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(1 + ROUNDING * TOLERANCE[half])
        control = _gaps(expected, [_outputs(model, content, inputs) for inputs in batches])
        if agreeing < (int((control <= room).sum()) - 1) / 2:
            raise UserError(
                "read back, the file gives other numbers than the model: the outputs of "
                f"{samples - agreeing} of {samples} random samples differ, by up to "
                f"{float(gap.max()):.1e}; it was not written. Please report this, with the spec"
            )
    if not agreeing:
        return f"rounding alone changes spikes in each of {samples} random samples"
    return FileComparison(samples, agreeing, float(gap[agrees].max()), _deviation(expected), warmed)


Batches: TypeAlias = Sequence[Sequence[Tensor]]
"""Outputs [N, ...] of each batch."""


def _gaps(mine: Batches, theirs: Batches) -> Tensor:
    """Return the largest difference of each sample, [N]."""
    batches = []
    for a, b in zip(mine, theirs, strict=True):
        each = [(x - y).flatten(1).abs().amax(1) for x, y in zip(a, b, strict=True)]
        batches.append(torch.stack(each).amax(0))
    return torch.cat(batches)


def _deviation(batches: Batches) -> float:
    """Return the standard deviation over samples, of the output where it is largest."""
    outputs = (torch.cat(parts) for parts in zip(*batches, strict=True))
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


def _outputs(model: Model, content: Content, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the model's outputs, [N, ...]; step by step if the file holds one step."""
    graph = content.graph
    if content.options.time != "step":
        return _by_sample(graph, outputs_of(model(*inputs)))
    states, steps = None, []
    for t in range(graph.steps):
        frames = tuple(
            x[t] if node.value.varies else x for x, node in zip(inputs, graph.inputs, strict=True)
        )
        given, states = model.stream(frames if len(frames) > 1 else frames[0], states)
        steps.append(outputs_of(given))
    return [torch.stack(values, 1) for values in zip(*steps, strict=True)]


def _by_sample(graph: Graph, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs as [N, ...], those over time as [N, T, ...]."""
    ranks = (len(graph[id].value.shape) for id in graph.outputs.values())
    return [y.movedim(y.dim() - rank - 1, 0) for y, rank in zip(outputs, ranks, strict=True)]


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
        outputs = outputs_of(model.eval()(*_inputs(graph, samples, 0)))
        if _deviation([_by_sample(graph, outputs)]) >= 2 * VARIED:
            return
