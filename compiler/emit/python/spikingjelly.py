"""A network as a ``.py`` file of SpikingJelly's layers and neurons, as its users write them.

Weights have the names of danetc's model. SpikingJelly's neurons keep their states until
``functional.reset_net``. Its layers take all steps (mode ``"m"``, [T, N, ...]) or one (mode ``"s"``,
[N, ...]: a value that is the same at each step, or a step of a loop over time).
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.emit.names import words
from danetc.compiler.emit.python.constructors import Argument, New
from danetc.compiler.emit.python.layers import Layers
from danetc.compiler.emit.python.module import emit_python
from danetc.compiler.emit.python.text import constant
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchModule
from danetc.dsl.errors import UserError
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.spikingjelly import CLASSES, match_neuron

_LAYERS = frozenset(
    {"Conv2d", "ConvTranspose2d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"}
)
"""Layers that SpikingJelly has in both modes, under the names of torch."""
_DEFAULTS: Mapping[str, object] = {
    "v_threshold": 1.0,
    "v_reset": 0.0,
    "detach_reset": False,
    "decay_input": True,
}
_STATIC_NORM = "danetc.runtime.layers.norm.StaticBatchNorm2d"


def emit_spikingjelly(graph: Graph) -> str:
    """Return the text of the file. Raises UserError for a node that SpikingJelly cannot run."""
    return emit_python(graph, SpikingJellyLayers)


class SpikingJellyLayers(Layers):
    """Constructors of SpikingJelly's layers and neurons."""

    needs = "SpikingJelly 2"
    advice = (
        "functional.reset_net(model)  # of spikingjelly.activation_based, before the next batch"
    )
    sequences = False

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        modules = ("layer", "neuron", "surrogate")
        self.names |= {*modules}
        self.prelude.imports |= dict.fromkeys(modules, "spikingjelly.activation_based")

    def new(self, node: Node, module: TorchModule, stepping: bool = False) -> New:
        if node.op == "neuron":
            if stepping:
                raise UserError(
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
    return module.target.removeprefix("torch.nn.") in _LAYERS


def _with_mode(made: New, mode: str) -> New:
    """Set the step mode of a layer, which may be inside a helper."""
    if str(made.target).startswith("layer."):
        return New(made.target, (*made.args, ("step_mode", constant(mode))))
    args = ((key, _with_mode(part, mode) if isinstance(part, New) else part) for key, part in made.args)  # fmt: skip
    return New(made.target, tuple(args))


def _neuron(node: Node, program: NeuronProgram) -> New:
    found = match_neuron(program)
    if found is None:
        raise UserError(
            f"{words(node.path)}: SpikingJelly has no neuron with the equations and surrogate of "
            f"`{words(program.name)}`"
        )
    args: list[tuple[str, Argument]] = [
        (key, constant(value))
        for key, value in found.settings().items()
        if key not in _DEFAULTS or value != _DEFAULTS[key]
    ]
    shape = tuple((key, constant(value)) for key, value in found.shape)
    surrogate = New(f"surrogate.{found.surrogate}", shape)
    args += [("surrogate_function", surrogate), ("step_mode", constant("m"))]
    return New(f"neuron.{CLASSES[found.neuron]}", tuple(args))
