"""Invariants of every graph, checked after lowering and after each pass.

``_faults`` finds faults of the compiler. The functions in ``_LIMITS`` find errors in a spec, which
are reported with a code at the user's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from danetc.compiler.analysis.initial_values import Known, initial_values
from danetc.compiler.ir.at_node import same_for_all, weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.loops import loop_of, loops
from danetc.compiler.ir.ops import OPS, OpError
from danetc.compiler.ir.ops.kinds import or_zero
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, SpecError


class InvariantError(Exception):
    """Raised for a fault of the compiler. The message names the node and its source line."""


def verify(graph: Graph, after: str = "lowering") -> None:
    """Check all invariants. Raises SpecError or InvariantError."""
    for node, message in _faults(graph):
        raise InvariantError(f"after {after}: `{node.path}` ({node.origin}) {message}")
    for layer in graph.weight_layers.values():
        verify(layer, after)
    for check in _LIMITS:
        found = [
            Diagnostic(code, message, node.origin, labels=_stage_of(graph, node), hint=hint)
            for node, code, message, hint in check(graph)
        ]
        if found:
            raise SpecError(found)


def _stage_of(graph: Graph, node: Node) -> tuple[Label, ...]:
    """Return a label at the stage of a node."""
    stage = graph.stage_of(node)
    return () if stage is None else (Label(stage.origin, "in this stage"),)


def _faults(graph: Graph) -> Iterator[tuple[Node, str]]:
    """Yield invalid nodes: wrong order, name, operands, attributes or value."""
    seen: set[int] = set()
    paths: set[tuple[str, ...]] = set()
    inner = {node.scope for node in graph.nodes.values()}
    scopes = {scope[:depth] for scope in inner for depth in range(len(scope) + 1)}
    inference = Inference(graph.neurons, graph.nodes)
    for id, node in graph.nodes.items():
        path = (*node.scope, node.name)
        row = OPS.get(node.op)
        if id != node.id:
            yield node, f"is node {node.id} under the key {id}"
        if path in paths or path in scopes:
            yield node, "has the name of another node or of a scope"
        if not seen.issuperset(node.inputs):
            yield node, "reads a node that does not come before it"
        if row is None:
            yield node, f"has the unknown operation {node.op}"
            continue
        seen.add(id)
        paths.add(path)
        low, high = row.operands
        if len(node.inputs) < low or (high is not None and len(node.inputs) > high):
            yield node, f"is {node.op} with {len(node.inputs)} operands"
        known = {parameter.name for parameter in row.parameters if not parameter.sugar}
        if node.op not in ("input", "neuron") and node.attrs.keys() != known:
            yield node, f"is {node.op} with attributes {sorted(node.attrs)}"
        if row.carries != (id in graph.carries):
            yield node, f"is {node.op}, which must carry a value exactly if it is a delay"
        if node.op == "input" or row.carries:
            continue
        try:
            value = inference.value(node.op, node.attrs, node.inputs)
        except (OpError, KeyError) as error:
            yield node, f"is {node.op}, which cannot be applied: {error}"
            continue
        if value != node.value:
            yield node, f"is {node.value}, but its operands give {value}"
        if row.takes_steps and not all(item.value.varies for item in graph.inputs_of(node)):
            yield node, f"is {node.op}, which mixes the steps of a static value"
    members = loop_of(graph)
    for id, source in graph.carries.items():
        node, taken, given = graph[id], graph[id].value, graph[source].value
        fits = given.shape == taken.shape and taken.kind | or_zero(given.kind) == taken.kind
        if id not in members or source not in members[id].members or not fits or not taken.varies:
            yield node, f"is {taken}, but carries {given} of `{graph[source].path}`"
    for id, owner in graph.shares.items():
        node, other = graph[id], graph[owner]
        same = (node.op, node.attrs) == (other.op, other.attrs) and owner not in graph.shares
        if not same or weights(graph, node) != weights(graph, other):
            yield node, f"has the weights of `{other.path}`, another layer"


# -- errors in a spec ------------------------------------------------------------------------------

Found = Iterator[tuple[Node, str, str, str]]
"""Node, code, message and hint of errors."""


def _loops(graph: Graph) -> Found:
    """Check that nodes in loops can run step by step."""
    shared = same_for_all(graph)
    for loop in loops(graph):
        inside = set(loop.members)
        reads = {i for id in inside for i in graph[id].inputs if i not in inside}
        if reads <= shared:
            first = graph[loop.members[0]]
            what = f"the loop over time of `{first.path}` reads only itself"
            yield first, "E0506", what, "let it read the input, or a value computed from it"
            continue
        for node in map(graph.__getitem__, loop.members):
            if why := OPS[node.op].why_not_in_loop(node.attrs):
                what, hint = why
                yield node, "E0506", f"`{node.path}` is in a loop over time, but {what}", hint


def _reached(graph: Graph) -> set[int]:
    """Return the nodes that gradients of the outputs reach."""
    passing = {
        key: not item.reaching(gradients=True).isdisjoint(item.takes)
        for key, item in graph.neurons.items()
    }
    return graph.behind(
        graph.outputs.values(),
        lambda node: passing.get(str(node.attrs.get("neuron")), OPS[node.op].gradient),
    )


def _gradients(graph: Graph) -> Found:
    """Check that gradients reach every parameter."""
    for node in graph.nodes.values():
        layer = graph.weight_layer(node)
        if layer is not None and layer.input.id not in _reached(layer):
            hint = "let it depend on `in`, through functions that pass gradients"
            message = f"no gradient flows through `{layer.name}` to the weights of `{node.path}`"
            yield node, "E0504", message, hint
    reached = _reached(graph)
    if len(reached) == len(graph.nodes):
        return
    users = graph.users()
    stops: dict[int, int] = {}  # for a node without gradient, the next node with one
    stopped: dict[int, list[str]] = {}
    for node in reversed(list(graph.nodes.values())):
        if node.id in reached:
            continue
        behind = [u for u in users[node.id] if u in reached or u in stops]
        stop = next((u if u in reached else stops[u] for u in behind), node.id)
        stops[node.id] = stop
        if weights(graph, node):
            stopped.setdefault(stop, []).append(node.path)
    for id, paths in stopped.items():
        node = graph[id]
        named = "`, `".join(reversed(paths[-2:]))
        what = f"the weights of `{named}`" + (f" and {len(paths) - 2} more" if paths[2:] else "")
        if id in reached:
            hint = "encoders, and neurons whose output does not depend on `x`, pass no gradient"
            yield node, "E0504", f"no gradient flows through `{node.path}` to {what}", hint
        else:
            hint = "use the value of the layer, or remove the layer"
            yield node, "E0504", f"no output depends on {what}", hint


def _alive(graph: Graph) -> Found:
    """Check that no norm with an initial weight of 0 silences a block."""
    known = initial_values(graph)
    for stage in graph.stages:
        for block in stage.blocks:
            value = known[block.output]
            zero = isinstance(value, float) and value == 0.0
            if zero and (norm := _silencing(graph, block.output, known)) is not None:
                what = "a norm that starts at 0 silences the block"
                hint = "a norm may start at 0 at the end of a branch, which the shortcut bypasses"
                message = f"{what}: `{norm.path}` is on every path through it"
                yield norm, "E0503", message, hint
                break


def _silencing(graph: Graph, id: int, known: Mapping[int, Known]) -> Node | None:
    """Follow a constant back to its origin. Return it if it is a norm."""
    node = graph[id]
    while OPS[node.op].constant(node.attrs) is None:
        reads = [i for i in node.inputs if isinstance(known[i], float)]
        if not reads:
            return None
        node = graph[next((i for i in reads if known[i] == 0.0), reads[0])]
    return node if OPS[node.op].norm is not None else None


_LIMITS = (_loops, _gradients, _alive)
