"""A PyTorch or SpikingJelly model as a graph of danetc's operations, with its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg

from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import NEURONS, full_name, neuron_program, neurons_of
from danetc.tasks.importing.layouts import LAYERS, READERS, TAKES_PARAMETERS
from danetc.tasks.importing.operations import (
    STEPS,
    CallSite,
    ReadNetwork,
    ReadValue,
    SourceBuilder,
    StoredTensor,
    read,
)
from danetc.tasks.importing.python_neurons import python_neurons
from danetc.tasks.importing.tracing import TracedModel, leaf, operation

# -- modules that are read as one operation -------------------------------------------------------


def _droppath(call: CallSite, module: Any, x: ReadValue) -> ReadValue:
    p, mode = (module.p, module.mode) if hasattr(module, "p") else (module.drop_prob, "row")
    if mode != "row":
        raise call.refuse(f"stochastic depth of mode {mode}, which drops all samples alike")
    return call.add("droppath", x, {"p": float(p)}) if p else x


def _dropout(call: CallSite, module: Any, x: ReadValue) -> ReadValue:
    return call.add("dropout", x, {"p": float(module.p), "per": "sample"})


def _spiking(call: CallSite, module: Any, x: ReadValue) -> ReadValue:
    try:
        program = neuron_program(module)
    except UserError as error:
        raise call.refuse(str(error)) from error
    learnt = {item.parameter for item in program.learnables}
    weights = {
        name: StoredTensor(item, f"{call.path}.{name}")
        for name, item in module.named_parameters()
        if name in learnt
    }
    return call.add("neuron", x, call.build.neuron(program), **weights)


MODULES: Mapping[str, Callable[[CallSite, Any, ReadValue], ReadValue]] = {
    "torchvision.ops.stochastic_depth.StochasticDepth": _droppath,
    "timm.layers.drop.DropPath": _droppath,
    "spikingjelly.activation_based.layer.dropout.Dropout": _dropout,
    **dict.fromkeys(NEURONS, _spiking),
}
"""Readers of modules that are one operation, by the full names of their classes."""

HINT = (
    "Replace it by one that danetc can read (danetc.tasks.importing.layouts.READERS), or write its "
    "network by hand"
)


def _traced(model: nn.Module, example: Tensor) -> TracedModel:
    """Return the trace of a copy of a model whose modules in ``MODULES`` call ``leaf``."""
    copied, leaves = deepcopy(model).eval(), dict[str, nn.Module]()
    for path, module in copied.named_modules():
        name = full_name(module)
        if name in MODULES:
            leaves[path] = model.get_submodule(path)
            module.forward = partial(_called, module, path)
        elif isinstance(module, nn.MultiheadAttention):
            module.forward = partial(module.forward, need_weights=False)  # type: ignore[method-assign]
        elif any(kind.__name__ == "MemoryModule" for kind in type(module).__mro__):
            raise UserError(f"{path}: danetc cannot read a {name}. {HINT}")
    return TracedModel(copied, example, leaves)


def _called(module: Any, path: str, x: Tensor, state: object = None) -> Any:
    """Return the output of a leaf. The states of snnTorch's and Norse's neurons are left out."""
    stateful = full_name(module) in NEURONS and not hasattr(module, "step_mode")
    alone = getattr(module, "init_hidden", False) and not module.output
    return (leaf(x, path), None) if stateful and not alone else leaf(x, path)


# -- models ---------------------------------------------------------------------------------------

Takes = Literal["sequence", "step", "image"]
"""Input of a model: [T, N, ...]; the N samples of one step, T times; or images, once."""


def read_model(
    model: nn.Module, name: str, shape: tuple[int, ...], steps: int | None, events: bool
) -> tuple[ReadNetwork, Takes]:
    """Return the graph and weights of a model for samples of a shape, [C, H, W] or [C], and its input.

    Raises UserError with the module or the line that cannot be read.
    """
    modes = {getattr(module, "step_mode", "s") for module in neurons_of(model)}
    if len(modes) > 1:
        raise UserError(
            "some of the model's neurons have step_mode 's' and some 'm'; "
            "set one for all with spikingjelly.activation_based.functional.set_step_mode"
        )
    tried: list[Takes] = ["step"]
    if modes == {"m"}:
        tried = ["sequence", "image"]  # the model may repeat the image over time
    elif not modes:  # or with neurons of its own code, which may repeat images
        tried = ["sequence" if events else "image"]
    errors: list[UserError] = []
    for takes in tried:
        try:
            return _Reader(model, shape, steps, events, takes).read(name), takes
        except UserError as error:
            errors.append(error)
    raise errors[0]


class _Reader:
    """Reads a model from its trace."""

    def __init__(
        self,
        model: nn.Module,
        shape: tuple[int, ...],
        steps: int | None,
        events: bool,
        takes: Takes,
    ) -> None:
        spiking = bool(neurons_of(model))
        sequence, length = takes == "sequence", steps or STEPS
        like = next(model.parameters(), torch.empty(0))
        self.trace = _traced(model, like.new_empty((*[length] * sequence, 2, *shape)))
        self.neurons = python_neurons(self.trace, model)
        counts = {neuron.steps for neuron in self.neurons.values()}
        if steps is None and not spiking and not events:
            length = max(counts, default=1)
        if counts - {length}:
            raise UserError(f"its neurons run for {min(counts)} time steps: --steps {min(counts)}")
        self.build = SourceBuilder(length, shape, events, spiking)
        self.input = self.build.value(self.build.entry, self.build.leads[sequence])
        self.stored = model.state_dict()
        self.values: dict[fx.Node, Any] = {}
        self.uses: Counter[str] = Counter()
        self.calls: dict[tuple[Any, ...], range] = {}

    def read(self, name: str) -> ReadNetwork:
        graph = self.trace.graph
        for node, neuron in self.neurons.items():
            node.args = (neuron.source,)
        graph.eliminate_dead_code(lambda node: node.op == "output")
        *nodes, output = graph.nodes
        for node in nodes:
            if node in self.neurons:
                self.values[node] = self._neuron(node)
            elif node.op != "placeholder":
                self.values[node] = self._called(node)
            elif (place := self.trace.places.get(node)) is not None:
                self.values[node] = self._stored(place)
            else:
                self.values[node] = self.input
        value = self._output(self.trace.returned(self._read(output.args[0])))
        each_step = self.build.spiking or len(value.lead) == 2
        return self.build.finished(name, value.node, each_step=each_step)

    def _read(self, arguments: Any) -> Any:
        return map_arg(arguments, self.values.__getitem__)

    def _stored(self, place: str) -> StoredTensor:
        if place not in self.stored:
            raise UserError(f"{place}: a tensor that is neither a parameter nor a buffer")
        return StoredTensor(self.stored[place], place)

    def _neuron(self, node: fx.Node) -> ReadValue:
        neuron = self.neurons[node]
        value, path = self.values[neuron.source], _place(node)
        if not isinstance(value, ReadValue) or value.lead != self.build.leads[1]:
            raise UserError(f"{path}: it runs step by step over a value other than [T, N, ...]")
        for place in neuron.places.values():
            self._once(place, path)
        weights = {label: self._stored(place) for label, place in neuron.places.items()}
        call, attrs = CallSite(self.build, path), self.build.neuron(neuron.program)
        return call.add("neuron", value, attrs, **weights)

    def _once(self, place: str, path: str) -> None:
        self.uses[place] += 1
        if self.uses[place] > 1:
            raise UserError(
                f"{path}: {place} is used more than once, which danetc does not import; write "
                "`shared(...)` in a spec by hand"
            )

    def _output(self, found: Any) -> ReadValue:
        if isinstance(found, (tuple, list)):
            others: list[Any] = []
            map_aggregate(found[1:], others.append)
            if not any(isinstance(item, ReadValue) for item in others):  # states of neurons
                found = found[0]
        if not isinstance(found, ReadValue):
            raise UserError(
                f"the model returns a {type(found).__name__}, not one tensor that depends on its input; "
                "wrap it in a module that returns the logits"
            )
        if found != self.build.value(found.node, found.lead):
            raise UserError(
                "the model returns a value with its dimensions in another order than [N, C, H, W]"
            )
        if found.lead not in self.build.leads:
            raise UserError("the model returns T and N as one dimension; give them apart")
        return found

    def _called(self, node: fx.Node) -> Any:
        """Read a call of an operation or of a leaf."""
        args, kwargs = self._read((node.args, node.kwargs))
        name, path = operation(node), _place(node)
        if name == "leaf":
            return self._leaf(args[0], args[1], path)
        if (computed := self._computed(node)) is not None:
            return computed
        reader = READERS.get(name)
        if reader is None:
            raise UserError(f"{path}: danetc cannot read `{name}` of {_caller(node)[1]}. {HINT}")
        stored = [item for item in (*args, *kwargs.values()) if isinstance(item, StoredTensor)]
        if stored and reader not in TAKES_PARAMETERS:
            raise UserError(
                f"{stored[0].path}: a parameter or buffer that the model's own code reads; danetc "
                "reads those of layers"
            )
        call = CallSite(self.build, path, tuple(getattr(node.meta.get("val"), "shape", ())))
        key: tuple[Any, ...] = (node,)
        if reader in LAYERS and not any(item.changes for item in stored):
            key = (reader, *(item.path for item in stored))
        if key not in self.calls:
            for item in stored:
                self._once(item.path, path)
        return self._shared(key, lambda: read(reader, call, args, kwargs))

    def _leaf(self, x: Any, key: str, path: str) -> ReadValue:
        module = self.trace.leaves[key]
        if not isinstance(module, nn.Module):
            raise UserError(f"{path}: danetc cannot read `{module.name}` outside of a neuron")
        if not isinstance(x, ReadValue):
            raise UserError(f"{key}: its argument is not a value that depends on the input")
        reader = MODULES[full_name(module)]
        if (key,) in self.calls and reader is _spiking:
            raise UserError(
                f"{key}: called more than once with the same states, which danetc does not import; "
                "give each call its own neuron"
            )
        return self._shared((key,), lambda: reader(CallSite(self.build, key), module, x))  # type: ignore[no-any-return]

    def _shared(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Read a call, whose nodes share the weights of the first call with the same key."""
        build, before = self.build, len(self.build.nodes)
        result = make()
        made = range(before, len(build.nodes))
        first = self.calls.setdefault(key, made)
        if first != made:
            each = ([id for id in ids if id in build.weights] for ids in (first, made))
            for owner, id in zip(*each, strict=True):
                build.shares[id] = owner
                del build.weights[id]
        return result

    def _computed(self, node: fx.Node) -> StoredTensor | None:
        """Return a tensor that is computed from one parameter or buffer alone, or None."""
        (source, *others) = [self.values[item] for item in node.all_input_nodes] or [None]
        if others or not isinstance(source, StoredTensor):
            return None

        def change(tensor: Tensor) -> Any:
            args, kwargs = map_arg((node.args, node.kwargs), lambda item: tensor)
            return node.target(*args, **kwargs)  # type: ignore[operator]

        return source.changed(change)


def _caller(node: fx.Node) -> tuple[str, str]:
    """Return the path and the class of the module whose code calls an operation."""
    path, kind = [*node.meta.get("nn_module_stack", {"": ("", "the model")}).values()][-1]
    return path.partition("@")[0], kind  # "@2" is its third call


def _place(node: fx.Node) -> str:
    path, _ = _caller(node)
    return f"{path}, `{node.name}`" if path else f"`{node.name}`"
