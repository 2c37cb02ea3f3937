"""The backend ``spikingjelly``: its neurons where it has the one that is declared."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from danetc.compiler.emit.emitter import Emitter
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchFunction, TorchModule
from danetc.dsl.neuron.spikingjelly import match_neuron
from danetc.runtime.layers.spikingjelly import require

NEURON = "danetc.runtime.layers.spikingjelly.SpikingJellyNeuron"


class SpikingJellyEmitter(Emitter):
    """Neurons of SpikingJelly; one notice names those that stay ours.

    Raises ImportError where SpikingJelly 2 is missing.
    """

    def __init__(self, graph: Graph, *args: Any) -> None:
        require()
        super().__init__(graph, *args)
        nodes = [node for node in graph.nodes.values() if node.op == "neuron"]
        programs = {node.attrs["neuron"]: graph.program(node) for node in nodes}
        self.ours = {key for key, program in programs.items() if match_neuron(program) is None}
        if self.ours:
            names = ", ".join(sorted(f"`{programs[key].name}`" for key in self.ours))
            warnings.warn(
                f"SpikingJelly has no neuron with the equations and surrogate of {names}: "
                "danetc's own runs in its place",
                RuntimeWarning,
                stacklevel=3,
            )

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        if node.op != "neuron" or node.attrs["neuron"] in self.ours:
            return call
        assert isinstance(call, TorchModule)
        return replace(call, target=NEURON)
