"""`danetc convert`: trained ANNs with ReLU as networks of integrate-and-fire neurons."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from danetc.arguments import Setting, takes
from danetc.compiler import check_text
from danetc.compiler.analysis.summary import why_not_stepwise
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError
from danetc.output.console import image_bar, in_notebook
from danetc.output.echo import Note, note
from danetc.output.returned import Returned, frame
from danetc.requests import ConversionRequest, EvaluationRequest
from danetc.runtime.kernels.announcing import unannounced
from danetc.runtime.measure.observe import observed
from danetc.runtime.system.devices import arithmetic, find_device
from danetc.runtime.system.files import file_digest, save_record
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.evaluate import NO_BAR, Bar, DirectoryEvaluator, Figures, accuracy_figure
from danetc.tasks.measuring.data import batches_of
from danetc.tasks.model_directory import (
    CONVERSION,
    WEIGHTS,
    open_directory,
    refuse_unless_replaceable,
    write_model_directory,
)
from danetc.tasks.networks import CompiledNetwork, emit_model, network_of
from danetc.tasks.trained import data_of, open_trained
from danetc.tasks.training.tested import open_set

FORMAT = 1  # version of conversion.json
NEURON = "rate_IF"
DECLARED = """
# In place of ReLU: for rates from 0 to 1, spikes are as high as the threshold, and what exceeds the
# threshold at a spike remains (a soft reset).
neuron rate_IF {
  state u = 0.0
  theta = learn(1.0PER)
  v = u + x
  o = heaviside(v - theta)
  u = v - theta * o
  s = theta * o
}

surrogate rate_window {
  dy = max(1 - abs(x), 0)
}
"""
"""Declarations that are added to a converted spec. The surrogate is used only if training continues."""

HOW = ("steps", "percentile", "channels", "batches", "batch")  # recorded arguments

LEAST = 1e-6  # threshold of a layer, or a channel, that is silent on the data


@dataclass(frozen=True, repr=False)
class Converted(Returned):
    """A converted network. Accuracies are those of the test images.

    Attributes:
        source: what was converted, as it was named.
        ann: results of the network that was converted.
        over_time: results of the spiking network, of its mean output over the first T steps, for each
            T from 1.
        thresholds: threshold of each layer of neurons by its path, or those of its channels.
    """

    directory: Path
    source: str
    how: ConversionRequest
    network: str
    data: str
    ann: Figures
    over_time: tuple[Figures, ...]
    thresholds: Mapping[str, tuple[float, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Return the record that ``danetc convert --json`` prints."""
        record = asdict(self)
        how = record.pop("how")
        return {**record, "directory": str(self.directory), **{name: how[name] for name in HOW}}

    def frame(self) -> Any:
        """Return a DataFrame with a row for each T. Raises UserError without pandas."""
        return frame(map(asdict, self.over_time))

    def figure(self) -> Any:
        """Return a figure of the accuracy over T (or the loss, if numbers are learned), and that of the
        ANN. Raises UserError without matplotlib."""
        ann = [replace(self.ann, steps=at.steps) for at in self.over_time]
        return accuracy_figure({"integrate-and-fire": self.over_time, "ReLU": ann}, self.network)

    def _line(self) -> str:
        last = self.over_time[-1]
        where = f"{self.network} in {self.directory} on {self.data}"
        return f"{where}: ReLU {self.ann.text}, T = {last.steps}: {last.text}"


@takes(ConversionRequest)
def convert(request: ConversionRequest) -> Converted:
    """Convert a trained ANN to a spiking network, as ``danetc convert`` does (Rueckauer et al., 2017).

    Each ``ReLU`` becomes an integrate-and-fire neuron with a soft reset. Its threshold is the largest
    activation of the layer on training images, or a percentile of them. Spikes are as high as the
    threshold, so that their mean over time approaches the activation, up to the threshold. Weights
    stay the same.

    Raises UserError if part of the network cannot be converted, with its path in the network, and if
    the directory or an argument is wrong.
    """
    if in_notebook() if request.progress is None else request.progress:
        return convert_trained(request, bar=image_bar, note=note)
    with unannounced():
        return convert_trained(request)


