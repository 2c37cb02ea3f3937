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
from danetc.tasks.flips import explained
from danetc.tasks.following import Follower, followers, following
from danetc.tasks.networks import emit_model
from danetc.tasks.readers import Reader, Run

SAMPLES, BATCH = 100, 20
VARIED = 0.01
"""The standard deviation over samples that outputs must have for a comparison to say something."""
TOLERANCE: Mapping[bool, float] = {False: 1e-5, True: 2e-3}
"""How far a file may be from its model, plus as much of the largest output, and how much of a neuron's
input decides on a spike that rounding may change; by whether numbers are float16."""
_MACS = 2e10  # what is computed at most, so that a large network is compared on fewer samples


@dataclass(frozen=True, slots=True)
class FileComparison:
    """How far a file's outputs are from those of the model, on random samples.

    ``flipped`` is in how many samples the file fires otherwise: each time by a spike so near to its
    threshold that rounding decides on it. ``largest`` is the largest difference in the others. Where the
    file's spikes are known (``by_layer``) it is that of all samples, with the model firing as the file
    does, and each layer of neurons was compared for itself. ``deviation`` is the standard deviation of the outputs over samples. ``warmed``
    says that norms warmed on random input were compared, since the network's own outputs do not vary.
    """

    samples: int
    largest: float
    flipped: int
    deviation: float
    warmed: bool
    by_layer: bool

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
    largest, flipped, outputs, by_layer = 0.0, 0, list[list[Tensor]](), True
    for start in range(0, samples, BATCH):
        inputs = _inputs(graph, min(BATCH, samples - start), seed * SAMPLES + start)
        found = _Batch(model, content, run, inputs)
        largest, flipped = max(largest, found.largest), flipped + found.flipped
        outputs.append(found.outputs)
        by_layer &= found.by_layer
    deviation = _deviation([torch.cat(parts) for parts in zip(*outputs, strict=True)])
    return FileComparison(samples, largest, flipped, deviation, warmed, by_layer)


class _Batch:
    """Some samples by the model and by the file; ``outputs`` [N, ...] are the model's."""

    def __init__(
        self, model: Model, content: Content, run: Run, inputs: tuple[Tensor, ...]
    ) -> None:
        self.model, self.content, self.inputs = model, content, inputs
        self.within = TOLERANCE[content.options.half]
        self.outputs = _expected(model, content, inputs)
        ran = run(inputs)
        theirs = _by_sample(content.graph, ran.outputs)
        self.room = self.within * (1 + max(float(y.abs().max()) for y in self.outputs))
        layers = followers(content.graph, model, ran.neurons)
        self.by_layer = layers is not None
        if layers is None:
            gap, flipped = self._traced(theirs)
        else:
            gap, flipped = self._followed(theirs, layers)
        self.flipped, self.largest = int(flipped.sum()), max(gap.tolist(), default=0.0)

    def _followed(
        self, theirs: Sequence[Tensor], layers: Sequence[Follower]
    ) -> tuple[Tensor, Tensor]:
        """The differences of all samples, by the spikes of the file, and [N] of each whether those are
        others than the model's."""
        with following(self.model, layers):
            gap = _gaps(_expected(self.model, self.content, self.inputs), theirs)
        flipped = torch.zeros_like(gap, dtype=torch.bool)
        for layer in layers:
            firing = layer.firing(self.within, self._of_input)
            if firing.wrong.any():
                raise _other_numbers(
                    f"{firing.path} fires otherwise, and not because of a spike at its threshold"
                )
            flipped |= firing.otherwise
        if not (gap <= self.room).all():  # not a number is apart too
            raise _other_numbers(f"{float(gap.max()):.1e} of difference, with the same spikes")
        return gap, flipped

    def _of_input(self, x: Tensor, axis: int) -> Tensor:
        if not self.content.options.half:
            return torch.full((1,) * x.dim(), self.within)
        others = [place for place in range(x.dim()) if place != axis]
        return self.within * x.abs().amax(others, keepdim=True).clamp(min=1.0)

    def _traced(self, theirs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The same of a file whose spikes are not known: of a sample that differs, those of the model are
        flipped."""
        gap = _gaps(self.outputs, theirs)
        apart = ~(gap <= self.room)
        for sample in apart.nonzero().flatten().tolist():
            if not self._is_traced(sample, theirs):
                raise _other_numbers(
                    f"{float(gap[sample]):.1e} of difference, not from a spike at its threshold"
                )
        return gap[~apart], apart

    def _is_traced(self, sample: int, theirs: Sequence[Tensor]) -> bool:
        """Whether a sample's difference comes of spikes that stand at their threshold."""
        graph = self.content.graph

        def gap(outputs: Sequence[Tensor]) -> Tensor:
            other = [y[sample : sample + 1] for y in theirs]
            return _gaps(_by_sample(graph, outputs), other)

        one = [
            (x.narrow(int(node.value.varies), sample, 1), int(node.value.varies))
            for x, node in zip(self.inputs, graph.inputs, strict=True)
        ]
        return explained(self.model, one, gap, self.room, self.within)


def _other_numbers(how: str) -> UserError:
    return UserError(
        f"read back, the file gives other numbers than the model: {how}; it was not written. Please "
        "report this, with the spec"
    )


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
