"""Export of networks: weights, or whole networks in other formats.

A file of a whole network is compared with its model on random samples. If a membrane potential is at its
threshold, one program rounds it up and another rounds it down, and one spike may change all later
ones. So only samples without such a spike agree. Their expected number is estimated by
perturbing the weights of the model by about the rounding error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from danetc.arguments import file_place, takes
from danetc.compiler import check_file, graph_of
from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError, check_installed
from danetc.pretrained import directory_of
from danetc.requests import ExportRequest
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of, random_input
from danetc.runtime.model.weight_files import set_tensors
from danetc.runtime.system.devices import arithmetic, find_device
from danetc.runtime.system.files import replace_file
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.formats import FORMATS, Content, Format, stepwise
from danetc.tasks.model_directory import SPEC, evaluation_in, load, open_trained
from danetc.tasks.networks import compile_spec, emit_model, initialise
from danetc.tasks.training.directory import CHECKPOINTS, checkpoint_in, weights_of

SAMPLES, BATCH = 100, 20
VARIED = 0.01  # least standard deviation over samples of outputs that are compared
TOLERANCE = 1e-5  # largest difference, relative to the largest output plus 1
ROUNDING = 0.25  # change of the weights that stands for rounding, in units of the tolerance
_MACS = 2e10  # limit of the MACs of a comparison, which uses fewer samples for a large network


@dataclass(frozen=True, slots=True)
class FileComparison:
    """Comparison of a file with its model on random samples.

    Attributes:
        samples: number of samples.
        agreeing: number of samples whose outputs are within the tolerance. In the other samples, a
            membrane potential is within rounding of its threshold.
        largest: largest difference among the samples that agree.
        deviation: standard deviation over samples, of the model's output where it is largest.
    """

    samples: int
    agreeing: int
    largest: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file.

    Attributes:
        compared: Comparison of the file with the model, or None if the file contains only weights.
        uncompared: Reason why a network was not compared.
    """

    path: str
    network: str
    tensors: int
    bytes: int
    streaming: bool
    compared: FileComparison | None = None
    uncompared: str | None = None


@takes(ExportRequest)
def export(request: ExportRequest) -> Exported:
    """Write a network to a file for use elsewhere, as ``danetc export`` does.

    A file that holds a whole network is read back and compared with the model before it is kept. Whole
    networks take [N, C, H, W] (or [T, N, C, H, W]) for any N.

    Returns a description of the file: tensors, bytes, and the comparison with the model. Raises
    UserError if the source or the file is wrong, if the network has no such form, and if the file does
    not compute what the model does; SpecError for a spec.
    """
    source = request.source
    try:
        output = file_place(*FORMATS)(os.fspath(request.output))
    except ValueError as error:
        raise UserError(str(error)) from error
    row = FORMATS[output.suffix.lower()]
    if row is not FORMATS[".onnx"] and request.streaming:
        what = f"a {output.suffix} file ({row.meaning})"
        raise UserError(f"{what} has only one form; leave out --streaming")
    check_installed(f"a {output.suffix} file", row.needs, next(iter(row.needs), ""))
    if output.exists() and not request.force:
        raise UserError(f"{output} exists already; --force replaces it")
    find_device(request.device)
    place, tested = directory_of(source), None
    if place.is_dir():
        if strange := [name for name in ("network", "set", "init") if getattr(request, name)]:
            raise UserError(f"{source} is a directory with weights: leave out {strange[0]}")
        tested, model = open_trained(place).evaluation, load(place, memory="none")
        if request.checkpoint is not None:
            model, tested = at_checkpoint(model, place, request.checkpoint, "eager")
    elif request.checkpoint is not None:
        raise UserError(f"{source} is not the directory of a run: leave out the checkpoint")
    else:
        compiled = compile_spec(source, network=request.network, settings=request.set)
        model, _ = initialise(compiled.graph, request.seed, request.init)
    graph = model.topology
    names = () if tested is None else tested.class_names
    content = Content(graph, model.eval(), request.streaming, names)
    data = row.write(content)
    compared = None if row.run is None else compare_file(content, row, data, request.device)
    replace_file(output, data, follow=True)
    done = str(output), graph.name, len(content.weights), len(data), request.streaming
    found, why = (None, compared) if isinstance(compared, str) else (compared, None)
    return Exported(*done, found, why)


