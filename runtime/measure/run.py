"""Measurement of a model: one pass over the batches for all measures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import StepBatchNorm2d
from danetc.runtime.measure.gradients import GradientMeans, GradientNorms, Loss
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.observe import Hook, MeasureError, observed
from danetc.runtime.measure.observers import (
    BlockOutputs,
    FiringRates,
    GradientStability,
    MembranePotentials,
    NeuronInputs,
    NeuronSums,
    PropagatedValues,
    firing_rates,
    gradient_stability,
    membrane_potentials,
    neuron_inputs,
    propagated_values,
)
from danetc.runtime.measure.operations import MeasuredOperations, OperationCount, operations_of
from danetc.runtime.model.built import Model
from danetc.runtime.system.devices import arithmetic

Statistics = Literal["running", "batch"]
MEASURES: Mapping[str, str] = {
    "firing-rate": "mean spikes of each neuron layer",
    "gradient-stability": "dO/dV of each neuron layer, and the product over them",
    "potential": "membrane potentials before the reset",
    "input": "what neurons take, against N(0, V_th^2)",
    "gradients": "gradient norms, spatial and temporal part",
    "values": "what passes from block to block",
    "operations": "additions and multiply-accumulates per image, and their energy",
}
"""Measures and their meaning, in the order of a report."""
_OF_NEURONS: Mapping[str, Callable[..., Any]] = {
    "firing-rate": firing_rates,
    "gradient-stability": gradient_stability,
    "potential": membrane_potentials,
    "input": neuron_inputs,
}


@dataclass(frozen=True)
class Measures:
    """Measures of a network; None for those not requested."""

    layout: Layout
    images: int
    batches: int
    statistics: str
    firing_rate: FiringRates | None = None
    gradient_stability: GradientStability | None = None
    potential: MembranePotentials | None = None
    input: NeuronInputs | None = None
    gradients: GradientNorms | None = None
    values: PropagatedValues | None = None
    operations: MeasuredOperations | None = None

    def taken(self) -> dict[str, Any]:
        """Return the measures that were taken by their names, such as ``firing-rate``."""
        found = {name: getattr(self, name.replace("-", "_")) for name in MEASURES}
        return {name: each for name, each in found.items() if each is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data of all measures that were taken."""
        record: dict[str, Any] = {
            "network": self.layout.network,
            **{name: getattr(self, name) for name in ("images", "batches", "statistics")},
            **{name.replace("-", "_"): asdict(found) for name, found in self.taken().items()},
        }
        stability = record.get("gradient_stability", {"overall": 0.0})
        if not isfinite(stability["overall"]):  # JSON has no infinity; its logarithm is there
            stability["overall"] = None
        return record


def mean_loss(output: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of [N, classes] or of pixels [N, classes, H, W], or for real numbers the
    squared distance of [N, D]; with a leading T, that of the mean over time, or of each step with its
    label."""
    if output.dim() == 3 and labels.dim() == 2 and not labels.is_floating_point():
        return nn.functional.cross_entropy(output.permute(1, 2, 0), labels)
    output = output.mean(0) if output.dim() in (3, 5) else output
    real = labels.is_floating_point()
    return (nn.functional.mse_loss if real else nn.functional.cross_entropy)(output, labels)


def measure(
    model: Model,
    layout: Layout,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    only: Collection[str] = (),
    statistics: Statistics = "running",
    seed: int = 0,
    output: str | None = None,
    loss: Loss = mean_loss,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Measures:
    """Measure ``model``, of the eager backend, on batches of images and labels.

    Args:
        only: names of measures. The default is all of them.
        statistics: of norms, ``running`` or those of the ``batch``, for a network that was never
            trained. Dropout is off.
        seed: of encoders that draw spikes.
        output: output whose loss gradients are of, if there are several. None is the first.
        loss: function of the output and the labels that gradients are of.
        on_progress: called with the number of images of each batch when it is done.

    Buffers, mode, gradients and the random state do not change. Raises MeasureError for a model of
    another backend, an unknown measure, no data, data that the model does not take, and values that
    are not finite.
    """
    if unknown := [name for name in only if name not in MEASURES]:
        hint = instead(unknown[0], MEASURES, "there are")
        raise MeasureError(f"there is no measure {unknown[0]}; {hint}")
    wanted = [name for name in MEASURES if not only or name in only]
    neurons = [
        NeuronSums(each, cast(Neuron, model.get_submodule(each.name)), wanted)
        for each in layout.neurons
    ]
    outputs = [[BlockOutputs(index) for _, index in stage.blocks] for stage in layout.stages]
    counts = [OperationCount(each) for each in layout.weights]
    spiking = not _OF_NEURONS.keys().isdisjoint(wanted)
    layers: list[tuple[str, Hook]] = [(each.layer.name, each.see) for each in neurons if spiking]
    layers += [(each.layer.name, each.see) for each in counts if "operations" in wanted]
    ends = [
        (name, each.see)
        for stage, own in zip(layout.stages, outputs, strict=True)
        for (name, _), each in zip(stage.blocks, own, strict=True)
        if "values" in wanted
    ]
    gradients = GradientMeans(model, layout, _of_output(loss, model, output), seed)
    images = count = 0
    with undisturbed(model, statistics) as device:
        for x, labels in batches:
            if not (isinstance(x, Tensor) and isinstance(labels, Tensor)):
                raise MeasureError(f"batch {count + 1} is not a pair of tensors (images, labels)")
            x, labels = x.to(device), labels.to(device)
            try:
                if layers or ends:
                    with observed(model, layers, ends), torch.no_grad():
                        torch.manual_seed(seed + count)
                        model(x)
                if "gradients" in wanted:
                    gradients.add(x, labels)
            except ValueError as error:  # the model does not take the batch
                raise MeasureError(f"batch {count + 1} of {list(x.shape)}: {error}") from error
            images += len(labels)
            count += 1
            on_progress(len(labels))
    if not count:
        raise MeasureError("there is no batch to measure")
    results: dict[str, Callable[[], Any]] = {
        **{name: partial(of, neurons) for name, of in _OF_NEURONS.items()},
        "gradients": gradients.result,
        "values": partial(propagated_values, layout.stages, outputs),
        "operations": partial(operations_of, counts, images),
    }
    found = {name.replace("-", "_"): results[name]() for name in wanted}
    return Measures(layout, images, count, statistics, **found)


def _of_output(loss: Loss, model: Model, name: str | None) -> Loss:
    """Return the loss of one of several outputs."""
    outputs = list(model.signature.outputs)
    if len(outputs) == 1:
        return loss
    if name is not None and name not in outputs:
        raise MeasureError(f"there is no output {name}; there are {', '.join(outputs)}")
    place = outputs.index(name) if name is not None else 0
    return lambda output, labels: loss(output[place], labels)


@contextmanager
def undisturbed(model: Model, statistics: str) -> Iterator[torch.device]:
    """Put a model into evaluation mode, in float32, with its norms in training mode for ``statistics``
    of the ``batch``, and yield its device.

    Modes, buffers and the random state are restored on exit.
    """
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(value, value.clone()) for value in model.buffers()]
    own = [] if device.type == "cpu" else [device]
    with (
        torch.random.fork_rng(own, device_type=device.type),
        arithmetic("float32", device),
    ):
        model.eval()
        for module, _ in modes:
            if isinstance(module, nn.modules.batchnorm._BatchNorm | StepBatchNorm2d):
                module.training = statistics == "batch"
        try:
            yield device
        finally:
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for value, before in buffers:
                    value.copy_(before)
