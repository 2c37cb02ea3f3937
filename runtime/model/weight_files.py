"""Safetensors files with a digest of their own bytes, and state dicts that contain shared layers once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.errors import UserError
from danetc.runtime.system.files import DamagedError, check_tensors, opened, seal_tensors

NUMBERS: Mapping[torch.dtype, str] = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""Names of the types in safetensors."""


class WeightsError(UserError):
    """A file of weights cannot be read, is damaged, or is not of this model."""


def tensor_file(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> list[bytes | memoryview]:
    """Return a safetensors file with its digest, in pieces. The bytes depend on names and values alone.

    The pieces of tensors on the CPU are their own memory, so that writing a network needs no copy of it.
    """
    entries: dict[str, object] = {}
    values: list[memoryview] = []
    start = 0
    # The largest numbers first, so that each begins at a multiple of its size.
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        end = start + data.nbytes
        entries[name] = {
            "dtype": NUMBERS[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [start, end],
        }
        values.append(data)
        start = end
    return seal_tensors(entries, values, metadata)


def read_tensors(path: Path, *, foreign: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, in its order. Raises DamagedError as ``check_tensors``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_tensors(path, foreign=foreign)
    try:
        with opened(path):  # for better errors than the library's
            return dict(load_file(path))
    except SafetensorError as error:
        raise DamagedError(path, f"it is not a whole safetensors file ({error})") from error


def set_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Set a model's parameters and buffers. Before, raises WeightsError if a name, shape or type differs."""
    wanted = model.state_dict()
    refuse_names(source, wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys())
    for name, value in wanted.items():
        form, own = _form(tensors[name]), _form(value)
        if form != own:
            raise WeightsError(f"{source} has {name} as {form}, but the model's is {own}")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])


def _form(value: Tensor) -> str:
    size = " x ".join(str(extent) for extent in value.shape) or "a scalar"
    return f"{size} of {str(value.dtype).removeprefix('torch.')}"


def refuse_names(file: str, missing: Collection[str], unknown: Collection[str]) -> None:
    """Raise WeightsError if a file lacks names or has unknown ones."""
    what = [f"lacks {some(missing)}"] if missing else []
    what += [f"has {some(unknown)}, which the model does not have"] if unknown else []
    if what:
        raise WeightsError(f"{file} {' and '.join(what)}")


def some(names: Iterable[str]) -> str:
    """Return up to three names and the number of further ones."""
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


# -- shared layers ---------------------------------------------------------------------------------


def once(model: nn.Module, places: Mapping[str, str]) -> None:
    """Make the state dict omit the layers at some places, each mapped to the place whose layer it shares."""
    names: dict[str, str] = {}
    for later, first in places.items():
        layer = model.get_submodule(later)
        entries = [*layer.named_parameters(), *layer.named_buffers()]
        names |= {f"{later}.{name}": f"{first}.{name}" for name, _ in entries}

    def omit(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in names:
            state.pop(prefix + name, None)

    def restore(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, same in names.items():
            if prefix + same in state:
                state.setdefault(prefix + name, state[prefix + same])

    model.register_state_dict_post_hook(omit)
    model.register_load_state_dict_pre_hook(restore)
