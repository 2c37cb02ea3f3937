"""Constructors and names of the layers and functions of a standalone model."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.emit.names import free, words
from danetc.compiler.emit.python.constructors import Argument, New, Size
from danetc.compiler.emit.python.neurons import Neurons
from danetc.compiler.emit.python.prelude_parts import Prelude
from danetc.compiler.emit.python.text import constant
from danetc.compiler.ir.graph import Attribute, Graph, Node
from danetc.compiler.ir.ops import OPS, TorchModule
from danetc.dsl.first_weights import read

_NEURON = "danetc.runtime.layers.neuron.Neuron"
_NAMES: Mapping[tuple[str, ...], str] = {
    ("in_channels", "channels"): "Conv2d ConvTranspose2d Linear",
    ("in_channels", "channels", "kernel"): "TimeConv",
    ("", "channels"): "GroupNorm Learnt",
    ("channels",): "BatchNorm1d BatchNorm2d ChannelLayerNorm",
    ("channels", "steps"): "StaticBatchNorm2d BorderedBatchNorm2d StepBatchNorm2d "
    "StepwiseBatchNorm2d CumulativeBatchNorm2d TemporalEffectiveBatchNorm2d",
    ("p", "rank"): "Dropout DropPath SampleDropout",
    ("kernel_size",): "MaxPool2d AvgPool2d",
    ("groups", "momentum"): "RunningMean",
    ("law", "evaluate"): "Random",
    ("law", "evaluate", "rank"): "SampleRandom",
    ("heads", "most"): "Scores KeysFirst",
    ("steps", "window"): "TimeLinear MaskedTimeLinear",
    ("steps", "rank"): "Delay",
}
"""Layers by the names of their first arguments; an empty name is not written."""
_LABELS = {layer: names for names, layers in _NAMES.items() for layer in layers.split()}
_CONV: Mapping[str, int] = {"kernel_size": 0, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Defaults of a convolution, which gives convolutions of all blocks one form."""


class Layers:
    """The names at the top of the file: layers of the prelude, neurons, and claimed names."""

    needs = "torch alone"
    """Requirements of the file."""
    advice = ""
    """A line of its documentation on how to use the network."""
    sequences = True
    """True if a network of images takes sequences as well."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.prelude = Prelude()
        self.used: set[str] = {"load", "check_input"}
        self.names: set[str] = {*self.prelude.definitions, *self.prelude.imports, "Model"}
        self.neurons = Neurons(self.claim, self.used)
        self.framed: dict[tuple[str, int], str] = {}

    def steps(self, module: TorchModule) -> bool:
        """True if a layer carries a state from one time step to the next."""
        target = module.target.rpartition(".")[2]
        copied = self.prelude.definitions.get(target)
        return module.target == _NEURON or (copied is not None and "def advance(" in copied.text)

    def new(self, node: Node, module: TorchModule, stepping: bool = False) -> New:
        """Return the constructor call of a module, which is ``stepping`` in a loop over time."""
        target = module.target.rpartition(".")[2]
        if module.target == _NEURON:
            program, sample = self.graph.program(node), node.value.shape
            return self.neurons.instance(program, stepping, sample, self.graph.steps)
        kwargs: dict[str, Attribute | tuple[int, int]] = dict(module.kwargs)
        text = self.called(node, module)
        if kwargs.get("rank") == 3:
            del kwargs["rank"]  # the default
        defaults = _CONV if target == "Conv2d" else {}
        labels = (*_LABELS.get(target, ()), *[""] * len(module.args))
        sizes = () if OPS[node.op].opaque else module.args
        given = [*zip(labels, sizes, strict=False), *{**defaults, **kwargs}.items()]
        args: list[tuple[str, Argument]] = []
        for label, value in given:
            is_size = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_size and label != "rank":
                args.append((label, Size(label or "size", value, defaults.get(label))))  # type: ignore[arg-type]
            else:
                args.append((label, constant(value)))
        result = New(text, tuple(args))
        if isinstance(first := node.attrs.get("init"), str) and "law" not in module.kwargs:
            self.used.add("drawn")
            row, numbers = read(first)
            named = ((key, constant(value)) for key, value in row.kwargs(**numbers).items())
            return New("drawn", (("", result), ("", constant(row.torch)), *named))
        start = node.attrs["init"] if OPS[node.op].norm is not None else 1.0
        if start == 1.0:
            return result
        self.used.add("starting_at")
        return New("starting_at", (("", Size("init", float(start or 0))), ("", result)))

    def called(self, node: Node, module: TorchModule) -> str:
        """Return the text of the constructor of a module."""
        namespace, _, target = module.target.rpartition(".")
        if OPS[node.op].opaque:
            file, _, name = str(module.args[0]).rpartition(":")
            self.needs = f"torch and {words(file)}"
            self.used.add("class_in")
            base = f"class_in({constant(file)}, {constant(name)})"
            return self._framed(base, len(node.value.shape), name)
        if namespace == "torch.nn":
            flat = module.layout == "flat"
            base = f"nn.{target}"
            return self._framed(base, len(node.value.shape), target) if flat else base
        if target in self.prelude.definitions:
            self.used.add(target)
            return target
        raise ValueError(f"{words(node.path)}: {module.target} has no standalone form")

    def _framed(self, base: str, rank: int, name: str) -> str:
        """The class that applies a module of torch to each frame."""
        if (base, rank) not in self.framed:
            made = self.framed[base, rank] = self.claim(name)
            self.prelude.add_frames(made, base, rank)
        self.used.add(self.framed[base, rank])
        return self.framed[base, rank]

    def function(self, target: str) -> tuple[str, tuple[str, ...]]:
        """Return the text of a function, and the names of its parameters."""
        namespace, _, label = target.rpartition(".")
        if namespace in ("torch", "torch.nn.functional"):
            return target.replace("torch.nn", "nn"), ()
        if label in self.prelude.definitions:
            self.used.add(label)
            return label, self.prelude.definitions[label].parameters
        raise ValueError(f"{target} has no standalone form")

    def claim(self, base: str) -> str:
        """Reserve a free name at the top of the file."""
        found: str = free(base, self.names.__contains__)
        self.names.add(found)
        return found
