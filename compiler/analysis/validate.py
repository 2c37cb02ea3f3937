"""The graph of a model that is to be built, seen as networkx sees it.

``verify`` looks at each node beside its operands, after every pass, and ``check`` runs it too. This is
about the graph as a whole, from algorithms that know nothing of ours, and runs once for each model: a
check that does not build is spared the import of networkx.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import networkx as nx

from danetc.compiler.analysis.verify import Broken, InvariantError
from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.rule_forms import Form, InputOf, OutputOf, Source, StageInput
from danetc.compiler.ir.rule_forms import sources as sources_of

Flow: TypeAlias = "nx.MultiDiGraph[int]"


def validate(graph: Graph) -> None:
    """Raise ``InvariantError`` unless the graph is one from its input to its outputs.

    No cycle; every node (but what is learnt by itself) and output connected with the input and
    depending on it; every block's predecessors those that its rule names. Takes time in proportion
    to the graph.
    """
    flow = graph.to_networkx()
    for meaning, found in (
        ("no cycle", _cycle(graph, flow)),
        ("everything depends on the input", _unfed(graph, flow)),
        ("blocks are fed with what their rule names", _feeds(graph, flow)),
    ):
        broken = next(found, None)
        if broken is not None:
            raise InvariantError(f"{meaning}: `{broken.path}` ({broken.span}) {broken.message}")


def _cycle(graph: Graph, flow: Flow) -> Iterator[Broken]:
    if nx.is_directed_acyclic_graph(flow):
        return
    through = [graph[edge[0]] for edge in nx.find_cycle(flow)]
    first = through[0]
    paths = ", ".join(node.path for node in through)
    yield Broken(first.origin, first.path, f"reads its own value, by way of {paths}")


def _unfed(graph: Graph, flow: Flow) -> Iterator[Broken]:
    starts = [node.id for node in graph.inputs]
    fed = {id for start in starts for id in (start, *nx.descendants(flow, start))}
    waiting = [id for id, source in graph.carries.items() if source in fed]
    while waiting:  # what a loop carries is fed by what it carries
        fed |= {id for each in waiting for id in (each, *nx.descendants(flow, each))}
        waiting = [id for id, source in graph.carries.items() if source in fed and id not in fed]
    learnt = same_for_all(graph)
    for node in graph.nodes.values():
        if node.id not in fed and node.id not in learnt:
            part = nx.node_connected_component(flow.to_undirected(as_view=True), node.id)
            why = (
                "does not depend on the input"
                if part.intersection(starts)
                else f"is of a part of {len(part)} operations that is not connected with the input"
            )
            yield Broken(node.origin, node.path, why)
    for name, id in graph.outputs.items():
        if id not in fed:
            yield Broken(graph.input.origin, name, "an output that does not depend on the input")


def _feeds(graph: Graph, flow: Flow) -> Iterator[Broken]:
    """Walks back from each block's input to the stage's input and the outputs of blocks, and compares
    these with the names in the rule's equation. Sets of them are bits of an integer, so that a block
    that reads all before it costs little."""
    position = {id: index for index, id in enumerate(nx.topological_sort(flow))}
    order = list(position)
    for stage in graph.stages:
        earlier = [id for id, _ in stage.delayed]
        made = (block.output for block in stage.blocks)
        bit = {
            id: 1 << index for index, id in enumerate(dict.fromkeys((stage.entry, *earlier, *made)))
        }
        sources: dict[Source, int] = {StageInput(): bit[stage.entry]}
        sources |= {OutputOf(i): bit[block.output] for i, block in enumerate(stage.blocks)}
        sources |= {form: bit[id] for id, form in stage.delayed}
        last = max(position[id] for block in stage.blocks for id, _ in block.feeds)
        first = min(position[id] for id in (stage.entry, *earlier))
        reads: dict[int, int] = {}
        for id in order[first : last + 1]:
            reads[id] = bit[id] if id in bit else _either(reads, flow.predecessors(id))
        for i, block in enumerate(stage.blocks):
            sources[InputOf(i)] = _named(block.feed, sources)
            if any(reads[id] != _named(form, sources) for id, form in block.feeds):
                path = ".".join(block.scope)
                yield Broken(
                    stage.origin, path, f"has other predecessors than rule {stage.rule} names"
                )


def _either(reads: Mapping[int, int], ids: Iterator[int]) -> int:
    found = 0
    for id in ids:
        found |= reads.get(id, 0)
    return found


def _named(form: Form, sources: Mapping[Source, int]) -> int:
    """What a form names, the inputs of earlier blocks replaced by what these read."""
    found = 0
    for source in sources_of(form):
        found |= sources[source]
    return found
