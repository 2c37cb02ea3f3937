"""A model directory: everything about one network, written whole or not at all.

==================== =============================================================
model.py             the model as plain PyTorch; needs torch alone
weights.safetensors  its parameters and buffers
NETWORK.graph        the graph in its text form, which ``danetc.load`` reads
topology.svg         the picture of it
summary.json         what follows from the topology, and how the directory was made
spec.danet           the network and all that it is made of, in one file
==================== =============================================================
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danetc.errors import UserError
from danetc.output import json_text
from danetc.text import umask

if TYPE_CHECKING:
    from danetc.api import Compiled
    from danetc.compiler.emit.fx import Model
    from danetc.compiler.graph import Graph

FORMAT = 1
"""Written into summary.json; raised when an older danetc could no longer read a directory."""

MODEL, WEIGHTS, PICTURE = "model.py", "weights.safetensors", "topology.svg"
SUMMARY, SPEC, TRAINING = "summary.json", "spec.danet", "training.json"
RUN, TRIALS, LOCK = "run.json", "trials.json", ".lock"
GRID = "grid.json"
"""The cells of the last `danetc compare` in a folder, and what became of their runs."""
_OURS = {MODEL, WEIGHTS, PICTURE, SUMMARY, SPEC, "__pycache__"}


def refuse_unless_replaceable(directory: Path) -> None:
    """Raise UserError if writing to ``directory`` would destroy what danetc has not written."""
    target = Path(os.path.realpath(directory))
    if Path.cwd() == target or target in Path.cwd().parents:
        raise UserError(f"{directory} is where you stand; choose a directory of its own")
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UserError(f"{directory} is a file; choose another place with -o DIR")
    entries = {entry.name for entry in target.iterdir()} - {LOCK}
    if RUN in entries:
        raise UserError(
            f"{directory} holds a training run, which is not replaced; choose another place with "
            "-o DIR"
        )
    if entries and SUMMARY not in entries:
        raise UserError(
            f"{directory} is no model directory (there is no {SUMMARY} in it) and not empty, so "
            "it is not replaced; choose another place with -o DIR"
        )
    foreign = sorted(name for name in entries - _OURS if not name.endswith(".graph"))
    if foreign:
        raise UserError(
            f"{directory} also holds {', '.join(foreign[:3])}{', ...' if foreign[3:] else ''}, "
            "which danetc has not written, so it is not replaced; move that, or choose another "
            "place with -o DIR"
        )


def model_files(
    compiled: Compiled,
    *,
    seed: int,
    init: str | None = None,
    memory: Mapping[str, object] | None = None,
) -> tuple[dict[str, str], dict[str, object]]:
    """The files of a model directory but for the weights, by name, and what is in its summary.json.

    ``memory`` is the policy that ``read_model_directory`` goes by, and how it was chosen.
    """
    from danetc import __version__
    from danetc.api import draw
    from danetc.compiler.emit.python import emit_python
    from danetc.compiler.emit.text import write

    graph = compiled.graph
    record: dict[str, object] = {
        "format": FORMAT,
        "danetc": __version__,
        "network": graph.name,
        "settings": dict(compiled.settings),
        "seed": seed,
        "init": init,
        **({} if memory is None else {"memory": dict(memory)}),
        "summary": compiled.summary.as_dict(),
    }
    files = {
        MODEL: emit_python(graph),
        f"{graph.name}.graph": write(graph),
        PICTURE: draw(graph),
        SPEC: compiled.resolved,
        SUMMARY: json_text(record) + "\n",
    }
    return files, record


def write_model_directory(
    directory: Path,
    compiled: Compiled,
    model: Model,
    *,
    seed: int,
    init: str | None = None,
    memory: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Write a model directory in place of an older one; return what is in its summary.json.

    All files are written to a temporary directory beside it first, so that a failure leaves the
    older one as it was and nothing else behind. Raises UserError or OSError.
    """
    from danetc.runtime.checkpoint import save_weights

    refuse_unless_replaceable(directory)
    target = Path(os.path.realpath(directory))
    target.parent.mkdir(parents=True, exist_ok=True)
    files, record = model_files(compiled, seed=seed, init=init, memory=memory)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, content in files.items():
            (temporary / name).write_text(content, encoding="utf-8", newline="")
        save_weights(model, temporary / WEIGHTS)
        temporary.chmod(0o777 & ~umask())  # mkdtemp made it private
        _move_in_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return record


def _move_in_place(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``. What stood there is put back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    old = new.with_name(f"{new.name}.old")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def read_model_directory(
    directory: str | os.PathLike[str], backend: str = "eager", memory: str | None = None
) -> Model:
    """The model of a directory with its weights, under the memory policy that it was built for
    where ``memory`` is None. Raises UserError.
    """
    from danetc.api import emit_model
    from danetc.runtime.checkpoint import CheckpointError, load_weights

    path = Path(directory)
    record = read_summary(path)
    graph = read_graph(path, record)
    model = emit_model(graph, 0, backend, _policy(record) if memory is None else memory)
    try:
        load_weights(model, _existing(path / WEIGHTS))
    except CheckpointError as error:
        raise UserError(str(error)) from error
    return model


def read_graph(path: Path, record: Mapping[str, object]) -> Graph:
    """The graph of a model directory whose summary is ``record``. Never imports torch.

    Raises UserError where it is missing or damaged.
    """
    from danetc.compiler.emit.text import GraphTextError, read
    from danetc.compiler.verify import verify
    from danetc.dsl.diagnostics import SpecError

    graph_file = path / f"{record['network']}.graph"
    try:
        graph = read(_read(graph_file))
        verify(graph)
    except (GraphTextError, SpecError) as error:
        raise UserError(f"{graph_file} is damaged:\n{error}") from error
    return graph


def read_summary(path: Path) -> Mapping[str, object]:
    """What stands in summary.json. Raises UserError where there is no model directory, or a newer one."""
    if not path.is_dir():
        raise UserError(f"there is no model directory {path}; `danetc build` makes one")
    if not (path / SUMMARY).is_file():
        raise UserError(f"{path} is no model directory: there is no {SUMMARY} in it")
    try:
        record = json.loads(_read(path / SUMMARY))
    except ValueError as error:
        raise UserError(f"{path / SUMMARY} is damaged: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise UserError(f"{path / SUMMARY} is not the summary of a model directory")
    if record["format"] > FORMAT:
        raise UserError(f"{path} was written by a newer danetc ({record.get('danetc')})")
    name = record.get("network")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise UserError(f"{path / SUMMARY} does not name its network")
    return record


def _policy(record: Mapping[str, object]) -> str:
    noted = record.get("memory")
    return str(noted.get("policy")) if isinstance(noted, dict) else "none"


def _read(path: Path) -> str:
    try:
        return _existing(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: it is not UTF-8 text") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path.parent} is incomplete: there is no {path.name} in it")
    return path
