"""A graph as the text of a spec: stages, blocks and connections found in it, by std's names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs
from danetc.compiler.frontend.program import check_text
from danetc.compiler.importing.backbones import named_backbone, named_layers
from danetc.compiler.importing.flows import dataflow
from danetc.compiler.importing.layers import BATCHNORM, FIRED, Dialect
from danetc.compiler.importing.library import standard
from danetc.compiler.importing.lines import lines
from danetc.compiler.importing.literal import literal_blocks
from danetc.compiler.importing.naming import Naming
from danetc.compiler.importing.neurons import (
    Described,
    Unwritten,
    describe_neuron,
    describe_surrogate,
)
from danetc.compiler.importing.spine import Region, SingleStep, spine
from danetc.compiler.importing.stages import Piece, StageOfBlocks, stages_of
from danetc.compiler.importing.trees import call, number, shown
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.dead import RemoveDead
from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source, print_program
from danetc.dsl.syntax.source import SourceFile


@record(slots=False)
class FoundStage:
    """A line of the report: a stage, and what of it std has."""

    text: str
    blocks: int
    block: str
    connection: str
    rule: str
    own: tuple[str, ...]


@record(slots=False)
class Imported:
    """A network as a spec. ``graph`` is what the spec lowers to; ``weights`` pairs nodes of the source
    with those of ``graph`` that have their weights."""

    network: str
    text: str
    graph: Graph
    weights: tuple[tuple[int, int], ...]
    stages: tuple[FoundStage, ...]
    own: tuple[str, ...]

    @property
    def lines(self) -> int:
        """Lines with something on them."""
        return sum(bool(line.strip()) for line in self.text.splitlines())


def import_graph(graph: Graph, name: str) -> Imported:
    """The spec of a graph as written (before the passes), named ``name``.

    What is returned is proved equivalent. Raises Unwritten where there is no text for a part of the
    network, or where nothing that was written is proved to be the same.
    """
    graph = RemoveDead().apply(replace(graph, name=name))
    reason = ""
    for write in (_with_stages, _with_blocks, _as_dataflow):
        writer = _Writer(graph)
        try:
            pieces = write(writer)
        except Unwritten as error:
            reason = str(error)
            continue
        found = writer.finished(pieces)
        if isinstance(found, Imported):
            return found
        reason = found
    raise Unwritten(reason)


def _with_stages(writer: _Writer) -> list[s.Stmt]:
    return writer.in_pieces(stages=True)


def _with_blocks(writer: _Writer) -> list[s.Stmt]:
    return writer.in_pieces(stages=False)


def _as_dataflow(writer: _Writer) -> list[s.Stmt]:
    return writer.in_values()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        programs = graph.neurons
        used = Counter(
            str(node.attrs["neuron"]) for node in graph.nodes.values() if node.op == "neuron"
        )
        neurons, own = _described({key: describe_neuron(programs[key]) for key in programs})
        slopes = {key: item.surrogate for key, item in programs.items() if key in used}
        surrogates, own_slopes = _described(
            {key: describe_surrogate(item) for key, item in slopes.items() if item is not None}
        )
        main = _most_used(neurons, {k: n for k, n in used.items() if not programs[k].inputs})
        self.surrogate = _most_used(surrogates, used)
        others = {key: item.call() for key, item in surrogates.items() if item != self.surrogate}
        dialect = Dialect(graph, main, neurons, others)
        norms = Counter(
            dialect.plain_norm(node)
            for node in graph.nodes.values()
            if OPS[node.op].norm is not None
        )
        norm = norms.most_common(1)[0][0] if norms else BATCHNORM
        self.naming = Naming(
            replace(dialect, norm=norm),
            (*own_slopes, *own, _FIRED),
            None if self.surrogate is None else self.surrogate.call(),
        )
        self.dialect = self.naming.dialect
        self.stages: list[StageOfBlocks] = []

    # -- bodies --------------------------------------------------------------------------------------

    def in_pieces(self, *, stages: bool) -> list[s.Stmt]:
        """The network as its stem, stages and head; Unwritten where not all goes through one value."""
        graph = self.graph
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise Unwritten("a network with several inputs or outputs has no stem and no head")
        source = graph.input.id
        users = graph.users()[source]
        if len(users) == 1 and graph[users[0]].op == "repeat":
            source = users[0]
        (target,) = graph.outputs.values()
        parts = spine(graph, source, target)
        pieces: list[Piece] = stages_of(self.naming, parts, source) if stages else [*parts]
        self.stages = [piece for piece in pieces if isinstance(piece, StageOfBlocks)]
        items = self._items(pieces)
        places = [i for i, (piece, _) in enumerate(items) if isinstance(piece, StageOfBlocks)]
        if not places:
            return [*lines("out", [s.Name("in"), *(expr for _, expr in items)])]
        return [*self._in_stages(pieces, items, places[0], places[-1])]

    def _in_stages(
        self, pieces: Sequence[Piece], items: list[tuple[Piece, s.Expr]], first: int, last: int
    ) -> Iterator[s.Define]:
        stem = [expr for _, expr in items[:first]]
        end, stages = named_backbone(self.naming, self.graph, items, first, last)
        head = [expr for _, expr in items[end + 1 :]]
        if stem:
            yield from lines("stem", stem)
        yield from stages
        if head:
            yield from lines("head", head)

    def _items(self, pieces: Sequence[Piece]) -> list[tuple[Piece, s.Expr]]:
        """Each piece with what is written for it."""
        regions = [piece for piece in pieces if isinstance(piece, Region)]
        blocks = iter(literal_blocks(self.naming, regions))
        items: list[tuple[Piece, s.Expr]] = []
        for place, piece in enumerate(pieces):
            match piece:
                case SingleStep(node):
                    if node.op in {"repeat", "as_map"} or _flattened(pieces, place):
                        continue
                    items.append((piece, self.dialect.call(node)))
                case Region():
                    items.append((piece, next(blocks)))
                case StageOfBlocks():
                    items.append((piece, piece.expr))
        return named_layers(self.naming, self.graph, _repeated(items))

    def in_values(self) -> list[s.Stmt]:
        """The network as definitions of values."""
        graph = self.graph
        alone = len(graph.inputs) == 1
        given: dict[int, s.Expr] = {
            node.id: s.Name("in" if alone else node.name) for node in graph.inputs
        }
        lines, results = dataflow(self.dialect, graph.nodes, given, graph.outputs.values())
        out = [results[id] for id in graph.outputs.values()]
        value = out[0]
        if len(out) > 1:
            value = call("outputs", **dict(zip(graph.outputs, out, strict=True)))
        return [*lines, s.Define("out", None, value)]

    # -- the spec ------------------------------------------------------------------------------------

    def finished(self, body: Sequence[s.Stmt]) -> Imported | str:
        """The spec, or why it is not accepted."""
        name = self.graph.name
        network = s.Declaration("network", name, (), None, (*self._settings(), *body))
        own = [*self.naming.neurons, *self.naming.declarations]
        kept = _needed(own, network)
        text = _printed(s.Program((s.Use("std", False, None), *kept, network)))
        try:
            checked = check_text(text, f"{name}.danet")
        except SpecError as error:
            return f"what would be written is no spec: {error.diagnostics[0].message}"
        graph = checked.graphs[name]
        found = compare_graphs(self.graph, graph)
        if isinstance(found, Different):
            return f"what would be written is another network: {found.reason}"
        assert isinstance(found, Same)
        declared = tuple(item.name for item in kept)
        stages = tuple(
            FoundStage(
                shown(item.expr),
                item.blocks,
                item.block.name,
                item.connection,
                item.rule,
                tuple(n for n in (item.block.name, item.connection) if n not in standard()),
            )
            for item in self.stages
        )
        return Imported(name, text, graph, found.weights, stages, declared)

    def _settings(self) -> Iterator[s.Define]:
        inputs = [call("events" if node.attrs["events"] else "image", *map(number, node.value.shape)) for node in self.graph.inputs]  # fmt: skip
        value = inputs[0]
        if len(inputs) > 1:
            names = (node.name for node in self.graph.inputs)
            value = call("inputs", **dict(zip(names, inputs, strict=True)))
        yield s.Define("input", None, value)
        yield s.Define("steps", None, number(self.graph.steps))
        if self.dialect.neuron is not None:
            yield s.Define("neuron", None, self.dialect.neuron.call())
        if self.surrogate is not None:
            yield s.Define("surrogate", None, self.surrogate.call())
        if self.dialect.norm != BATCHNORM:
            yield s.Define("norm", None, self.dialect.norm)


def _printed(program: s.Program) -> str:
    """The text of a program, with what is a connection or a block on one line where it fits."""
    pieces: list[str] = []
    for item in program.items:
        text = print_program(s.Program((item,)))
        if isinstance(item, s.Declaration) and item.kind in {"connection", "block"} and item.body:
            lines_ = (line for line in item.body if isinstance(line, s.Define))
            body = "; ".join(f"{line.name} = {shown(line.value)}" for line in lines_)
            head = text.splitlines()[0]
            if head.endswith("{"):
                text = f"{head} {body} }}\n"
        pieces.append(text)
    return format_source(parse(SourceFile("import", "\n".join(pieces)), Reporter()))


_FIRED = s.Declaration(
    "block", FIRED, (s.Param("neuron", None),), None,
    (s.Define("out", None, s.Flow((s.Name("in"), s.Name("neuron")))),),
)  # fmt: skip


def _described(
    items: Mapping[str, Described],
) -> tuple[dict[str, Described], list[s.Declaration]]:
    """Neurons or surrogates with those of their own by names that no other has, and these."""
    own: dict[s.Declaration, Described] = {}
    found: dict[str, Described] = {}
    for key, item in items.items():
        if item.declaration is not None and item.declaration not in own:
            name = f"{item.name}{len(own) + 1}" if own else item.name
            declaration = replace(item.declaration, name=name)
            own[item.declaration] = replace(item, name=name, declaration=declaration)
        found[key] = item if item.declaration is None else own[item.declaration]
    return found, [item.declaration for item in own.values() if item.declaration is not None]


def _most_used(items: Mapping[str, Described], used: Mapping[str, int]) -> Described | None:
    """What most neurons of a network have; ``used`` says how many are of each key."""
    counts: Counter[Described] = Counter()
    for key, count in used.items():
        if key in items:
            counts[items[key]] += count
    return counts.most_common(1)[0][0] if counts else None


def _flattened(pieces: Sequence[Piece], place: int) -> bool:
    """Whether a step is a flatten that the linear layer behind it does by itself."""
    piece, after = pieces[place], pieces[place + 1] if place + 1 < len(pieces) else None
    flat = isinstance(piece, SingleStep) and piece.node.op == "flatten"
    return flat and isinstance(after, SingleStep) and after.node.op == "linear"


def _repeated(items: list[tuple[Piece, s.Expr]]) -> list[tuple[Piece, s.Expr]]:
    """Literal blocks in a row that are the same, as one stage."""
    found: list[tuple[Piece, s.Expr, int]] = []
    for piece, expr in items:
        before = found[-1] if found else None
        if before and isinstance(piece, Region) and before[1] == expr:
            found[-1] = (before[0], expr, before[2] + 1)
        else:
            found.append((piece, expr, 1))
    return [
        (piece, expr if count == 1 else call("stage", expr, number(count)))
        for piece, expr, count in found
    ]


def _needed(own: Sequence[s.Declaration], network: s.Declaration) -> list[s.Declaration]:
    """The declarations that a network reads, or that those read."""
    read = {node.id for node in s.walk(network) if isinstance(node, s.Name)}
    kept: list[s.Declaration] = []
    for item in reversed(own):
        if item.name in read:
            kept.append(item)
            read |= {node.id for node in s.walk(item) if isinstance(node, s.Name)}
    return kept[::-1]
