"""Weights from other programs: read without executing anything, and matched to a model by name or by order.

The order is that in which layers are made: the stem, the weighted layers of each block, its shortcut, the head.
torchvision's ResNets, SpikingJelly's ``spiking_resnet`` and ``sew_resnet`` and our own models list their layers so,
under different names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from danetc.dsl.reading import open_regular
from danetc.dsl.recipe.settings import part_of
from danetc.runtime.model.weight_files import WeightsError as WeightsError
from danetc.runtime.model.weight_files import read_tensors, refuse_names, some

_COUNTER = "num_batches_tracked"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_FINAL = ("fc", "classifier", "head", "linear")


@dataclass(frozen=True)
class MatchReport:
    """How the entries of a file map to a model. ``matched`` maps names of the model to names of the file.

    ``missing`` are entries of the model that the file lacks and that keep their values: counters of batches and
    parameters of neurons. ``unexpected`` are unused entries of the file. ``state`` is the state dict to load.
    """

    how: Literal["name", "order"]
    matched: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    state: Mapping[str, Tensor] = field(repr=False)

    def __str__(self) -> str:
        parts = [f"matched {len(self.matched)} tensors by {self.how}"]
        if kept := _uncounted(self.missing):
            parts.append(f"kept {some(kept)} as initialised")
        if unused := _uncounted(self.unexpected):
            parts.append(f"left out the file's {some(unused)}")
        return ", ".join(parts)


def _uncounted(names: Iterable[str]) -> list[str]:
    """The names, without those of counters of batches."""
    return [name for name in names if not name.endswith(_COUNTER)]


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a torch state dict by name.

    Raises DamagedError for a damaged safetensors file. Raises WeightsError for another file that cannot be read,
    and for a pickle that holds anything but tensors, which is not executed.
    """
    file = Path(path)
    try:
        with open_regular(file) as stream:
            start = stream.read(16)
    except OSError as error:
        raise WeightsError(error.strerror or str(error)) from error
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return read_tensors(file, foreign=True)
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return _read_torch(file)
    raise WeightsError("this is neither a safetensors file nor a torch state dict")


def match(
    model: nn.Module, weights: Mapping[str, Tensor], skip: Collection[str] = ()
) -> MatchReport:
    """Match tensors to the entries of a model, by name or else by order. The model is not changed.

    ``skip`` are paths of parts that are left out, as ``head``. Raises WeightsError for the first other
    weight of the model that the file lacks or has in another shape, and if there is no such part.
    ``model.load_state_dict(report.state)`` loads the result. A weight that a layer is applied to may be a
    plain weight in the file.
    """
    from danetc.runtime.layers.neuron import Neuron  # deferred: not needed to read a file

    layers = dict(model.named_modules())
    computed = [path for path, each in layers.items() if "weight_layer" in each._modules]
    plain = {f"{path}.weight_raw": f"{path}.weight" for path in computed}
    own, theirs = (
        {plain.get(name, name): name for name in each} for each in (model.state_dict(), weights)
    )
    state = model.state_dict()
    wanted = {name: state[stored] for name, stored in own.items()}
    weights = {name: weights[stored] for name, stored in theirs.items()}
    # A file of an analog network lacks the parameters of neurons, and one of plain weights others.
    parts = {path: each for path, each in layers.items() if isinstance(each, Neuron)}
    parts |= {f"{path}.weight_layer": layers[f"{path}.weight_layer"] for path in computed}
    optional = {f"{path}.{name}" for path, each in parts.items() for name in each.state_dict()}
    if unknown := [part for part in skip if not any(part_of(name, [part]) for name in wanted)]:
        raise WeightsError(f"the network has no weights in {unknown[0]}, which is to be skipped")
    names, given = (
        {name for name in _uncounted(each) if not part_of(name, skip)} for each in (wanted, weights)
    )
    by_name = len(names & given) * 2 > len(names)  # the same network, perhaps with a mistake
    if by_name:
        refuse_names("the file", names - optional - given, given - names)
        pairs = {name: name for name in wanted if name in weights and not part_of(name, skip)}
        _fit(pairs, wanted, weights)
    else:
        pairs = _by_order(wanted, weights, optional, skip)
    used = set(pairs.values())
    return MatchReport(
        "name" if by_name else "order",
        {own[name]: theirs[source] for name, source in pairs.items()},
        tuple(own[name] for name in wanted if name not in pairs),
        tuple(theirs[name] for name in weights if name not in used),
        {own[name]: weights[pairs[name]] if name in pairs else wanted[name] for name in wanted},
    )


