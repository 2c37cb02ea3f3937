"""`danetc import` and ``danetc.import_network``: networks of other libraries as specs and models."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from danetc.compiler import check_text
from danetc.compiler.importing.expressions import standard
from danetc.compiler.importing.program import Imported, import_graph
from danetc.dsl.syntax.errors import RESERVED
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.runtime.model.built import Model
from danetc.runtime.system.files import replace_file
from danetc.runtime.system.user_code import found_at, where_it_failed
from danetc.tasks import model_directory
from danetc.tasks.exporting import SAMPLES
from danetc.tasks.importing.acceptance import OutputAgreement, Run, agreement, torch_runner
from danetc.tasks.importing.nir_file import read_nir
from danetc.tasks.importing.operations import load_weights, model_of
from danetc.tasks.importing.torch_model import read_model
from danetc.tasks.networks import CompiledNetwork, emit_model, network_of


@dataclass(frozen=True)
class ImportedNetwork:
    """An imported network, and its comparison with the source (``agreement``)."""

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
        source: A PyTorch or SpikingJelly model, ``"MODULE:FACTORY"`` with keyword arguments, or a
            NIR file.
        input: Shape of a sample: (C, H, W), or (C,) for vectors, which the spec takes as maps
            C x 1 x 1. Not needed for files.
        steps: T; by default 4 for a network with spiking neurons, else 1.
        events: True if the network takes frames [T, N, C, H, W] instead of an image.
        name: Name of the network; by default that of the factory.
        samples: Number of samples to compare, in float64.
        on_progress: Called with a description of each step.

    Returns the spec (``.text``), the model with the weights (``.model``), and the comparison
    (``.agreement``). Raises UserError if part of the network cannot be read or written, or if the
    outputs of the imported network differ.
    """
    if isinstance(source, nn.Module):
        called, model = type(source).__name__, source
    elif (path := Path(source)).suffix == ".nir":
        called, model = path.stem, None
    elif path.suffix == ".onnx":
        raise UserError(
            f"{path}: ONNX is not imported; give the PyTorch model that it was exported from "
            "(MODULE:FACTORY), or a .nir file"
        )
    else:
        called, model = load_model(os.fspath(source))
    called = plain_name(name or called)
    if model is None:
        read = read_nir(path, called, steps, events)
        run: Run = model_of(read).double()
    elif input is None:
        raise UserError(
            "give the shape of a sample: --input 3x224x224 (channels, height, width), or "
            "input=(3, 224, 224); for vectors --input 64"
        )
    elif len(input) not in (1, 3):
        raise UserError(
            f"a sample must be an image (channels, height, width) or a vector (features,); it has "
            f"{len(input)} dimensions"
        )
    else:
        model = deepcopy(model).double().eval()
        read, takes = read_model(model, called, tuple(input), steps, events)
        run = torch_runner(model, read, takes)
    on_progress("looking for stages, blocks and connections")
    found = import_graph(read.graph, called)
    compiled = network_of(check_text(found.text, f"{called}.danet"), called)
    built = emit_model(compiled.graph)
    load_weights(built, found.graph, found.weights, read)
    on_progress("comparing outputs")
    seen = agreement(run, model, read, found, samples)
    return ImportedNetwork(found, seen, compiled, built)


def load_model(text: str) -> tuple[str, nn.Module]:
    """Call a factory. Return its name and the model. Raises UserError.

    The values of arguments are Python literals or dotted names of objects to import.
    """
    place, bracket, arguments = text.partition("(")
    module, _, name = place.strip().rpartition(":")
    if not module or not name.isidentifier():
        raise UserError(
            f"{text!r} names neither a file nor a model: write MODULE:FACTORY, as in "
            "torchvision.models:resnet18 or my_nets.py:make(depth=18)"
        )
    given = bracket + arguments or "()"
    try:
        call = ast.parse(f"f{given}", mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{given} cannot be read as arguments: {error.msg}") from error
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise UserError(f"{given}: give arguments by name, as in (depth=18, cnf='ADD')")
    values = {str(item.arg): _value(item.value) for item in call.keywords}
    found = found_at(f"{module}:{name}")
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(f"{place} is a {type(found).__name__}, neither a model nor a function")
        try:
            found = found(**values)
        except (Exception, SystemExit) as error:
            own = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            if isinstance(error, TypeError) and not own:
                raise UserError(
                    f"{place} cannot be called with these arguments: {error}. Give them by name: "
                    f"'{place}(depth=18)'"
                ) from error
            raise UserError(f"{place} failed: {where_it_failed(error)}") from error
    if not isinstance(found, nn.Module):
        raise UserError(f"{place} returns a {type(found).__name__}, not a torch.nn.Module")
    return name, found


def _value(node: ast.expr) -> Any:
    text = ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        module, _, attribute = text.rpartition(".")
        if not module or not all(part.isidentifier() for part in text.split(".")):
            raise UserError(
                f"{text} is not a literal (18, 'ADD', True, (1, 2)) nor the dotted name of an object"
                " in a module; write a factory without arguments in a file of your own"
            ) from error
    return found_at(f"{module}:{attribute}")


def plain_name(name: str) -> str:
    """Return a valid name for a network."""
    plain = re.sub(r"\W", "_", name).strip("_") or "imported"
    taken = (
        plain[0].isdigit() or plain in standard() or (plain.upper() in RESERVED and plain.islower())
    )
    return f"net_{plain}" if taken else plain


def check_output(output: Path, *, force: bool) -> Path:
    """Return the model directory of a spec. Raises UserError if it must not be replaced."""
    if output.suffix != ".danet":
        raise UserError(f"{output}: the name of a spec must end in .danet")
    if output.exists() and not force:
        raise UserError(f"{output} exists already; --force replaces it")
    directory = output.with_suffix("")
    model_directory.refuse_unless_replaceable(directory)
    return directory


def write_imported(found: ImportedNetwork, output: Path, directory: Path, note: Note) -> None:
    """Write the spec to ``output``, and a model directory with the weights."""
    replace_file(output, found.text.encode(), follow=True)
    files = model_directory.model_files(found.compiled, seed=0, init="imported", note=note)
    model_directory.write_model_directory(directory, files, found.model)
