"""Hooks that show forward passes to observers without changing them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.errors import UserError
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.attention import Attention
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.time import MaskedTimeLinear
from danetc.runtime.measure.layout import Layout, NeuronLayer, ProductLayer, WeightLayer
from danetc.runtime.measure.membrane import Instant, instrument


class MeasureError(UserError):
    """A network or its data cannot be measured. ``str()`` says why and what to do."""


class LayerObserver:
    """Watches forward passes. ``batch`` is called before each, the others during it.

    ``instants`` is True for an observer of ``instant``, for which neurons run a second time.
    """

    instants = False

    def batch(self, images: int) -> None:
        """See the number of images of a forward pass that begins."""

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        """See the input and the output of a layer of neurons, [N, ...] or [T, N, ...]."""

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        """See a time step of a layer of neurons, which stands for ``repeats`` equal ones."""

    def weights(self, layer: WeightLayer, x: Tensor, macs: int) -> None:
        """See the input of a convolution or linear layer, [N, ...], [T * N, ...] or [T, N, ...].

        ``macs`` are the multiply-accumulates of all of it, zeros and borders included.
        """

    def products(self, layer: ProductLayer, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """See the matrices that a layer multiplies, [..., n, m] and [..., m, p]."""

    def block(self, stage: int, block: int, out: Tensor) -> None:
        """See the output of a block of a stage, [N, ...] or [T, N, ...]."""


def module_of(model: nn.Module, name: str) -> nn.Module:
    """Return the module of a name. Raises MeasureError if there is none."""
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise MeasureError(
            f"the model has no module {name}: it is not that of the layout"
        ) from error


def neuron_of(model: nn.Module, layer: NeuronLayer) -> Neuron:
    """Return a layer's module. Raises MeasureError unless it is a neuron of the eager backend."""
    module = module_of(model, layer.name)
    if type(module) is not Neuron:
        raise MeasureError(
            f"{layer.name} is a {type(module).__name__}: neurons of the eager backend can be "
            "measured; give the same graph and weights to that backend"
        )
    return module


Hook = Callable[[Any, tuple[Any, ...], Any], None]


@contextmanager
def observed(
    model: nn.Module, layout: Layout, observers: Sequence[LayerObserver]
) -> Iterator[None]:
    """Show every forward pass of ``model`` to the observers.

    Hooks read detached tensors and return None, so that results stay the same. Raises MeasureError
    for a model of another backend than the eager one.
    """
    hooks: dict[nn.Module, list[Hook]] = {}  # a module may be several layers
    for neuron in layout.neurons:
        hooks.setdefault(neuron_of(model, neuron), []).append(_neuron_hook(neuron, observers))
    for weight in layout.weights:
        hook = _weight_hook(weight, observers)
        hooks.setdefault(module_of(model, weight.name), []).append(hook)
    for product in layout.products:
        hooks[module_of(model, product.name)] = [_product_hook(product, observers)]
    found = [(module, _in_turn(own)) for module, own in hooks.items()]
    for stage, where in enumerate(layout.stages):
        for block, output in enumerate(where.blocks):
            after = _block_hook(stage, block, output.index, observers)
            found.append((module_of(model, output.name), after))
    handles = [module.register_forward_hook(hook) for module, hook in found]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_turn(hooks: Sequence[Hook]) -> Hook:
    """Return a hook that runs these in turn, one for each call."""
    turns = itertools.cycle(hooks)

    def hook(module: Any, args: tuple[Any, ...], out: Any) -> None:
        next(turns)(module, args, out)

    return hook


def _watching(place: str, see: Hook) -> Hook:
    """Return a hook that runs without gradients and adds the place to errors."""

    def hook(module: Any, args: tuple[Any, ...], out: Any) -> None:
        with torch.no_grad():
            try:
                see(module, args, out)
            except ValueError as error:
                raise MeasureError(f"{place}: {error}") from error

    return hook


def _neuron_hook(layer: NeuronLayer, observers: Sequence[LayerObserver]) -> Hook:
    wanting = [observer for observer in observers if observer.instants]

    def see(module: Neuron, args: tuple[Tensor, ...], out: Tensor) -> None:
        x = args[0].detach()
        for observer in observers:
            observer.neuron(layer, module, kernel(module.program).first(x), out.detach())
        if wanting:
            repeats = module.steps if out.dim() == module.rank + 1 else 1
            for instant in instrument(module.program).instants(module, x):
                for observer in wanting:
                    observer.instant(layer, instant, repeats)

    return _watching(layer.name, see)


def _weight_hook(layer: WeightLayer, observers: Sequence[LayerObserver]) -> Hook:
    def see(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        x = args[0].detach()
        for observer in observers:
            observer.weights(layer, x, macs_of(module, x, out))

    return _watching(layer.name, see)


def _product_hook(layer: ProductLayer, observers: Sequence[LayerObserver]) -> Hook:
    def see(module: Attention, args: tuple[Tensor, ...], out: Tensor) -> None:
        pairs = module.multiplied(*(x.detach() for x in args[: module.factors]))
        for observer in observers:
            observer.products(layer, pairs)

    return _watching(layer.name, see)


def _block_hook(
    stage: int, block: int, index: int | None, observers: Sequence[LayerObserver]
) -> Hook:
    def see(module: nn.Module, args: Any, out: Any) -> None:
        value = out if index is None else out[index]
        for observer in observers:
            observer.block(stage, block, value.detach())

    return _watching(f"block {block} of stage {stage}", see)


def macs_of(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Return the multiply-accumulates of a convolution or linear layer that gave ``out`` of ``x``."""
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
