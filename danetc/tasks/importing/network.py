"""`danetc import` and ``danetc.import_network``: networks of other libraries as specs and models."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from danetc.compiler import check_text
from danetc.compiler.importing.expressions import Unwritten, standard
from danetc.compiler.importing.program import Imported, import_graph
from danetc.dsl.syntax.errors import RESERVED
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.runtime.model.built import Model
from danetc.runtime.system.files import replace_file
from danetc.runtime.training.guards import is_out_of_memory
from danetc.tasks.importing.acceptance import (
    SAMPLES,
    OutputAgreement,
    Runner,
    agreement,
    graph_runner,
    load_weights,
    torch_runner,
)
from danetc.tasks.importing.loading import load_model
from danetc.tasks.importing.nir_file import read_nir
from danetc.tasks.importing.source import ReadNetwork
from danetc.tasks.importing.torch_model import read_model
from danetc.tasks.model_directory import refuse_unless_replaceable, write_model_directory
from danetc.tasks.networks import CompiledNetwork, emit_model, network_of


@dataclass(frozen=True)
class ImportedNetwork:
    """An imported network; ``agreement`` is its comparison with the source."""

    found: Imported
    agreement: OutputAgreement
    compiled: CompiledNetwork = field(repr=False)
    model: Model = field(repr=False)

    @property
    def text(self) -> str:
        """The spec."""
        return self.found.text

    def as_dict(self) -> dict[str, Any]:
        """Return the record that ``--json`` prints."""
        found = self.found
        return {
            "network": found.network,
            "lines": found.lines,
            "stages": [
                {
                    "stage": stage.text,
                    "block": stage.block.name,
                    "connection": stage.connection,
                    "rule": stage.rule,
                    "own": list(stage.own),
                }
                for stage in found.stages
            ],
            "own": list(found.own),
            "layers": len(found.weights),
            "compared": asdict(self.agreement),
        }


def import_network(
    source: str | os.PathLike[str] | nn.Module,
    input: tuple[int, ...] | None = None,
    *,
    steps: int | None = None,
    events: bool = False,
    name: str | None = None,
    samples: int = SAMPLES,
    on_progress: Callable[[str], object] = lambda what: None,
) -> ImportedNetwork:
    """Import a network of another library as a spec, with its weights.

    Args:
        source: a PyTorch or SpikingJelly model, ``"MODULE:FACTORY"`` with literal arguments by name,
            or a file of NIR.
        input: shape of a sample: (C, H, W), or (C,) for vectors, which the spec takes as maps
            C x 1 x 1. Files state it themselves.
        steps: T; by default 4 for a network with spiking neurons, and 1 for others.
        events: True if the network takes frames [T, N, C, H, W] that differ, not an image.
        name: name of the network; that of the factory by default.
        samples: number of samples that are compared, in float64.
        on_progress: called with a description of each step.

    Returns the spec (``.text``), the model with the weights (``.model``), and the comparison
    (``.agreement``). Raises UserError if part of the network cannot be read or written, and if the
    imported network does not compute the same.
    """
    path = None if isinstance(source, nn.Module) else Path(source)
    try:
        called, read, runner = _read(source, input, steps, events, name)
        on_progress("looking for stages, blocks and connections")
        try:
            found = import_graph(read.graph, called)
        except Unwritten as error:
            raise UserError(f"{called}: {error}") from error
        on_progress("comparing outputs")
        seen = agreement(runner, read, found, samples)
        compiled = network_of(check_text(found.text, f"{called}.danet"), called)
        model = emit_model(compiled.graph, 0, "eager")
        load_weights(model, found, read.graph, read.weights)
        return ImportedNetwork(found, seen, compiled, model)
    except UserError as error:
        if path is None or path.suffix != ".nir" or str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{path or type(source).__name__}: too little memory to compare the outputs of {samples} "
            "samples; give fewer (--samples, samples=)"
        ) from error


def _read(
    source: str | os.PathLike[str] | nn.Module,
    input: tuple[int, ...] | None,
    steps: int | None,
    events: bool,
    name: str | None,
) -> tuple[str, ReadNetwork, Runner]:
    """Return the name of a source, its graph, and its runner."""
    if isinstance(source, nn.Module):
        called, model = name or type(source).__name__, source
    elif (path := Path(source)).suffix == ".nir":
        called = plain_name(name or path.stem)
        read = read_nir(path, called, steps, events)
        return called, read, graph_runner(read)
    elif path.suffix == ".onnx":
        raise UserError(
            f"{path}: ONNX is not imported; give the PyTorch model that it was exported from "
            "(MODULE:FACTORY), or a .nir file"
        )
    else:
        called, model = load_model(os.fspath(source))
        called = name or called
    called = plain_name(called)
    if input is None:
        raise UserError(
            "give the shape of a sample: --input 3x224x224 (channels, height, width), or "
            "input=(3, 224, 224); for vectors --input 64"
        )
    if len(input) not in (1, 3):
        raise UserError(
            f"a sample of {len(input)} dimensions is not read; images of (channels, height, width) and "
            "vectors of (features,) are"
        )
    read, takes = read_model(model, called, tuple(input), steps, events)
    return called, read, torch_runner(deepcopy(model).double().eval(), read, takes)


def plain_name(name: str) -> str:
    """Return a name that a spec can have."""
    plain = re.sub(r"\W", "_", name).strip("_") or "imported"
    taken = (
        plain[0].isdigit() or plain in standard() or (plain.upper() in RESERVED and plain.islower())
    )
    return f"net_{plain}" if taken else plain


def check_output(output: Path, *, force: bool) -> Path:
    """Return the model directory of a spec. Raises UserError if something must not be replaced."""
    if output.suffix != ".danet":
        raise UserError(f"{output}: a spec's name ends in .danet")
    if output.exists() and not force:
        raise UserError(f"{output} exists already; --force replaces it")
    directory = output.with_suffix("")
    refuse_unless_replaceable(directory)
    return directory


def write_imported(found: ImportedNetwork, output: Path, directory: Path, note: Note) -> None:
    """Write the spec to ``output``, and a model directory with the weights."""
    replace_file(output, found.text.encode(), follow=True)
    write_model_directory(
        directory, found.compiled, found.model, seed=0, init="imported", note=note
    )
