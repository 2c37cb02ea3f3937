"""Whether one run over T steps also tells what each smaller T would have given."""

from __future__ import annotations

from danetc.compiler.ir.at_node import per_step
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS


def why_not_stepwise(graph: Graph, output: str | None = None) -> str | None:
    """None where the mean of the outputs of steps 1 .. t, each averaged over itself alone, is the
    mean output of a run with T = t, for every t up to T; else the reason why it is not.

    Neurons look back alone, so what varies over time is the same in a longer run. It remains that
    what stands behind a mean over time must be linear. ``output`` is the one meant of several.
    """
    chosen = graph.outputs[output] if output is not None else next(iter(graph.outputs.values()))
    needed = _with_all_before(graph, chosen)
    behind: set[int] = set()
    timed = False
    for id in (id for id in graph.nodes if id in needed):
        node = graph[id]
        timed = timed or _makes_time(graph, node)
        row = OPS[node.op]
        if row.whole_run:
            return f"`{node.path}` ({node.op}) lays its spikes out over all T steps"
        if row.ahead(node.attrs):
            return f"what `{node.path}` ({node.op}) gives at a step depends on later ones"
        if any(operand in behind for operand in node.inputs):
            if not row.linear:
                return f"`{node.path}` ({node.op}) stands behind a mean over time and is not linear"
            behind.add(id)
        elif row.time == "reduces":
            behind.add(id)
    if not timed:
        return "nothing in the network varies over time, so its output is the same for every T"
    return None


def _makes_time(graph: Graph, node: Node) -> bool:
    """Whether a node gives other values at other steps where what it takes does not."""
    if per_step(graph, node):
        return True
    varying = any(graph[id].value.varies for id in node.inputs)
    return node.value.varies and not varying and node.op != "repeat"


def _with_all_before(graph: Graph, id: int) -> set[int]:
    found: set[int] = set()
    waiting = [id]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += graph.reads(graph[each])
    return found
