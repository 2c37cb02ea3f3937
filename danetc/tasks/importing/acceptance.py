"""Whether what was imported computes what its source does, on inputs to which logits answer.

Both run in float64; a sample in which they differ is traced to a spike at its threshold, which
rounding decides on. A network with fresh weights gives the same logits
whatever it is shown, and then nothing is compared: such a network is compared with weights that make
its layers vary, on a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor, nn

from danetc.compiler.analysis.equivalence.programs import learnt_in_order
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.names import dotted
from danetc.compiler.importing.program import Imported
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.runtime.model.built import Model
from danetc.tasks.flips import explained
from danetc.tasks.importing.modules import tensors
from danetc.tasks.importing.source import ReadNetwork
from danetc.tasks.importing.torch_model import Takes, is_spiking

TOLERANCE = 1e-5
LEAST_DEVIATION = 0.01
"""Of logits over samples: below it they do not vary."""
BATCH = 20
SEEDS = 3
SAMPLES = 100

Weights = Mapping[int, Mapping[str, Tensor]]


class Runner(Protocol):
    """The source, as what can be run: [T, N, ...] or [N, ...] to logits [T, N, K] or [N, K]."""

    def run(self, inputs: Tensor) -> Tensor: ...

    def weights(self) -> Weights: ...

    def varied(self, seed: int, inputs: Tensor) -> Runner | None:
        """A copy whose logits vary, where weights can be changed."""


@dataclass(frozen=True)
class OutputAgreement:
    """A comparison: samples and seeds, the deviation of the logits over samples (the least of the
    seeds), the greatest difference, and whether the weights were those of the source.

    ``flipped`` are samples, of those of all seeds, in which logits differ because a spike stands within
    1e-5 of its threshold: they are not in ``difference``."""

    samples: int
    seeds: int
    deviation: float
    difference: float
    own_weights: bool
    flipped: int = 0


def agreement(
    runner: Runner,
    source: ReadNetwork,
    imported: Imported,
    samples: int = SAMPLES,
    on_progress: Callable[[int], object] = lambda seed: None,
) -> OutputAgreement:
    """Compare a source with what was imported of it. Raises UserError where they differ."""
    graph = source.graph
    value = graph.input.value
    lead = (graph.steps,) if value.varies else ()
    deviations: list[float] = []
    largest, flipped, own = 0.0, 0, True
    for seed in range(SEEDS):
        on_progress(seed)
        inputs = _inputs(lead, samples, source.shape, seed)
        chosen = runner
        wanted = _outputs(chosen.run, inputs, bool(lead))
        if _deviation(wanted) <= LEAST_DEVIATION:
            other = runner.varied(seed, _part(inputs, 0, bool(lead)))
            if other is not None:
                chosen, own = other, False
                wanted = _outputs(chosen.run, inputs, bool(lead))
        deviations.append(_deviation(wanted))
        if deviations[-1] <= LEAST_DEVIATION:
            raise UserError(
                f"the logits of the source do not vary (standard deviation {deviations[-1]:.1e} over "
                f"{samples} samples), so that equal ones would prove nothing; give a trained model"
            )
        model = emit(imported.graph, 0).eval().double()
        load_weights(model, imported, graph, chosen.weights())
        maps = inputs.reshape(*lead, samples, *value.shape)
        found = _outputs(model, maps, bool(lead))
        worst = _differences(wanted, found)
        apart = (~(worst <= TOLERANCE)).nonzero().flatten().tolist()  # not a number is apart too
        if not all(_is_traced(model, maps, bool(lead), wanted, n) for n in apart):
            raise UserError(
                f"what was imported computes something else: {len(apart)} of {samples} samples differ "
                f"by more than {TOLERANCE:g}, the worst by {float(worst.max()):.3g}"
            )
        flipped += len(apart)
        largest = max(largest, *worst[worst <= TOLERANCE].tolist())
    return OutputAgreement(samples, SEEDS, min(deviations), largest, own, flipped)


def _differences(wanted: Tensor, found: Tensor) -> Tensor:
    """The largest difference of each sample, [N]."""
    if wanted.shape != found.shape:
        wanted, found = _over_time(wanted), _over_time(found)
    if wanted.shape != found.shape:
        raise UserError(
            f"the source gives {tuple(wanted.shape)} and what was imported {tuple(found.shape)}"
        )
    apart = (wanted - found).abs()
    return apart.amax(dim=[d for d in range(apart.ndim) if d != apart.ndim - 2])


def _over_time(logits: Tensor) -> Tensor:
    """Logits of one time step without it."""
    return logits[0] if logits.ndim == 3 and logits.shape[0] == 1 else logits


def _is_traced(model: Model, inputs: Tensor, frames: bool, wanted: Tensor, sample: int) -> bool:
    """Whether a sample's difference comes of a spike within ``TOLERANCE`` of its threshold."""
    theirs = wanted.narrow(wanted.ndim - 2, sample, 1)

    def gap(outputs: Sequence[Tensor]) -> Tensor:
        (y,) = outputs
        return _differences(theirs.expand_as(y), y)

    axis = int(frames)
    return explained(model, [(inputs.narrow(axis, sample, 1), axis)], gap, TOLERANCE, TOLERANCE)


