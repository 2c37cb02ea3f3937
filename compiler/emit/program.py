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
from danetc.runtime.model.signature import random_input


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
    plain = standalone(emit_python(graph), graph.name)
    plain.load_state_dict(model.state_dict())
    batch = torch.export.Dim("batch", min=1)
    values, generator = [node.value for node in graph.inputs], torch.Generator().manual_seed(0)
    sizes = [(*[graph.steps] * value.varies, 4, *value.shape) for value in values]
    args = tuple(
        random_input(value.kind, size, generator) for value, size in zip(values, sizes, strict=True)
    )
    places = tuple({int(value.varies): batch} for value in values)
    try:
        with torch.no_grad():
            program = torch.export.export(plain, args, dynamic_shapes=places)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"torch.export cannot take {graph.name}: {reason}") from error
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files=dict(about))
    return stream.getvalue()
