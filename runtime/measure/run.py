"""Measurement of a model: one pass over the batches for all measures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor, nn

from danetc.runtime.layers.norm import StepBatchNorm2d
from danetc.runtime.measure.gradients import GradientMeans, GradientNorms, Loss
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.observe import MeasureError, observed
from danetc.runtime.measure.observers import (
    FiringRate,
    FiringRates,
    GradientStability,
    Input,
    Layers,
    MembranePotentials,
    NeuronInputs,
    Potential,
    PropagatedValues,
    Stability,
    Time,
    Values,
)
from danetc.runtime.measure.operations import (
    HOROWITZ_45NM,
    EnergyModel,
    MeasuredOperations,
    OperationCount,
)
from danetc.runtime.model.built import Model

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


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How to measure.

    Args:
        statistics: of norms, ``running`` or those of the ``batch``, for a network that was never
            trained. Dropout is off.
        time: how gradient stability combines time steps.
        layers: neuron layers whose gradient stability is multiplied.
        seed: of encoders that draw spikes.
        output: output whose loss gradients are of, if there are several. None is the first.
    """

    statistics: Literal["running", "batch"] = "running"
    time: Time = "sum"
    layers: Layers = "main"
    energy: EnergyModel = HOROWITZ_45NM
    seed: int = 0
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of a network; None for those not requested."""

    network: str
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

    def as_dict(self) -> dict[str, object]:
        """Return JSON data of all measures that were taken."""
        record: dict[str, Any] = {
            name: getattr(self, name) for name in ("network", "images", "batches", "statistics")
        }
        for name in (measure.replace("-", "_") for measure in MEASURES):
            if (found := getattr(self, name)) is not None:
                record[name] = asdict(found)
        stability = record.get("gradient_stability", {"overall": 0.0})
        if not isfinite(stability["overall"]):  # JSON has no infinity; its logarithm is there
            stability["overall"] = None
        return record


def mean_cross_entropy(output: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of [N, classes] or of pixels [N, classes, H, W], or that of the mean
    over time with a leading T."""
    logits = output.mean(0) if output.dim() in (3, 5) else output
    return nn.functional.cross_entropy(logits, labels)


def mean_squared_distance(output: Tensor, numbers: Tensor) -> Tensor:
    """Return the mean squared distance of [N, D], or the mean over time of [T, N, D], to [N, D]."""
    found = output.mean(0) if output.dim() == 3 else output
    return nn.functional.mse_loss(found, numbers)


def measure(
    model: Model,
    layout: Layout,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    only: Collection[str] = (),
    options: MeasureOptions | None = None,
    loss: Loss = mean_cross_entropy,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Measures:
    """Measure ``model``, of the eager backend, on batches of images and labels.

    Args:
        only: names of measures. The default is all of them.
        loss: function of the output and the labels that gradients are of.
        on_progress: called with the number of images of each batch when it is done.

    Buffers, mode, gradients and the random state do not change. Raises MeasureError for a model of
    another backend, an unknown measure, no data, data that the model does not take, and values that
    are not finite.
    """
    options = options or MeasureOptions()
    unknown = [name for name in only if name not in MEASURES]
    if unknown:
        raise MeasureError(f"there is no measure {unknown[0]}; there are {', '.join(MEASURES)}")
    wanted = [name for name in MEASURES if not only or name in only]
    makers: Mapping[str, Callable[[], Any]] = {
        "firing-rate": lambda: FiringRate(layout),
        "gradient-stability": lambda: Stability(layout, options.time, options.layers),
        "potential": lambda: Potential(layout),
        "input": lambda: Input(layout),
        "values": lambda: Values(layout),
        "operations": lambda: OperationCount(layout, options.energy),
    }
    gathering = {name: makers[name]() for name in wanted if name in makers}
    observers = list(gathering.values())
    gradients = None
    if "gradients" in wanted:
        chosen = _of_output(loss, model, options.output)
        gradients = GradientMeans(model, layout, chosen, options.seed)
    images = count = 0
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    with _as_it_was(model), torch.random.fork_rng(enabled=True):
        _set_mode(model, options.statistics)
        for x, labels in batches:
            if not (isinstance(x, Tensor) and isinstance(labels, Tensor)):
                raise MeasureError(f"batch {count + 1} is no pair of tensors: images, labels")
            x, labels = x.to(device), labels.to(device)
            for observer in observers:
                observer.batch(len(labels))
            try:
                if observers:
                    with observed(model, layout, observers), torch.no_grad():
                        torch.manual_seed(options.seed + count)
                        model(x)
                if gradients is not None:
                    gradients.add(x, labels)
            except MeasureError:
                raise
            except ValueError as error:  # of a model that does not take the batch
                raise MeasureError(f"batch {count + 1} of {list(x.shape)}: {error}") from error
            images += len(labels)
            count += 1
            on_progress(len(labels))
    if not count:
        raise MeasureError("there is no batch to measure")
    if gradients is not None:
        gathering["gradients"] = gradients
    results = {name.replace("-", "_"): each.result() for name, each in gathering.items()}
    return Measures(layout.network, images, count, options.statistics, **results)


def _of_output(loss: Loss, model: Model, name: str | None) -> Loss:
    """Return the loss of one of several outputs."""
    outputs = list(model.signature.outputs)
    if len(outputs) == 1:
        return loss
    if name is not None and name not in outputs:
        raise MeasureError(f"there is no output {name}; there are {', '.join(outputs)}")
    place = outputs.index(name) if name is not None else 0
    return lambda output, labels: loss(output[place], labels)


def _set_mode(model: nn.Module, statistics: str) -> None:
    """Set evaluation mode, and training mode of norms for statistics of the batch."""
    model.eval()
    if statistics == "batch":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm | StepBatchNorm2d):
                module.training = True


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Restore modes and buffers on exit."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(value, value.clone()) for value in model.buffers()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for value, before in buffers:
                value.copy_(before)
