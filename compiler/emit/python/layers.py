"""What the modules and functions of a standalone model are called, and constructed by."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.emit.python.forms import (
    Argument,
    Fixed,
    New,
    SizeArgument,
)
from danetc.compiler.emit.python.names import free, words
from danetc.compiler.emit.python.neurons import Neurons
from danetc.compiler.emit.python.prelude_parts import Prelude
from danetc.compiler.ir.graph import Attribute, Graph, Node
from danetc.compiler.ir.ops import OPS, TorchModule
from danetc.dsl.first_weights import read

_NEURON = "danetc.runtime.layers.neuron.Neuron"
_LABELS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv2d", "ConvTranspose2d"), ("in_channels", "channels")),
    "Linear": ("in_channels", "channels"),
    "GroupNorm": ("", "channels"),
    "Dropout": ("p",),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), ("channels",)),
    **dict.fromkeys(("MaxPool2d", "AvgPool2d"), ("kernel_size",)),
    **dict.fromkeys(
        (
            "StaticBatchNorm2d",
            "BorderedBatchNorm2d",
            "StepBatchNorm2d",
            "StepwiseBatchNorm2d",
            "CumulativeBatchNorm2d",
            "TemporalEffectiveBatchNorm2d",
        ),
        ("channels", "steps"),
    ),
    "DropPath": ("p", "rank"),
    "RunningMean": ("groups", "momentum"),
    "Scores": ("heads",),
    "KeysFirst": ("heads", "most"),
    "SampleDropout": ("p", "rank"),
    "ChannelLayerNorm": ("channels",),
    "TimeConv": ("in_channels", "channels", "kernel"),
    "TimeLinear": ("steps",),
    "MaskedTimeLinear": ("steps", "window"),
    "Learnt": ("", "channels"),
    "Delay": ("steps", "rank"),
}
_DEFAULTS: Mapping[str, dict[str, int]] = {
    "Conv2d": {"kernel_size": 0, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
}
"""What a layer has where nothing is said of it: blocks that differ in it have one form."""


class Layers:
    """Names at the top of the file: layers of the prelude, neurons, and those that were claimed."""

    needs = "torch alone"
    """What the file needs, and a line of its documentation on how it is used."""
    advice = ""
    sequences = True
    """A network of images takes other sequences too."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.prelude = Prelude()
        self.used: set[str] = {"load", "check_input"}
        self.names: set[str] = {*self.prelude.source, *self.prelude.imports, "Model"}
        self.neurons = Neurons(self.claim, self.used)
        self.framed: dict[tuple[str, int], str] = {}

    def steps(self, module: TorchModule) -> bool:
        """Whether a layer has a state from one time step to the next."""
        target = module.target.rpartition(".")[2]
        return module.target == _NEURON or "def step(" in self.prelude.source.get(target, "")

    def new(self, node: Node, module: TorchModule, stepping: bool = False) -> New:
        """What constructs the module of a node; ``stepping``: it runs step by step."""
        target = module.target.rpartition(".")[2]
        if module.target == _NEURON:
            program, sample = self.graph.program(node), node.value.shape
            return self.neurons.instance(program, stepping, sample, self.graph.steps)
        kwargs: dict[str, Attribute | tuple[int, int]] = dict(module.kwargs)
        text = self.called(node, module)
        if target == "GroupNorm":
            kwargs["rank"] = len(node.value.shape)
        if kwargs.get("rank") == 3:
            del kwargs["rank"]  # the prelude's default
        defaults = _DEFAULTS.get(target, {})
        labels = (*_LABELS.get(target, ()), *[""] * len(module.args))
        given = [*zip(labels, module.args, strict=False), *({**defaults, **kwargs}).items()]
        result = New(text, tuple((key, _argument(key, value, defaults)) for key, value in given))
        if isinstance(first := node.attrs.get("init"), str):
            self.used.add("drawn")
            row, numbers = read(first)
            named = ((key, Fixed(value)) for key, value in row.kwargs(numbers).items())
            return New("drawn", (("", result), ("", Fixed(row.torch)), *named))
        start = node.attrs["init"] if OPS[node.op].norm is not None else 1.0
        if start == 1.0:
            return result
        self.used.add("starting_at")
        return New("starting_at", (("", SizeArgument("init", float(start or 0))), ("", result)))

    def called(self, node: Node, module: TorchModule) -> str:
        """The text of what constructs a module."""
        namespace, _, target = module.target.rpartition(".")
        if target in self.prelude.source:
            self.used.add(target)
            return target
        if namespace == "torch.nn" and module.layout == "any":
            return f"nn.{target}"
        if namespace == "torch.nn" and module.layout == "flat":
            return self._framed(target, len(node.value.shape))
        raise ValueError(f"{words(node.path)}: {module.target} has no standalone form")

    def _framed(self, target: str, rank: int) -> str:
        """The class of a module of torch that knows no time and that the prelude does not have."""
        if (target, rank) not in self.framed:
            made = self.framed[target, rank] = self.claim(target)
            self.prelude.framed(made, target, rank)
        self.used.add(self.framed[target, rank])
        return self.framed[target, rank]

    def function(self, target: str) -> tuple[str, tuple[str, ...]]:
        """The text that calls a function of the table, and the names of its parameters."""
        namespace, _, label = target.rpartition(".")
        if namespace in ("torch", "torch.nn.functional"):
            return target.replace("torch.nn", "nn"), ()
        if label in self.prelude.source:
            self.used.add(label)
            return label, self.prelude.parameters[label]
        raise ValueError(f"{target} has no standalone form")

    def claim(self, base: str) -> str:
        """A name at the top of the file that is free, and no longer is."""
        found: str = free(base, self.names.__contains__)
        self.names.add(found)
        return found


def _argument(
    label: str, value: Attribute | tuple[int, int], defaults: Mapping[str, int]
) -> Argument:
    """An argument of a layer: a size may differ among blocks, all else is fixed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and label != "rank":
        return SizeArgument(label or "size", value, defaults.get(label))
    return Fixed(value)
