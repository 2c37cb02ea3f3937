"""Export of networks: weights, or whole networks in other formats."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import takes
from danetc.compiler import check_file, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError, check_installed
from danetc.pretrained import directory_of
from danetc.requests import ExportRequest
from danetc.runtime.system.files import replace_file
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.comparing import FileComparison, compare_file
from danetc.tasks.formats import FORMATS, Content
from danetc.tasks.model_directory import SPEC, TRIALS, load
from danetc.tasks.networks import compile_spec, emit_model, initialise
from danetc.tasks.trained import evaluation_in
from danetc.tasks.training.directory import CHECKPOINTS, checkpoint_in, weights_of

if TYPE_CHECKING:
    from danetc.runtime.model.built import Model


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file.

    Attributes:
        compared: comparison of the file with the model; None for weights alone.
        uncompared: why a whole network was not compared.
    """

    path: str
    network: str
    tensors: int
    bytes: int
    streaming: bool
    compared: FileComparison | None = None
    uncompared: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@takes(ExportRequest)
def export(request: ExportRequest) -> Exported:
    """Write a network to a file for use elsewhere, as ``danetc export`` does.

    A file that holds a whole network is read back and compared with the model before it is kept. Whole
    networks take [N, C, H, W] (or [T, N, C, H, W]) for any N.

    Returns a description of the file: tensors, bytes, and the comparison with the model. Raises
    UserError if the source or the file is wrong, if the network has no such form, and if the file does
    not compute what the model does; SpecError for a spec.
    """
    return export_network(request)


def export_network(request: ExportRequest) -> Exported:
    """Write a network to a file. Raises as ``export``."""
    source, output = request.source, Path(request.output)
    _check_output(request, output)
    place = directory_of(source)
    if place.is_dir():
        if strange := [name for name in ("network", "set", "init") if getattr(request, name)]:
            raise UserError(f"{source} is a directory with weights: leave out {strange[0]}")
        if (place / TRIALS).is_file():
            raise UserError(f"{place} holds trials; choose one of {place}/seed-...")
        model = load(place, memory="none")
        if request.checkpoint is not None:
            model, _ = at_checkpoint(model, place, request.checkpoint, "eager")
    elif request.checkpoint is not None:
        raise UserError(f"{source} is no directory of a run: leave out the checkpoint")
    else:
        found = compile_spec(source, network=request.network, settings=request.set)
        model, _ = initialise(found.graph, request.seed, request.init)
    graph = model.topology
    assert isinstance(graph, Graph)
    row = FORMATS[output.suffix]
    content = Content(graph, model.eval(), request.streaming)
    data = row.write(content)
    compared = None if row.run is None else compare_file(content, row, data)
    replace_file(output, data, follow=True)
    return Exported(
        str(output), graph.name, len(content.weights), len(data), request.streaming,
        compared if isinstance(compared, FileComparison) else None,
        compared if isinstance(compared, str) else None,
    )  # fmt: skip


def _check_output(request: ExportRequest, output: Path) -> None:
    """Raise UserError if the file cannot be written, before anything is read."""
    row = FORMATS.get(output.suffix)
    if row is None:
        endings = ", ".join(FORMATS)
        raise UserError(f"the ending of the file selects the format; it is one of {endings}")
    if output.suffix != ".onnx" and request.streaming:
        what = f"a {output.suffix} file ({row.meaning})"
        raise UserError(f"{what} has only one form; leave out --streaming")
    check_installed(f"a {output.suffix} file", row.needs, row.extra)
    if output.is_dir():
        raise UserError(f"{output} is a directory")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no such folder")
    if output.exists() and not request.force:
        raise UserError(f"{output} exists already; --force replaces it")


# -- checkpoints -----------------------------------------------------------------------------------


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
    try:
        model.load_state_dict(dict(weights_of(found)))
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint `{name}` in {directory} is of another network: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return model, tested


def with_steps(model: Model, directory: Path, steps: int, backend: str) -> Model:
    """Build the network of a directory anew with another T, and new weights. Raises UserError."""
    graph = model.topology
    assert isinstance(graph, Graph)
    if not (directory / SPEC).is_file():
        raise UserError(f"{directory} is incomplete: it has no {SPEC}")
    checked = check_file(str(directory / SPEC))  # the run's own copy, whose warnings were shown
    return emit_model(graph_of(checked, graph.name, {"steps": steps}), 0, backend)
