"""THE formats of ``danetc export``, by the ending of a file. A new one is a row and its function here.

A format that holds a whole network has a reader (``danetc.tasks.readers``), with which what was
written is compared with the model before it is kept.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.tasks.export_content import Content, ExportOptions
from danetc.tasks.extras import check_installed

if TYPE_CHECKING:
    from danetc.tasks.readers import Reader


@dataclass(frozen=True, slots=True)
class Format:
    """A format. ``meaning`` is what a file of it holds, ``write`` gives its bytes.

    ``use`` is how weights of danetc's own names (or the network) are read again: ``{file}`` and
    ``{model}``, its model.py, are filled in. ``named`` says whether weights are written under names,
    which may then be another library's. ``write`` raises UserError where the network has no such
    form. ``options`` are the fields of ``ExportOptions`` that it has a choice of. ``needs`` are
    packages without which it is not written, which the extra of the name ``extra`` brings.
    ``reader`` is the key in ``danetc.tasks.readers.READERS`` of what runs a file of a whole network;
    ``compiled_use`` is the use of one that is compiled.
    """

    meaning: str
    write: Callable[[Content], bytes]
    use: str
    named: bool = True
    options: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    extra: str = ""
    reader: str = ""
    compiled_use: str = ""

    def use_of(self, options: ExportOptions) -> str:
        """How it is read again, with this choice."""
        return self.compiled_use if options.compiled else self.use

    def check_installed(self, ending: str) -> None:
        """Raise UserError where a package is missing."""
        check_installed(f"a {ending} file", self.needs, self.extra)

    def read(self) -> Reader | None:
        """What runs a file of it."""
        from danetc.tasks.readers import READERS  # late: the endings are known without torch

        return READERS[self.reader] if self.reader else None


def _safetensors(content: Content) -> bytes:
    from danetc.runtime.model.weight_files import tensor_file
    from danetc.version import version

    about = {"danetc": version(), "network": content.graph.name}
    return b"".join(tensor_file(content.weights, about))


def _state_dict(content: Content) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(dict(content.weights), stream)
    return stream.getvalue()


def _program(content: Content) -> bytes:
    """The network as torch.export has it: of torch's own operations, so that it needs no danetc."""
    import torch

    from danetc.compiler.emit.python import emit_python
    from danetc.runtime.model.signature import ModelInput
    from danetc.tasks.readers import standalone

    graph, signature = content.graph, content.model.signature
    plain = standalone(emit_python(graph), graph.name)
    plain.load_state_dict(content.model.state_dict())
    batch = torch.export.Dim("batch", min=1)
    inputs = signature.inputs.values() or [ModelInput(signature.input, signature.sequence)]
    args = tuple(torch.rand(*[signature.steps] * item.sequence, 4, *item.shape) for item in inputs)
    places = tuple({int(item.sequence): batch} for item in inputs)
    try:
        with torch.no_grad():
            program = torch.export.export(plain, args, dynamic_shapes=places)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"torch.export cannot take {graph.name}: {reason}") from error
    if content.options.compiled:
        return _compiled(program)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def _compiled(program: Any) -> bytes:
    """A program compiled by AOTInductor, as a package for processors like that of this machine."""
    from danetc.runtime.kernels.compiled import missing_compiler

    if missing := missing_compiler("cpu"):
        raise UserError(f"--compiled needs a compiler: {missing}")
    from torch._inductor import aoti_compile_and_package

    from danetc.runtime.kernels.cache import making_kernels

    with (
        making_kernels(),  # not in a folder of /tmp that anybody could have made
        tempfile.TemporaryDirectory(prefix="danetc-") as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own trees
        path = aoti_compile_and_package(program, package_path=f"{folder}/network.pt2")
        return Path(path).read_bytes()


def _onnx(content: Content) -> bytes:
    from danetc.compiler.emit.onnx import NotInOnnx, emit_onnx
    from danetc.version import version

    graph, model, options = content.graph, content.model, content.options
    if options.time == "step" and model.signature.whole:
        raise UserError(f"{graph.name} cannot run step by step: {model.signature.whole}")
    try:
        made = emit_onnx(
            graph,
            content.arrays(),
            options.time,
            fixed=bool(model.signature.fixed),
            half=options.half,
            about={"danetc": version(), "network": graph.name, "steps": str(graph.steps)},
        )
    except NotInOnnx as error:
        raise UserError(str(error)) from error
    data: bytes = made.SerializeToString()
    return data


def _nir(content: Content) -> bytes:
    import nir

    from danetc.compiler.emit.nir import NotInNir, emit_nir
    from danetc.version import version

    try:
        made = emit_nir(content.graph, content.arrays(), {"danetc": version()})
    except NotInNir as error:
        raise UserError(f"{error}; {error.hint}") from error
    stream = io.BytesIO()
    nir.write(stream, made)
    return stream.getvalue()


def _source(content: Content) -> bytes:
    from danetc.compiler.emit.python.spikingjelly import emit_spikingjelly

    try:
        return emit_spikingjelly(content.graph).encode()
    except ValueError as error:
        raise UserError(str(error)) from error


_STATE_DICT = Format(
    "weights as a state dict",
    _state_dict,
    "load_state_dict(torch.load({file!r})), weights alone",
)
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".safetensors": Format(
            "weights", _safetensors, "in Python, beside {model}: model.load({file!r})"
        ),
        ".pth": _STATE_DICT,
        ".pt": _STATE_DICT,
        ".pt2": Format(
            "the whole network as a program of torch.export, or compiled",
            _program,
            "torch.export.load({file!r}).module()(images)",
            named=False,
            options=frozenset({"compiled"}),
            reader="program",
            compiled_use="torch._inductor.aoti_load_package({file!r})(images)",
        ),
        ".onnx": Format(
            "the whole network as ONNX",
            _onnx,
            "onnxruntime.InferenceSession({file!r})",
            named=False,
            options=frozenset({"time", "half"}),
            needs=("onnx", "onnxruntime"),
            extra="onnx",
            reader="onnx",
        ),
        ".nir": Format(
            "the whole network as a graph of NIR",
            _nir,
            "nir.read({file!r})",
            named=False,
            needs=("nir",),
            extra="nir",
            reader="nir",
        ),
        ".py": Format(
            "the network in Python, of SpikingJelly's layers and neurons, without weights",
            _source,
            "in Python, {file} beside its weights (-o weights.safetensors): load('weights.safetensors')",
            named=False,
            needs=("spikingjelly",),
            extra="spikingjelly",
            reader="source",
        ),
    }
)
LISTED = "; ".join(f"{ending}: {row.meaning}" for ending, row in FORMATS.items())
"""All endings with what they mean, for a help text."""
