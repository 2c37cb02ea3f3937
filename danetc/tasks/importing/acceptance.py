"""Comparison of an imported network with its source, in float64.

An untrained spiking network may return the same logits for every input. Then the weights of a copy
are changed so that the outputs of its layers vary, and the copy is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import map_aggregate

from danetc.compiler.emit.fx import emit
from danetc.compiler.importing.program import Imported
from danetc.errors import UserError
from danetc.tasks.exporting import BATCH, gaps, inputs_of, outputs_of_all
from danetc.tasks.importing.known_neurons import NEURONS, full_name
from danetc.tasks.importing.operations import ReadNetwork, Weights, load_weights, model_of
from danetc.tasks.importing.torch_model import Takes

TOLERANCE = 1e-5
"""Largest difference of logits; if the largest of them is beyond 1000, it is 1e-8 of that."""
LEAST_DEVIATION = 0.01
"""Minimum standard deviation of the logits over samples."""
MOST_FLIPPED = 0.05
"""Maximum share of samples that may differ: rounding can change a spike near the threshold."""


@dataclass(frozen=True)
class Runner:
    """A source that can be run, and its weights.

    ``run`` maps inputs [T, N, C, H, W] or [N, C, H, W] to logits [T, N, K] or [N, K]. ``varied`` returns a
    copy with changed weights whose logits vary over the given inputs, or is None.
    """

    run: Callable[[Tensor], Tensor]
    weights: Weights
    varied: Callable[[Tensor], Runner] | None = None


@dataclass(frozen=True)
class OutputAgreement:
    """Comparison of an imported network with its source.

    Attributes:
        deviation: Standard deviation of the logits over samples.
        difference: Largest difference of the logits, without the ``flipped`` samples.
        own_weights: True if the weights of the source were compared.
        flipped: Number of samples that differ by more than the tolerance.
    """

    samples: int
    deviation: float
    difference: float
    own_weights: bool
    flipped: int = 0


def agreement(
    runner: Runner, source: ReadNetwork, imported: Imported, samples: int
) -> OutputAgreement:
    """Compare a source with the network imported from it. Raises UserError if they differ."""
    graph = source.graph
    batches = [
        tuple(x.double() for x in inputs_of(graph, min(BATCH, samples - at), at))
        for at in range(0, samples, BATCH)
    ]

    def outputs(run: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            (found,) = outputs_of_all(graph, lambda x: [run(x)], batches)
        return found

    wanted = outputs(runner.run)
    own = runner.varied is None or _deviation(wanted) > LEAST_DEVIATION
    if not own and runner.varied is not None:
        runner = runner.varied(*batches[0])
        wanted = outputs(runner.run)
    deviation = _deviation(wanted)
    if deviation <= LEAST_DEVIATION:
        raise UserError(
            f"the logits of the source do not vary (standard deviation {deviation:.1e} over {samples} "
            "samples), so a comparison would prove nothing; import a trained model"
        )
    model = emit(imported.graph, 0).eval().double()
    load_weights(model, imported, graph, runner.weights)
    worst = _differences(wanted, outputs(model))
    tolerance = TOLERANCE * max(1.0, float(wanted.abs().max()) / 1000)
    agrees = worst <= tolerance
    flipped = int((~agrees).sum())
    if flipped > MOST_FLIPPED * samples:
        raise UserError(
            f"the imported network has different outputs: {flipped} of {samples} samples differ by "
            f"more than {tolerance:g}, and by up to {float(worst.max()):.3g}"
        )
    return OutputAgreement(samples, deviation, float(worst[agrees].max()), own, flipped)


def _differences(wanted: Tensor, found: Tensor) -> Tensor:
    """Return the largest difference of each sample, [N]. A time axis of size 1 is optional."""
    if wanted.flatten(1).shape != found.flatten(1).shape:
        raise UserError(
            f"the logits have shape {tuple(wanted.shape)}, but {tuple(found.shape)} when imported"
        )
    return gaps([wanted.flatten(1)], [found.flatten(1)])


def _deviation(logits: Tensor) -> float:
    return float(logits.std(0).mean())


def graph_runner(source: ReadNetwork) -> Runner:
    """Return the runner, in float64, of a network that was read from a file."""
    model = model_of(source).double()
    return Runner(lambda inputs: _tensor(model(inputs)), source.tensors())


# -- models of torch -------------------------------------------------------------------------------


def torch_runner(model: nn.Module, source: ReadNetwork, takes: Takes) -> Runner:
    """Return the runner of a PyTorch or SpikingJelly model in float64 and evaluation mode."""
    steps, frames = source.graph.steps, source.graph.input.value.varies

    def cast(module: nn.Module, inputs: tuple[Tensor, ...], y: Any) -> Any:
        dtype = inputs[0].dtype
        return map_aggregate(y, lambda item: item.to(dtype) if isinstance(item, Tensor) else item)

    neurons: list[Any] = [module for module in model.modules() if full_name(module) in NEURONS]
    for module in neurons:
        module.register_forward_hook(cast)  # snnTorch's return spikes in float32

    def reset() -> None:
        for module in neurons:
            for name in ("reset_mem", "reset"):  # of snnTorch; of SpikingJelly
                if callable(found := getattr(module, name, None)):
                    found()

    def run(inputs: Tensor) -> Tensor:
        inputs = inputs.reshape(*inputs.shape[:-3], *source.shape)
        reset()
        try:
            if takes == "step":
                found: list[Tensor] = []
                state: tuple[Any, ...] = ()
                for x in inputs if frames else [inputs] * steps:
                    y = model(x, *state)
                    found.append(_tensor(y))
                    explicit = isinstance(y, tuple) and isinstance(y[1], list)  # Norse's
                    state = (y[1],) if explicit else ()
                return torch.stack(found)
            if takes == "sequence" and not frames:
                inputs = inputs.expand(steps, *inputs.shape).contiguous()
            return _tensor(model(inputs))
        finally:
            reset()

    def varied(inputs: Tensor) -> Runner:
        copied = deepcopy(model)
        _vary(copied, lambda: torch_runner(copied, source, takes).run(inputs))
        return torch_runner(copied, source, takes)

    return Runner(run, source.tensors(model.state_dict()), varied)


def _vary(model: nn.Module, run: Callable[[], object]) -> None:
    """Scale layers so that their outputs in a run have a standard deviation of 1, and set the
    statistics of norms."""

    def scaled(module: Any, inputs: Any, output: Tensor) -> Tensor:
        scale = 1.0 / float(output.std().clamp(min=1e-6))
        for parameter in module.parameters():
            parameter.mul_(scale)
        return output * scale

    drawn = torch.Generator().manual_seed(0)
    hooks = []
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                if not module.weight.any():  # an untrained head
                    module.weight.normal_(generator=drawn)
                hooks.append(module.register_forward_hook(scaled))
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train().momentum = 1.0
                if module.affine:
                    size = module.weight.shape
                    module.weight.copy_(0.75 + 0.5 * torch.rand(size, generator=drawn))
                    module.bias.copy_(0.4 * torch.rand(size, generator=drawn) - 0.1)
        run()
    for hook in hooks:
        hook.remove()
    model.eval()


def _tensor(value: Any) -> Tensor:
    if isinstance(value, (tuple, list)):  # states may follow
        value = value[0]
    assert isinstance(value, Tensor)
    return value
