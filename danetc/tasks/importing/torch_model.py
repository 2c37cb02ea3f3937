"""A PyTorch or SpikingJelly model as a graph of danetc's operations, with its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import program
from danetc.tasks.importing.modules import NEURONS, check_readable, is_leaf, read_module
from danetc.tasks.importing.operations import (
    FUNCTIONS,
    METHODS,
    STEPS,
    WEIGHTED,
    CallSite,
    ReadNetwork,
    ReadValue,
    SourceBuilder,
    StoredTensor,
    read,
)
from danetc.tasks.importing.python_neurons import StepwiseNeuron, python_neurons
from danetc.tasks.importing.tracing import VALUE, traced

SAMPLES = 2

Takes = Literal["sequence", "step", "image"]
"""Input of a model: [T, N, ...]; the N samples of one step, T times; or images, once."""


def is_spiking(model: nn.Module) -> bool:
    """Return True if a model has neurons of SpikingJelly."""
    return any(type(module).__name__ in NEURONS for module in model.modules())


def read_model(
    model: nn.Module, name: str, shape: tuple[int, ...], steps: int | None, events: bool
) -> tuple[ReadNetwork, Takes]:
    """Return the graph and weights of a model for samples of a shape, [C, H, W] or [C], and its input.

    Raises UserError with the module or the line that cannot be read.
    """

    def reading(takes: Takes) -> tuple[ReadNetwork, Takes]:
        return _read(model, name, shape, steps, events, takes), takes

    if not is_spiking(model):  # or with neurons of its own code, which may repeat images
        source, takes = reading("sequence" if events else "image")
        return _activations_as_neurons(source), takes
    modes = {
        module.step_mode
        for module in model.modules()
        if type(module).__name__ in NEURONS and hasattr(module, "step_mode")
    }
    if len(modes) > 1:
        raise UserError(
            "some of the model's neurons have step_mode 's' and some 'm'; "
            "set one for all with spikingjelly.activation_based.functional.set_step_mode"
        )
    if modes != {"m"}:
        return reading("step")
    try:
        return reading("sequence")
    except UserError as error:
        try:  # it may repeat its images
            return reading("image")
        except UserError:
            raise error from None


def _read(
    model: nn.Module,
    name: str,
    shape: tuple[int, ...],
    said: int | None,
    events: bool,
    takes: Takes,
) -> ReadNetwork:
    spiking, sequence = is_spiking(model), takes == "sequence"
    steps = said or STEPS
    leading = (steps, SAMPLES) if sequence else (SAMPLES,)
    copied = deepcopy(model).eval().to("meta")
    graph = traced(copied, is_leaf, check_readable, torch.empty((*leading, *shape), device="meta"))
    neurons = python_neurons(graph, model)
    counts = {neuron.steps for neuron in neurons.values()}
    if len(counts) > 1:
        raise UserError(f"its neurons run for different numbers of time steps ({sorted(counts)})")
    own = next(iter(counts), 0)
    if said is None and not spiking and not events:
        steps = own or 1
    if own and own != steps:
        raise UserError(f"its neurons run for {own} time steps: --steps {own}")
    build = SourceBuilder(steps, shape, events)
    value = _Reader(build, model, sequence, neurons).read(graph)
    return build.finished(name, value.node, each_step=spiking or value.leading == 2)


class _Reader:
    def __init__(
        self,
        build: SourceBuilder,
        model: nn.Module,
        sequence: bool,
        neurons: Mapping[fx.Node, StepwiseNeuron],
    ) -> None:
        self.build = build
        self.model = model
        self.sequence = sequence
        self.neurons = neurons
        self.stored = model.state_dict(keep_vars=True)
        self.values: dict[fx.Node, Any] = {}
        self.uses: Counter[str] = Counter()
        self.calls: dict[nn.Module, range] = {}

    def read(self, graph: fx.Graph) -> ReadValue:
        needed = self._needed(graph)
        for node in graph.nodes:
            if node.op == "placeholder":
                leading = 2 if self.sequence else 1
                first = not self.values
                self.values[node] = (
                    ReadValue(self.build.entry, leading) if first else node.meta[VALUE]
                )
            elif node in needed and node in self.neurons:
                self.values[node] = self._neuron(node)
            elif node in needed:
                match node.op:
                    case "output":
                        return self._output(node)
                    case "call_module":
                        self.values[node] = self._module(node)
                    case "get_attr":
                        place = str(node.target)
                        self.values[node] = StoredTensor(self._tensor(place), place)
                    case _:
                        self.values[node] = self._function(node)
        raise AssertionError("a graph has an output")

    def _needed(self, graph: fx.Graph) -> set[fx.Node]:
        """Return the nodes that the output depends on, without those inside of stepwise neurons."""
        waiting = [node for node in graph.nodes if node.op == "output"]
        found: set[fx.Node] = set()
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                neuron = self.neurons.get(node)
                waiting += [neuron.source] if neuron else node.all_input_nodes
        return found

    def _tensor(self, place: str) -> Tensor:
        if place not in self.stored:
            raise UserError(f"{place}: a tensor that is no parameter and no buffer")
        return self.stored[place]  # type: ignore[no-any-return]

    def _neuron(self, node: fx.Node) -> ReadValue:
        neuron = self.neurons[node]
        value, path = self.values[neuron.source], _place(node)
        if not isinstance(value, ReadValue) or value.leading != 2:
            raise UserError(f"{path}: it runs step by step over something else than [T, N, ...]")
        for place in neuron.places.values():
            self._once(place, path)
        weights = {label: self._tensor(place) for label, place in neuron.places.items()}
        id = self.build.neuron(neuron.program, value.node, path, weights)
        self.build.places[id] = neuron.places
        return ReadValue(id, 2)

    def _once(self, place: str, path: str) -> None:
        self.uses[place] += 1
        if self.uses[place] > 1:
            raise UserError(
                f"{path}: {place} is used more than once, which danetc does not import; write "
                "`shared(...)` in a spec by hand"
            )

    def _output(self, node: fx.Node) -> ReadValue:
        found = map_arg(node.args[0], lambda item: self.values[item])
        if isinstance(found, (tuple, list)) and len(found) == 1:
            (found,) = found
        if not isinstance(found, ReadValue):
            kind = type(found).__name__.removeprefix("immutable_")  # of fx
            raise UserError(
                f"the model returns a {kind}, not one tensor that depends on its input; wrap it in a "
                "module that returns the logits"
            )
        if found.flat:
            raise UserError("the model returns T and N as one dimension; give them apart")
        return found

    def _call(self, node: fx.Node, path: str) -> CallSite:
        first = next(iter(node.all_input_nodes), node)
        before, after = (tuple(getattr(item.meta[VALUE], "shape", ())) for item in (first, node))
        return CallSite(self.build, path, before, after, self.sequence)

    def _module(self, node: fx.Node) -> ReadValue:
        path = str(node.target)
        module = self.model.get_submodule(path)
        if module in self.calls and type(module).__name__ in NEURONS:
            raise UserError(
                f"{path}: called more than once with the same states, which danetc does not import; "
                "give each call a neuron of its own"
            )
        value = self.values[node.args[0]] if node.args else None  # type: ignore[index]
        if not isinstance(value, ReadValue):
            raise UserError(f"{path}: it is called with something else than one tensor")
        before = len(self.build.nodes)
        result = read_module(self._call(node, path), module, value)
        made = range(before, len(self.build.nodes))
        self.build.share(self.calls.setdefault(module, made), made)
        return result

    def _function(self, node: fx.Node) -> ReadValue:
        table: Mapping[Any, Any] = FUNCTIONS if node.op == "call_function" else METHODS
        path = _place(node)
        reader = table.get(node.target)
        if reader is None:
            name = getattr(node.target, "__name__", str(node.target))
            raise UserError(f"{path}: danetc cannot read `{name}`")
        args: Any = map_arg(node.args, lambda item: self.values[item])
        kwargs: Any = map_arg(node.kwargs, lambda item: self.values[item])
        stored = [item for item in (*args, *kwargs.values()) if isinstance(item, StoredTensor)]
        if stored and node.target not in WEIGHTED:
            raise UserError(
                f"{stored[0].path}: a parameter or buffer that the model's own code reads; danetc "
                "reads those of layers"
            )
        for item in stored:
            self._once(item.path, path)
        return read(reader, self._call(node, path), args, kwargs)


def _place(node: fx.Node) -> str:
    """Return the module whose code calls a function, as far as the trace knows."""
    stack = node.meta.get("nn_module_stack")
    if stack:
        path, _ = list(stack.values())[-1]
        return f"{path or 'the model'}, `{node.name}`"
    return f"`{node.name}`"


def _activations_as_neurons(source: ReadNetwork) -> ReadNetwork:
    """Turn the ReLUs of a network without neurons into the neuron ReLU of std."""
    graph = source.graph
    if all(node.op != "relu" for node in graph.nodes.values()):
        return source
    nodes = {
        id: replace(node, op="neuron", attrs={"neuron": "ReLU"}) if node.op == "relu" else node
        for id, node in graph.nodes.items()
    }
    neurons = {**graph.neurons, "ReLU": program("ReLU", {}, None, {})}
    return replace(source, graph=replace(graph, nodes=nodes, neurons=neurons))
