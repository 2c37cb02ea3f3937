"""Invariants of every graph, checked after lowering and after each pass.

A broken invariant that a user can cause is an error of the spec, with a code and the user's line;
any other is a fault of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from danetc.compiler.analysis.initial_values import Known, initial_values
from danetc.compiler.ir.at_node import operands, same_for_all, weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.loops import loop_of, loops
from danetc.compiler.ir.ops import OPS, OpError
from danetc.compiler.ir.ops.kinds import or_zero
from danetc.compiler.ir.rule_values import StageValues
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, SpecError
from danetc.dsl.record import record
from danetc.dsl.syntax.source import NOWHERE, Span


class InvariantError(Exception):
    """A fault of the compiler. Names the node and its source line."""


@record
class Broken:
    """A broken invariant. ``code`` is set if the spec is at fault."""

    span: Span
    path: str
    message: str
    code: str | None = None
    hint: str | None = None


Check = Callable[[Graph], Iterator[Broken]]


def _at(node: Node, message: str, code: str | None = None, hint: str | None = None) -> Broken:
    return Broken(node.origin, node.path, message, code, hint)


def _acyclic(graph: Graph) -> Iterator[Broken]:
    seen: set[int] = set()
    for node in graph.nodes.values():
        for operand in node.inputs:
            if operand not in seen:
                yield _at(node, f"reads node {operand}, which does not come before it")
        seen.add(node.id)


def _keys(graph: Graph) -> Iterator[Broken]:
    taken: dict[str, int] = {}
    stand = {node.scope for node in graph.nodes.values()}
    scopes = {".".join(scope[: depth + 1]) for scope in stand for depth in range(len(scope))}
    for id, node in graph.nodes.items():
        if id != node.id:
            yield _at(node, f"is node {node.id} under the key {id}")
        path = node.path
        if taken.setdefault(path, id) != id:
            yield _at(node, f"has the name of node {taken[path]}")
        if path in scopes:
            yield _at(node, "has the name of a scope")


def _operands(graph: Graph) -> Iterator[Broken]:
    for node in graph.nodes.values():
        row = OPS.get(node.op)
        if row is None:
            yield _at(node, f"unknown operation {node.op}")
            continue
        low, high = row.operands
        if len(node.inputs) < low or (high is not None and len(node.inputs) > high):
            yield _at(node, f"{node.op} with {len(node.inputs)} operands")
        known = {parameter.name for parameter in row.parameters if not parameter.sugar}
        if node.op not in ("input", "neuron") and node.attrs.keys() != known:
            yield _at(node, f"{node.op} with attributes {sorted(node.attrs)}")


def _values(graph: Graph) -> Iterator[Broken]:
    """Check that shape, kind and variation of every node are those inferred from its operands."""
    inference = Inference.of(graph)
    for node in graph.nodes.values():
        if node.op == "input" or OPS[node.op].carries:
            continue
        try:
            value = inference.value(node.op, node.attrs, node.inputs)
        except (OpError, KeyError) as error:
            yield _at(node, f"{node.op} cannot be applied: {error}")
            continue
        if value != node.value:
            yield _at(node, f"is {node.value}, and its operands give {value}")
        still = not all(operand.value.varies for operand in graph.inputs_of(node))
        if OPS[node.op].takes_steps and still:
            yield _at(node, f"{node.op} mixes the steps of a static value")


def _shares(graph: Graph) -> Iterator[Broken]:
    """Check that nodes with shared weights are the same operation, with weights of one owner."""
    for id, owner in graph.shares.items():
        if id not in graph.nodes or owner not in graph.nodes or owner in graph.shares:
            yield Broken(
                NOWHERE, graph.name, f"node {id} has the weights of {owner}, which has none"
            )
            continue
        node, other = graph[id], graph[owner]
        if (node.op, node.attrs) != (other.op, other.attrs):
            yield _at(node, f"has the weights of {other.path}, another layer")
        elif weights(graph, node) != weights(graph, other):
            yield _at(node, f"has the weights of {other.path}, of another size")


def _carries(graph: Graph) -> Iterator[Broken]:
    """Check that carried values belong to their loop and keep their shape and kind."""
    members = loop_of(graph)
    for node in graph.nodes.values():
        if OPS[node.op].carries != (node.id in graph.carries):
            yield _at(node, f"{node.op} that carries nothing, or another one")
    for id, source in graph.carries.items():
        if id not in graph.nodes or source not in graph.nodes:
            yield Broken(NOWHERE, graph.name, f"a loop of nodes {id} and {source}, which are gone")
            continue
        node, taken, given = graph[id], graph[id].value, graph[source].value
        if id not in members or source not in members[id].members:
            yield _at(node, f"carries {source}, which is not of its loop")
        if given.shape != taken.shape or taken.kind | or_zero(given.kind) != taken.kind:
            yield _at(node, f"is {taken}, and carries {given}")
        if not taken.varies:
            yield _at(node, "does not vary over time")


def _loops(graph: Graph) -> Iterator[Broken]:
    """Check that nodes in loops can run step by step."""
    shared = same_for_all(graph)
    for loop in loops(graph):
        inside = set(loop.members)
        reads = {i for id in inside for i in graph[id].inputs if i not in inside}
        if reads <= shared:
            first = graph[loop.members[0]]
            what = f"the loop over time of `{first.path}` reads nothing but itself"
            hint = "let it read the input, or what is made of it"
            yield _at(first, what, "E0506", hint)
            continue
        for node in map(graph.__getitem__, loop.members):
            why = OPS[node.op].why_not_in_loop(node.attrs)
            if why:
                what, hint = why
                yield _at(
                    node,
                    f"`{node.path}` is in a loop over time, and {what}",
                    "E0506",
                    hint,
                )


def _rules(graph: Graph) -> Iterator[Broken]:
    """Check that every stage computes its rule's equations bit for bit."""
    for stage in graph.stages:
        values = StageValues(graph, stage)
        for id, form in stage.delayed:
            node = graph[id]
            given = values.node(*graph.reads(node)) if OPS[node.op].cuts else None
            if given != values.form(form.value) or node.attrs["steps"] != form.steps:
                yield Broken(
                    stage.origin, node.path, f"is not of earlier steps what rule {stage.rule} says"
                )
        for i, block in enumerate(stage.blocks):
            if any(values.node(id) != values.form(form) for id, form in block.feeds):
                yield Broken(
                    stage.origin,
                    ".".join(block.scope),
                    f"block {i} is not fed as rule {stage.rule} says",
                )
        if values.node(stage.result) != values.form(stage.result_form):
            yield Broken(
                stage.origin,
                ".".join(stage.scope),
                f"the stage does not give what rule {stage.rule} says",
            )


