"""A trained network in the forms that others read: weights under some library's names, a program."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor, nn

from danetc.arguments import check_choice
from danetc.compiler import check_file, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.runtime.system.files import replace_file
from danetc.runtime.training.evaluation import Evaluation
from danetc.setting import Setting
from danetc.tasks.comparing import FileComparison, compare_file
from danetc.tasks.export_content import Content, ExportOptions
from danetc.tasks.formats import FORMATS
from danetc.tasks.model_directory import SPEC, TRIALS, load
from danetc.tasks.networks import compile_spec, emit_model, initialise
from danetc.tasks.trained import evaluation_in
from danetc.tasks.training.directory import CHECKPOINTS, checkpoint_in, weights_of

if TYPE_CHECKING:
    from danetc.compiler.emit.onnx import OnnxTime
    from danetc.runtime.model.built import Model
    from danetc.runtime.training.checkpoints import Snapshot

TIMES = ("unrolled", "loop", "step")
Names = Literal["danetc", "torchvision", "timm", "spikingjelly"]
NAMES: tuple[Names, ...] = get_args(Names)


@dataclass(frozen=True, slots=True)
class Exported:
    """What stands in a file. ``left_out`` are entries that the other library has no place for.

    ``compared`` is how it came out when the file was read back and run beside the model, None of
    weights alone; ``uncompared`` says why a whole network was not.
    """

    path: str
    network: str
    names: str
    counterpart: str | None
    tensors: int
    bytes: int
    left_out: tuple[str, ...]
    options: ExportOptions = ExportOptions()
    compared: FileComparison | None = None
    uncompared: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "network": self.network,
            "names": self.names,
            "counterpart": self.counterpart,
            "tensors": self.tensors,
            "bytes": self.bytes,
            "left_out": list(self.left_out),
            "time": self.options.time,
            "half": self.options.half,
            "compiled": self.options.compiled,
            "compared": None if self.compared is None else self.compared.as_dict(),
            "uncompared": self.uncompared or None,
        }


def export(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    names: Names = "danetc",
    *,
    checkpoint: str | None = None,
    network: str | None = None,
    set: Mapping[str, Setting] | None = None,
    seed: int = 0,
    init: str | os.PathLike[str] | None = None,
    time: OnnxTime = "unrolled",
    half: bool = False,
    compiled: bool = False,
    force: bool = False,
    allow_changed: Collection[str] = (),
) -> Exported:
    """Write a network to a file for use elsewhere, as ``danetc export`` does.

    A file that holds a whole network is read back and compared with the model before it is kept.

    Args:
        source: a directory that ``danetc.train`` or ``danetc build`` has written, ``pretrained:NAME``,
            or a spec (a file, or the name of a shipped one), whose weights are new or those of ``init``.
        output: the file, whose ending says what is written (``danetc.tasks.formats``).
            ``.safetensors`` and ``.pth`` hold weights. Whole networks take [N, C, H, W] (or
            [T, N, C, H, W]) for any N: ``.onnx``, ``.nir``, and ``.pt2``, a program of
            ``torch.export``.
        names: whose names the weights get: ``danetc``, which are those of the directory's
            model.py, or those of the ``torchvision``, ``timm`` or ``spikingjelly`` network of the same
            layers.
        checkpoint: weights of the run to take in place of the last ones, as in ``"best"``.
        network, set, seed, init: of a spec, as for ``danetc.build``.
        time: of ONNX: ``unrolled`` for T steps one behind the other, ``loop`` for a loop over any
            number of steps, ``step`` for one step, whose states are inputs and outputs.
        half: numbers of ONNX are float16, membrane potentials float32.
        compiled: a ``.pt2`` is compiled by AOTInductor, for processors like this one. It needs a C++
            compiler, here and not where it runs.
        force: replace a file that is there.
        allow_changed: as for ``danetc.load``.

    Returns what was written: tensors, bytes, the entries without a place in the other library, and
    how the file compares with the model. Raises UserError where the source or the file is wrong,
    where the network has no such form, where there is no such network in the other library, and
    where the file does not compute what the model does; SpecError for a spec.
    """
    output = Path(output)
    check_choice("names", names, NAMES)
    check_choice("time", time, TIMES)
    options = ExportOptions(time, half, compiled)
    check_output(output, names, options, force=force)
    place = directory_of(source)
    if place.is_dir():
        given = {"network": network, "set": set, "init": init}
        if strange := [name for name, value in given.items() if value]:
            raise UserError(f"{source} is a directory with weights: leave out {strange[0]}")
        model = _of_directory(place, checkpoint, allow_changed)
    else:
        if checkpoint is not None:
            raise UserError(f"{source} is no directory of a run: leave out the checkpoint")
        found = compile_spec(source, network=network, settings=set)
        model, _ = initialise(found.graph, seed, init)
        model.eval()
    graph = model.topology
    assert isinstance(graph, Graph)
    weights, counterpart, left_out = _named(graph, model, names)
    row = FORMATS[output.suffix]
    content = Content(graph, model, weights, options)
    data = row.write(content)
    compared: FileComparison | str | None = None
    if (read := row.read()) is not None:
        compared = compare_file(content, data, read, row.write)
    replace_file(output, data, follow=True)
    return Exported(
        str(output), graph.name, names, counterpart, len(weights), len(data), tuple(left_out),
        options,
        None if isinstance(compared, str) else compared,
        compared if isinstance(compared, str) else "",
    )  # fmt: skip


def _of_directory(directory: Path, checkpoint: str | None, allow_changed: Collection[str]) -> Model:
    """The model of a directory, in evaluation mode."""
    if (directory / TRIALS).is_file():
        raise UserError(f"{directory} holds trials; choose one of {directory}/seed-...")
    model = load(directory, memory="none", allow_changed=allow_changed).eval()
    if checkpoint is not None:
        model = open_checkpoint(directory, checkpoint).of(model, "eager").eval()
    return model


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


def check_output(output: Path, names: Names, options: ExportOptions, *, force: bool) -> None:
    """Raise UserError where nothing can be written, before anything is read."""
    if output.suffix not in FORMATS:
        endings = ", ".join(FORMATS)
        raise UserError(f"the name of the file says what to write, so it ends in one of {endings}")
    if not FORMATS[output.suffix].named and names != "danetc":
        raise UserError(
            f"a {output.suffix} file ({FORMATS[output.suffix].meaning}) has danetc's names alone; "
            "leave out --names"
        )
    for name, option in options.given().items():
        if name not in FORMATS[output.suffix].options:
            raise UserError(
                f"a {output.suffix} file ({FORMATS[output.suffix].meaning}) has one form alone; "
                f"leave out {option}"
            )
    FORMATS[output.suffix].check_installed(output.suffix)
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
    from danetc.tasks.counterparts import COUNTERPARTS, NoCounterpart

    found = COUNTERPARTS[names](graph)
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
