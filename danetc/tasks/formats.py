"""THE formats of ``danetc export``, by the ending of a file. A new one is a row and its function here."""

from __future__ import annotations

import io
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from danetc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from danetc.compiler.ir.graph import Graph
    from danetc.runtime.model.built import Model


@dataclass(frozen=True, slots=True)
class Content:
    """What is exported: a network in evaluation mode, and its weights under the chosen names."""

    graph: Graph
    model: Model
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Format:
    """A format. ``meaning`` is what a file of it holds, ``write`` gives its bytes.

    ``use`` is how weights of danetc's own names (or the network) are read again: ``{file}`` and
    ``{model}``, its model.py, are filled in. ``named`` says whether weights are written under names,
    which may then be another library's. ``write`` raises UserError where the network has no such
    form.
    """

    meaning: str
    write: Callable[[Content], bytes]
    use: str
    named: bool = True


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

    # Our own text, written anew from the graph that was read: nothing in the directory is run.
    graph, signature = content.graph, content.model.signature
    module = types.ModuleType("model")
    exec(compile(emit_python(graph), f"{graph.name}/model.py", "exec"), module.__dict__)
    plain: nn.Module = module.Model().eval()
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
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


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
            "the whole network as a program of torch.export",
            _program,
            "torch.export.load({file!r}).module()(images)",
            named=False,
        ),
    }
)
LISTED = "; ".join(f"{ending}: {row.meaning}" for ending, row in FORMATS.items())
"""All endings with what they mean, for a help text."""