def _interblock(graph: Graph) -> Iterator[Broken]:
    """Check that the modules after the join of a block are those of its connection."""
    for stage in graph.stages:
        for i, block in enumerate(stage.blocks):
            if any(op.startswith("block ") or OPS[op].chosen for op in block.after):
                continue
            id = block.output
            for op in reversed(block.after):
                node = _moved(graph, id)
                if node.op != op:
                    yield _at(
                        node,
                        f"{node.op} stands where connection {stage.connection} puts {op} in block {i}",
                    )
                    break
                id = node.inputs[0]
                if node.op == "neuron" and graph.program(node).inputs:
                    id = graph[id].inputs[0]  # the first of the values that it takes side by side
            else:
                if _moved(graph, block.join) is not _moved(graph, id):
                    yield _at(graph[id], f"is not the join of block {i}")


def _moved(graph: Graph, id: int) -> Node:
    """Return the node whose numbers a node returns, possibly repeated at each step."""
    node = graph[id]
    while node.op == "repeat" or OPS[node.op].same(node.attrs):
        node = graph[node.inputs[0]]
    return node


def _gradients(graph: Graph) -> Iterator[Broken]:
    """Check that gradients reach every parameter."""
    passing = {
        key: not item.reaching(gradients=True).isdisjoint(item.takes)
        for key, item in graph.neurons.items()
    }
    reached = set(graph.outputs.values())
    waiting = [*reached]
    while waiting:
        node = graph[waiting.pop()]
        if passing.get(str(node.attrs.get("neuron")), OPS[node.op].gradient):
            new = [id for id in graph.reads(node) if id not in reached]
            reached.update(new)
            waiting += new
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
            hint = "an encoder passes none, nor does a neuron whose output is cut off from `x`"
            yield _at(node, f"no gradient passes `{node.path}` to {what}", "E0504", hint)
        else:
            hint = "use its value, or leave it out"
            yield _at(node, f"no output depends on {what}", "E0504", hint)


