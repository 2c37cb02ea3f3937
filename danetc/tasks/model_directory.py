"""A model directory contains the files of one network, and is written as a whole.

==================== =============================================================
model.py             the model as plain PyTorch; needs torch alone
weights.safetensors  its parameters and buffers
spec.danet           the network and all that it is made of, in one file
NETWORK.graph        the graph that follows from it as text, for people
topology.svg         the picture of it, where Graphviz can draw one
summary.json         what follows from the topology, how the directory was made, and the
                     SHA-256 of the other files (the weights and itself have their own inside)
==================== =============================================================

``danetc.load`` takes the network from spec.danet and its weights from weights.safetensors, and
neither unless every file is as it was written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import look_at_data
from danetc.dsl.reading import LANGUAGE
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.pretrained import directory_of
from danetc.runtime.system.files import (
    Content,
    DamagedError,
    digest,
    file_digest,
    naming,
    read_record,
    seal_record,
    within,
    write_flushed,
)
from danetc.runtime.system.locks import LOCK as LOCK
from danetc.runtime.training.evaluation import Evaluation, read_evaluation
from danetc.tasks.code import refuse_recorded_data

if TYPE_CHECKING:
    from danetc.compiler.emit.fx import Model
    from danetc.tasks.networks import CompiledNetwork

FORMAT = 1  # of summary.json; raised when an older danetc could not read a directory

MODEL, WEIGHTS, PICTURE = "model.py", "weights.safetensors", "topology.svg"
SUMMARY, SPEC, TRAINING = "summary.json", "spec.danet", "training.json"
RUN, TRIALS = "run.json", "trials.json"
CONVERSION = "conversion.json"  # of `danetc convert`: the source of the network, and its tests
MEASURES = "measures.json"  # of `danetc measure`: results of one or several networks
EVALUATION = "evaluation.json"  # of `danetc eval --per-class`: figures and counts of classes
GRID = "grid.json"  # of `danetc compare`: cells of the last grid, and the states of their runs
_OURS = {MODEL, WEIGHTS, PICTURE, SUMMARY, SPEC, CONVERSION, "__pycache__"}


def refuse_unless_replaceable(directory: Path) -> None:
    """Raise UserError if writing to ``directory`` would destroy files that danetc did not write."""
    target = Path(os.path.realpath(directory))
    if Path.cwd() == target or target in Path.cwd().parents:
        raise UserError(f"{directory} is the current directory; choose another one")
    if not os.path.lexists(target):
        return
    entries = {entry.name for entry in target.iterdir()} - {LOCK} if target.is_dir() else set()
    foreign = sorted(name for name in entries - _OURS if not name.endswith(".graph"))
    if not target.is_dir():
        why = "is a file"
    elif RUN in entries:
        why = "holds a training run"
    elif entries and SUMMARY not in entries:
        why = f"is not a model directory (it has no {SUMMARY}) and not empty"
    elif foreign:
        more = ", ..." if foreign[3:] else ""
        why = f"also holds {', '.join(foreign[:3])}{more}, which danetc did not write"
    else:
        return
    raise UserError(f"{directory} {why}, so it is not replaced; choose another one with -o DIR")


def model_files(
    compiled: CompiledNetwork,
    *,
    seed: int,
    init: str | None = None,
    memory: Mapping[str, object] | None = None,
    note: Note,
) -> dict[str, bytes]:
    """Return the files of a model directory except the weights, by name; the summary is the last.

    ``memory`` is the default policy of ``Directory.model``, and how it was chosen. ``note`` gets the
    reason if there is no picture.
    """
    from danetc.compiler import check_text
    from danetc.compiler.draw import draw
    from danetc.compiler.emit.python import emit_python
    from danetc.compiler.ir.text import write
    from danetc.tasks.networks import network_of

    graph = compiled.graph
    spec = compiled.resolved
    again = network_of(check_text(spec, SPEC), graph.name).graph
    if again != graph:
        raise AssertionError(f"{SPEC} would not be the network that was built")
    texts = {MODEL: emit_python(graph), SPEC: spec, f"{graph.name}.graph": write(again)}
    files = {name: text.encode() for name, text in texts.items()}
    try:
        files[PICTURE] = draw(graph)
    except UserError as error:
        note(f"there is no {PICTURE}: {error}")
    record: dict[str, object] = {
        "format": FORMAT,
        "danetc": version("danetc"),
        "language": LANGUAGE,
        "network": graph.name,
        "settings": dict(compiled.settings),
        "seed": seed,
        "init": init,
        **({} if memory is None else {"memory": dict(memory)}),
        "files": {name: digest(data) for name, data in files.items()},
        "summary": compiled.summary.as_dict(),
    }
    return {**files, SUMMARY: seal_record(record)}


def write_model_directory(
    directory: Path, files: Mapping[str, bytes], model: Model
) -> dict[str, object]:
    """Write ``model_files`` and weights in place of an older directory; return what is in its summary.json.

    All files are written to a temporary directory beside it first, so that a failure leaves the
    older one as it was and nothing else behind. Raises UserError, or OSError with a file's name.
    """
    from danetc.runtime.model.weight_files import tensor_file

    refuse_unless_replaceable(directory)
    target = Path(os.path.realpath(directory))
    target.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Content] = {**files, WEIGHTS: tensor_file(model.state_dict())}
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        with naming(directory):
            temporary.mkdir()
        for name, data in contents.items():
            with naming(directory / name):
                write_flushed(temporary / name, data)
        with naming(directory):
            if target.exists():
                target.rename(old)
            temporary.rename(target)
            if old.exists():
                shutil.rmtree(old)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    record: dict[str, object] = json.loads(files[SUMMARY])
    return record


def record_in(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file. Raises UserError if it was changed after danetc wrote it."""
    return read_record(within(path.parent, path.name))


