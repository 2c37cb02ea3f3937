"""`danetc.record`: the activity of neurons at each time step, as tensors and figures."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.arguments import check_choice
from danetc.compiler.emit.layout import layout_of, topology_of
from danetc.dsl.diagnostics.diagnostic import instead
from danetc.errors import UserError
from danetc.output.returned import Returned, frame
from danetc.runtime.measure import Statistics
from danetc.runtime.measure import recording as run
from danetc.runtime.measure.plots import draw_raster, draw_traces
from danetc.runtime.model.built import Model
from danetc.runtime.system.files import replace_file
from danetc.tasks.measuring.data import open_subject

VALUES = ("spikes", "current", "potential", "threshold")
SHOWN = 6  # layers in a raster by default


class Recording(Returned, dict[str, run.LayerRecording]):
    """Recordings of layers by name, in the order of the forward pass.

    ``recording["stem.spike"].potential`` is a tensor [T, N, ...].
    """

    def __init__(self, network: str, layers: Mapping[str, run.LayerRecording]) -> None:
        super().__init__(layers)
        self.network = network

    def __missing__(self, layer: str) -> run.LayerRecording:
        raise UserError(f"there is no recording of {layer}; {instead(layer, self, 'there are')}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all values to a file that ``numpy.load`` reads, by names like ``stem.spike/potential``.

        Raises UserError unless the name of the file ends in .npz.
        """
        if Path(path).suffix != ".npz":
            raise UserError(f"the name of a recording ends in .npz: {path}")
        arrays = {
            f"{name}/{value}": x.float().numpy()
            for name, each in self.items()
            for value in VALUES
            if (x := getattr(each, value)) is not None
        }
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        replace_file(Path(path), stream.getvalue(), follow=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return the facts of each layer: its shape [T, N, ...], spikes per neuron and step, mean
        current, and range of the membrane potential."""
        return [
            {
                "layer": name,
                "shape": list(each.spikes.shape),
                "rate": float(each.spikes.double().mean()),
                "current": float(each.current.double().mean()),
                "potential": None
                if each.potential is None
                else [float(v) for v in each.potential.aminmax()],
            }
            for name, each in self.items()
        ]

    def frame(self) -> Any:
        """Return a DataFrame with the facts of each layer. Raises UserError without pandas."""
        return frame(self.rows())

    def raster(self, layers: str | Sequence[str] | None = None, image: int = 0) -> Any:
        """Return a figure of matplotlib: a mark for each spike of ``image``, by time step and neuron.

        ``layers`` are names or patterns as for ``record``; by default the first six. Raises UserError
        without matplotlib.
        """
        names = [*self][:SHOWN] if layers is None else _chosen(layers, [*self])
        return draw_raster([(name, self._values(name, image)["spikes"]) for name in names])

    def traces(
        self, layer: str | None = None, neurons: Sequence[int] | None = None, image: int = 0
    ) -> Any:
        """Return a figure of matplotlib: membrane potential, threshold, current and spikes over time.

        Args:
            layer: name of the layer. The default is the first with a membrane potential.
            neurons: numbers in the flattened layer. The default is the three whose output varies most.
            image: number of the image in the batch.

        Raises UserError without matplotlib, and for a layer without a membrane potential.
        """
        known = {name: each for name, each in self.items() if each.potential is not None}
        name = layer or next(iter(known), "a membrane potential")
        values = Recording(self.network, known)._values(name, image)
        spikes = values["spikes"]
        if neurons is None:
            varied = spikes.var(0, correction=0)
            neurons = varied.argsort(descending=True, stable=True)[:3].tolist()
        shown = []
        for n in neurons:
            _check_number("the number of a neuron", n, spikes.shape[1])
            shown.append((f"{name}, neuron {n}", {what: x[:, n] for what, x in values.items()}))
        return draw_traces(shown)

    def _values(self, layer: str, image: int) -> dict[str, Tensor]:
        """Return the values of one image [T, neurons] for a figure."""
        found = {value: getattr(self[layer], value) for value in VALUES}
        _check_number("image", image, found["spikes"].shape[1])
        return {what: x[:, image].flatten(1).float() for what, x in found.items() if x is not None}

    def _line(self) -> str:
        steps, images = next(iter(self.values())).spikes.shape[:2]
        return f"{self.network}, {len(self)} layers, T = {steps}, {images} images"


def _check_number(what: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise UserError(f"{what} must be from 0 to {count - 1}, not {number}")


def _chosen(layers: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns ``layers``, or belong to a scope named there.

    Raises UserError if one of ``layers`` has no match.
    """
    found = set[str]()
    for each in [layers] if isinstance(layers, str) else layers:
        own = {name for name in known if fnmatchcase(name, each) or name.startswith(f"{each}.")}
        if not own:
            raise UserError(
                f"there is no layer of neurons {each}; {instead(each, known, 'there are')}"
            )
        found |= own
    return [name for name in known if name in found]


def record(
    model: Model | str | os.PathLike[str],
    images: Tensor,
    layers: str | Sequence[str] | None = None,
    *,
    stream: bool = False,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> Recording:
    """Record spikes, membrane potentials before the reset, and currents of layers of neurons.

    Args:
        model: a model that ``danetc.build`` or ``danetc.load`` returned, of any backend; or a
            directory, ``pretrained:NAME`` or a spec, as for ``measure``.
        images: images [N, ...] as the network takes them, or frames [T, N, ...].
        layers: names of layers, of scopes, or patterns like ``stages.*``. The default is all layers.
        stream: run ``model.stream`` step by step, not one forward pass.
        statistics: statistics that norms use, ``running`` or those of the ``batch``. The default is
            ``batch`` for a directory or spec that was never trained.
        seed: seed of what a network draws, such as random spikes.

    The model does not change. Raises UserError for an unknown layer, for images that the network does
    not take, and for a folded model; SpecError for an error in a spec.
    """
    check_choice("statistics", statistics, ("running", "batch"))
    if isinstance(model, str | os.PathLike):
        subject = open_subject(os.fspath(model), backend="fused")
        model, statistics = subject.model, statistics or subject.statistics
    graph = topology_of(model)
    if not isinstance(images, torch.Tensor):
        raise UserError(f"images are a tensor [N, ...] or [T, N, ...], not {type(images).__name__}")
    layout = layout_of(graph)
    names = [each.name for each in layout.neurons]
    if not names:
        raise UserError(f"{graph.name} has no neurons to record")
    chosen = names if layers is None else _chosen(layers, names)
    found = run.record(model, layout, images, chosen, stream, statistics or "running", seed)
    return Recording(graph.name, found)
