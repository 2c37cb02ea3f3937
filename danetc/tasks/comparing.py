"""A written file compared with the model that it was written from, on samples whose outputs vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler.emit.names import attribute
from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import random_input
from danetc.tasks.export_content import Content
from danetc.tasks.networks import emit_model
from danetc.tasks.readers import Reader, Run

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
    content: Content, data: bytes, read: Reader, write: Callable[[Content], bytes]
) -> FileComparison | str:
    """Compare a file's bytes with the model. A text says why they cannot be.

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
    first = _inputs(graph, min(samples, BATCH), 0)
    warmed = _deviation(_expected(model, content, first)) < VARIED
    if warmed:
        _warm(model, graph, min(samples, BATCH))
    if content.options.half:
        model.half().float()  # both compute with the same weights
    if warmed:
        content = replace(content, model=model)
        data = write(content)
    run = read(data, content)
    largest, flipped, outputs = 0.0, 0, list[list[Tensor]]()
    for start in range(0, samples, BATCH):
        inputs = _inputs(graph, min(BATCH, samples - start), start)
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
        with _recorded(model) as seen:
            model(*inputs)
        self.seen = seen
        self.outputs = _expected(model, content, inputs)
        ran = run(inputs)
        theirs = [_samples_first(y, self._axis(y, k)) for k, y in enumerate(ran.outputs)]
        gaps = torch.stack(
            [(a - b).flatten(1).abs().amax(1) for a, b in zip(self.outputs, theirs, strict=True)]
        )
        room = self.within * (1 + max(float(y.abs().max()) for y in self.outputs))
        gap = gaps.amax(0)
        apart = (~(gap <= room)).nonzero().flatten().tolist()  # not a number is apart too
        for sample in apart:
            if not self._is_traced(ran.neurons, sample):
                raise UserError(
                    f"read back, the file gives other numbers than the model: {float(gap[sample]):.1e} "
                    "of difference, not from a spike at its threshold; it was not written. Please "
                    "report this, with the spec"
                )
        self.flipped = len(apart)
        same = [float(gap[n]) for n in range(len(gap)) if n not in set(apart)]
        self.largest = max(same, default=0.0)

    def _axis(self, y: Tensor, place: int) -> int:
        """The axis of samples of an output."""
        id = [*self.graph.outputs.values()][place]
        return y.dim() - len(self.graph[id].value.shape) - 1

    def _is_traced(self, theirs: Mapping[str, Tensor], sample: int) -> bool:
        """Whether the first spikes of a sample that differ all stand at their threshold: a change of
        the layer's input by what rounding may be changes them."""
        for node in self.graph.nodes.values():
            name = ".".join(map(attribute, (*node.scope, node.name)))
            if node.path not in theirs or name not in self.seen:
                continue
            layer, x, mine = self.seen[name]
            other = theirs[node.path].reshape(mine.shape)
            axis = mine.dim() - len(node.value.shape) - 1
            differ = (mine != other).select(axis, sample)
            if not differ.any():
                continue
            one = x.narrow(x.dim() - len(node.value.shape) - 1, sample, 1)
            room = self.within * (max(1.0, float(one.abs().max())) if self.half else 1.0)
            near = _decided_by(layer, one, room)
            near = near.select(axis, 0)
            if axis:  # the first step at which they differ: what follows comes of it
                t = int(differ.flatten(1).any(1).nonzero()[0])
                differ, near = differ[t], near[t]
            return bool(near[differ].all())
        return False


def _decided_by(layer: nn.Module, x: Tensor, room: float) -> Tensor:
    """Where what a layer gives is another one for some change of its input by at most ``room``."""
    generator = torch.Generator().manual_seed(0)
    own = layer(x)
    found = torch.zeros_like(own, dtype=torch.bool)
    for part in (1.0, 0.25, 0.0625):
        drawn = [2 * torch.rand(x.shape, generator=generator) - 1 for _ in range(16)]
        for change in (torch.ones_like(x), -torch.ones_like(x), *drawn):
            found |= layer(x + part * room * change) != own
    return found


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
    ranks = [len(graph[id].value.shape) for id in graph.outputs.values()]
    if content.options.time != "step":
        given = model(*inputs)
        outputs = given if isinstance(given, tuple) else (given,)
        return [
            _samples_first(y, y.dim() - rank - 1) for y, rank in zip(outputs, ranks, strict=True)
        ]
    states, steps = None, []
    for t in range(graph.steps):
        frames = tuple(
            x[t] if node.value.varies else x for x, node in zip(inputs, graph.inputs, strict=True)
        )
        given, states = model.stream(frames if len(frames) > 1 else frames[0], states)
        steps.append(given if isinstance(given, tuple) else (given,))
    return [torch.stack(values, 1) for values in zip(*steps, strict=True)]


def _samples_first(y: Tensor, axis: int) -> Tensor:
    return y.movedim(axis, 0)


def _deviation(outputs: Sequence[Tensor]) -> float:
    """The standard deviation over samples, of the output where it is largest."""
    return max(float(y.float().std(0).mean()) for y in outputs)


def _warm(model: Model, graph: Graph, samples: int = BATCH) -> None:
    """Warm norms, and then make weights of norms, biases and linear layers larger, until the outputs
    vary, as far as that is possible."""
    generator = torch.Generator().manual_seed(0)
    for attempt in range(5):
        for parameter in model.parameters():
            if attempt and parameter.dim() == 1:
                parameter.add_(0.4 * torch.rand(parameter.shape, generator=generator))
            elif attempt and parameter.dim() == 2:
                parameter.mul_(2.0)
        for seed in range(3):
            model.train()(*_inputs(graph, samples, 1000 + seed))
        outputs = model.eval()(*_inputs(graph, samples, 0))
        found = outputs if isinstance(outputs, tuple) else (outputs,)
        axes = (y.dim() - len(graph[id].value.shape) - 1
                for y, id in zip(found, graph.outputs.values(), strict=True))  # fmt: skip
        if _deviation([_samples_first(y, axis) for y, axis in zip(found, axes, strict=True)]) >= VARIED:  # fmt: skip
            return


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[str, tuple[nn.Module, Tensor, Tensor]]]:
    """What each layer of neurons takes and gives, by its name."""
    seen: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, given: Any, y: Tensor) -> None:
            seen[name] = (layer, given[0], y)

        return hook

    hooks = [
        layer.register_forward_hook(note(name))
        for name, layer in model.named_modules()
        if isinstance(layer, Neuron)
    ]
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()
