"""Weights on disk: safetensors with a digest of themselves, written whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from danetc.runtime.system.files import (
    DamagedError,
    check_tensors,
    opened,
    replace_file,
    seal_tensors,
)


class WeightsError(ValueError):
    """A file of weights cannot be read, is damaged, or is not of this model."""


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name as safetensors."""
    replace_file(path, tensor_file(tensors))


def tensor_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file of safetensors with its digest: the same tensors give the same bytes."""
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return seal_tensors(save(plain), metadata)


def load_weights(model: nn.Module, path: Path, *, changed: bool = False) -> None:
    """Set a model's parameters and buffers to those of a file of the same model.

    ``changed`` says that somebody has changed the file on purpose. Raises DamagedError where it is
    not as it was written, WeightsError where a name, a shape or a type differs, both before
    anything is changed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not changed:
        check_tensors(path)
    try:
        with opened(path):  # by its name alone the library would say less of what is wrong
            state = load_file(path)
    except SafetensorError as error:
        raise DamagedError(path, f"it is not a whole safetensors file ({error})") from error
    wanted = model.state_dict()
    refuse_names(str(path), wanted.keys() - state.keys(), state.keys() - wanted.keys())
    for name, value in wanted.items():
        if _form(state[name]) != _form(value):
            raise WeightsError(
                f"{path}: {name} is {_form(state[name])}, but the model's is {_form(value)}"
            )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(state[name])


def _form(value: Tensor) -> str:
    size = " x ".join(str(extent) for extent in value.shape) or "a scalar"
    return f"{size} of {str(value.dtype).removeprefix('torch.')}"


def refuse_names(file: str, missing: Collection[str], unknown: Collection[str]) -> None:
    """Raise WeightsError where a file lacks names, or has some that the model has not."""
    what = [f"lacks {some(missing)}"] if missing else []
    what += [f"has {some(unknown)}, which the model has not"] if unknown else []
    if what:
        raise WeightsError(f"{file} {' and '.join(what)}")


def some(names: Iterable[str]) -> str:
    """Three names of several, and how many more there are."""
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