# -- reading --------------------------------------------------------------------------------------


def _read_torch(file: Path) -> dict[str, Tensor]:
    import pickle

    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "this file holds more than tensors, and loading it could run code; "
            "save `model.state_dict()` instead"
        ) from error
    except Exception as error:  # unpickling damaged data can raise any exception
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"this is not a whole torch file ({reason})") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(f"this file holds a {type(content).__name__}, not a state dict")
    result = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(f"the entry {name!r} is a {type(value).__name__}, not a tensor")
        result[name.removeprefix("module.")] = value.detach()
    return result


# -- matching -------------------------------------------------------------------------------------


_Layers = dict[str, dict[str, str]]
"""For each module its entries, leaf name to full name, without the counter of batches."""


def _by_order(
    wanted: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    optional: set[str],
    skip: Collection[str],
) -> dict[str, str]:
    """Pair layers in order, without the parameters of neurons, which mean something else in another kind of neuron."""
    ours = _layers(name for name in wanted if name not in optional)
    theirs = _layers(name for name, value in weights.items() if value.dim())
    if [*theirs] == sorted(theirs):  # safetensors sorts by name
        theirs = {name: theirs[name] for name in sorted(theirs, key=_made)}
    dropped = {place for place, name in enumerate(ours) if part_of(name, skip)}
    ours, theirs = (
        {name: layer for place, (name, layer) in enumerate(each.items()) if place not in dropped}
        for each in (ours, theirs)
    )
    try:
        return _pair(ours, theirs, wanted, weights)
    except WeightsError as error:
        raise WeightsError(f"neither names nor order fit this network: {error}") from error


def _made(layer: str) -> list[tuple[int, int, bool]]:
    """Return the sort key of the order in which layers of a ResNet are made: convN, bnN, layerN, fc."""
    key = []
    for part in layer.split("."):
        word = part.rstrip("0123456789")
        group = 2 if word in _FINAL else word not in ("", "conv", "bn", "norm")
        key.append((int(group), int(part[len(word) :] or 0), word in ("bn", "norm")))
    return key


def _layers(names: Iterable[str]) -> _Layers:
    found: _Layers = {}
    for name in _uncounted(names):
        layer, _, leaf = name.rpartition(".")
        found.setdefault(layer, {})[leaf] = name
    return found


def _pair(
    ours: _Layers, theirs: _Layers, wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, (name, other) in enumerate(zip(ours, theirs, strict=False), 1):
        mine, own = ours[name], theirs[other]
        if mine.keys() != own.keys():
            raise WeightsError(
                f"layer {number}, {name}, has {some(mine)}, but the file's {other} has {some(own)}"
            )
        found = {entry: own[leaf] for leaf, entry in mine.items()}
        _fit(found, wanted, weights)
        counter, source = f"{name}.{_COUNTER}", f"{other}.{_COUNTER}"
        if counter in wanted and source in weights:
            found[counter] = source
        pairs |= found
    if len(ours) != len(theirs):
        raise WeightsError(
            f"the model has {len(ours)} layers with weights, and the file has {len(theirs)}"
        )
    return pairs


def _fit(
    pairs: Mapping[str, str], wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> None:
    """Raise WeightsError for a pair of another shape or kind of numbers."""
    for name, source in pairs.items():
        mine, other = wanted[name], weights[source]
        what = name if name == source else f"{name} (the file's {source})"
        if mine.shape != other.shape:
            sizes = ["x".join(map(str, each.shape)) or "a number" for each in (mine, other)]
            raise WeightsError(
                f"{what} should be {sizes[0]}, but the file has {sizes[1]}; --init-skip "
                f"{name.partition('.')[0]} starts this part of the network with new weights"
            )
        if mine.is_floating_point() != other.is_floating_point():
            raise WeightsError(f"{what} should be {mine.dtype}, but the file has {other.dtype}")