def convert_trained(
    how: ConversionRequest, *, bar: Bar = NO_BAR, note: Note = lambda text: None
) -> Converted:
    """Convert a network; ``bar`` shows the progress of its tests. Raises as ``convert``."""
    source, steps = how.source, how.steps
    opened = open_directory(source)
    output = how.output or f"build/{opened.network}-converted"
    place = Path(output)
    refuse_unless_replaceable(place)
    trained = open_trained(os.fspath(source))
    if place.resolve() == opened.path.resolve():
        raise UserError(
            f"{output} is the network to convert, which would be replaced; name another"
        )
    before = opened.compiled()
    graph = before.graph
    _refuse_unless_convertible(graph)
    compiled = _with_neurons(before, how)
    text = how.data or data_of(trained)
    ann = opened.model("eager", "none").eval()
    images = open_set(text, ann.signature, trained, split="train")
    seen = batches_of(images, split="train", batch=how.batch, count=how.batches)
    device = find_device(how.device)
    with arithmetic("float32", device):
        thresholds = thresholds_of(ann.to(device), graph, (x.to(device) for x, _ in seen), how)
    model = emit_model(compiled.graph, 0, "eager")
    model.load_state_dict(
        {**ann.state_dict(), **{f"{path}.theta": t for path, t in thresholds.items()}}
    )
    named = os.fspath(source)
    write_model_directory(place, compiled, model, seed=0, init=f"converted from {named}", note=note)
    request = EvaluationRequest(place, data=text, backend="eager", device=how.device)
    of_ann = DirectoryEvaluator(trained, request, note, bar)
    figures = of_ann.at(of_ann.steps, "ReLU")
    tested = replace(trained.evaluation or Evaluation(steps=steps), steps=steps)
    of_snn = DirectoryEvaluator(replace(trained, path=place, evaluation=tested), request, bar=bar)
    line = of_snn.up_to(steps)
    flat = {path: tuple(values.flatten().tolist()) for path, values in thresholds.items()}
    found = Converted(place, named, how, compiled.graph.name, text, figures, tuple(line), flat)
    record = {"format": FORMAT, "danetc": version("danetc"), **found.as_dict()}
    del record["directory"]
    record["weights"] = file_digest(place / WEIGHTS)
    record["source_weights"] = file_digest(opened.path / WEIGHTS)
    record["evaluation"] = of_snn.conditions.as_dict()
    save_record(record, place / CONVERSION)
    return found


# -- what can be converted -------------------------------------------------------------------------


def _refuse_unless_convertible(graph: Graph) -> None:
    """Raise UserError for the first node that has no spiking counterpart, with what to do."""
    for node in graph.nodes.values():
        row, why = OPS[node.op], ""
        if node.op == "neuron":
            program = graph.program(node)
            if [(each.opcode, each.args) for each in program.ops] != [("relu", ("x",))]:
                why = (
                    f"is a neuron `{program.name}`, but only ReLU is converted: train the network "
                    "with `neuron = ReLU`"
                )
        elif node.op == "input" and node.attrs["events"]:
            why = "takes frames that differ, but only images are converted"
        elif node.op == "relu":
            why = "is the operation relu; write `spike` there, and `neuron = ReLU` in the network"
        elif node.op not in ("input", "maxpool") and not (
            row.linear and row.time in ("pointwise", "reduces")
        ):
            why = (
                f"({node.op}) is not linear, so it has no rate of spikes; use convolutions, "
                "`batchnorm`, pooling and additions, and train again"
            )
        if why:
            raise UserError(f"{graph.name} cannot be converted: `{node.path}` {why}")
    if not any(node.op == "neuron" for node in graph.nodes.values()):
        raise UserError(f"{graph.name} cannot be converted: it has no neurons in place of ReLU")


def _with_neurons(before: CompiledNetwork, how: ConversionRequest) -> CompiledNetwork:
    """Return the network with integrate-and-fire neurons in place of ReLU, with another T."""
    declared = DECLARED.replace("PER", ", per = channel" if how.channels else "")
    settings: dict[str, Setting] = {
        "neuron": NEURON,
        "surrogate": "rate_window",
        "steps": how.steps,
    }
    checked = check_text(before.resolved + declared, "spec.danet")
    found = network_of(checked, before.graph.name, settings)
    for node in found.graph.nodes.values():
        if node.op == "neuron" and found.graph.program(node).name != NEURON:
            raise UserError(
                f"{before.graph.name} cannot be converted: `{node.path}` names its neuron; write "
                "`spike` there, and `neuron = ReLU` in the network"
            )
    if (reason := why_not_stepwise(found.graph)) is not None:
        raise UserError(
            f"{before.graph.name} cannot be converted: {reason}; put mean_over_time right before "
            "the last linear layer, or at the end"
        )
    return found


# -- thresholds ------------------------------------------------------------------------------------


def thresholds_of(
    ann: nn.Module, graph: Graph, batches: Iterator[Tensor], how: ConversionRequest
) -> dict[str, Tensor]:
    """Return the threshold of each layer of ReLU by its path, or those of its channels, [C, 1, 1].

    ``batches`` are images [N, C, H, W].
    """
    found: dict[str, Tensor] = {}

    def see(node: Node, module: object, inputs: object, y: Tensor) -> None:
        y = y.detach().reshape(-1, *node.value.shape)  # [N, C, ...]
        rows = y.movedim(1, 0).flatten(1) if how.channels else y.reshape(1, -1)
        values = numpy.percentile(rows.cpu().numpy(), how.percentile, axis=1)
        shape = (-1, *(1 for _ in y.shape[2:])) if how.channels else ()
        new = torch.as_tensor(values, dtype=y.dtype).reshape(shape)
        found[node.path] = torch.maximum(found.get(node.path, new), new)

    neurons = (node for node in graph.nodes.values() if node.op == "neuron")
    with observed(ann, [(node.path, partial(see, node)) for node in neurons]), torch.no_grad():
        for images in batches:
            ann(images)
    return {path: value.clamp(min=LEAST) for path, value in found.items()}
