"""Names of std for imported blocks and connections that are provably equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field

from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.frontend.program import check_text
from danetc.compiler.importing.blocks import Weights, WrittenConnection, strides_of, weights_of
from danetc.compiler.importing.expressions import (
    call,
    constant,
    defaults_of,
    flow,
    of_kind,
    standard,
)
from danetc.compiler.importing.flows import Define
from danetc.compiler.importing.layers import Dialect
from danetc.compiler.ir.graph import Graph, Shape, unique
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.record import record

SIZE = 64
"""Height and width of the maps on which declarations are compared."""


def _times(part: int | None, whole: int) -> int | None:
    return whole // part if part and whole % part == 0 else None


def _grouped(w: Sequence[Weights]) -> dict[str, int | None]:
    width = _times(4, w[2].width) if w[1].groups > 1 else None
    share = None if width is None else _times(width * w[1].groups, 64 * w[1].width)
    return {"width": width, "groups": w[1].groups, "group_width": share}


def _wide(w: Sequence[Weights]) -> dict[str, int | None]:
    width = _times(4, w[2].width)
    return {"width": width, "factor": _times(width, w[0].width)}


BLOCKS: Mapping[str, tuple[int, Callable[[Sequence[Weights]], dict[str, int | None]]]] = {
    "basic": (2, lambda w: {"width": w[0].width}),
    "bottleneck": (3, lambda w: {"width": w[0].width}),
    "grouped": (3, _grouped),
    "wide": (3, _wide),
    "single": (1, lambda w: {"width": w[0].width}),
    "dense": (2, lambda w: {"growth": w[1].width}),
}
"""Blocks of std: their number of convolutions, and a function that returns their arguments."""


@record(slots=False)
class NamedBlock:
    """A block of std, or a declared one, with its arguments."""

    name: str
    arguments: tuple[tuple[str, int], ...]

    @property
    def text(self) -> str:
        """Call of the block. Default arguments are omitted."""
        defaults = defaults_of(standard()[self.name]) if self.name in standard() else {}
        (_, first), *rest = self.arguments
        more = {name: constant(v) for name, v in rest if v != defaults.get(name)}
        return call(self.name, constant(first), **more)


@record(frozen=False)
class Naming:
    """Names in an imported spec, and the text of its own ``declarations`` by name."""

    dialect: Dialect
    surrogate: str | None
    declarations: dict[str, str]
    own_blocks: list[str] = field(default_factory=list)
    _connections: dict[tuple[WrittenConnection, int], str] = field(default_factory=dict)
    _weights: dict[object, tuple[tuple[Weights, ...], int | None] | None] = field(
        default_factory=dict
    )

    def spec(self, name: str, input: str, body: Iterable[Define], *declarations: str) -> str:
        """Return the text of a network with the settings of this one, and of the declarations."""
        dialect = self.dialect
        settings = {
            "input": input,
            "steps": constant(dialect.graph.steps),
            "neuron": None if dialect.neuron is None else dialect.neuron.call(),
            "surrogate": self.surrogate,
            "norm": None if dialect.norm == "batchnorm" else dialect.norm,
        }
        lines = [f"{key} = {text}" for key, text in (*settings.items(), *body) if text is not None]
        network = "\n".join([f"network {name} {{", *lines, "}"])
        own = (*self.declarations.values(), *declarations)
        return "\n\n".join(["use std", *own, network]) + "\n"

    def probe(self, value: str, shape: Shape, *declarations: str) -> Graph | None:
        """Return the graph of `in -> value` for frames of a shape, or None if it has errors."""
        frames = call("events", *map(str, shape))
        text = self.spec("probe", frames, [("out", flow("in", value))], *declarations)
        try:
            return check_text(text).graphs["probe"]
        except SpecError:
            return None

    def same(self, value: str, graph: Graph) -> bool:
        """True if `in -> value` equals a segment of the network."""
        found = self.probe(value, graph.input.value.shape)
        return found is not None and isinstance(compare_graphs(graph, found), Same)

    # -- blocks --------------------------------------------------------------------------------------

    def block(self, weights: tuple[Weights, ...], strided: int | None, channels: int) -> NamedBlock:
        """Return the block of std with these weights, or declare a block."""
        choices = [(name, solve(weights)) for name, (layers, solve) in BLOCKS.items() if layers == len(weights)]  # fmt: skip
        choices += [(name, {"width": weights[0].width}) for name in self.own_blocks]
        for name, arguments in choices:
            given = tuple((key, value) for key, value in arguments.items() if value is not None)
            named = NamedBlock(name, given)
            if len(given) == len(arguments) and self._is(named, weights, strided, channels):
                return named
        return self._own_block(weights, strided)

    def _is(
        self, named: NamedBlock, weights: tuple[Weights, ...], strided: int | None, channels: int
    ) -> bool:
        """True if a block has these weights, and its stride in layer ``strided``."""
        key = named, channels
        if key not in self._weights:
            self._weights[key] = None
            for stride in (", stride = 2", ""):
                stage = f"stage({named.text}, 1{stride}) via bare"
                bare = "connection bare { each = conv; out = branch }"
                graph = self.probe(f"({stage})", (channels, SIZE, SIZE), bare)
                if graph is not None:
                    nodes = [node for node in graph.nodes.values() if node.op == "conv"]
                    _, place = strides_of(nodes) or (1, None)
                    self._weights[key] = tuple(map(weights_of, nodes)), place
                    break
        found = self._weights[key]
        return found is not None and found[0] == weights and strided in (None, found[1])

    def _own_block(self, weights: tuple[Weights, ...], strided: int | None) -> NamedBlock:
        name = self.unique("layers")
        unit = weights[0].width
        steps = []
        for place, item in enumerate(weights):
            width = "width"
            if item.width % unit == 0 and item.width != unit:
                width = f"{item.width // unit} * width"
            elif item.width != unit:
                share = _times(item.width, unit)
                width = constant(item.width) if share is None else f"width / {share}"
            more = {"kernel": constant(item.kernel)}
            if place == strided:
                more["stride"] = "stride"
            if item.padding != item.dilation * (item.kernel // 2):
                more["padding"] = constant(item.padding)
            if item.groups != 1:
                more["groups"] = "width" if item.groups == unit else constant(item.groups)
            if item.bias:
                more["bias"] = "true"
            if item.dilation != 1:
                more["dilation"] = constant(item.dilation)
            steps.append(call("conv", width, **more))
        stride = "" if strided is None else ", stride = 1"
        self.declarations[name] = f"block {name}(width{stride}) = {flow(*steps)}"
        self.own_blocks.append(name)
        return NamedBlock(name, (("width", unit),))

    # -- connections ---------------------------------------------------------------------------------

    def connection(self, wiring: WrittenConnection, layers: int) -> str:
        """Return the connection of std with this wiring, or declare a connection.

        ``layers`` is the number of convolutions of a block."""
        key = wiring, layers
        if key not in self._connections:
            found = self.standard_connection(wiring, layers)
            if found is None:
                found = self.unique("residual" if wiring.joins else "chained")
                self.declarations[found] = wiring.declaration(found)
            self._connections[key] = found
        return self._connections[key]

    def standard_connection(self, wiring: WrittenConnection, layers: int) -> str | None:
        """Return the connection of std that has the same effect on a block, or None."""
        steps = ["conv(width, stride = stride)", *["conv(width)"] * (layers - 1)]
        block = f"block probed(width, stride = 1) = {flow(*steps)}"
        changes = wiring.projection is not None or not wiring.joins
        shape = (4 if changes else 8, SIZE, SIZE)
        count = 1 if wiring.identity is None and changes else 2
        stage = f"stage(probed(8), {count}{', stride = 2' if changes else ''})"
        own = wiring.declaration("own_wiring")
        wanted = self.probe(f"({stage} via own_wiring)", shape, block, own)
        if wanted is None:
            return None
        for item in of_kind("connection"):
            if all(param.default is not None for param in item.params):
                found = self.probe(f"({stage} via {item.name})", shape, block)
                if found is not None and isinstance(compare_graphs(wanted, found), Same):
                    return item.name
        return None

    def unique(self, base: str) -> str:
        return unique(base, lambda name: name in standard() or name in self.declarations)
