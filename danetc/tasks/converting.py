"""`danetc convert`: trained ANNs with ReLU or QCFS as networks of integrate-and-fire neurons."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError
from danetc.output.console import shows_progress
from danetc.output.echo import note
from danetc.output.returned import Returned, frame
from danetc.requests import ConversionRequest, EvaluationRequest
from danetc.runtime.measure.observe import observed
from danetc.runtime.system.devices import arithmetic, find_device
from danetc.runtime.system.files import file_digest, save_record
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.evaluate import DirectoryEvaluator, Figures, accuracy_figure
from danetc.tasks.measuring.data import batches_of
from danetc.tasks.model_directory import (
    CONVERSION,
    WEIGHTS,
    data_of,
    load,
    model_files,
    open_directory,
    open_trained,
    refuse_unless_replaceable,
    write_model_directory,
)
from danetc.tasks.networks import CompiledNetwork, emit_model, network_of
from danetc.tasks.training.tested import open_set

FORMAT = 1  # version of conversion.json
NEURON = "rate_IF"
DECLARED = """
surrogate rate_window {
  dy = max(1 - abs(x), 0)
}

# In place of ReLU: membrane potentials are in units of the threshold, and a spike is as high as the
# threshold. What exceeds the threshold at a spike remains (a soft reset).
"""
"""Declarations that are added to a converted spec. The surrogate is used only if training continues."""
RATE = """neuron rate_IF {
  state u = START
  theta = learn(1.0PER)
  v = u + x / theta
  o = heaviside(v - 1)
  u = v - o
  s = theta * o
}
"""
RESIDUAL = """# SRP (Hao et al., AAAI 2023): after the first steps, units whose residual potential is not positive fall
# silent, and the others start again. The mean of `y` up to a step is that of the spikes since the first
# steps; layers before the output (last = 1) pass it on, and the others their spikes.
neuron rate_IF(first = FIRST) {
  state u = START
  state t = 0
  state on = 1
  state total = 0
  state before = 0
  theta = learn(1.0PER)
  last = learn(0.0)
  t = t + 1
  v = u + x / theta
  o = heaviside(v - 1)
  r = v - o
  spike = theta * on * o
  total = total + (spike if t > first else 0)
  on = (r > 0.001) if t == first else on
  u = START if t == first else r
  y = t / max(t - first, 1) * total
  s = last * (y - before) + (1 - last) * spike
  before = y
}
"""

HOW = ("steps", "percentile", "channels", "half", "srp", "batches", "batch")  # recorded arguments

LEAST = 1e-6  # threshold of a layer, or a channel, that is silent on the data


@dataclass(frozen=True, repr=False)
class Converted(Returned):
    """A converted network. Accuracies are those of the test images.

    Attributes:
        source: what was converted, as it was named.
        ann: results of the network that was converted.
        over_time: results of the spiking network, of its mean output over the first T steps, for each
            T from 1 (with SRP, from the end of its first steps).
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
        """Return a DataFrame with a row for each T."""
        return frame(map(asdict, self.over_time))

    def figure(self) -> Any:
        """Return a figure of the accuracy over T (or the loss, if numbers are learned), and that of the
        ANN. Raises UserError without matplotlib."""
        ann = [replace(self.ann, steps=at.steps) for at in self.over_time]
        return accuracy_figure({"integrate-and-fire": self.over_time, "ANN": ann}, self.network)

    def _line(self) -> str:
        last = self.over_time[-1]
        where = f"{self.network} in {self.directory} on {self.data}"
        return f"{where}: ANN {self.ann.text}, T = {last.steps}: {last.text}"