@torch.no_grad()
def compare_file(
    content: Content, row: Format, data: bytes, device: str = "cpu"
) -> FileComparison | str:
    """Compare a file's bytes with the model on a device; a string says why that is not possible.

    Raises UserError if the differences are not due to rounding.
    """
    graph, place = content.graph, find_device(device)
    drawn = (n for n in graph.nodes.values() if OPS[n.op].random and not OPS[n.op].training)
    path = next((n.path for n in drawn if n.attrs.get("evaluate") != "mean"), None)
    if path is not None:
        return f"{path} may draw random numbers"
    macs = graph.steps * sum(macs_of(graph, node) for node in graph.nodes.values())
    samples = max(4, min(SAMPLES, int(_MACS // max(macs, 1))))
    batches = [inputs_of(graph, min(BATCH, samples - at), at) for at in range(0, samples, BATCH)]
    model = emit_model(graph).eval().to(place)
    model.load_state_dict(content.model.state_dict())
    whole = stepwise(model.stream, graph) if content.streaming else lambda *x: outputs_of(model(*x))

    def run(*inputs: Tensor) -> list[Tensor]:
        with arithmetic("float32", place):
            return [y.cpu() for y in whole(*(x.to(place) for x in inputs))]

    expected = outputs_of_all(graph, run, batches)
    deviation = max(float(y.float().std(0).mean()) for y in expected)
    if deviation < VARIED:
        return "its outputs are the same for all samples, as those of an untrained network"
    assert row.run is not None
    gap = gaps(expected, outputs_of_all(graph, row.run(data, content), batches))
    room = TOLERANCE * (1 + max(float(y.abs().max()) for y in expected))
    agrees = gap <= room
    agreeing = int(agrees.sum())
    if agreeing < samples:
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(1 + ROUNDING * TOLERANCE)
        control = gaps(expected, outputs_of_all(graph, run, batches))
        if agreeing < (int((control <= room).sum()) - 1) / 2:
            raise UserError(
                "read back, the file gives other numbers than the model: the outputs of "
                f"{samples - agreeing} of {samples} random samples differ, by up to "
                f"{float(gap.max()):.1e}; it was not written. Please report this, with the spec"
            )
    if not agreeing:
        return f"rounding alone changes spikes in each of {samples} random samples"
    return FileComparison(samples, agreeing, float(gap[agrees].max()), deviation)


def gaps(mine: Iterable[Tensor], theirs: Iterable[Tensor]) -> Tensor:
    """Return the largest difference of each sample, [N]."""
    each = [(x - y).flatten(1).abs().amax(1) for x, y in zip(mine, theirs, strict=True)]
    return torch.stack(each).amax(0)


def inputs_of(graph: Graph, samples: int, seed: int) -> tuple[Tensor, ...]:
    """Return random inputs; each sample of real numbers has a scale of its own."""
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


def outputs_of_all(
    graph: Graph, run: Callable[..., Sequence[Tensor]], batches: Iterable[tuple[Tensor, ...]]
) -> list[Tensor]:
    """Return the outputs for all samples, [N, ...]; those over time as [N, T, ...]."""
    found = zip(*(run(*inputs) for inputs in batches), strict=True)
    ranks = [len(graph[id].value.shape) for id in graph.outputs.values()]
    return [
        torch.cat([y.movedim(y.dim() - rank - 1, 0) for y in parts])
        for rank, parts in zip(ranks, found, strict=True)
    ]


def at_checkpoint(
    model: Model, directory: Path, name: str, backend: str
) -> tuple[Model, Evaluation]:
    """Return the network of a run, ``model``, with the weights of a checkpoint and the T of their phase,
    and the conditions of their evaluation.

    Raises UserError if there is no such checkpoint, and if it is one of another network.
    """
    found = checkpoint_in(directory, name)
    tested = evaluation_in(found.state.get("tested"), directory / CHECKPOINTS / name)
    if tested.steps != model.signature.steps:
        model = with_steps(model, directory, tested.steps, backend)
    source = f"the checkpoint `{name}` in {directory} is of another network: it"
    set_tensors(model, weights_of(found), source)
    return model, tested


def with_steps(model: Model, directory: Path, steps: int, backend: str) -> Model:
    """Rebuild the network of a directory with another T and new weights. Raises UserError."""
    checked = check_file(str(directory / SPEC))  # the run's own copy; its warnings have been shown
    return emit_model(graph_of(checked, model.topology.name, {"steps": steps}), backend)
