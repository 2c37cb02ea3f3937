"""Names of std for what was found: asked of the equivalence, so that what differs gets none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.frontend.program import check_text
from danetc.compiler.importing.blocks import Weights, WrittenConnection, strides_of, weights_of
from danetc.compiler.importing.layers import BATCHNORM, Dialect
from danetc.compiler.importing.library import default_of, of_kind, standard
from danetc.compiler.importing.trees import call, constant, number
from danetc.compiler.ir.graph import Graph, Shape, unique
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.printer import print_program

PROBE = "probe"
SIZE = 64
"""Pixels of the maps on which declarations are compared."""


def _times(part: int, whole: int) -> int | None:
    return whole // part if part and whole % part == 0 else None


def _grouped(w: Sequence[Weights]) -> dict[str, int | None]:
    width = _times(4, w[2].width) if w[1].groups > 1 else None
    share = None if width is None else _times(width * w[1].groups, 64 * w[1].width)
    return {"width": width, "groups": w[1].groups, "group_width": share}


def _wide(w: Sequence[Weights]) -> dict[str, int | None]:
    width = _times(4, w[2].width)
    return {"width": width, "factor": None if width is None else _times(width, w[0].width)}


BLOCKS: Mapping[str, tuple[int, Callable[[Sequence[Weights]], dict[str, int | None]]]] = {
    "basic": (2, lambda w: {"width": w[0].width}),
    "bottleneck": (3, lambda w: {"width": w[0].width}),
    "grouped": (3, _grouped),
    "wide": (3, _wide),
    "single": (1, lambda w: {"width": w[0].width}),
    "dense": (2, lambda w: {"growth": w[1].width}),
}
"""Blocks of std: how many convolutions they have, and what their arguments then must be."""


@record(slots=False)
class NamedBlock:
    """A block by its name and arguments."""

    name: str
    arguments: tuple[tuple[str, int], ...]

    @property
    def expr(self) -> s.Expr:
        """The call, whose first argument needs no name; defaults of std are left out."""
        declaration = standard().get(self.name)
        defaults = {} if declaration is None else {
            param.name: default_of(param) for param in declaration.params
        }  # fmt: skip
        (_, first), *rest = self.arguments
        more = {name: constant(v) for name, v in rest if v != defaults.get(name)}
        return call(self.name, constant(first), **more)


@record(frozen=False)
class Naming:
    """Names that are given in a spec, and the declarations of its own that it has by now."""

    dialect: Dialect
    neurons: tuple[s.Declaration, ...]
    surrogate: s.Expr | None
    declarations: list[s.Declaration] = field(default_factory=list)
    _wirings: dict[tuple[WrittenConnection, int], str] = field(default_factory=dict)
    _weights: dict[object, tuple[tuple[Weights, ...], int | None] | None] = field(
        default_factory=dict
    )

    # -- asking the compiler -------------------------------------------------------------------------

    def probe(
        self, value: s.Expr, shape: Shape, declarations: Sequence[s.Declaration] = ()
    ) -> Graph | None:
        """The graph of `in -> value` on frames of a shape, or None where it is no network."""
        settings: list[s.Stmt] = [
            s.Define("input", None, call("events", *map(number, shape))),
            s.Define("steps", None, number(self.dialect.graph.steps)),
        ]
        if self.dialect.neuron is not None:
            settings.append(s.Define("neuron", None, self.dialect.neuron.call()))
        if self.dialect.norm != BATCHNORM:
            settings.append(s.Define("norm", None, self.dialect.norm))
        if self.surrogate is not None:
            settings.append(s.Define("surrogate", None, self.surrogate))
        settings.append(s.Define("out", None, s.Flow((s.Name("in"), value))))
        network = s.Declaration("network", PROBE, (), None, tuple(settings))
        own = [*self.neurons, *self.declarations, *declarations]
        program = s.Program((s.Use("std", False, None), *own, network))
        try:
            return check_text(print_program(program)).graphs[PROBE]
        except SpecError:
            return None

    def same(self, value: s.Expr, graph: Graph, declarations: Sequence[s.Declaration] = ()) -> bool:
        """Whether `in -> value` is a segment of the network."""
        found = self.probe(value, graph.input.value.shape, declarations)
        return found is not None and isinstance(compare_graphs(graph, found), Same)

    # -- blocks --------------------------------------------------------------------------------------

    def block(self, weights: tuple[Weights, ...], strided: int | None, channels: int) -> NamedBlock:
        """A block of std that has these weights, else a declaration of its own."""
        for name, (layers, solve) in BLOCKS.items():
            if layers != len(weights):
                continue
            found = solve(weights)
            given = {key: value for key, value in found.items() if value is not None}
            if len(given) == len(found) and self._is(
                NamedBlock(name, tuple(given.items())), weights, strided, channels
            ):
                return NamedBlock(name, tuple(given.items()))
        for item in self.declarations:
            if item.kind == "block" and item.body is None:
                named = NamedBlock(item.name, (("width", weights[0].width),))
                if self._is(named, weights, strided, channels):
                    return named
        return self._own_block(weights, strided)

    def _is(
        self, named: NamedBlock, weights: tuple[Weights, ...], strided: int | None, channels: int
    ) -> bool:
        key = named, channels
        if key not in self._weights:
            self._weights[key] = self._weights_of(named, channels)
        found = self._weights[key]
        return found is not None and found[0] == weights and strided in (None, found[1])

    def _weights_of(
        self, named: NamedBlock, channels: int
    ) -> tuple[tuple[Weights, ...], int | None] | None:
        """What a block is: its convolutions, and which of them has the stride."""
        bare = s.Declaration(
            "connection", "bare", (), None,
            (s.Define("each", None, s.Name("conv")), s.Define("out", None, s.Name("branch"))),
        )  # fmt: skip
        for stride in ({"stride": number(2)}, {}):
            stage = call("stage", named.expr, number(1), **stride)
            graph = self.probe(s.Via(stage, s.Name("bare")), (channels, SIZE, SIZE), [bare])
            if graph is not None:
                nodes = [node for node in graph.nodes.values() if node.op == "conv"]
                strides = strides_of(nodes)
                return tuple(map(weights_of, nodes)), None if strides is None else strides[1]
        return None

    def _own_block(self, weights: tuple[Weights, ...], strided: int | None) -> NamedBlock:
        name = self.unique("layers")
        unit = weights[0].width
        steps: list[s.Expr] = []
        for number_, item in enumerate(weights):
            width: s.Expr = s.Name("width")
            if item.width != unit and item.width % unit == 0:
                width = s.Binary("*", number(item.width // unit), width)
            elif item.width != unit:
                whole = _times(item.width, unit)
                width = number(item.width) if whole is None else s.Binary("/", width, number(whole))
            more: dict[str, s.Expr] = {"kernel": number(item.kernel)}
            if number_ == strided:
                more["stride"] = s.Name("stride")
            if item.padding != item.dilation * (item.kernel // 2):
                more["padding"] = number(item.padding)
            if item.groups != 1:
                more["groups"] = s.Name("width") if item.groups == unit else number(item.groups)
            if item.bias:
                more["bias"] = constant(True)
            if item.dilation != 1:
                more["dilation"] = number(item.dilation)
            steps.append(call("conv", width, **more))
        params = [s.Param("width", None)]
        if strided is not None:
            params.append(s.Param("stride", number(1)))
        value = s.Flow(tuple(steps)) if len(steps) > 1 else steps[0]
        self.declarations.append(s.Declaration("block", name, tuple(params), value, None))
        return NamedBlock(name, (("width", unit),))

    # -- connections ---------------------------------------------------------------------------------

    def connection(self, wiring: WrittenConnection, layers: int) -> str:
        """The connection of std that wires a block of so many convolutions so, else one of its own."""
        key = wiring, layers
        if key not in self._wirings:
            found = self.standard_connection(wiring, layers)
            if found is None:
                found = self.unique("residual" if wiring.joins else "chained")
                self.declarations.append(wiring.declaration(found))
            self._wirings[key] = found
        return self._wirings[key]

    def standard_connection(self, wiring: WrittenConnection, layers: int) -> str | None:
        """The connection of std that does the same to a block of so many convolutions, or None."""
        first = call("conv", s.Name("width"), stride=s.Name("stride"))
        steps = [first, *[call("conv", s.Name("width"))] * (layers - 1)]
        value = s.Flow(tuple(steps)) if layers > 1 else steps[0]
        params = (s.Param("width", None), s.Param("stride", number(1)))
        block = s.Declaration("block", "probed", params, value, None)
        own = wiring.declaration("own_wiring")
        changes = wiring.projection is not None or not wiring.joins
        shape = (4 if changes else 8, SIZE, SIZE)
        more = {"stride": number(2)} if changes else {}
        identical = 1 if wiring.identity is None and changes else 2
        stage = call("stage", call("probed", number(8)), number(identical), **more)
        wanted = self.probe(s.Via(stage, s.Name(own.name)), shape, [block, own])
        if wanted is None:
            return None
        for item in of_kind("connection"):
            if all(param.default is not None for param in item.params):
                found = self.probe(s.Via(stage, s.Name(item.name)), shape, [block])
                if found is not None and isinstance(compare_graphs(wanted, found), Same):
                    return item.name
        return None

    def unique(self, base: str) -> str:
        """A name that nothing has yet."""
        taken = {*standard(), *(item.name for item in (*self.neurons, *self.declarations))}
        return unique(base, taken.__contains__)

    def forget(self, before: int) -> None:
        """Drop the declarations that were made since there were so many."""
        gone = {item.name for item in self.declarations[before:]}
        del self.declarations[before:]
        self._wirings = {key: name for key, name in self._wirings.items() if name not in gone}
        self._weights.clear()