def _alive(graph: Graph) -> Iterator[Broken]:
    """Check that no block is silenced by a norm that starts at 0."""
    known = initial_values(graph)
    for stage in graph.stages:
        for block in stage.blocks:
            value = known[block.output]
            zero = isinstance(value, float) and value == 0.0
            if zero and (norm := _silencing(graph, block.output, known)) is not None:
                yield _at(
                    norm,
                    f"a norm that starts at 0 silences the block: `{norm.path}` stands on every way through it",
                    "E0503",
                    "a norm may start at 0 at the end of a branch, where the shortcut goes past it",
                )
                break


def _silencing(graph: Graph, id: int, known: Mapping[int, Known]) -> Node | None:
    """Return the norm that a constant comes from: the first on the way back through constants."""
    node = graph[id]
    while OPS[node.op].constant(node.attrs) is None:
        reads = [i for i in node.inputs if isinstance(known[i], float)]
        if not reads:
            return None
        node = graph[next((i for i in reads if known[i] == 0.0), reads[0])]
    return node if OPS[node.op].norm is not None else None


def _no_sugar(graph: Graph) -> Iterator[Broken]:
    """Check that operations of the language alone are lowered (`tdbn` to a batchnorm)."""
    for node in graph.nodes.values():
        row = OPS[node.op]
        op = node.op
        if row.stands_for is not None:
            op, _ = row.stands_for(node.attrs, lambda: 1.0)
        elif row.chosen is not None:
            op = row.chosen(node.attrs, operands(graph, node), graph.steps)[-1][0]
        if op != node.op:
            yield _at(node, f"{node.op} was not lowered to what it stands for")


INVARIANTS: tuple[tuple[str, Check], ...] = (
    ("keys and paths are unique", _keys),
    ("operands come before their users: no cycle", _acyclic),
    ("operations have their operands and attributes", _operands),
    ("shapes, kinds and time agree at each join", _values),
    ("weights at several places fit all of them", _shares),
    ("what loops carry comes out as it goes in", _carries),
    ("what stands in a loop runs step by step", _loops),
    ("every stage obeys its rule's equation", _rules),
    ("interblock modules stand where the connection says", _interblock),
    ("every parameter has a gradient path", _gradients),
    ("no block is silenced by a norm that starts at 0", _alive),
    ("no sugar is left", _no_sugar),
)


def verify(graph: Graph, after: str = "lowering") -> None:
    """Check all invariants. Raises SpecError or InvariantError."""
    for meaning, check in INVARIANTS:
        broken = list(check(graph))
        faults = [item for item in broken if item.code is None]
        if faults:
            first = faults[0]
            raise InvariantError(
                f"after {after}: {meaning}: `{first.path}` ({first.span}) {first.message}"
            )
        if broken:
            raise SpecError(
                [
                    Diagnostic(
                        item.code or "",
                        item.message,
                        item.span,
                        labels=_stage_of(graph, item.path),
                        hint=item.hint,
                    )
                    for item in broken
                ]
            )


def _stage_of(graph: Graph, path: str) -> tuple[Label, ...]:
    """Return a label of the stage of a node."""
    for stage in graph.stages:
        if path.startswith(".".join((*stage.scope, ""))):
            return (Label(stage.origin, "in this stage"),)
    return ()
