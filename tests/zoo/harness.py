"""What every published network of specs/zoo is held to: a reference of its own, in float64.

A reference is a module of ``tests.zoo.references`` with the name of the zoo's file and a ``CASE``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler import graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.frontend.program import Checked, check_file
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.reading import ZOO, shipped_specs
from danetc.runtime.layers.neuron import Neuron
from danetc.tasks.inputs import taken
from tests.differential.helpers import assert_close, observe, randn

NAMES = tuple(name.removeprefix(ZOO) for name in shipped_specs() if name.startswith(ZOO))
TOLERANCE = 1e-9
BATCH = 2
RATES = (0.02, 0.98)
DEVIATION = 0.01
_COUNTER = "num_batches_tracked"
_Weights = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """What a network of the zoo is compared with.

    ``network`` makes the reference of the settings' values; its defaults are those of the paper,
    as the spec's are. It takes [T, N, ...] (of an image T equal frames) and gives what ours gives.
    ``against`` says in a few words what the reference is. ``small`` are the settings of the
    networks that are run: two widths and two T at least. ``published`` are numbers of parameters
    as the paper or its authors' code has them ("0.13 M"), each with the settings of that network.
    ``prepare`` changes the reference, its norms already awake, before ours takes its weights.
    ``pairs`` says which of our weights is which of the reference's, where their order does not.
    """

    network: Callable[..., nn.Module]
    against: str
    small: tuple[Mapping[str, Any], ...]
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prepare: Callable[[nn.Module], None] = lambda network: None
    pairs: Callable[[nn.Module, nn.Module], _Weights] | None = None


def case_of(name: str) -> Case:
    found = import_module(f"tests.zoo.references.{name}").CASE
    assert isinstance(found, Case)
    return found


@cache
def checked(name: str) -> Checked:
    return check_file(ZOO + name)


def file_of(name: str) -> Path:
    return shipped_specs()[ZOO + name]


def graph(name: str, settings: Mapping[str, Any]) -> Graph:
    return graph_of(checked(name), settings=dict(settings))


# -- comparing ------------------------------------------------------------------------------------


def compare(name: str, settings: Mapping[str, Any]) -> None:
    """Hold the network to its reference in training, and in evaluation with the norms warmed."""
    case, ours = case_of(name), graph(name, settings)
    torch.manual_seed(0)
    reference = case.network(**settings).double()
    wake(reference)
    case.prepare(reference)
    model = emit(ours, 0).double()
    names = (case.pairs or by_order)(model, reference)
    load(model, reference, names)
    for module in (*model.modules(), *reference.modules()):
        if hasattr(module, "momentum"):
            module.momentum = 1.0  # what evaluation takes is of the batch that was trained with
    x = frames(ours)
    static = not taken(ours).varies
    for training in (True, False):
        where = f"{name}, {dict(settings)}, {'training' if training else 'evaluation'}"
        model.train(training)
        reference.train(training)
        _restart(reference)
        mine = observe(model, x)
        theirs = observe(reference, x.expand(ours.steps, *x.shape) if static else x)
        if static:
            theirs.gradients["x"] = theirs.gradients["x"].sum(0)
        assert_alive(model, mine.outputs, mine.spikes, where)
        assert len(mine.outputs) == len(theirs.outputs), where
        for a, b in zip(mine.outputs, theirs.outputs, strict=True):
            assert_close(a, b, TOLERANCE, f"{where}: output")
        _assert_gradients(mine.gradients, theirs.gradients, names, where)
        for key, value in mine.buffers.items():
            if key in names:
                other = theirs.buffers[names[key]].reshape(value.shape)
                assert_close(value.double(), other.double(), TOLERANCE, f"{where}: {key}")


def _assert_gradients(
    mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: _Weights, where: str
) -> None:
    """Each to 1e-9 of its largest entry, or of a thousandth of the network's largest."""
    floor = 1e-3 * max(float(value.abs().max()) for value in theirs.values())
    assert len(mine) == len(theirs), where
    for key, value in mine.items():
        other = theirs[names.get(key, key)].reshape(value.shape)
        assert_close(value, other, TOLERANCE, f"{where}: gradient of {key}", floor)


def assert_alive(
    model: nn.Module, outputs: list[Tensor], spikes: list[Tensor], where: str = ""
) -> None:
    """Outputs that vary from sample to sample, and layers of neurons that neither rest nor fill.

    What fires is any entry but 0: a spike of either sign, or several of them.
    """
    for output in outputs:
        assert float(output.std()) > DEVIATION, f"{where}: the outputs are all alike"
    layers = [module for module in model.modules() if isinstance(module, Neuron)]
    for layer, fired in zip(layers, spikes, strict=True):
        if read_program(layer.program).has_step:
            rate = float((fired != 0).double().mean())
            assert RATES[0] <= rate <= RATES[1], f"{where}: a layer fires at the rate {rate:.3f}"


def frames(ours: Graph) -> Tensor:
    """An input of the network: an image [N, C, H, W], or counts of events [T, N, C, H, W]."""
    value = taken(ours)
    if not value.varies:
        return randn(BATCH, *value.shape)
    counts = torch.poisson(randn(ours.steps, BATCH, *value.shape).abs())
    return counts.clamp(max=value.kind.most) if value.kind.is_integer else counts


@torch.no_grad()
def wake(network: nn.Module, seed: int = 7) -> None:
    """Move weights and biases of norms, and all other biases, off the values that they start at.

    With weights from 1 to 2 neurons fire behind them; a weight of 1 and a bias of 0 would hide
    which norm a value went through.
    """
    generator = torch.Generator().manual_seed(seed)

    def shift(parameter: Tensor, low: float, high: float) -> None:
        noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(low + (high - low) * noise)

    for module in network.modules():
        for key, parameter in module.named_parameters(recurse=False):
            if hasattr(module, "running_mean") and key == "weight":
                shift(parameter, 1.0, 2.0)
            elif key == "bias":
                shift(parameter, -0.2, 0.6)


def by_order(
    model: nn.Module, reference: nn.Module, called: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our weights and buffers to the reference's, in the order in which they are made.

    Weights, biases and statistics are counted apart, and so are single numbers, which are neurons'.
    ``called`` are ends of our names whose counterparts have last names of their own.
    """
    ours, theirs = _groups(model, called or {}), _groups(reference, called or {})
    assert ours.keys() == theirs.keys(), [list(group) for group in (ours, theirs)]
    found: dict[str, str] = {}
    for leaf, mine in ours.items():
        other = theirs[leaf]
        assert len(mine) == len(other), f"{leaf}: {len(mine)} here, {len(other)} in the reference"
        found |= zip(mine, other, strict=True)
    return found


def _groups(network: nn.Module, called: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in network.state_dict().items():
        leaf = key.rpartition(".")[2]
        if leaf == _COUNTER:
            continue
        renamed = [name for end, name in called.items() if key.endswith(end) or leaf == name]
        usual = leaf if value.dim() else "number"
        found.setdefault(renamed[0] if renamed else usual, []).append(key)
    return found


def load(model: nn.Module, reference: nn.Module, names: _Weights) -> None:
    """Give our model the reference's weights. All of ours must have a name there."""
    theirs, state = reference.state_dict(), dict(model.state_dict())
    for key, value in state.items():
        if key in names:
            other = theirs[names[key]]
            assert other.numel() == value.numel(), f"{key} {list(value.shape)}: {list(other.shape)}"
            state[key] = other.reshape(value.shape)
        else:
            assert key.endswith(_COUNTER), f"{key} has no counterpart"
    model.load_state_dict(state)


def _restart(reference: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.reset_net(reference)
