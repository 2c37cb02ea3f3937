"""A network as a ``.py`` file of SpikingJelly's layers and neurons, as its users write them.

The names of weights are those of danetc's model, so that they fit. SpikingJelly's neurons remember
their states until ``functional.reset_net``, and its layers say whether they take all steps (``"m"``,
[T, N, ...]) or one (``"s"``, [N, ...]): what is the same at each step, and what a loop over time runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.emit.python.forms import Argument, Fixed, New
from danetc.compiler.emit.python.layers import Layers
from danetc.compiler.emit.python.module import emit_python
from danetc.compiler.emit.python.names import words
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchModule
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.spikingjelly import CLASSES, match_neuron

_LAYERS = frozenset(
    {"Conv2d", "ConvTranspose2d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"}
)
"""Those that take both kinds of values in SpikingJelly, under the names that torch has."""
_DEFAULTS: Mapping[str, object] = {
    "v_threshold": 1.0,
    "v_reset": 0.0,
    "detach_reset": False,
    "decay_input": True,
}
_STATIC_NORM = "danetc.runtime.layers.norm.StaticBatchNorm2d"


def emit_spikingjelly(graph: Graph) -> str:
    """The text of the file. Raises ValueError for what SpikingJelly has not, with its place."""
    return emit_python(graph, SpikingJellyLayers)


class SpikingJellyLayers(Layers):
    """What constructs layers and neurons there."""

    needs = "SpikingJelly 2"
    advice = (
        "functional.reset_net(model)  # of spikingjelly.activation_based, before the next batch"
    )
    sequences = False

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        modules = ("layer", "neuron", "surrogate")
        self.names |= {*modules}
        lines = (f"from spikingjelly.activation_based import {each}" for each in modules)
        self.prelude.imports = {**self.prelude.imports, **dict(zip(modules, lines, strict=True))}

    def new(self, node: Node, module: TorchModule, stepping: bool = False) -> New:
        if node.op == "neuron":
            if stepping:
                raise ValueError(
                    f"{words(node.path)}: SpikingJelly's neurons run all time steps at once, and "
                    "this one is in a loop over time"
                )
            return _neuron(node, self.graph.program(node))
        rank = len(node.value.shape)
        if module.target == _STATIC_NORM and rank == 3:
            kwargs = {key: value for key, value in module.kwargs.items() if key != "rank"}
            module = TorchModule("torch.nn.BatchNorm2d", module.args[:1], kwargs)
        made = super().new(node, module, stepping)
        if not _is_layer(module):
            return made
        return _with_mode(made, "m" if node.value.varies and not stepping else "s")

    def called(self, node: Node, module: TorchModule) -> str:
        if _is_layer(module):
            return f"layer.{module.target.rpartition('.')[2]}"
        return super().called(node, module)


def _is_layer(module: TorchModule) -> bool:
    namespace, _, target = module.target.rpartition(".")
    return namespace == "torch.nn" and target in _LAYERS


def _with_mode(made: New, mode: str) -> New:
    """A layer with its step mode; one within a helper is given it there."""
    if str(made.target).startswith("layer."):
        return New(made.target, (*made.args, ("step_mode", Fixed(mode))))
    args = ((key, _with_mode(part, mode) if isinstance(part, New) else part) for key, part in made.args)  # fmt: skip
    return New(made.target, tuple(args))


def _neuron(node: Node, program: NeuronProgram) -> New:
    found = match_neuron(program)
    if found is None or found.v_start != (found.v_reset or 0.0):
        raise ValueError(
            f"{words(node.path)}: SpikingJelly has no neuron with the equations and surrogate of "
            f"`{words(program.name)}`"
        )
    args: list[tuple[str, Argument]] = [
        (key, Fixed(value))
        for key, value in found.settings().items()
        if key not in _DEFAULTS or value != _DEFAULTS[key]
    ]
    shape = tuple((key, Fixed(value)) for key, value in found.shape)
    args.append(("surrogate_function", New(f"surrogate.{found.surrogate}", shape)))
    args.append(("step_mode", Fixed("m")))
    return New(f"neuron.{CLASSES[found.neuron]}", tuple(args))
