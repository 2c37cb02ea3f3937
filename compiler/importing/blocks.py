"""A part of a network as a block of weights inside of a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from danetc.compiler.importing.layers import Dialect, call_with
from danetc.compiler.importing.neurons import Unwritten
from danetc.compiler.importing.spine import Region, SingleStep
from danetc.compiler.importing.trees import call, constant, flow
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

Steps = tuple[s.Expr, ...]
CONV = s.Name("conv")
JOINED = frozenset({"add", "sub", "mul", "affine", "maximum", "minimum"})


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
    """A connection as text. What no block has shown so far is None: ``projection`` where no shape
    changes, ``identity`` where every one does."""

    each: Steps
    last: Steps
    projection: Steps | None
    identity: Steps | None
    out: s.Expr
    after: Steps = ()

    def merged(self, other: WrittenConnection) -> WrittenConnection | None:
        """One that both are, where there is one."""
        same = replace(self, projection=None, identity=None, last=())
        if same != replace(other, projection=None, identity=None, last=()):
            return None
        if self.last != other.last:
            return None
        projection, identity = self.projection, self.identity
        if None not in (projection, other.projection) and projection != other.projection:
            return None
        if None not in (identity, other.identity) and identity != other.identity:
            return None
        return replace(
            self,
            projection=other.projection if projection is None else projection,
            identity=other.identity if identity is None else identity,
        )

    @property
    def joins(self) -> bool:
        return self.out != s.Name("branch")

    def declaration(self, name: str) -> s.Declaration:
        lines = [s.Define("each", None, flow(*self.each))]
        if self.last != self.each:
            lines.append(s.Define("last", None, flow(*self.last)))
        if self.projection is not None and self.joins:
            lines.append(s.Define("projection", None, flow(*self.projection)))
        if self.identity and self.joins:
            lines.append(s.Define("identity", None, flow(*self.identity)))
        lines.append(s.Define("out", None, flow(self.out, *self.after)))
        return s.Declaration("connection", name, (), None, tuple(lines))


@record(slots=False)
class FoundBlock:
    """A block: its weights, at which of them its stride is (None where it has none), its wiring."""

    weights: tuple[Weights, ...]
    stride: int
    strided: int | None
    wiring: WrittenConnection
    entry: int
    exit: int


def weights_of(node: Node) -> Weights:
    names = ("width", "kernel", "padding", "groups", "bias", "dilation")
    return Weights(**{name: node.attrs[name] for name in names})  # type: ignore[arg-type]


def strides_of(nodes: Sequence[Node]) -> tuple[int, int | None] | None:
    """The stride of a block and which of its convolutions has it; None where several have one."""
    strided = [number for number, node in enumerate(nodes) if node.attrs["stride"] != 1]
    if len(strided) > 1:
        return None
    if not strided:
        return 1, None
    stride = nodes[strided[0]].attrs["stride"]
    assert isinstance(stride, int)
    return stride, strided[0]


def residual_block(dialect: Dialect, region: Region) -> FoundBlock | None:
    """A region as a branch and a shortcut that are joined, or None where it is something else."""
    graph = dialect.graph
    if any(id in graph.carries or id in graph.shares for id in region.nodes):
        return None
    found = _join(dialect, region)
    if found is None:
        return None
    out, ends = found
    ways = [_chain(graph, region, end) for end in ends]
    if any(way is None for way in ways):
        return None
    chains = [way for way in ways if way is not None]
    covered = sum(map(len, chains))
    shared = {node.id for chain in chains for node in chain}
    if covered != len(shared):
        return None
    branch, shortcut = sorted(chains, key=_weight, reverse=True)
    if ends[chains.index(branch)] == ends[1]:
        names = {ends[1]: s.Name("branch"), ends[0]: s.Name("shortcut")}
    else:
        names = {ends[0]: s.Name("branch"), ends[1]: s.Name("shortcut")}
    convs = [node for node in branch if OPS[node.op].weighted]
    strides = strides_of(convs) if all(node.op == "conv" for node in convs) and convs else None
    if strides is None:
        return None
    try:
        wired = around(dialect, branch)
        way = _shortcut(dialect, shortcut, strides[0], convs[-1])
    except Unwritten:
        return None
    if wired is None or way is None:
        return None
    changes = graph[region.entry].value.shape != graph[region.exit].value.shape
    wiring = WrittenConnection(
        *wired, way if changes else None, None if changes else way, out(names)
    )
    weights = tuple(map(weights_of, convs))
    return FoundBlock(weights, *strides, wiring, region.entry, region.exit)


def plain_block(dialect: Dialect, steps: Sequence[SingleStep], entry: int) -> FoundBlock | None:
    """One convolution and what follows it, with no shortcut."""
    nodes = [step.node for step in steps]
    strides = strides_of(nodes[:1])
    wired = around(dialect, nodes)
    if strides is None or wired is None:
        return None
    wiring = WrittenConnection(*wired, None, (), s.Name("branch"))
    return FoundBlock((weights_of(nodes[0]),), *strides, wiring, entry, nodes[-1].id)


def _weight(chain: Sequence[Node]) -> tuple[int, int, int]:
    """How surely a way is the branch: by its layers of weights, their kernels, its operations."""
    weighted = [node for node in chain if OPS[node.op].weighted]
    kernels = (node.attrs.get("kernel", 1) for node in weighted)
    return len(weighted), sum(size for size in kernels if isinstance(size, int)), len(chain)


Join = Callable[[Mapping[int, s.Expr]], s.Expr]


def _join(dialect: Dialect, region: Region) -> tuple[Join, list[int]] | None:
    """The join at the end of a region: how it is written of its two values, and these."""
    graph, nodes = dialect.graph, set(region.nodes)
    users = dict.fromkeys(nodes, 0)
    for id in nodes:
        for i in graph[id].inputs:
            if i in users:
                users[i] += 1
    inner: list[int] = []
    leaves: list[int] = []
    waiting = [region.exit]
    while waiting:
        id = waiting.pop()
        is_join = id in nodes and graph[id].op in JOINED
        if is_join and (id == region.exit or users[id] == 1):
            inner.append(id)
            waiting += reversed(graph[id].inputs)
        elif id not in leaves:
            leaves.append(id)
        else:
            return None
    if len(leaves) != 2 or any(graph[id].op == "parameter" for id in leaves):
        return None

    def out(names: Mapping[int, s.Expr]) -> s.Expr:
        values = dict(names)
        for id in sorted(inner, key=region.nodes.index):
            node = graph[id]
            operands = [values[i] for i in node.inputs]
            if node.op in {"add", "mul"} and len(operands) == 2:
                operands.sort(key=lambda item: item == s.Name("shortcut"))
            found = dialect.join(node, operands)
            assert found is not None
            values[id] = found
        return values[region.exit]

    return out, leaves


def _chain(graph: Graph, region: Region, end: int) -> list[Node] | None:
    """The operations from a region's entry to a value, one after the other."""
    found: list[Node] = []
    inside = set(region.nodes)
    id = end
    while id != region.entry:
        node = graph[id]
        if id not in inside or len(node.inputs) != 1 or node.op in JOINED:
            return None
        found.append(node)
        id = node.inputs[0]
    return found[::-1]


