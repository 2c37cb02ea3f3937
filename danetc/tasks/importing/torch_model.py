"""A PyTorch or SpikingJelly model as a graph of danetc's operations, with its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg

from danetc.dsl.neuron.spikingjelly import CLASSES
from danetc.errors import UserError
from danetc.tasks.importing import layouts
from danetc.tasks.importing.known_neurons import (
    ACTIVATIONS,
    LIBRARIES,
    library_neuron,
    program,
    spikingjelly_neuron,
)
from danetc.tasks.importing.layouts import READERS, TAKES_PARAMETERS
from danetc.tasks.importing.operations import (
    SAMPLES,
    STEPS,
    CallSite,
    Reader,
    ReadNetwork,
    ReadValue,
    SourceBuilder,
    StoredTensor,
    activation,
    adaptive_avg_pool2d,
    avg_pool2d,
    batch_norm,
    conv2d,
    dropout,
    function,
    gelu,
    linear,
    max_pool2d,
    read,
    same,
)
from danetc.tasks.importing.python_neurons import StepwiseNeuron, python_neurons
from danetc.tasks.importing.tracing import VALUE, traced

# -- modules that are read as one operation -------------------------------------------------------

NEURONS = tuple(CLASSES.values())
"""SpikingJelly's neurons that are read."""


def _group_norm(
    call: CallSite, x: ReadValue, groups: int, weight: Any, bias: Any, eps: float
) -> ReadValue:
    if eps != 1e-5 or weight is None:
        raise call.refuse("a group norm with another eps than 1e-5, or without weights")
    return call.add("groupnorm", x, {"groups": groups}, weight=weight, bias=bias)


def _norm(call: CallSite, x: ReadValue, mean: Any, variance: Any, weight: Any, bias: Any, counter: Any, eps: float) -> ReadValue:  # fmt: skip
    if mean is None:
        raise call.refuse("a batch norm without running statistics")
    if weight is None:
        like = mean.tensor
        weight, bias = StoredTensor(torch.ones_like(like)), StoredTensor(torch.zeros_like(like))
    return batch_norm(
        call, x, mean, variance, weight, bias, eps=eps, num_batches_tracked=counter
    )  # fmt: skip


def _upsample(call: CallSite, x: ReadValue, scale: Any, mode: str) -> ReadValue:
    factors = {*scale} if isinstance(scale, tuple) else {scale}
    if mode != "nearest" or len(factors) != 1 or None in factors:
        raise call.refuse("an upsampling that is not by the nearest pixel and a factor")
    factor = float(factors.pop())
    if not factor.is_integer():
        raise call.refuse(f"an upsampling by {factor}, which is not an integer")
    return call.add("upsample", x, {"scale": int(factor)})


def _droppath(call: CallSite, x: ReadValue, p: float, mode: str = "row") -> ReadValue:
    if mode != "row":
        raise call.refuse(f"stochastic depth of mode {mode}, which drops all samples alike")
    return call.add("droppath", x, {"p": float(p)}) if p else x