@takes(ConversionRequest)
def convert(how: ConversionRequest) -> Converted:
    """Convert a trained ANN to a spiking network, as ``danetc convert`` does (Rueckauer et al., 2017).

    Each activation becomes an integrate-and-fire neuron with a soft reset, which starts at half its
    threshold. The threshold of a ReLU is a percentile of the activations of a channel on training
    images; that of a QCFS activation (Bu et al., 2022) is its height. Spikes are as high as the
    threshold, so that their mean over time approaches the activation, up to the threshold. Weights
    stay the same.

    Raises UserError if part of the network cannot be converted, with its path in the network, and if
    the directory or an argument is wrong.
    """
    shown = shows_progress(how.progress)
    told = note if shown else lambda text: None
    source, steps = os.fspath(how.source), how.steps
    opened = open_directory(source)
    output = how.output or f"build/{opened.network}-converted"
    place = Path(output)
    refuse_unless_replaceable(place)
    trained = open_trained(source)
    if place.resolve() == opened.path.resolve():
        raise UserError(
            f"{output} is the network to convert, which would be replaced; name another"
        )
    if how.srp >= steps:
        raise UserError(f"steps={steps} leaves none after the first srp={how.srp}")
    before = opened.compiled()
    graph = before.graph
    ann = load(source, backend="eager", memory="none").eval()
    heights = _heights(graph, ann)
    last = _last_neurons(graph) if how.srp else set()
    compiled = _with_neurons(before, how)
    text = how.data or data_of(trained)
    images = open_set(text, ann.signature, trained, split="train")
    seen = batches_of(images, split="train", batch=how.batch, count=how.batches)
    device = find_device(how.device)
    inputs = (x.to(device) for x, _ in seen)
    with arithmetic("float32", device):
        thresholds = thresholds_of(ann.to(device), graph, inputs, heights, how)
    model = emit_model(compiled.graph)
    weights = {key: value for key, value in ann.state_dict().items() if key in model.state_dict()}
    model.load_state_dict(
        weights
        | {f"{path}.theta": theta for path, theta in thresholds.items()}
        | {f"{path}.last": torch.tensor(float(path in last)) for path in thresholds if how.srp}
    )
    files = model_files(compiled, seed=0, init=f"converted from {source}", note=told)
    write_model_directory(place, files, model)
    request = EvaluationRequest(place, data=text, backend="eager", device=how.device)
    of_ann = DirectoryEvaluator(trained, request, told, not shown)
    figures = of_ann.at(of_ann.steps, "ANN")
    tested = replace(trained.evaluation or Evaluation(steps=steps), steps=steps)
    snn = replace(trained, path=place, evaluation=tested)
    of_snn = DirectoryEvaluator(snn, request, silent=not shown)
    line = of_snn.up_to(steps)[how.srp :]
    flat = {path: tuple(values.flatten().tolist()) for path, values in thresholds.items()}
    found = Converted(place, source, how, compiled.graph.name, text, figures, tuple(line), flat)
    record = {"format": FORMAT, "danetc": version("danetc"), **found.as_dict()}
    del record["directory"]
    record["weights"] = file_digest(place / WEIGHTS)
    record["source_weights"] = file_digest(opened.path / WEIGHTS)
    record["evaluation"] = of_snn.conditions.as_dict()
    save_record(record, place / CONVERSION)
    return found


def _heights(graph: Graph, ann: nn.Module) -> dict[str, Tensor]:
    """Return the heights of activations by their paths (see ``height_of``).

    Raises UserError for the first node that has no spiking counterpart, with what to do.
    """
    found = {}
    for node in graph.nodes.values():
        row, why = OPS[node.op], ""
        if node.op == "neuron":
            program, height = graph.program(node), None
            whole = any(item.per == "neuron" for item in program.learnables)
            if not (program.varies or program.inputs or whole):
                height = height_of(ann.get_submodule(_path(node)), node.value.shape)
            if height is None:
                why = (
                    f"is a neuron `{program.name}`, but only ReLU, with or without an upper bound, and "
                    "QCFS are converted: train the network with `neuron = ReLU`"
                )
            else:
                found[_path(node)] = height
        elif node.op == "input" and node.attrs["events"]:
            why = "takes frames that differ, but only images are converted"
        elif node.op == "relu":
            why = "is the operation relu; write `spike` there, and `neuron = ReLU` in the network"
        elif node.op not in ("input", "maxpool", "repeat") and not (
            row.linear and row.time in ("pointwise", "reduces")
        ):
            why = (
                f"({node.op}) is not linear, so it has no rate of spikes; use convolutions, "
                "`batchnorm`, pooling and additions, and train again"
            )
        if why:
            raise UserError(f"{graph.name} cannot be converted: `{node.path}` {why}")
    if not found:
        raise UserError(f"{graph.name} cannot be converted: it has no neurons in place of ReLU")
    return found


def _path(node: Node) -> str:
    """Return the path of the module of a node, whose names differ where Python or torch uses them."""
    return dotted(*node.scope, node.name)