def around(dialect: Dialect, branch: Sequence[Node]) -> tuple[Steps, Steps] | None:
    """``each`` and ``last`` of a branch, or None where its convolutions stand in several ways."""
    parts: list[list[s.Expr]] = [[]]
    for node in branch:
        if OPS[node.op].weighted:
            parts.append([])
        else:
            parts[-1].append(dialect.call(node))
    before = parts[0]
    around: list[Steps] = []
    for number, part in enumerate(parts[1:], 1):
        last = number == len(parts) - 1
        cut = len(part) if last else len(part) - len(before)
        if cut < 0 or (not last and part[cut:] != before):
            return None
        around.append((*before, CONV, *part[:cut]))
    each, last_one = around[0], around[-1]
    return (each, last_one) if all(item == each for item in around[:-1]) else None


def _shortcut(dialect: Dialect, chain: Sequence[Node], stride: int, last: Node) -> Steps | None:
    """A shortcut as the text of a projection: its `conv` is 1x1 with the block's stride and width."""
    steps: list[s.Expr] = []
    for node in chain:
        if node.op == "conv":
            if node.attrs["width"] != last.attrs["width"]:
                return None
            fitting = {
                "kernel": 1, "stride": stride, "groups": 1, "bias": False, "dilation": 1, "init": None,
            }  # fmt: skip
            given = {name: value for name, value in node.attrs.items() if name in fitting}
            kernel, dilation = given["kernel"], given["dilation"]
            assert isinstance(kernel, int)
            assert isinstance(dilation, int)
            changed = {name: constant(v) for name, v in given.items() if v != fitting[name]}
            if node.attrs["padding"] != dilation * (kernel // 2):
                changed["padding"] = constant(node.attrs["padding"])
            steps.append(call("conv", **changed))
        elif OPS[node.op].weighted:
            return None
        elif OPS[node.op].window is not None and node.attrs.get("kernel") == stride > 1:
            more = {"stride": constant(node.attrs["stride"])}
            if node.attrs["stride"] == stride:
                more = {}
            if node.attrs.get("padding"):
                return None
            steps.append(call_with(node.op, {"kernel": s.Name("stride"), **more}))
        else:
            steps.append(dialect.call(node))
    return tuple(steps)
