"""A PyTorch or SpikingJelly model as a graph of danetc's operations, with its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from danetc.compiler.ir.graph import Node
from danetc.errors import UserError
from danetc.tasks.importing.functions import (
    FUNCTIONS,
    METHODS,
    WEIGHTED,
    Called,
    ReadValue,
    StoredTensor,
)
from danetc.tasks.importing.known_neurons import program
from danetc.tasks.importing.modules import NEURONS, check_readable, is_leaf, reader_of
from danetc.tasks.importing.python_neurons import StepwiseNeuron, python_neurons
from danetc.tasks.importing.source import STEPS, ReadNetwork, SourceBuilder
from danetc.tasks.importing.tracing import VALUE, traced

SAMPLES = 2


def is_spiking(model: nn.Module) -> bool:
    """Whether a model has neurons of SpikingJelly."""
    return any(type(module).__name__ in NEURONS for module in model.modules())


def runs_all_steps(model: nn.Module) -> bool:
    """Whether a model takes [T, N, ...]: its neurons run in SpikingJelly's multi-step mode."""
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
    return modes == {"m"}


Takes = Literal["sequence", "step", "image"]
"""What a model is called with: [T, N, ...]; the N samples of one step, T times; or images, once."""


@dataclass(frozen=True)
class TorchSource:
    """A model that was read, and what it is called with."""

    source: ReadNetwork
    takes: Takes


def read_model(
    model: nn.Module, name: str, shape: tuple[int, ...], steps: int | None, events: bool
) -> TorchSource:
    """The graph and weights of a model for inputs of a shape [C, H, W].

    Raises UserError with the module or the line that cannot be read.
    """
    if not is_spiking(model):  # or with neurons of its own code, which repeats images by itself
        takes: Takes = "sequence" if events else "image"
        source = _read(model, name, shape, steps, events, takes)
        return TorchSource(activations_as_neurons(source), takes)
    if not runs_all_steps(model):
        return TorchSource(_read(model, name, shape, steps, events, "step"), "step")
    try:
        return TorchSource(_read(model, name, shape, steps, events, "sequence"), "sequence")
    except UserError as error:
        try:  # it may repeat its images by itself
            return TorchSource(_read(model, name, shape, steps, events, "image"), "image")
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
    spiking, whole = is_spiking(model), takes == "sequence"
    steps = said or STEPS
    leading = (steps, SAMPLES) if whole else (SAMPLES,)
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
    reader = _Reader(build, model, whole, neurons)
    value = reader.read(graph)
    return build.finished(name, value.node, each_step=spiking or value.leading == 2)


