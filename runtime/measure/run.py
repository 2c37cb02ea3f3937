"""Measuring a model: batches go through it once, and all that was asked for is gathered."""

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
"""Every measure and what it is, in the order of a report."""


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How to measure.

    ``statistics`` of norms are the ``running`` ones or those of the ``batch`` (of a network that
    was never trained the running ones say nothing); drop-out is off. ``time`` and ``layers`` belong
    to gradient stability. ``seed`` is that of encoders that draw spikes. ``output`` names the one
    whose loss gradients are of, where a network has several (None is the first).
    """

    statistics: Literal["running", "batch"] = "running"
    time: Time = "sum"
    layers: Layers = "main"
    energy: EnergyModel = HOROWITZ_45NM
    seed: int = 0
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured; None where it was not asked for."""

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
        """All of it for JSON; what was not measured is left out."""
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
    """Cross entropy of [N, classes], or of the mean over time of [T, N, classes]; of maps of the classes
    of pixels [N, classes, H, W] too.
    """
    logits = output.mean(0) if output.dim() in (3, 5) else output
    return nn.functional.cross_entropy(logits, labels)


def mean_squared_distance(output: Tensor, numbers: Tensor) -> Tensor:
    """Of [N, D], or of the mean over time of [T, N, D], to numbers [N, D]."""
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
    """Measure ``model`` (of the eager backend) on batches of images and labels.

    ``only`` names measures; none stands for all. ``loss`` of the output and the labels is what
    gradients are of. ``on_progress`` gets the images of each batch when it is done. The model is
    left as it was: buffers, mode, gradients and the random state. Raises MeasureError for a model of
    another backend, an unknown measure, no data or such as the model does not take, and for values
    that are not finite.
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
    """The loss of one of several outputs."""
    outputs = list(model.signature.outputs)
    if len(outputs) == 1:
        return loss
    if name is not None and name not in outputs:
        raise MeasureError(f"there is no output {name}; there are {', '.join(outputs)}")
    place = outputs.index(name) if name is not None else 0
    return lambda output, labels: loss(output[place], labels)


def _set_mode(model: nn.Module, statistics: str) -> None:
    """All in evaluation mode, but norms in training mode for statistics of the batch."""
    model.eval()
    if statistics == "batch":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm | StepBatchNorm2d):
                module.training = True


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Gives modes and buffers back as they were."""
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
