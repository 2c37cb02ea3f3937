"""Comparison of an imported network with its source, in float64.

An untrained spiking network may return the same logits for every input. Then the weights of the source,
which is a copy, are changed so that the outputs of its layers vary, and it is compared with these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import map_aggregate

from danetc.compiler.emit.fx import emit
from danetc.compiler.importing.program import Imported
from danetc.errors import UserError
from danetc.tasks.exporting import BATCH, gaps, inputs_of, outputs_of_all
from danetc.tasks.importing.known_neurons import neurons_of
from danetc.tasks.importing.operations import ReadNetwork, load_weights
from danetc.tasks.importing.torch_model import Takes

TOLERANCE = 1e-5
"""Largest difference of logits; if the largest of them is beyond 1000, it is 1e-8 of that."""
LEAST_DEVIATION = 0.01
"""Minimum standard deviation of the logits over samples."""
MOST_FLIPPED = 0.05
"""Maximum share of samples that may differ: rounding can change a spike near the threshold."""


Run = Callable[[Tensor], Tensor]
"""Maps inputs [T, N, C, H, W] or [N, C, H, W] to logits [T, N, K] or [N, K]."""


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


@torch.no_grad()
def agreement(
    run: Run, model: nn.Module | None, source: ReadNetwork, imported: Imported, samples: int
) -> OutputAgreement:
    """Compare a source with the network imported from it. Raises UserError if they differ.

    The weights of the ``model`` that ``run`` runs may change, if there is one.
    """
    graph = source.graph
    batches = [
        tuple(x.double() for x in inputs_of(graph, min(BATCH, samples - at), at))
        for at in range(0, samples, BATCH)
    ]

    def outputs(run: Run) -> Tensor:
        return outputs_of_all(graph, lambda x: [run(x)], batches)[0]

    wanted, own = outputs(run), True
    if model is not None and _deviation(wanted) <= LEAST_DEVIATION:
        own = False
        _vary(model, lambda: run(*batches[0]))
        wanted = outputs(run)
    deviation = _deviation(wanted)
    if deviation <= LEAST_DEVIATION:
        raise UserError(
            f"the logits of the source do not vary (standard deviation {deviation:.1e} over {samples} "
            "samples), so a comparison would prove nothing; import a trained model"
        )
    ours = emit(imported.graph, 0).eval().double()
    load_weights(ours, imported.graph, imported.weights, source)
    worst = _differences(wanted, outputs(ours))
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


# -- models of torch -------------------------------------------------------------------------------


def torch_runner(model: nn.Module, source: ReadNetwork, takes: Takes) -> Run:
    """Return the function that runs a PyTorch or SpikingJelly model in evaluation mode."""
    steps, frames = source.graph.steps, source.graph.input.value.varies

    def cast(module: nn.Module, inputs: tuple[Tensor, ...], y: Any) -> Any:
        dtype = inputs[0].dtype
        return map_aggregate(y, lambda item: item.to(dtype) if isinstance(item, Tensor) else item)

    neurons = neurons_of(model)
    for module in neurons:
        module.register_forward_hook(cast)  # snnTorch's return spikes in float32

    def run(inputs: Tensor) -> Tensor:
        inputs = inputs.reshape(*inputs.shape[:-3], *source.shape)
        for module in neurons:
            for name in ("reset_mem", "reset"):  # of snnTorch; of SpikingJelly
                if callable(reset := getattr(module, name, None)):
                    reset()
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

    return run


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
