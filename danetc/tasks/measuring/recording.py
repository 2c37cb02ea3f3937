"""`danetc.record`: what neurons do at each time step, as tensors and figures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.arguments import check_choice
from danetc.dsl.diagnostics.diagnostic import instead
from danetc.errors import UserError, check_installed
from danetc.output.returned import Returned, frame
from danetc.runtime.layers.inference import InferenceModel
from danetc.runtime.measure import Layout, Statistics
from danetc.runtime.measure import recording as run
from danetc.runtime.measure.recording import LayerRecording
from danetc.runtime.model.built import Model
from danetc.runtime.system.figures import STYLES, in_figure, new_figure
from danetc.runtime.system.files import replace_file
from danetc.tasks.measuring.data import open_subject
from danetc.tasks.measuring.layout import layout_of
from danetc.tasks.measuring.measure import topology_of

VALUES = ("spikes", "current", "potential", "threshold")
SHOWN = 6
"""Number of layers in a raster by default."""


@dataclass(frozen=True, repr=False, eq=False)
class Recording(Returned):
    """Recordings of layers by name, in the order of the forward pass.

    ``recording["stem.spike"].potential`` is a tensor [T, N, ...].
    """

    network: str
    layers: Mapping[str, LayerRecording]

    def __getitem__(self, layer: str) -> LayerRecording:
        return self.layers[_one(layer, self.layers)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all values by names like ``stem.spike/potential``, as ``save`` writes them."""
        return {
            f"{name}/{key}": x.float().numpy()
            for name in self
            for key, x in self._values(name).items()
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all values to a file that ``numpy.load`` reads. Raises UserError unless it ends in .npz."""
        if Path(path).suffix != ".npz":
            raise UserError(f"a recording is written to a file that ends in .npz, not {path}")
        stream = io.BytesIO()
        np.savez_compressed(stream, **self.arrays())  # type: ignore[arg-type]
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
            for name, each in self.layers.items()
        ]

    def frame(self) -> Any:
        """Return a DataFrame with the facts of each layer. Raises UserError without pandas."""
        return frame(self.rows())

    def raster(self, layers: str | Sequence[str] | None = None, image: int = 0) -> Any:
        """Return a figure of matplotlib: a mark for each spike of ``image``, by time step and neuron.

        ``layers`` are names or patterns as for ``record``; by default the first six. Raises UserError
        without matplotlib.
        """
        names = chosen(layers, [*self]) if layers is not None else [*self][:SHOWN]
        figure, panels = self._panels(names, image)
        for axes, name in zip(panels, names, strict=True):
            spikes = self.layers[name].spikes[:, image].flatten(1)
            steps, neurons = spikes.nonzero(as_tuple=True)
            width = max(0.3, min(4.0, 60 / spikes.shape[1]))
            axes.hlines(neurons, steps + 0.6, steps + 1.4, "black", lw=width, rasterized=True)
            axes.set(ylim=(-0.5, spikes.shape[1] - 0.5), ylabel="neuron")
        return figure

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
        known = [name for name, each in self.layers.items() if each.potential is not None]
        name = _one(layer or next(iter(known), "a membrane potential"), known)
        _in_range("image", image, self.layers[name].spikes.shape[1])
        one = {key: x[:, image].flatten(1).float() for key, x in self._values(name).items()}
        spikes = one["spikes"]
        if neurons is None:
            varied = spikes.var(0, correction=0)
            neurons = varied.argsort(descending=True, stable=True)[:3].tolist()
        for n in neurons:
            _in_range("a neuron", n, spikes.shape[1])
        titles = [f"{name}, neuron {n}" for n in neurons]
        figure, panels = self._panels(titles, image)
        t = range(1, len(spikes) + 1)
        for axes, n in zip(panels, neurons, strict=True):
            for key, (colour, dash, _) in zip(("potential", "current"), STYLES, strict=False):
                axes.plot(t, one[key][:, n], color=colour, ls=dash, marker=".", label=key)
            axes.plot(t, one["threshold"][:, n], color="0.5", ls=":", label="threshold")
            for step in spikes[:, n].nonzero()[:, 0].tolist():
                axes.axvline(step + 1, ymin=0.94, color="black", lw=2)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=3, fontsize="x-small")
        return figure

    def _values(self, layer: str) -> dict[str, Tensor]:
        found = {each: getattr(self.layers[layer], each) for each in VALUES}
        return {key: x for key, x in found.items() if x is not None}

    def _panels(self, titles: Sequence[str], image: int) -> tuple[Any, Any]:
        """Return a figure of a column's width, and a panel over time for each title."""
        check_installed("drawing", ["matplotlib"], "plot")
        steps, images = next(iter(self.layers.values())).spikes.shape[:2]
        _in_range("image", image, images)
        figure = new_figure(3.5, 0.5 + 1.2 * len(titles))
        panels = figure.subplots(len(titles), 1, sharex=True, squeeze=False)[:, 0]
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(in_figure(title), fontsize="small", loc="left")
        locator = import_module("matplotlib.ticker").MaxNLocator(integer=True)
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].set(xlabel="time step", xlim=(0.5, steps + 0.5))
        return figure, panels

    def _line(self) -> str:
        shape = next(iter(self.layers.values())).spikes.shape
        return f"{self.network}, {len(self)} layers, T = {shape[0]}, {shape[1]} images"


def _in_range(what: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise UserError(f"{what} is 0 to {count - 1}, not {number}")


def _one(layer: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    if layer not in known:
        raise UserError(f"there is no recording of {layer}; {instead(layer, known, 'there are')}")
    return layer


def chosen(layers: str | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return the names that are or match one of ``layers``, or begin with it as the name of a scope.

    None is for all of them. Raises UserError if one of ``layers`` has no match.
    """
    if layers is None:
        return [*known]
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

    The model is left as it was. Raises UserError for a layer that is not there, for images that the
    network does not take, and for a folded model; SpecError for an error in a spec.
    """
    check_choice("statistics", statistics, ("running", "batch"))
    if isinstance(model, str | os.PathLike):
        subject = open_subject(os.fspath(model), None, {}, 0, None, "fused")
        model, statistics = subject.model, statistics or subject.statistics
    graph = topology_of(model)
    if isinstance(model, InferenceModel):
        raise UserError("a folded model has no norms; record the model that it was folded from")
    if not model.signature.input:
        raise UserError(f"{graph.name} has several inputs of different sizes; it is not recorded")
    layout: Layout = layout_of(graph)
    names = chosen(layers, [each.name for each in layout.neurons])
    if not names:
        raise UserError(f"{graph.name} has no neurons to record")
    if not isinstance(images, torch.Tensor):
        raise UserError(f"images are a tensor [N, ...] or [T, N, ...], not {type(images).__name__}")
    found = run.record(
        model, layout, images, names, stream=stream, statistics=statistics or "running", seed=seed
    )
    return Recording(graph.name, found)
