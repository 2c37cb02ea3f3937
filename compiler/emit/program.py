"""Programs of torch.export, made from model.py, which needs torch's own operations only."""

from __future__ import annotations

import io
import types
from collections.abc import Mapping

import torch
from torch import nn

from danetc.compiler.emit.fx import Model
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.dsl.errors import UserError
from danetc.runtime.model.signature import ModelInput


def standalone(text: str, name: str) -> nn.Module:
    """Return the network of a model.py that danetc has written."""
    module = types.ModuleType("model")
    exec(compile(text, f"{name}/model.py", "exec"), module.__dict__)
    made: nn.Module = module.Model().eval()
    return made


def emit_program(graph: Graph, model: Model, about: Mapping[str, str]) -> bytes:
    """Return a file for ``torch.export.load`` with the weights of ``model``; ``about`` are its extra
    files. Raises UserError if torch.export refuses the network.
    """
    signature = model.signature
    plain = standalone(emit_python(graph), graph.name)
    plain.load_state_dict(model.state_dict())
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
    torch.export.save(program, stream, extra_files=dict(about))
    return stream.getvalue()
