"""The graph of a model that is built, checked as a whole by networkx.

``verify`` checks each node beside its operands, after every pass and for ``check`` too, which is
spared the import of networkx.
"""

from __future__ import annotations

import networkx as nx

from danetc.compiler.analysis.verify import InvariantError
from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph


def validate(graph: Graph) -> None:
    """Raise InvariantError unless the graph has no cycle, and all nodes and outputs depend on the
    input, apart from what is learnt."""
    flow = graph.to_networkx()
    if not nx.is_directed_acyclic_graph(flow):
        through = [graph[edge[0]] for edge in nx.find_cycle(flow)]
        paths = ", ".join(node.path for node in through)
        raise InvariantError(
            f"no cycle: `{through[0].path}` ({through[0].origin}) reads its own value, by way of {paths}"
        )
    flow.add_edges_from((source, id) for id, source in graph.carries.items())
    fed = {id for node in graph.inputs for id in (node.id, *nx.descendants(flow, node.id))}
    learnt = same_for_all(graph)
    where = [(node.path, node.origin) for id, node in graph.nodes.items() if id not in fed | learnt]
    where += [(name, graph.input.origin) for name, id in graph.outputs.items() if id not in fed]
    for path, span in where:
        raise InvariantError(
            f"everything depends on the input: `{path}` ({span}) does not depend on the input"
        )
