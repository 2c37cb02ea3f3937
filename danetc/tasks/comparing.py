"""A written file compared with the model that it was written from, on samples whose outputs vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from danetc.tasks.export_content import Content
from danetc.tasks.flips import explained, first_spikes_decided, recorded
from danetc.tasks.networks import emit_model
from danetc.tasks.readers import Ran, Reader, Run

SAMPLES, BATCH = 100, 20
VARIED = 0.01
"""The standard deviation over samples that outputs must have for a comparison to say something."""
TOLERANCE: Mapping[bool, float] = {False: 1e-5, True: 1e-2}
"""How far a file may be from its model, plus as much of the largest output, and how much of a neuron's
input decides on a spike that rounding may change; by whether numbers are float16."""
_MACS = 2e10  # what is computed at most, so that a large network is compared on fewer samples


@dataclass(frozen=True, slots=True)
class FileComparison:
    """How far a file's outputs are from those of the model, on random samples.

    ``largest`` is the largest difference in the samples whose spikes are all the model's, ``flipped``
    how many others there are: each was traced to a spike so near to its threshold that rounding
    decides on it. ``deviation`` is the standard deviation of the outputs over samples. ``warmed``
    says that norms warmed on random input were compared, since the network's own outputs do not vary.
    """

    samples: int
    largest: float
    flipped: int
    deviation: float
    warmed: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def compare_file(
    content: Content,
    data: bytes,
    read: Reader,
    write: Callable[[Content], bytes],
    seed: int = 0,
) -> FileComparison | str:
    """Compare a file's bytes with the model on samples of a seed. A text says why they cannot be.

    Where the model's outputs do not vary, a file of the same network with warmed norms is written
    and compared in its place. Raises UserError where a difference is not one of rounding.
    """
    graph = content.graph
    drawn = (n.path for n in graph.nodes.values() if OPS[n.op].random and not OPS[n.op].training)
    if (path := next(drawn, None)) is not None:
        return f"{path} draws random numbers"
    macs = graph.steps * sum(macs_of(graph, node) for node in graph.nodes.values())
    samples = max(2, min(SAMPLES, int(_MACS // max(macs, 1))))
    model = emit_model(graph, 0, "eager").eval()
    model.load_state_dict(content.model.state_dict())
    first = _inputs(graph, min(samples, BATCH), seed * SAMPLES)
    warmed = _deviation(_expected(model, content, first)) < VARIED
    if warmed:
        make_vary(model, graph, min(samples, BATCH))
    if content.options.half:
        model.half().float()  # both compute with the same weights
    if warmed:
        content = replace(content, model=model)
        data = write(content)
    run = read(data, content)
    largest, flipped, outputs = 0.0, 0, list[list[Tensor]]()
    for start in range(0, samples, BATCH):
        inputs = _inputs(graph, min(BATCH, samples - start), seed * SAMPLES + start)
        found = _Batch(model, content, run, inputs)
        largest, flipped = max(largest, found.largest), flipped + found.flipped
        outputs.append(found.outputs)
    deviation = _deviation([torch.cat(parts) for parts in zip(*outputs, strict=True)])
    return FileComparison(samples, largest, flipped, deviation, warmed)


class _Batch:
    """Some samples by the model and by the file; ``outputs`` [N, ...] are the model's."""

    def __init__(
        self, model: Model, content: Content, run: Run, inputs: tuple[Tensor, ...]
    ) -> None:
        self.graph = content.graph
        self.half = content.options.half
        self.within = TOLERANCE[self.half]
        self.model, self.inputs = model, inputs
        with recorded(model) as self.seen:
            model(*inputs)
        self.outputs = _expected(model, content, inputs)
        ran = run(inputs)
        theirs = _by_sample(self.graph, ran.outputs)
        gap = _gaps(self.outputs, theirs)
        room = self.within * (1 + max(float(y.abs().max()) for y in self.outputs))
        apart = (~(gap <= room)).nonzero().flatten().tolist()  # not a number is apart too
        for sample in apart:
            if not self._is_traced(ran, sample, theirs, room):
                raise UserError(
                    f"read back, the file gives other numbers than the model: {float(gap[sample]):.1e} "
                    "of difference, not from a spike at its threshold; it was not written. Please "
                    "report this, with the spec"
                )
        self.flipped = len(apart)
        self.largest = max(gap[gap <= room].tolist(), default=0.0)

    def _is_traced(self, ran: Ran, sample: int, theirs: Sequence[Tensor], room: float) -> bool:
        """Whether a sample's difference comes of spikes that stand at their threshold."""
        if ran.neurons:

            def of_input(x: Tensor) -> float:
                return self.within * (max(1.0, float(x.abs().max())) if self.half else 1.0)

            return first_spikes_decided(self.graph, self.seen, ran.neurons, sample, of_input)

        def gap(outputs: Sequence[Tensor]) -> Tensor:
            other = [y[sample : sample + 1] for y in theirs]
            return _gaps(_by_sample(self.graph, outputs), other)

        one = [
            (x.narrow(int(node.value.varies), sample, 1), int(node.value.varies))
            for x, node in zip(self.inputs, self.graph.inputs, strict=True)
        ]
        return explained(self.model, one, gap, room, self.within)


def _gaps(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """The largest difference of each sample, [N]."""
    apart = [(a - b).flatten(1).abs().amax(1) for a, b in zip(mine, theirs, strict=True)]
    return torch.stack(apart).amax(0)


def _inputs(graph: Graph, samples: int, seed: int) -> tuple[Tensor, ...]:
    """Random numbers of the inputs' kinds; of real ones each sample has a scale of its own."""
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


def _expected(model: Model, content: Content, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The model's outputs, [N, ...]; step by step where the file is of one step."""
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
    """Outputs [N, ...], those over time [N, T, ...]."""
    ranks = (len(graph[id].value.shape) for id in graph.outputs.values())
    return [y.movedim(y.dim() - rank - 1, 0) for y, rank in zip(outputs, ranks, strict=True)]


def _deviation(outputs: Sequence[Tensor]) -> float:
    """The standard deviation over samples, of the output where it is largest."""
    return max(float(y.float().std(0).mean()) for y in outputs)


def make_vary(model: Model, graph: Graph, samples: int = BATCH) -> None:
    """Warm norms, and then make weights of norms, biases and linear layers larger, until the outputs
    vary twice as much as they must (of other samples they vary less), as far as that is possible."""
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
        if _deviation(_by_sample(graph, outputs)) >= 2 * VARIED:
            return
