"""A graph as the text of a spec, with the stages, blocks and connections that are found in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs
from danetc.compiler.frontend.program import check_text
from danetc.compiler.importing.backbones import Items, named_backbone, named_blocks
from danetc.compiler.importing.expressions import Unwritten, call, flow
from danetc.compiler.importing.flows import (
    Define,
    Region,
    chain_of,
    dataflow,
    is_implied,
    literal_blocks,
)
from danetc.compiler.importing.layers import FIRED, Dialect, plain_step
from danetc.compiler.importing.naming import Naming
from danetc.compiler.importing.neurons import Described, describe_neuron, describe_surrogate
from danetc.compiler.importing.stages import Piece, StageOfBlocks, stages_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.simplify import remove_dead
from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile


@record(slots=False)
class Imported:
    """A network as a spec.

    Attributes:
        graph: the graph that the spec lowers to.
        weights: nodes of the source, each with the node of ``graph`` that has its weights.
        own: declarations of the spec.
    """

    network: str
    text: str
    graph: Graph
    weights: tuple[tuple[int, int], ...]
    stages: tuple[StageOfBlocks, ...]
    own: tuple[str, ...]

    @property
    def lines(self) -> int:
        """Number of lines that are not blank."""
        return sum(bool(line.strip()) for line in self.text.splitlines())


def import_graph(graph: Graph, name: str) -> Imported:
    """Return the spec of a graph as written (before the passes), which is proved to be equivalent.

    The graph has one input and one output. Raises Unwritten if there is no text for a part
    of it, or if no text is proved to be the same.
    """
    graph = remove_dead(replace(graph, name=name))
    reason = ""
    for form in ("values",) if graph.carries else ("stages", "blocks", "values"):
        writer = _Writer(graph)
        try:
            if form == "values":
                return writer.finished(writer.in_values())
            return writer.finished(writer.in_pieces(stages=form == "stages"))
        except Unwritten as error:
            reason = str(error)
    raise Unwritten(reason)


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        programs = graph.neurons
        nodes = graph.nodes.values()
        used = Counter(str(node.attrs["neuron"]) for node in nodes if node.op == "neuron")
        neurons, own = _described("neuron", {key: describe_neuron(programs[key]) for key in used})
        slopes = {key: slope for key in used if (slope := programs[key].surrogate) is not None}
        surrogates, own_slopes = _described(
            "surrogate", {key: describe_surrogate(item) for key, item in slopes.items()}
        )
        surrogate = _most_used(surrogates, used)
        others = {key: item.call() for key, item in surrogates.items() if item != surrogate}
        norms = Counter(plain_step(node) for node in nodes if OPS[node.op].norm is not None)
        norm = norms.most_common(1)[0][0] if norms else "batchnorm"
        self.dialect = Dialect(graph, _most_used(neurons, used), neurons, others, norm)
        fired = f"block {FIRED}(neuron) {{ out = in -> neuron }}"
        declared = {**own_slopes, **own, FIRED: fired}
        self.naming = Naming(
            self.dialect, None if surrogate is None else surrogate.call(), declared
        )
        self.stages: list[StageOfBlocks] = []

    # -- bodies --------------------------------------------------------------------------------------

    def in_pieces(self, *, stages: bool) -> list[Define]:
        """Return the network as stem, stages and head, or as a single flow."""
        graph = self.graph
        source = graph.input.id
        users = graph.users()[source]
        if len(users) == 1 and graph[users[0]].op == "repeat":
            source = users[0]
        (target,) = graph.outputs.values()
        parts = chain_of(graph, source, target)
        pieces: list[Piece] = stages_of(self.naming, parts, source) if stages else [*parts]
        self.stages = [piece for piece in pieces if isinstance(piece, StageOfBlocks)]
        items = self._items(pieces)
        places = [i for i, (piece, _) in enumerate(items) if isinstance(piece, StageOfBlocks)]
        if not places:
            return [("out", flow("in", *(text for _, text in items)))]
        end, backbone = named_backbone(self.naming, graph, items, places[0], places[-1])
        stem = flow(*(text for _, text in items[: places[0]]))
        head = flow(*(text for _, text in items[end + 1 :]))
        return [item for item in (("stem", stem), ("stages", backbone), ("head", head)) if item[1]]

    def _items(self, pieces: Sequence[Piece]) -> Items:
        regions = [piece for piece in pieces if isinstance(piece, Region)]
        calls, declared = literal_blocks(self.dialect, regions, self.naming.unique)
        self.naming.declarations |= declared
        blocks = iter(calls)
        items: list[tuple[Piece, str]] = []
        for piece, after in zip(pieces, (*pieces[1:], None), strict=True):
            match piece:
                case Node():
                    if not is_implied(piece, [after] if isinstance(after, Node) else ()):
                        items.append((piece, self.dialect.step(piece)))
                case Region():
                    items.append((piece, next(blocks)))
                case StageOfBlocks():
                    items.append((piece, piece.text))
        return named_blocks(self.naming, self.graph, _repeated(items))

    def in_values(self) -> list[Define]:
        """Write the network as definitions of values."""
        (target,) = self.graph.outputs.values()
        return dataflow(self.dialect, self.graph.nodes, {self.graph.input.id: "in"}, target)

    # -- the spec ------------------------------------------------------------------------------------

    def finished(self, body: Sequence[Define]) -> Imported:
        """Return the spec. Raises Unwritten if it is not proved to be the same network."""
        name, source = self.graph.name, self.graph.input
        sizes = map(str, source.value.shape)
        given = call("events" if source.attrs["events"] else "image", *sizes)
        reporter = Reporter()
        program = parse(SourceFile("import", self.naming.spec(name, given, body)), reporter)
        if reporter.diagnostics:
            raise Unwritten(
                f"the result would not be a valid spec: {reporter.diagnostics[0].message}"
            )
        kept = _needed(program)
        text = format_source(kept)
        try:
            graph = check_text(text, f"{name}.danet").graphs[name]
        except SpecError as error:
            message = error.diagnostics[0].message
            raise Unwritten(f"the result would not be a valid spec: {message}") from error
        found = compare_graphs(self.graph, graph)
        if isinstance(found, Different):
            raise Unwritten(f"the result would be a different network: {found.reason}")
        assert isinstance(found, Same)
        declared = tuple(item.name for item in kept.declarations if item.kind != "network")
        return Imported(name, text, graph, found.weights, tuple(self.stages), declared)


def _described(
    kind: str, items: Mapping[str, Described]
) -> tuple[dict[str, Described], dict[str, str]]:
    """Give neurons or surrogates that are not of std names of their own; return these declarations too."""
    own: dict[str, Described] = {}
    found = {}
    for key, item in items.items():
        if item.body and item.body not in own:
            own[item.body] = replace(item, name=f"{item.name}{len(own) + 1 if own else ''}")
        found[key] = own[item.body] if item.body else item
    declared = {item.name: f"{kind} {item.name} {{\n{item.body}\n}}" for item in own.values()}
    return found, declared


def _most_used(items: Mapping[str, Described], used: Mapping[str, int]) -> Described | None:
    counts: Counter[Described] = Counter()
    for key, item in items.items():
        counts[item] += used[key]
    return counts.most_common(1)[0][0] if counts else None


def _repeated(items: Items) -> Items:
    """Return a stage for a sequence of equal regions."""
    found: list[tuple[Piece, str, int]] = []
    for piece, text in items:
        if found and isinstance(piece, Region) and found[-1][1] == text:
            found[-1] = (found[-1][0], text, found[-1][2] + 1)
        else:
            found.append((piece, text, 1))
    return [
        (piece, text if count == 1 else f"stage({text}, {count})") for piece, text, count in found
    ]


def _needed(program: s.Program) -> s.Program:
    """Drop the declarations that the network does not read, not even through others."""
    *others, network = program.items
    read = {node.id for node in s.walk(network) if isinstance(node, s.Name)}
    kept: list[s.Use | s.Declaration] = [network]
    for item in reversed(others):
        if isinstance(item, s.Use) or item.name in read:
            kept.insert(0, item)
            read |= {node.id for node in s.walk(item) if isinstance(node, s.Name)}
    return replace(program, items=tuple(kept))
