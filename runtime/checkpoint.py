"""Weights on disk: safetensors, written so that a reader finds the old file or the new one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A file of weights is damaged or belongs to another model."""


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's parameters and buffers as safetensors."""
    save_tensors(model.state_dict(), path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name as safetensors."""
    from safetensors.torch import save

    replace_file(
        path, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    )


def save_json(record: Mapping[str, object], path: Path) -> None:
    """Write a record as JSON. NaN is refused: it is not JSON."""
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    replace_file(path, text.encode())


def load_weights(model: nn.Module, path: Path) -> None:
    """Set a model's parameters and buffers to those of a file of the same model.

    Raises CheckpointError where a name, a shape or a type differs, before anything is changed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error})") from error
    wanted = model.state_dict()
    missing, unknown = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or unknown:
        what = [f"lacks {_some(missing)}"] if missing else []
        what += [f"has {_some(unknown)}, which the model has not"] if unknown else []
        raise CheckpointError(f"{path} {' and '.join(what)}")
    for name, value in wanted.items():
        if _form(state[name]) != _form(value):
            raise CheckpointError(
                f"{path}: {name} is {_form(state[name])}, but the model's is {_form(value)}"
            )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(state[name])


def _form(value: Tensor) -> str:
    size = " x ".join(str(extent) for extent in value.shape) or "a scalar"
    return f"{size} of {str(value.dtype).removeprefix('torch.')}"


def _some(names: set[str]) -> str:
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader, and who looks after a crash, finds the old one or the new."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