class _Reader:
    def __init__(
        self,
        build: SourceBuilder,
        model: nn.Module,
        whole: bool,
        neurons: Mapping[fx.Node, StepwiseNeuron],
    ) -> None:
        self.build = build
        self.model = model
        self.whole = whole
        self.neurons = neurons
        self.values: dict[fx.Node, Any] = {}
        self.uses: Counter[str] = Counter()
        self.calls: dict[nn.Module, range] = {}

    def read(self, graph: fx.Graph) -> ReadValue:
        read = self._needed(graph)
        for node in graph.nodes:
            if node in self.neurons and node in read:
                self.values[node] = self._neuron(node)
                continue
            if node not in read and node.op != "placeholder":
                continue
            match node.op:
                case "placeholder":
                    if not self.values:
                        self.values[node] = ReadValue(self.build.entry, 2 if self.whole else 1)
                    else:
                        self.values[node] = node.meta[VALUE]
                case "output":
                    return self._output(node)
                case "call_module":
                    self.values[node] = self._module(node)
                case "get_attr":
                    self.values[node] = StoredTensor(
                        str(node.target), self._tensor(str(node.target))
                    )
                case _:
                    self.values[node] = self._call(node)
        raise AssertionError("a graph has an output")

    def _needed(self, graph: fx.Graph) -> set[fx.Node]:
        """The nodes that the output is made of; of a neuron's own code what it reads alone."""
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
        found = self.model.state_dict(keep_vars=True).get(place)
        if found is None:
            raise UserError(f"{place}: a tensor that is no parameter and no buffer")
        return found  # type: ignore[no-any-return]

    def _neuron(self, node: fx.Node) -> ReadValue:
        """A neuron that the model's own code runs step by step."""
        neuron = self.neurons[node]
        value, path = self.values[neuron.source], self._place(node)
        if not isinstance(value, ReadValue) or value.leading != 2:
            raise UserError(f"{path}: it runs step by step over something else than [T, N, ...]")
        for place in neuron.places.values():
            self._once(place, path)
        weights = {label: self._tensor(place) for label, place in neuron.places.items()}
        id = self.build.neuron(neuron.program, value.node, path, weights)
        if neuron.places:
            self.build.places[id] = neuron.places
        return ReadValue(id, 2)

    def _once(self, place: str, path: str) -> None:
        """Refuse weights that are used before."""
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
            kinds = {dict: "a dict", list: "a list", tuple: "several values"}
            what = next((text for kind, text in kinds.items() if isinstance(found, kind)), "none")
            raise UserError(
                f"the model returns {what}, and danetc reads models that return one "
                "tensor; wrap it in a module that returns the logits"
            )
        if found.flat:
            raise UserError("the model returns T and N as one dimension; give them apart")
        return found

    def _module(self, node: fx.Node) -> Any:
        path = str(node.target)
        module = self.model.get_submodule(path)
        read = reader_of(module)
        kind = type(module)
        assert read is not None
        if module in self.calls and kind.__name__ in NEURONS:
            raise UserError(
                f"{path}: called more than once with the same states, which danetc does not import; "
                "give each call a neuron of its own"
            )
        value = self.values[node.args[0]] if node.args else None  # type: ignore[index]
        if not isinstance(value, ReadValue):
            raise UserError(f"{path}: it is called with something else than one tensor")
        flattens = kind.__name__ == "Flatten"
        if flattens and not self._flattens_samples(module, value):
            raise UserError(f"{path}: it flattens more than the values of a sample")
        before = len(self.build.nodes)
        result = ReadValue(read(self.build, module, value.node, path), value.leading, value.flat)
        made = range(before, len(self.build.nodes))
        self.build.share(self.calls.setdefault(module, made), made)
        return result

    def _flattens_samples(self, module: Any, value: ReadValue) -> bool:
        first = module.start_dim + (1 if getattr(module, "step_mode", "s") == "m" else 0)
        return bool(first == value.leading and module.end_dim == -1)

    def _call(self, node: fx.Node) -> Any:
        table: Mapping[Any, Any] = FUNCTIONS if node.op == "call_function" else METHODS
        path = self._place(node)
        operands = list(node.all_input_nodes)
        read = table.get(node.target)
        if read is None:
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
        before = tuple(operands[0].meta[VALUE].shape) if operands else ()
        after = tuple(node.meta[VALUE].shape)
        return read(Called(self.build, args, kwargs, before, after, path, self.whole))

    def _place(self, node: fx.Node) -> str:
        """The module whose code calls a function, as far as the trace knows."""
        stack = node.meta.get("nn_module_stack")
        if stack:
            path, _ = list(stack.values())[-1]
            return f"{path or 'the model'}, `{node.name}`"
        return f"`{node.name}`"


def activations_as_neurons(source: ReadNetwork) -> ReadNetwork:
    """A network without neurons: its ReLUs are what `spike` stands for (std's ReLU)."""
    graph = source.graph
    if all(node.op != "relu" for node in graph.nodes.values()):
        return source
    relu = program("ReLU", {}, None, {})
    nodes: dict[int, Node] = {
        id: replace(node, op="neuron", attrs={"neuron": "ReLU"}) if node.op == "relu" else node
        for id, node in graph.nodes.items()
    }
    return replace(
        source, graph=replace(graph, nodes=nodes, neurons={**graph.neurons, "ReLU": relu})
    )
