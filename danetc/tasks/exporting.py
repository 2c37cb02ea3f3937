"""A trained network in the forms that others read: weights under some library's names, a program."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from danetc.compiler import check_file, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.model_directory import SPEC, TRIALS, load
from danetc.runtime.system.files import replace_file
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.arguments import check_choice
from danetc.tasks.formats import FORMATS, Content
from danetc.tasks.networks import emit_model
from danetc.tasks.trained import evaluation_in
from danetc.tasks.training.directory import CHECKPOINTS, checkpoint_in, weights_of

if TYPE_CHECKING:
    from danetc.runtime.model.built import Model
    from danetc.runtime.training.checkpoints import Snapshot

Names = Literal["danetc", "torchvision", "spikingjelly"]
NAMES: tuple[Names, ...] = ("danetc", "torchvision", "spikingjelly")


@dataclass(frozen=True, slots=True)
class Exported:
    """What stands in a file. ``left_out`` are entries that the other library has no place for."""

    path: str
    network: str
    names: str
    counterpart: str | None
    tensors: int
    bytes: int
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "network": self.network,
            "names": self.names,
            "counterpart": self.counterpart,
            "tensors": self.tensors,
            "bytes": self.bytes,
            "left_out": list(self.left_out),
        }


def export(
    directory: str | os.PathLike[str],
    output: str | os.PathLike[str],
    names: Names = "danetc",
    *,
    checkpoint: str | None = None,
    force: bool = False,
    allow_changed: Collection[str] = (),
) -> Exported:
    """Write the network of a directory to a file for use elsewhere, as ``danetc export`` does.

    Args:
        directory: one that ``danetc.train`` or ``danetc build`` has written.
        output: the file, whose ending says what is written (``danetc.tasks.formats``).
            ``.safetensors`` and ``.pth`` hold weights; ``.pt2`` is the whole network as a program
            of ``torch.export``, which takes [N, C, H, W] (or [T, N, C, H, W]) for any N.
        names: whose names the weights get: ``danetc``, which are those of the directory's
            model.py, or those of the ``torchvision`` or ``spikingjelly`` network of the same layers.
        checkpoint: weights of the run to take in place of the last ones, as in ``"best"``.
        force: replace a file that is there.
        allow_changed: as for ``danetc.load``.

    Returns what was written: tensors, bytes, and the entries without a place in the other library.
    Raises UserError where the directory or the file is wrong and where there is no such network in
    the other library, SpecError for a spec.danet that was changed.
    """
    output = Path(output)
    check_choice("names", names, NAMES)
    check_output(output, names, force=force)
    if (Path(directory) / TRIALS).is_file():
        raise UserError(f"{directory} holds trials; choose one of {directory}/seed-...")
    model = load(directory, memory="none", allow_changed=allow_changed).eval()
    if checkpoint is not None:
        model = open_checkpoint(Path(directory), checkpoint).of(model, "eager").eval()
    graph = model.topology
    assert isinstance(graph, Graph)
    weights, counterpart, left_out = _named(graph, model, names)
    data = FORMATS[output.suffix].write(Content(graph, model, weights))
    replace_file(output, data)
    return Exported(
        str(output), graph.name, names, counterpart, len(weights), len(data), tuple(left_out)
    )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run, and how its weights were tested (or will be)."""

    directory: Path
    name: str
    snapshot: Snapshot
    tested: Evaluation

    def of(self, model: Model, backend: str) -> Model:
        """The run's network with these weights and the T of their phase. ``model`` is that of the
        directory. Raises UserError.
        """
        if self.tested.steps != model.signature.steps:
            model = with_steps(model, self.directory, self.tested.steps, backend)
        try:
            model.load_state_dict(dict(weights_of(self.snapshot)))
        except RuntimeError as error:
            raise UserError(
                f"the checkpoint `{self.name}` in {self.directory} is of another network: "
                f"{str(error).splitlines()[-1].strip()}"
            ) from error
        return model


def open_checkpoint(directory: Path, name: str) -> Checkpoint:
    """A run's checkpoint by its name. Raises UserError."""
    found = checkpoint_in(directory, name)
    tested = evaluation_in(found.state.get("tested"), directory / CHECKPOINTS / name)
    return Checkpoint(directory, name, found, tested)


def with_steps(model: Model, directory: Path, steps: int, backend: str) -> Model:
    """The network of a directory anew, with this T and weights of its own. Raises UserError."""
    graph = model.topology
    assert isinstance(graph, Graph)
    if not (directory / SPEC).is_file():
        raise UserError(f"{directory} is incomplete: there is no {SPEC} in it")
    checked = check_file(str(directory / SPEC))  # the run's own copy, of which it was warned
    return emit_model(graph_of(checked, graph.name, {"steps": steps}), 0, backend)


def check_output(output: Path, names: Names, *, force: bool) -> None:
    """Raise UserError where nothing can be written, before anything is read."""
    if output.suffix not in FORMATS:
        endings = ", ".join(FORMATS)
        raise UserError(f"the name of the file says what to write, so it ends in one of {endings}")
    if not FORMATS[output.suffix].named and names != "danetc":
        raise UserError(
            f"a {output.suffix} file ({FORMATS[output.suffix].meaning}) has danetc's names alone; "
            "leave out --names"
        )
    if output.is_dir():
        raise UserError(f"{output} is a directory")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no such folder")
    if output.exists() and not force:
        raise UserError(f"{output} is there already; --force replaces it")


def _named(
    graph: Graph, model: Model, names: Names
) -> tuple[dict[str, Tensor], str | None, list[str]]:
    """The weights under a library's names, what they fit, and what of ours has no place there."""
    own = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if names == "danetc":
        return own, None, []
    from danetc.runtime.model.weights import match
    from danetc.tasks.counterparts import (
        NoCounterpart,
        spikingjelly_counterpart,
        torchvision_counterpart,
    )

    find = torchvision_counterpart if names == "torchvision" else spikingjelly_counterpart
    found = find(graph)
    if isinstance(found, NoCounterpart):
        raise UserError(f"{graph.name} has {found}")
    other = found.make()
    report = match(model, other.state_dict())
    state = {theirs: own[mine] for mine, theirs in report.matched.items()}
    state |= {  # what only counts batches has no counterpart where a norm counts its own way
        name: value
        for name, value in other.state_dict().items()
        if name not in state and name.endswith("num_batches_tracked")
    }
    _fits(other, state)
    return state, str(found), sorted(own.keys() - report.matched.keys())


def _fits(other: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise UserError unless the other library's network takes exactly these weights."""
    try:
        other.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit there after all: {error}") from error
