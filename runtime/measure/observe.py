"""Forward passes watched by hooks: what goes through a network reaches observers, unchanged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.attention import Attention
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.time import MaskedTimeLinear
from danetc.runtime.measure.layout import Layout, NeuronLayer, ProductLayer, WeightLayer
from danetc.runtime.measure.membrane import Instant, Instrument, instrument


class MeasureError(ValueError):
    """A network or its data cannot be measured. ``str()`` says why and what to do."""


class LayerObserver:
    """Watches forward passes. ``batch`` is called before each, the others as it goes on.

    ``instants`` says that it wants ``instant``, for which neurons are run a second time.
    """

    instants = False

    def batch(self, images: int) -> None:
        """A forward pass of so many images begins."""

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        """A layer of neurons took ``x`` and gave ``out``, [N, ...] or [T, N, ...]."""

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        """One time step of a layer of neurons; ``repeats``: it stands for so many equal ones."""

    def weights(self, layer: WeightLayer, x: Tensor, macs: int) -> None:
        """A convolution or linear layer took ``x``, [N, ...], [T * N, ...] or [T, N, ...].

        ``macs`` are the multiply-accumulates of all of it, zeros and borders included.
        """

    def products(self, layer: ProductLayer, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """A layer multiplied these matrices, [..., n, m] and [..., m, p]."""

    def block(self, stage: int, block: int, out: Tensor) -> None:
        """A block of a stage gave ``out``, [N, ...] or [T, N, ...]."""


def module_of(model: nn.Module, name: str) -> nn.Module:
    """The module of this name. Raises MeasureError where there is none."""
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise MeasureError(
            f"the model has no module {name}: it is not that of the layout"
        ) from error


def neuron_of(model: nn.Module, layer: NeuronLayer) -> Neuron:
    """A layer's module. Raises MeasureError for what is none of the eager backend's neurons."""
    module = module_of(model, layer.name)
    if type(module) is not Neuron:
        raise MeasureError(
            f"{layer.name} is a {type(module).__name__}: neurons of the eager backend can be "
            "measured; give the same graph and weights to that backend"
        )
    return module


@contextmanager
def observed(
    model: nn.Module, layout: Layout, observers: Sequence[LayerObserver]
) -> Iterator[None]:
    """While it lasts every forward pass of ``model`` is shown to the observers.

    Hooks read detached tensors and return nothing, so the pass gives what it would without them.
    Raises MeasureError for a model of another backend than the eager one.
    """
    handles = []
    wanted = any(observer.instants for observer in observers)
    hooks: dict[nn.Module, list[Hook]] = {}  # of a module that is several layers, in their order
    for neuron_layer in layout.neurons:
        neuron = neuron_of(model, neuron_layer)
        used = instrument(neuron.program) if wanted else None
        hooks.setdefault(neuron, []).append(_neuron_hook(neuron_layer, used, observers))
    for weight_layer in layout.weights:
        module = module_of(model, weight_layer.name)
        hooks.setdefault(module, []).append(_weight_hook(weight_layer, observers))
    try:
        for module, own in hooks.items():
            handles.append(module.register_forward_hook(_in_turn(own)))
        for product_layer in layout.products:
            done = _product_hook(product_layer, observers)
            handles.append(module_of(model, product_layer.name).register_forward_hook(done))
        for stage, found in enumerate(layout.stages):
            for block, output in enumerate(found.blocks):
                after = _block_hook(stage, block, output.index, observers)
                handles.append(module_of(model, output.name).register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()


Hook = Callable[..., None]


def _in_turn(hooks: Sequence[Hook]) -> Hook:
    """One hook for each call, and then again from the first."""
    if len(hooks) == 1:
        return hooks[0]
    turns = itertools.cycle(hooks)

    def hook(*args: Any) -> None:
        next(turns)(*args)

    return hook


def _neuron_hook(
    layer: NeuronLayer, used: Instrument | None, observers: Sequence[LayerObserver]
) -> Hook:
    def hook(module: Neuron, args: tuple[Tensor, ...], out: Tensor) -> None:
        with torch.no_grad():
            (x,) = (value.detach() for value in args)
            first = kernel(module.program).first(x)
            try:
                for observer in observers:
                    observer.neuron(layer, module, first, out.detach())
                if used is None:
                    return
                repeats = module.steps if out.dim() == module.rank + 1 else 1
                for instant in used.instants(module, x):
                    for observer in observers:
                        if observer.instants:
                            observer.instant(layer, instant, repeats)
            except ValueError as error:
                _blame(layer.name, error)

    return hook


def _weight_hook(layer: WeightLayer, observers: Sequence[LayerObserver]) -> Hook:
    def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        with torch.no_grad():
            x = args[0].detach()
            macs = macs_of(module, x, out)
            for observer in observers:
                observer.weights(layer, x, macs)

    return hook


def _product_hook(layer: ProductLayer, observers: Sequence[LayerObserver]) -> Hook:
    def hook(module: Attention, args: tuple[Tensor, ...], out: Tensor) -> None:
        with torch.no_grad():
            pairs = module.multiplied(*(x.detach() for x in args[: module.factors]))
            for observer in observers:
                observer.products(layer, pairs)

    return hook


def macs_of(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Multiply-accumulates of a convolution or linear layer that gave ``out`` of ``x``."""
    match module:
        case nn.Conv1d() | nn.Conv2d():
            return module.weight[0].numel() * out.numel()
        case nn.ConvTranspose2d():
            return module.weight[0].numel() * x.numel()
        case MaskedTimeLinear():
            return (module.window if module.hides else module.in_features) * out.numel()
        case nn.Linear():
            return module.in_features * out.numel()
    raise MeasureError(f"operations of a {type(module).__name__} are not known")


def _block_hook(
    stage: int, block: int, index: int | None, observers: Sequence[LayerObserver]
) -> Hook:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        with torch.no_grad():
            value = out if index is None else out[index]
            try:
                for observer in observers:
                    observer.block(stage, block, value.detach())
            except ValueError as error:
                _blame(f"block {block} of stage {stage}", error)

    return hook


def _blame(place: str, error: ValueError) -> NoReturn:
    raise MeasureError(f"{place}: {error}") from error