def record_if_any(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, None if it does not exist. Raises as ``record_in`` does."""
    return record_in(path) if os.path.lexists(path) else None


def epochs_in(path: Path) -> list[dict[str, Any]]:
    """Return the figures of a run's epochs so far, from its training.json if there is one.

    Raises UserError.
    """
    epochs = (record_if_any(path) or {"epochs": []}).get("epochs")
    if not isinstance(epochs, list) or not all(isinstance(each, dict) for each in epochs):
        raise UserError(f"{path} is damaged: it has no list of epochs")
    return epochs


@dataclass(frozen=True)
class Directory:
    """A model directory whose files are as they were written."""

    path: Path
    network: str
    memory: str
    """The policy that it was built for."""

    def compiled(self) -> CompiledNetwork:
        """Return the network of spec.danet. Never imports torch."""
        from danetc.compiler import check_file
        from danetc.tasks.networks import network_of

        return network_of(check_file(str(self.path / SPEC)), self.network)


def open_directory(directory: str | os.PathLike[str]) -> Directory:
    """Open a model directory and check its files; weights are checked when they are loaded.

    Never imports torch. Raises UserError if there is no such directory, if a newer danetc wrote it,
    if spec.danet is missing, and if a file is not as danetc wrote it.
    """
    path = directory_of(directory)
    if not path.is_dir():
        raise UserError(f"there is no model directory {path}; `danetc build` makes one")
    if not (path / SUMMARY).exists():
        raise UserError(f"{path} is not a model directory: it has no {SUMMARY}")
    record = record_in(path / SUMMARY)
    try:
        if record["format"] > FORMAT:
            raise UserError(f"{path} was written by a newer danetc ({record.get('danetc')})")
        files = {str(name): str(known) for name, known in record["files"].items()}
        memory = record.get("memory", {"policy": "none"})
        found = Directory(path, str(record["network"]), str(memory["policy"]))
        files[SPEC]  # raises KeyError
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path / SUMMARY} is not the summary of a model directory") from error
    for name, known in files.items():
        place = within(path, name)
        if (name == SPEC or place.exists()) and file_digest(place) != known:
            raise DamagedError(
                place,
                "it is not as it was written (SHA-256); a spec or weights that you changed are used as "
                "they are in a new network: danetc build SPEC --init WEIGHTS",
            )
    return found


def load(
    directory: str | os.PathLike[str], *, backend: str = "fused", memory: str | None = None
) -> Model:
    """Return the model in a directory that ``danetc build`` or ``danetc train`` wrote, with its weights.

    ``pretrained:NAME`` is a network that comes with danetc. The model is compiled from spec.danet, for
    any ``backend`` and ``memory`` policy (see ``build``; None selects that of ``danetc build``);
    nothing in the directory is executed. Each file must be as danetc wrote it, to the bit.

    Raises UserError if something is missing, damaged or does not fit together.
    """
    from danetc.runtime.model.weight_files import read_tensors, set_tensors
    from danetc.tasks.networks import emit_model

    found = open_directory(directory)
    graph, weights = found.compiled().graph, within(found.path, WEIGHTS)
    model = emit_model(graph, backend, found.memory if memory is None else memory)
    set_tensors(model, read_tensors(weights), str(weights))
    model.directory = found.path
    return model


# -- trained networks: the data and the conditions of their evaluation ----------------------------


@dataclass(frozen=True)
class Trained:
    """A directory with weights. ``evaluation`` has the conditions of their test; None for untrained
    weights.
    """

    path: Path
    evaluation: Evaluation | None

    @property
    def data(self) -> str | None:
        """Data set of the training, as its user wrote it."""
        own = self.evaluation.data if self.evaluation is not None else None
        return None if own is None else str(own.get("text"))

    @property
    def subset(self) -> tuple[int, int] | None:
        """Number of classes that the training has drawn, and the seed; None for all classes."""
        own = (self.evaluation.data or {}).get("subset") if self.evaluation is not None else None
        return None if own is None else (len(own["indices"]), int(own["seed"]))


def open_trained(directory: str | Path) -> Trained:
    """Open a directory of ``danetc train``, ``convert`` or ``build``, or ``pretrained:NAME``.

    Raises UserError.
    """
    path = directory_of(directory)
    if (path / TRIALS).is_file():
        raise UserError(f"{path} holds trials; choose one of {path}/seed-...")
    if not (path / SUMMARY).is_file():
        what = "is not the directory of a trained network" if path.exists() else "does not exist"
        raise UserError(f"{directory} {what}; `danetc train` writes one, as in runs/NETWORK")
    place = path / TRAINING
    if not place.exists() and (path / RUN).is_file():
        raise UserError(f"{path} holds a training without a finished epoch")
    if not place.exists():
        place = path / CONVERSION
    record = record_if_any(place)
    if record is None:
        return Trained(path, None)
    found = Trained(path, evaluation_in(record.get("evaluation"), place))
    weights = within(path, WEIGHTS)
    if weights.is_file() and file_digest(weights) != record.get("weights"):
        if place.name == CONVERSION:
            raise UserError(f"{weights} does not belong to {place}; convert again")
        raise UserError(
            f"{weights} is not of the last epoch in {place.name}: the training was killed between the "
            "two. Start it again, which resumes it"
        )
    return found


def data_of(trained: Trained) -> str:
    """Return the data set of the training. Raises UserError if it is not known or not there."""
    if trained.data is None:
        raise UserError(f"{trained.path} records no training data; name a data set by --data")
    refuse_recorded_data(trained.data, trained.path)
    look_at_data(
        trained.data,
        f"\n{trained.path} was trained on {trained.data}; name it with --data, or data=... in Python",
    )
    return trained.data


def evaluation_in(record: object, place: Path) -> Evaluation:
    """Read the conditions of a test from a record in the file ``place``. Raises UserError."""
    try:
        found = read_evaluation(record)
        Trained(place, found).subset  # noqa: B018  # raises where it is damaged
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place} is damaged: {error}") from error
    return found


def trials_in(directory: str | Path) -> list[Path]:
    """Return the directories of the trials in a directory, or itself for a single run. Raises UserError."""
    path = directory_of(directory)
    record = record_if_any(path / TRIALS)
    if record is None:
        return [path]
    try:
        return [within(path, str(trial["directory"])) for trial in record["trials"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path / TRIALS} is damaged: it lists no trials") from error
