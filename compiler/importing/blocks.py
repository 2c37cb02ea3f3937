"""Parts of a network as blocks of weights inside of connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from danetc.compiler.importing.expressions import Unwritten, call, constant, flow
from danetc.compiler.importing.flows import Region
from danetc.compiler.importing.layers import JOINS, Dialect
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import whole
from danetc.dsl.record import record

Steps = tuple[str, ...]


@record(slots=False)
class Weights:
    """A convolution of a block, without its stride."""

    width: int
    kernel: int
    padding: int
    groups: int
    bias: bool
    dilation: int


@record(slots=False)
class WrittenConnection:
    """A connection as text, which joins a branch and a shortcut as ``out``, then takes the steps ``after``.

    ``projection`` is None if no block has shown it, as all keep their shape; ``identity`` if all change
    it.
    """

    each: Steps
    last: Steps
    projection: Steps | None = None
    identity: Steps | None = ()
    out: str = "branch"
    after: Steps = ()

    def merged(self, other: WrittenConnection) -> WrittenConnection | None:
        """Return the connection that both may be, or None."""
        ways: dict[str, Any] = {}
        for name in ("projection", "identity"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and mine != theirs:
                return None
            ways[name] = theirs if mine is None else mine
        merged = replace(self, **ways)
        return merged if merged == replace(other, **ways) else None

    @property
    def joins(self) -> bool:
        return self.out != "branch"

    def declaration(self, name: str) -> str:
        lines = {"each": self.each}
        if self.last != self.each:
            lines["last"] = self.last
        if self.projection is not None and self.joins:
            lines["projection"] = self.projection
        if self.identity and self.joins:
            lines["identity"] = self.identity
        lines["out"] = (self.out, *self.after)
        body = "; ".join(f"{key} = {flow(*steps)}" for key, steps in lines.items())
        return f"connection {name} {{ {body} }}"


@record(slots=False)
class FoundBlock:
    """A block: its weights, its stride and which of the weights has it (None without one), its wiring.

    It is made of the parts of the network from ``first`` up to ``end``.
    """

    weights: tuple[Weights, ...]
    stride: int
    strided: int | None
    wiring: WrittenConnection
    entry: int
    exit: int
    first: int = 0
    end: int = 0


def weights_of(node: Node) -> Weights:
    return Weights(**{name: node.attrs[name] for name in Weights.__annotations__})  # type: ignore[arg-type]


def strides_of(nodes: Sequence[Node]) -> tuple[int, int | None] | None:
    """Return the stride of convolutions and which of them has it; None if several have one."""
    strides = [whole(node.attrs, "stride") for node in nodes]
    places = [place for place, stride in enumerate(strides) if stride != 1]
    if len(places) > 1:
        return None
    return (strides[places[0]], places[0]) if places else (1, None)


def plain_block(dialect: Dialect, nodes: Sequence[Node], entry: int) -> FoundBlock | None:
    """Return the block of convolutions and steps in sequence, or None if they are none."""
    convs = [node for node in nodes if node.op == "conv"]
    strides = strides_of(convs) if convs else None
    if strides is None or any(n.op != "conv" and OPS[n.op].weighted for n in nodes):
        return None
    wired = _around(dialect, nodes)
    if wired is None:
        return None
    return FoundBlock(
        tuple(map(weights_of, convs)), *strides, WrittenConnection(*wired), entry, nodes[-1].id
    )


def residual_block(dialect: Dialect, region: Region) -> FoundBlock | None:
    """Return the block of a region that joins a branch and a shortcut, or None if it is none."""
    graph = dialect.graph
    if not graph.shares.keys().isdisjoint(region.nodes):
        return None
    ends = _leaves(graph, region, graph.users(), region.exit)
    if len(ends) != 2:
        return None
    ways = [_way(graph, region, end) for end in ends]
    chains = [(way, end) for way, end in zip(ways, ends, strict=True) if way is not None]
    nodes = [node.id for way, _ in chains for node in way]
    if len(chains) < 2 or len({*nodes}) < len(nodes):
        return None
    (branch, branch_end), (shortcut, shortcut_end) = sorted(chains, key=_weight, reverse=True)
    try:
        block = plain_block(dialect, branch, region.entry) if branch else None
        way = None if block is None else _shortcut(dialect, shortcut, block)
    except Unwritten:
        return None
    if block is None or way is None:
        return None
    changes = graph[region.entry].value.shape != graph[region.exit].value.shape
    names = {branch_end: "branch", shortcut_end: "shortcut"}
    wiring = replace(
        block.wiring,
        projection=way if changes else None,
        identity=None if changes else way,
        out=_joined(dialect, region.exit, names),
    )
    return replace(block, wiring=wiring, exit=region.exit)


def _weight(chain: tuple[Sequence[Node], int]) -> tuple[int, int, int]:
    """Return a sort key that is larger for a branch than for a shortcut."""
    weighted = [node for node in chain[0] if OPS[node.op].weighted]
    kernels = (whole(node.attrs, "kernel") for node in weighted if "kernel" in node.attrs)
    return len(weighted), sum(kernels), len(chain[0])


def _leaves(graph: Graph, region: Region, users: Mapping[int, Sequence[int]], id: int) -> list[int]:
    """Return the values that the joins at the end of a region read."""
    shared = id != region.exit and len(users[id]) > 1
    if id not in region.nodes or shared or graph[id].op not in JOINS - {"concat", "div"}:
        return [id]
    return [leaf for i in graph[id].inputs for leaf in _leaves(graph, region, users, i)]


def _joined(dialect: Dialect, id: int, names: dict[int, str]) -> str:
    """Return the expression that joins the branch and the shortcut at the end of a region."""
    if id in names:
        return names[id]
    node = dialect.graph[id]
    operands = [_joined(dialect, i, names) for i in node.inputs]
    if node.op in {"add", "mul"}:
        operands.sort(key="shortcut".__eq__)  # the branch first
    return dialect.value(node, operands)


def _way(graph: Graph, region: Region, end: int) -> list[Node] | None:
    """Return the operations in sequence from a region's entry to a value."""
    found: list[Node] = []
    id = end
    while id != region.entry:
        node = graph[id]
        if id not in region.nodes or len(node.inputs) != 1 or node.op in JOINS:
            return None
        found.append(node)
        id = node.inputs[0]
    return found[::-1]