def _inputs(lead: tuple[int, ...], samples: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Samples of several means and contrasts."""
    drawn = torch.Generator().manual_seed(seed)
    noise = torch.randn((*lead, samples, *shape), generator=drawn, dtype=torch.float64)
    each = [samples, *(1 for _ in shape)]
    contrast = torch.rand(each, generator=drawn, dtype=torch.float64) * 2 + 0.5
    return noise * contrast + torch.randn(each, generator=drawn, dtype=torch.float64)


def _part(inputs: Tensor, start: int, frames: bool) -> Tensor:
    return inputs[:, start : start + BATCH] if frames else inputs[start : start + BATCH]


def _outputs(run: Callable[[Tensor], Any], inputs: Tensor, frames: bool) -> Tensor:
    samples = inputs.shape[1 if frames else 0]
    with torch.no_grad():
        parts = [run(_part(inputs, start, frames)) for start in range(0, samples, BATCH)]
    return torch.cat(parts, dim=parts[0].ndim - 2)


def _deviation(logits: Tensor) -> float:
    return float(logits.std(dim=logits.ndim - 2).mean())


def load_weights(model: Model, imported: Imported, source: Graph, weights: Weights) -> None:
    """Give a model of what was imported the weights of its source, by the nodes that correspond."""
    state = model.state_dict()
    graph = imported.graph
    filled: set[str] = set()
    with torch.no_grad():
        for theirs, mine in imported.weights:
            called = _learnt(source, theirs, graph, mine)
            for name, value in weights.get(theirs, {}).items():
                key = f"{_path(graph, mine)}.{called.get(name, name)}"
                if key not in state and name == "num_batches_tracked":
                    continue
                if key not in state:
                    raise UserError(f"what was imported has no weight {key}")
                state[key].copy_(value.reshape(state[key].shape))
                filled.add(key)
    left = [key for key in state if key not in filled and not key.endswith("num_batches_tracked")]
    if left:
        raise UserError(f"the source has no weight for {', '.join(sorted(left)[:3])}")


def _learnt(source: Graph, theirs: int, graph: Graph, mine: int) -> dict[str, str]:
    """What a neuron learns, by the names that the source has for it."""
    if source[theirs].op != "neuron":
        return {}
    programs = source.program(source[theirs]), graph.program(graph[mine])
    return dict(zip(*map(learnt_in_order, programs), strict=True))


def _path(graph: Graph, id: int) -> str:
    node = graph[id]
    return dotted(*node.scope, node.name)


# -- models of torch -------------------------------------------------------------------------------


@dataclass(frozen=True)
class TorchRunner:
    """A model of torch or SpikingJelly, in float64."""

    model: nn.Module
    source: ReadNetwork
    takes: Takes

    def run(self, inputs: Tensor) -> Tensor:
        model = self.model.eval()
        frames = self.source.graph.input.value.varies
        steps = self.source.graph.steps
        self._reset()
        try:
            match self.takes:
                case "image":
                    return _tensor(model(inputs))
                case "step":
                    each = inputs if frames else [inputs] * steps
                    return torch.stack([_tensor(model(x)) for x in each])
                case "sequence":
                    given = inputs if frames else inputs.expand(steps, *inputs.shape).contiguous()
                    return _tensor(model(given))
                case _:
                    assert_never(self.takes)
        finally:
            self._reset()

    def _reset(self) -> None:
        if is_spiking(self.model):
            from spikingjelly.activation_based import functional

            functional.reset_net(self.model)

    def weights(self) -> Weights:
        found = {}
        for id, names in self.source.weights.items():
            if id in self.source.places:
                state = self.model.state_dict()
                found[id] = {key: state[path] for key, path in self.source.places[id].items()}
                continue
            held = tensors(self.model.get_submodule(self.source.names[id]))
            found[id] = {**names, **{key: value for key, value in held.items() if key in names}}
        return found

    def varied(self, seed: int, inputs: Tensor) -> TorchRunner:
        """A copy whose layers give values of deviation 1, and whose norms know their statistics."""
        model = deepcopy(self.model).double()
        runner = TorchRunner(model, self.source, self.takes)
        drawn = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for norm in _norms(model):
                norm.weight.copy_(0.75 + 0.5 * torch.rand(norm.weight.shape, generator=drawn))
                norm.bias.copy_(0.4 * torch.rand(norm.bias.shape, generator=drawn) - 0.1)
            handles = [
                module.register_forward_hook(_scale if weighted else _normalize)
                for module, weighted in _layers(model)
            ]
            try:
                runner.run(inputs)
            finally:
                for handle in handles:
                    handle.remove()
        return runner


def _tensor(value: Any) -> Tensor:
    if isinstance(value, (tuple, list)) and len(value) == 1:
        (value,) = value
    assert isinstance(value, Tensor)
    return value


def _norms(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            yield module


def _layers(model: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            yield module, True
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield module, False


def _scale(module: Any, inputs: Any, output: Tensor) -> Tensor:
    """Weights such that what a layer gives has a deviation of 1 on its first inputs."""
    scale = 1.0 / float(output.std().clamp(min=1e-6))
    if getattr(module, "_scaled", False):
        return output
    module._scaled = True
    module.weight.mul_(scale)
    if module.bias is not None:
        module.bias.mul_(scale)
    return output * scale


def _normalize(module: Any, inputs: Any, output: Tensor) -> Tensor | None:
    """Statistics of a norm that are those of its first inputs."""
    if getattr(module, "_scaled", False):
        return None
    module._scaled = True
    (x,) = inputs
    axis = x.ndim - (3 if isinstance(module, nn.BatchNorm2d) else 1)
    others = [d for d in range(x.ndim) if d != axis]
    module.running_mean.copy_(x.mean(others))
    module.running_var.copy_(x.var(others, unbiased=False).clamp(min=1e-6))
    shape = [1] * x.ndim
    shape[axis] = -1
    mean, var = module.running_mean.view(shape), module.running_var.view(shape)
    normed: Tensor = (x - mean) / (var + module.eps).sqrt()
    if module.affine:
        normed = normed * module.weight.view(shape) + module.bias.view(shape)
    return normed