def _voting(call: CallSite, x: ReadValue, size: int) -> ReadValue:
    channels = call.shape(x)[0]
    if channels % size:
        raise call.refuse(f"{channels} votes are not a multiple of {size}")
    return call.add("mean_over", x, {"over": "channels", "groups": channels // size})


def _spiking(call: CallSite, x: ReadValue, module: Any, w: StoredTensor | None) -> ReadValue:
    program = spikingjelly_neuron(module, call.path)
    node = call.build.neuron(program, x.node, call.path, {} if w is None else {"w": w.tensor})
    call.build.places[node] = {} if w is None else {"w": w.of}
    return replace(x, node=node)


def _stateful(call: CallSite, x: ReadValue, module: Any) -> Any:
    """Read a neuron of snnTorch or Norse, whose state is left out."""
    program = library_neuron(module, full_name(type(module)), call.path)
    spikes = replace(x, node=call.build.neuron(program, x.node, call.path))
    return _with_state(module, spikes)


def _with_state(module: Any, spikes: Any, state: object = None) -> Any:
    """Return what a neuron of snnTorch or Norse returns, without its state."""
    return spikes if getattr(module, "init_hidden", False) and not module.output else (spikes, None)


_NORM = (_norm, "running_mean running_var weight bias num_batches_tracked eps")
MODULES: Mapping[str, tuple[Reader, str]] = {
    "torch.nn.modules.conv.Conv2d": (
        conv2d,
        "weight bias stride padding dilation groups padding_mode",
    ),
    "torch.nn.modules.linear.Linear": (linear, "weight bias"),
    "torch.nn.modules.normalization.LayerNorm": (
        layouts.layer_norm,
        "normalized_shape weight bias eps",
    ),
    "torch.nn.modules.activation.MultiheadAttention": (
        layouts.multihead_attention,
        "in_proj_weight in_proj_bias out_proj num_heads batch_first",
    ),
    "torch.nn.modules.batchnorm.BatchNorm2d": _NORM,
    "torch.nn.modules.batchnorm.BatchNorm1d": _NORM,
    "torch.nn.modules.normalization.GroupNorm": (_group_norm, "num_groups weight bias eps"),
    "torch.nn.modules.pooling.MaxPool2d": (
        max_pool2d,
        "kernel_size stride padding dilation ceil_mode return_indices",
    ),
    "torch.nn.modules.pooling.AvgPool2d": (
        avg_pool2d,
        "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    ),
    "torch.nn.modules.pooling.AdaptiveAvgPool2d": (adaptive_avg_pool2d, "output_size"),
    "torch.nn.modules.flatten.Flatten": (layouts.view, ""),
    "torch.nn.modules.dropout.Dropout": (dropout, "p"),
    "torch.nn.modules.linear.Identity": (same, ""),
    "torch.nn.modules.activation.ReLU": (function("relu"), ""),
    "torch.nn.modules.activation.GELU": (gelu, "approximate"),
    "torch.nn.modules.activation.Sigmoid": (function("sigmoid"), ""),
    "torch.nn.modules.activation.Tanh": (function("tanh"), ""),
    **{f"torch.nn.modules.activation.{name}": (activation(name), "") for name in ACTIVATIONS},
    "torch.nn.modules.upsampling.Upsample": (_upsample, "scale_factor mode"),
    "torchvision.ops.stochastic_depth.StochasticDepth": (_droppath, "p mode"),
    "timm.layers.drop.DropPath": (_droppath, "drop_prob"),
    "spikingjelly.activation_based.layer.dropout.Dropout": (
        lambda call, x, p: call.add("dropout", x, {"p": float(p), "per": "sample"}),
        "p",
    ),
    "spikingjelly.activation_based.layer.misc.VotingLayer": (_voting, "voting_size"),
    **{f"spikingjelly.activation_based.neuron.{name}": (_spiking, "w") for name in NEURONS},
    **dict.fromkeys(LIBRARIES, (_stateful, "")),
}
"""Readers and the attributes that are their arguments, by the full names of classes and of their base
classes."""

_LIBRARIES = ("torch.nn.modules.", "spikingjelly.activation_based.")


def full_name(kind: type) -> str:
    """Return the name of a class, that of SpikingJelly's neurons without their file."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    neurons = "spikingjelly.activation_based.neuron."
    return f"{neurons}{kind.__qualname__}" if name.startswith(neurons) else name


def row_of(module: nn.Module) -> tuple[Reader, str] | None:
    """Return the row of a module, or None.

    Subclasses count if they are of the libraries, or if they inherit ``forward``.
    """
    kind = type(module)
    kinds = kind.__mro__
    if not f"{kind.__module__}.".startswith(_LIBRARIES):
        kinds = tuple(k for k in kinds if getattr(k, "forward", None) is kind.forward)
    base = next((base for base in kinds if full_name(base) in MODULES), None)
    if base is None:
        return None
    row = MODULES[full_name(base)]
    derived = base is not kind and f"{kind.__module__}.".startswith(_LIBRARIES)
    return None if row[0] is _spiking and derived else row  # another neuron, made of a known one


def read_module(call: CallSite, module: Any, x: ReadValue) -> Any:
    """Read a module of the table; ``call.path`` is its path."""
    row = row_of(module)
    assert row is not None
    reader, attributes = row
    held = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    paths = {id(tensor): f"{call.path}.{name}" for name, tensor in held}
    given: list[Any] = [getattr(module, name, None) for name in attributes.split()]
    args = [StoredTensor(item, paths[id(item)]) if id(item) in paths else item for item in given]
    return reader(call, x, *([module] if reader in (_spiking, _stateful) else []), *args)


def is_leaf(module: nn.Module) -> bool:
    """Return True if a module is read as one operation, or is one that cannot be looked into."""
    if row_of(module) is not None:
        return True
    foreign = f"{type(module).__module__}.".startswith(
        ("torch.nn.modules.", "spikingjelly.activation_based.layer.", "spikingjelly.activation_based.neuron.")
    )  # fmt: skip
    return foreign and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def check_readable(module: nn.Module, path: str) -> None:
    """Raise UserError for a module without a row that cannot be looked into."""
    if is_leaf(module) and row_of(module) is None:
        raise UserError(
            f"{path}: danetc cannot read a {full_name(type(module))}. Replace it by modules that it "
            "can read (danetc.tasks.importing.torch_model.MODULES), or write its network by hand"
        )


# -- models ---------------------------------------------------------------------------------------

Takes = Literal["sequence", "step", "image"]
"""Input of a model: [T, N, ...]; the N samples of one step, T times; or images, once."""


def is_spiking(model: nn.Module) -> bool:
    """Return True if a model has neurons of SpikingJelly, snnTorch or Norse."""
    return any(
        type(module).__name__ in NEURONS or full_name(type(module)) in LIBRARIES
        for module in model.modules()
    )


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
        try:  # the model may repeat the image over time
            return reading("image")
        except UserError:
            raise error from None


def _read(
    model: nn.Module,
    name: str,
    shape: tuple[int, ...],
    requested: int | None,
    events: bool,
    takes: Takes,
) -> ReadNetwork:
    spiking, sequence = is_spiking(model), takes == "sequence"
    steps = requested or STEPS
    leading = (steps, 2) if sequence else (2,)
    copied = deepcopy(model).eval().to("meta")
    stateful = [each for each in copied.modules() if full_name(type(each)) in LIBRARIES]
    for module in stateful:
        module.forward = partial(_with_state, module)
    example = torch.empty((*leading, *shape), device="meta")
    graph = traced(copied, is_leaf, check_readable, example, stateful=bool(stateful))
    neurons = python_neurons(graph, model)
    counts = {neuron.steps for neuron in neurons.values()}
    if requested is None and not spiking and not events:
        steps = max(counts, default=1)
    if counts - {steps}:
        raise UserError(f"its neurons run for {min(counts)} time steps: --steps {min(counts)}")
    build = SourceBuilder(steps, shape, events)
    value = _Reader(build, model, sequence, neurons).read(graph)
    return build.finished(name, value.node, each_step=spiking or len(value.lead) == 2)


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
        samples = ((SAMPLES, 2, 1),)
        self.leads = (samples,), (build.time, samples)
        self.lead = self.leads[sequence]
        self.neurons = neurons
        self.stored = model.state_dict(keep_vars=True)
        self.values: dict[fx.Node, Any] = {}
        self.uses: Counter[str] = Counter()
        self.calls: dict[nn.Module, range] = {}

    def read(self, graph: fx.Graph) -> ReadValue:
        needed = self._needed(graph)
        for node in graph.nodes:
            if node.op == "placeholder":
                entry = None if self.values else self.build.value(self.build.entry, self.lead)
                self.values[node] = entry or node.meta[VALUE]
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
            raise UserError(f"{place}: a tensor that is neither a parameter nor a buffer")
        return self.stored[place]  # type: ignore[no-any-return]

    def _neuron(self, node: fx.Node) -> ReadValue:
        neuron = self.neurons[node]
        value, path = self.values[neuron.source], _place(node)
        if not isinstance(value, ReadValue) or value.lead != self.leads[1]:
            raise UserError(f"{path}: it runs step by step over a value other than [T, N, ...]")
        for place in neuron.places.values():
            self._once(place, path)
        weights = {label: self._tensor(place) for label, place in neuron.places.items()}
        id = self.build.neuron(neuron.program, value.node, path, weights)
        self.build.places[id] = {label: itemgetter(place) for label, place in neuron.places.items()}
        return replace(value, node=id)

    def _once(self, place: str, path: str) -> None:
        self.uses[place] += 1
        if self.uses[place] > 1:
            raise UserError(
                f"{path}: {place} is used more than once, which danetc does not import; write "
                "`shared(...)` in a spec by hand"
            )

    def _output(self, node: fx.Node) -> ReadValue:
        found = map_arg(node.args[0], lambda item: self.values[item])
        if isinstance(found, (tuple, list)):
            others: list[Any] = []
            map_aggregate(found[1:], others.append)
            if not any(isinstance(item, ReadValue) for item in others):  # states of neurons
                found = found[0]
        if not isinstance(found, ReadValue):
            kind = type(found).__name__.removeprefix("immutable_")  # of fx
            raise UserError(
                f"the model returns a {kind}, not one tensor that depends on its input; wrap it in a "
                "module that returns the logits"
            )
        if found != self.build.value(found.node, found.lead):
            raise UserError(
                "the model returns a value with its dimensions in another order than [N, C, H, W]"
            )
        if found.lead not in self.leads:
            raise UserError("the model returns T and N as one dimension; give them apart")
        return found

    def _call(self, node: fx.Node, path: str) -> CallSite:
        first = next(iter(node.all_input_nodes), node)
        before, after = (tuple(getattr(item.meta[VALUE], "shape", ())) for item in (first, node))
        return CallSite(self.build, path, before, after)

    def _module(self, node: fx.Node) -> Any:
        path = str(node.target)
        module = self.model.get_submodule(path)
        if module in self.calls and is_spiking(module):
            raise UserError(
                f"{path}: called more than once with the same states, which danetc does not import; "
                "give each call its own neuron"
            )
        value = self.values[node.args[0]] if node.args else None  # type: ignore[index]
        others = {item for item in node.all_input_nodes if self.values.get(item) is not None}
        if not isinstance(value, ReadValue) or len(others) > 1:
            raise UserError(f"{path}: its argument is not a single tensor")
        before = len(self.build.nodes)
        result = read_module(self._call(node, path), module, value)
        made = range(before, len(self.build.nodes))
        self.build.share(self.calls.setdefault(module, made), made)
        return result

    def _function(self, node: fx.Node) -> Any:
        args: Any = map_arg(node.args, lambda item: self.values[item])
        kwargs: Any = map_arg(node.kwargs, lambda item: self.values[item])
        if (computed := self._computed(node)) is not None:
            return computed
        path = _place(node)
        reader = READERS.get(node.target)
        if reader is None:
            name = getattr(node.target, "__name__", str(node.target))
            raise UserError(f"{path}: danetc cannot read `{name}`")
        stored = [item for item in (*args, *kwargs.values()) if isinstance(item, StoredTensor)]
        if stored and reader not in TAKES_PARAMETERS:
            raise UserError(
                f"{stored[0].path}: a parameter or buffer that the model's own code reads; danetc "
                "reads those of layers"
            )
        for item in stored:
            self._once(item.path, path)
        return read(reader, self._call(node, path), args, kwargs)

    def _computed(self, node: fx.Node) -> StoredTensor | None:
        """Return a tensor that is computed from one parameter or buffer alone, or None."""
        (source, *others) = [self.values[item] for item in node.all_input_nodes] or [None]
        if others or not isinstance(source, StoredTensor):
            return None

        def change(tensor: Tensor) -> Tensor:
            args: Any = map_arg(node.args, lambda item: tensor)
            kwargs: Any = map_arg(node.kwargs, lambda item: tensor)
            target: Any = node.target
            if node.op == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)  # type: ignore[no-any-return]
            return target(*args, **kwargs)  # type: ignore[no-any-return]

        return source.changed(change)


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
    nodes = {
        id: replace(node, op="neuron", attrs={"neuron": "ReLU"}) if node.op == "relu" else node
        for id, node in graph.nodes.items()
    }
    neurons = {**graph.neurons, "ReLU": program("ReLU", {}, None, {})}
    return replace(source, graph=replace(graph, nodes=nodes, neurons=neurons))