def _around(dialect: Dialect, branch: Sequence[Node]) -> tuple[Steps, Steps] | None:
    """Return ``each`` and ``last`` of a branch; None if they differ between its convolutions."""
    parts: list[list[str]] = [[]]
    for node in branch:
        if node.op == "conv":
            parts.append([])
        else:
            parts[-1].append(dialect.step(node))
    before, *behind = parts
    around: list[Steps] = []
    for part in behind[:-1]:
        cut = len(part) - len(before)
        if cut < 0 or part[cut:] != before:
            return None
        around.append((*before, "conv", *part[:cut]))
    last = (*before, "conv", *behind[-1])
    each = around[0] if around else last
    return (each, last) if all(item == each for item in around) else None


def _shortcut(dialect: Dialect, chain: Sequence[Node], block: FoundBlock) -> Steps | None:
    """Write a shortcut as a projection, whose `conv` is 1x1 and has the block's stride and width."""
    steps: list[str] = []
    for node in chain:
        if node.op == "conv":
            here = weights_of(node)
            usual = {"kernel": 1, "stride": block.stride, "groups": 1, "bias": False, "dilation": 1}
            usual["padding"] = here.dilation * (here.kernel // 2)
            if here.width != block.weights[-1].width:
                return None
            changed = {
                name: constant(node.attrs[name])
                for name in usual
                if node.attrs[name] != usual[name]
            }
            steps.append(call("conv", **changed))
        elif OPS[node.op].weighted:
            return None
        elif OPS[node.op].window is not None and node.attrs.get("kernel") == block.stride > 1:
            if node.attrs.get("padding"):
                return None
            stride = node.attrs["stride"]
            more = {} if stride == block.stride else {"stride": constant(stride)}
            steps.append(call(node.op, "stride", **more))
        else:
            steps.append(dialect.step(node))
    return tuple(steps)