def height_of(layer: nn.Module, shape: Sequence[int]) -> Tensor | None:
    """Return the height of QCFS, ``h * clip(floor(x / h * L + 0.5), 0, L) / L``, in each channel, [C].

    ``layer`` is an activation of samples [C, ...], which is evaluated on a grid, so its equations may
    be of any form. The height is infinite for ReLU, with an upper bound or without one. Returns None
    for other activations.
    """
    layer, large = copy.deepcopy(layer).double().requires_grad_(False), 1e6

    def values(x: Tensor) -> Tensor:
        y: Tensor = layer(x.reshape(*x.shape, *(1 for _ in shape[1:])))
        return y.reshape(x.shape)

    top = values(torch.full((1, shape[0]), large, dtype=torch.float64))
    scale = torch.where(top < large, top, 1.0)
    grid = torch.linspace(-0.5, 1.5, 4001, dtype=torch.float64)[:, None] + 1e-5  # between the steps
    y = values(grid * scale) / scale
    levels = torch.tensor([len(column.round(decimals=9).unique()) - 1 for column in y.T])
    bounded = grid.clamp(min=0).minimum(top / scale)
    stepped = ((grid * levels + 0.5).floor() / levels).clamp(0, 1)
    if bool((y - bounded).abs().amax() < 1e-6):
        return torch.full_like(top[0], torch.inf)
    return top[0] if bool((y - stepped).abs().amax() < 1e-6) else None


def _last_neurons(graph: Graph) -> set[str]:
    """Return the paths of the neurons before the output, for SRP. Raises UserError if one of them also
    feeds another neuron, or a maximum."""

    def sources(ids: Iterable[int]) -> set[str]:
        found: set[str] = set()
        for node in map(graph.__getitem__, ids):
            found |= {_path(node)} if node.op == "neuron" else sources(node.inputs)
        return found

    last = sources(graph.outputs.values())
    for node in graph.nodes.values():
        shared = sources(node.inputs) & last if node.op in ("neuron", "maxpool") else set()
        if shared:
            raise UserError(
                f"{graph.name} cannot be converted with SRP: `{min(shared)}` feeds the output, and "
                f"also `{node.path}` ({node.op}); leave out srp"
            )
    return last


def _with_neurons(before: CompiledNetwork, how: ConversionRequest) -> CompiledNetwork:
    """Return the network with integrate-and-fire neurons in place of ReLU, with another T."""
    declared = DECLARED + (RESIDUAL if how.srp else RATE)
    per, start = ", per = channel" if how.channels else "", "0.5" if how.half else "0"
    for name, value in {"PER": per, "START": start, "FIRST": str(how.srp)}.items():
        declared = declared.replace(name, value)
    checked = check_text(before.resolved + declared, "spec.danet")
    own: dict[str, Setting] = {"neuron": NEURON, "surrogate": "rate_window", "steps": how.steps}
    found = network_of(checked, before.graph.name, own)
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


def thresholds_of(
    ann: nn.Module,
    graph: Graph,
    batches: Iterator[Tensor],
    heights: Mapping[str, Tensor],
    how: ConversionRequest,
) -> dict[str, Tensor]:
    """Return the threshold of each activation by its path, or those of its channels, [C, 1, 1].

    ``batches`` are images [N, C, H, W]. Where ``heights`` are finite, they are the thresholds.
    """
    nodes = {_path(node): node for node in graph.nodes.values() if node.op == "neuron"}
    measured: dict[str, list[Tensor]] = {}

    def see(node: Node, module: object, inputs: object, y: Tensor) -> None:
        y = y.detach().reshape(-1, *node.value.shape)  # [N, C, ...]
        rows = y.movedim(1, 0).flatten(1) if how.channels else y.reshape(1, -1)
        values = numpy.percentile(rows.cpu().numpy(), how.percentile, axis=1)
        measured.setdefault(_path(node), []).append(torch.as_tensor(values, dtype=y.dtype))

    seen = [
        (path, partial(see, node)) for path, node in nodes.items() if heights[path].isinf().any()
    ]
    with observed(ann, seen), torch.no_grad():
        for images in batches if seen else ():
            ann(images)
    found = {}
    for path, node in nodes.items():
        height = heights[path] if how.channels else heights[path].amax(0, keepdim=True)
        theta = torch.stack(measured[path]).mean(0) if path in measured else height.float()
        shape = (-1, *(1 for _ in node.value.shape[1:])) if how.channels else ()
        found[path] = theta.clamp(min=LEAST).reshape(shape)
    return found
