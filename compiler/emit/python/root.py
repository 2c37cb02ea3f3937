"""What the class of the whole network has beside its layers, and what the file says of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

from danetc.compiler.emit.names import dotted
from danetc.compiler.emit.python.layers import Layers
from danetc.compiler.emit.python.names import words
from danetc.compiler.emit.python.trees import call, constant, name
from danetc.compiler.ir.graph import Graph, Node, Value
from danetc.compiler.ir.ops import TorchFunction, TorchModule
from danetc.dsl.record import record

_HE_NORMAL = """
for module in self.modules():
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
"""
_HE_NORMAL_REST = _HE_NORMAL.replace("nn.Conv2d):", "nn.Conv2d) and not hasattr(module, 'drawn'):")


@record
class Root:
    """The class ``Model``, whose forward method has these ``parameters``.

    ``used`` collects the definitions of the prelude that it needs.
    """

    graph: Graph
    calls: Mapping[int, TorchModule | TorchFunction]
    used: set[str]
    parameters: Sequence[str]

    @property
    def _arguments(self) -> list[tuple[str, Node]]:
        """The inputs by the names of the arguments that they are."""
        return [*zip(self.parameters, self.graph.inputs, strict=True)]

    def docstring(self, layers: Layers) -> str:
        """The file's, which is made of such layers."""
        graph = self.graph
        takes = ", ".join(
            f"{label}: {self._takes(node, layers.sequences)}" for label, node in self._arguments
        )
        called = ", ".join(self.parameters)
        gives = sizes(graph, graph.outputs.values())
        return "\n".join(
            [
                f'"""{words(graph.name)}: a spiking network of {graph.steps} time steps, by danetc. '
                f"Needs {layers.needs}.",
                "",
                '    model = load("weights.safetensors")  # or Model(), with new weights',
                f"    y = model({called})  # {takes}; y: {gives}",
                *[f"    {layers.advice}"] * bool(layers.advice),
                '"""',
            ]
        )

    def _takes(self, node: Node, sequences: bool) -> str:
        size = ", ".join(map(str, node.value.shape))
        if node.value.varies:
            return f"[T, N, {size}]"
        also = f" or [T, N, {size}]" if sequences else ""
        return f"[N, {size}] (T = {self.graph.steps}){also}"

    def checks(self) -> list[ast.stmt]:
        """What looks at the inputs before anything is computed."""
        found: list[ast.stmt] = []
        for label, source in self._arguments:
            size = ast.Tuple([constant(n) for n in source.value.shape], ast.Load())
            check = call(name("check_input"), name("self"), name(label), size)
            if source.value.varies:
                check.keywords.append(ast.keyword("sequence", constant(True)))
            found.append(ast.Expr(check))
        if len(found) > 1:
            self.used.add("check_alike")
            leads: list[ast.expr] = [
                ast.Tuple([name(label), constant(len(source.value.shape))], ast.Load())
                for label, source in self._arguments
            ]
            steps = constant(self.graph.steps)
            found.append(ast.Expr(call(name("check_alike"), steps, *leads)))
        return found

    def init(self, *, drawn: bool) -> list[ast.stmt]:
        """The end of its constructor: layers that are others, and first weights. ``drawn`` says that
        some layers have chosen theirs.
        """
        found: list[ast.stmt] = []
        if self.graph.shares:
            self.used.add("share_layers")
            paths = [[constant(dotted(*n.scope, n.name)) for n in pair] for pair in self._shared()]
            pairs = ast.Dict([later for later, _ in paths], [first for _, first in paths])
            found.append(ast.Expr(call(name("share_layers"), name("self"), pairs)))
        if any(item.target == "torch.nn.Conv2d" for item in self.calls.values()):
            found += ast.parse(_HE_NORMAL_REST if drawn else _HE_NORMAL).body
        return found

    def _shared(self) -> list[tuple[Node, Node]]:
        """The layers that are other layers, with those."""
        graph = self.graph
        return [
            (graph[id], graph[owner])
            for id, owner in graph.shares.items()
            if isinstance(self.calls[id], TorchModule)
        ]


def sizes(graph: Graph, ids: Iterable[int]) -> str:
    """``[T, N, 64, 8, 8] and [N, 10]``."""
    return " and ".join(_dims(graph[id].value) for id in ids)


def _dims(value: Value) -> str:
    leading = ("T", "N") if value.varies else ("N",)
    return f"[{', '.join([*leading, *map(str, value.shape)])}]"
