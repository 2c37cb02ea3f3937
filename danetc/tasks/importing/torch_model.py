"""A PyTorch or SpikingJelly model as a graph of danetc's operations, with its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from danetc.compiler.ir.graph import Node
from danetc.errors import UserError
from danetc.tasks.importing.functions import FUNCTIONS, METHODS, Called, ReadValue
from danetc.tasks.importing.known_neurons import program
from danetc.tasks.importing.modules import NEURONS, check_readable, is_leaf, reader_of
from danetc.tasks.importing.source import ReadNetwork, SourceBuilder
from danetc.tasks.importing.tracing import VALUE, traced

SAMPLES = 2
STEPS = 4


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
    spiking = is_spiking(model)
    found = steps if steps is not None else (STEPS if spiking else 1)
    if not spiking:
        source = _read(model, name, shape, found, events, "image")
        return TorchSource(activations_as_neurons(source), "image")
    if not runs_all_steps(model):
        return TorchSource(_read(model, name, shape, found, events, "step"), "step")
    try:
        return TorchSource(_read(model, name, shape, found, events, "sequence"), "sequence")
    except UserError as error:
        try:  # it may repeat its images by itself
            return TorchSource(_read(model, name, shape, found, events, "image"), "image")
        except UserError:
            raise error from None


def _read(
    model: nn.Module, name: str, shape: tuple[int, ...], steps: int, events: bool, takes: Takes
) -> ReadNetwork:
    whole = takes == "sequence"
    leading = (steps, SAMPLES) if whole else (SAMPLES,)
    copied = deepcopy(model).eval().to("meta")
    graph = traced(copied, is_leaf, check_readable, torch.empty((*leading, *shape), device="meta"))
    build = SourceBuilder(steps, shape, events)
    reader = _Reader(build, model, whole)
    return build.finished(name, reader.read(graph), each_step=is_spiking(model))


class _Reader:
    def __init__(self, build: SourceBuilder, model: nn.Module, whole: bool) -> None:
        self.build = build
        self.model = model
        self.whole = whole
        self.values: dict[fx.Node, Any] = {}
        self.uses: Counter[nn.Module] = Counter()

    def read(self, graph: fx.Graph) -> int:
        for node in graph.nodes:
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
                    raise UserError(
                        f"{node.target}: a parameter or buffer that the model's own code reads; "
                        "danetc reads those of modules"
                    )
                case _:
                    self.values[node] = self._call(node)
        raise AssertionError("a graph has an output")

    def _output(self, node: fx.Node) -> int:
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
        return found.node

    def _module(self, node: fx.Node) -> Any:
        path = str(node.target)
        module = self.model.get_submodule(path)
        read = reader_of(module)
        kind = type(module)
        assert read is not None
        self.uses[module] += 1
        held = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
        stateful = type(module).__name__ in NEURONS
        if self.uses[module] > 1 and (held or stateful):
            raise UserError(
                f"{path}: called more than once with the same {'states' if stateful else 'weights'}, "
                "which danetc does not import; write `shared(...)` in a spec by hand"
            )
        value = self.values[node.args[0]] if node.args else None  # type: ignore[index]
        if not isinstance(value, ReadValue):
            raise UserError(f"{path}: it is called with something else than one tensor")
        flattens = kind.__name__ == "Flatten"
        if flattens and not self._flattens_samples(module, value):
            raise UserError(f"{path}: it flattens more than the values of a sample")
        return ReadValue(read(self.build, module, value.node, path), value.leading, value.flat)

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
        args = map_arg(node.args, lambda item: self.values[item])
        kwargs = map_arg(node.kwargs, lambda item: self.values[item])
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
