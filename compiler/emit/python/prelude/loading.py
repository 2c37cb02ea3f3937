"""First weights, shared layers, checks of inputs, and loading."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def starting_at(weight: float, norm: nn.Module) -> nn.Module:
    """Set the first weights of a norm."""
    nn.init.constant_(norm.weight, weight)
    return norm


def drawn(layer: nn.Module, how: str, **given: Any) -> nn.Module:
    """Draw the first weights of a layer by a function of nn.init; its bias starts at 0."""
    getattr(nn.init, how)(layer.weight, **given)
    if getattr(layer, "bias", None) is not None:
        nn.init.zeros_(layer.bias)
    vars(layer)["drawn"] = True
    return layer


def share_layers(model: nn.Module, layers: dict[str, str]) -> None:
    """Make layers the same module as others. The state dict contains their weights once."""
    same: dict[str, str] = {}
    for later, first in layers.items():
        holder, _, name = later.rpartition(".")
        model.get_submodule(holder).add_module(name, layer := model.get_submodule(first))
        entries = [*layer.named_parameters(), *layer.named_buffers()]
        same |= {f"{later}.{key}": f"{first}.{key}" for key, _ in entries}

    def leave_out(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key in same:
            state.pop(prefix + key, None)

    def put_in(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key, first in same.items():
            if prefix + first in state:
                state.setdefault(prefix + key, state[prefix + first])

    model.register_state_dict_post_hook(leave_out)
    model.register_load_state_dict_pre_hook(put_in)


class Model(nn.Module):
    """Placeholder for the model in the file; it is not copied."""


def check_input(x: Tensor, size: tuple[int, ...], sequence: bool = False) -> None:
    """Raise ValueError if x has another shape than the model takes."""
    if torch.compiler.is_compiling() or isinstance(x, torch.fx.Proxy):
        return
    leading = x.dim() - len(size)
    if leading not in (1 + sequence, 2) or x.shape[leading:] != size:
        sizes = ", ".join(map(str, size))
        takes = f"{'' if sequence else f'[N, {sizes}] or '}[T, N, {sizes}]"
        raise ValueError(f"the model takes {takes}, not {list(x.shape)}")


def check_alike(steps: int, *given: tuple[Tensor, int]) -> None:
    """Raise an error if inputs, each with the rank of a sample, differ in T or N."""
    if torch.compiler.is_compiling() or any(isinstance(x, torch.fx.Proxy) for x, _ in given):
        return
    leads = [[*[steps] * (x.dim() == rank + 1), *x.shape[:-rank]] for x, rank in given]
    if any(lead != leads[0] for lead in leads):
        raise ValueError(f"the inputs differ in [T, N]: {leads}")


def load(path: str = "weights.safetensors") -> Model:
    """Load the network from a safetensors file. A SHA-256 in its header is checked."""
    file = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    known = header.pop("__metadata__", {}).get("sha256")
    if known and hashlib.sha256(file.replace(known.encode(), b"0" * 64, 1)).hexdigest() != known:
        raise ValueError(f"{path} is damaged: its SHA-256 differs")
    types = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    types |= {"F64": torch.float64, "I64": torch.int64}
    weights = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(file[first:last], dtype=types[entry["dtype"]])
        weights[name] = values.reshape(entry["shape"])
    model = Model()
    model.load_state_dict(weights)
    return model
