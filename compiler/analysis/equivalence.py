"""Comparison of graphs by hashes that do not depend on names, the order of nodes or of sums.

Every value has a hash, a residue modulo a 127-bit prime. The hash of a sum is the sum of the hashes
of its terms, and the hash of a multiple the multiple of the hash. Therefore ``(a + b) + c``,
``c + (a + b)`` and ``a - (-b) + c`` have the same hash, which takes linear time because no sum is
expanded. The hash of any other operation is computed from its label and its operands. Two different
values have the same hash with a probability of about 1e-38.

Colour refinement (Weisfeiler and Leman, 1968) distinguishes layers with weights by their inputs and
readers. Layers that it cannot distinguish are numbered in the order of the graph. Two graphs are
equal if their outputs have the same hashes, and weights with the same hash belong together. Equal
graphs can have different hashes only if indistinguishable layers are connected symmetrically.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from hashlib import blake2b
from math import frexp, prod
from typing import Literal

from danetc.compiler.analysis.neuron_forms import program_form
from danetc.compiler.ir.at_node import has_own_state, site, weights
from danetc.compiler.ir.graph import Graph, Node, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS, OpError, Site, text
from danetc.compiler.passes.simplify import merge_duplicates, remove_dead
from danetc.dsl.record import record

PRIME = 2**127 - 1
SIDE = 3**70 % PRIME  # factor for each channel to the left in a concatenation
LINEAR = frozenset({"add", "sub", "affine"})
FOLDED = frozenset({"maximum", "minimum"})
"""Operations that commute but are not associative: if operands are equal, as spikes often are, each
step halves the gradient."""
MAX_TERMS_SHOWN = 4


@record
class Same:
    """Two graphs are equal up to the rounding of reordered sums.

    ``weights`` contains pairs of node ids with corresponding weights or random numbers.
    """

    weights: tuple[tuple[int, int], ...]


@record
class Different:
    """Two graphs are not known to be equal.

    Args:
        left: first node of the left graph without a counterpart, or None.
        right: first node of the right graph without a counterpart, or None.
        comparable: False if inputs, outputs or time steps differ, so that a numerical comparison is
            impossible.
    """

    reason: str
    left: Node | None = None
    right: Node | None = None
    comparable: bool = True


def compare_graphs(left: Graph, right: Graph) -> Same | Different:
    """Compare two graphs, ignoring the names and the order of nodes.

    No passes should have run (``graph_of(..., passes=())``): an operation that a pass moves over
    time counts as a difference. Loops over time are equal if their carried values are equal, by
    induction over the steps.
    """
    takes, others = _interface(left), _interface(right)
    if part := next((part for part in takes if takes[part] != others[part]), None):
        reason = f"they have different {part}: {takes[part]} and {others[part]}"
        return Different(reason, left.input, right.input, comparable=False)
    left, right = (merge_duplicates(remove_dead(graph)) for graph in (left, right))
    if len(left.outputs) == 1:  # the name of a single output does not matter
        right = replace(right, outputs=dict(zip(left.outputs, right.outputs.values(), strict=True)))
    plain = Forms(left, {}), Forms(right, {})
    if plain[0].results != plain[1].results or plain[0].carried != plain[1].carried:
        return _first_difference(*plain)
    mine, other = _canonical(left), _canonical(right)
    pairs = {id: other.owners[tag] for tag, id in mine.owners.items() if tag in other.owners}
    loose = set(mine.owners) ^ set(other.owners)
    if loose or mine.results != other.results:
        a, b = (
            next((graph[id] for tag, id in forms.owners.items() if tag in loose), None)
            for graph, forms in ((left, mine), (right, other))
        )
        if a is None or b is None:
            return Different(_only(left, a, right, b), a, b)
        return Different(f"`{a.path}` and `{b.path}` have different readers", a, b)
    return Same(tuple((a, b) for a, b in pairs.items() if a not in left.carries))


def _interface(graph: Graph) -> dict[str, str]:
    """Describe the inputs, time steps and outputs of a network."""

    def listed(values: Mapping[str, Value]) -> str:
        return ", ".join(
            f"{f'{name} ' * (len(values) > 1)}{text(value.shape)}"
            f"{' at each time step' * value.varies}"
            for name, value in values.items()
        )

    outputs = {name: graph[id].value for name, id in sorted(graph.outputs.items())}
    return {
        "inputs": listed({node.name: node.value for node in graph.inputs}),
        "time steps": f"T = {graph.steps}",
        "outputs": listed(outputs),
    }


# -- hashes of values ------------------------------------------------------------------------------


def number(*key: object) -> int:
    """Return the hash of a key."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=16).digest()) % PRIME


def residue(value: object) -> int:
    """Return a float as a residue. The map preserves products and sums exactly."""
    assert isinstance(value, (int, float))
    mantissa, exponent = frexp(value)
    return int(mantissa * 2**53) * pow(2, exponent - 53, PRIME) % PRIME


def passes_on(graph: Graph, node: Node) -> bool:
    """True if a node returns its input, such as dropout with p = 0 or pooling of single pixels."""
    if not node.inputs:
        return False
    row, alike = OPS[node.op], graph[node.inputs[0]].value.shape == node.value.shape
    return alike and (row.same_shape or row.same(node.attrs))


def label(graph: Graph, node: Node, weight_layers: Mapping[str, int]) -> tuple[Hashable, ...]:
    """Return the name, attributes and shapes of an operation. ``weight_layers`` has the hashes of layers
    that are applied to weights."""
    row, shapes = OPS[node.op], tuple(item.value.shape for item in graph.inputs_of(node))
    if node.op == "neuron":
        return "neuron", program_form(graph.program(node)), shapes
    if alias := row.alias(node.attrs, site(graph, node).values):
        return alias, shapes
    weight = node.attrs.get("weight")
    attrs = (
        {**node.attrs, "weight": weight_layers[weight]} if isinstance(weight, str) else node.attrs
    )
    return node.op, tuple(sorted(attrs.items())), shapes if node.inputs else node.value.shape


class Forms:
    """Hashes of all values of a graph.

    Args:
        tags: hashes of layers with weights or random numbers, and of carried values, by node.
        unique: If True, layers with the same hash receive different tags.

    ``results`` contains the hashes of outputs by name, and of carried values by tag: if they are
    equal for two graphs at one step, carried values are equal at the next. ``owners`` maps tags to
    layers.
    """

    def __init__(self, graph: Graph, tags: Mapping[int, int], *, unique: bool = False) -> None:
        self.graph = graph
        self.tags = dict(tags)
        self.values: dict[int, int] = {}
        self.weight_layers = {
            key: _canonical(merge_duplicates(remove_dead(layer))).results["out"]
            for key, layer in graph.weight_layers.items()
        }
        self.owners: dict[int, int] = {}
        self.passed: set[int] = set()
        seen: Counter[int] = Counter()
        named: set[int] = set()
        for node in graph.nodes.values():
            owner = graph.shares.get(node.id, node.id)
            if unique and owner in tags and owner not in named:
                named.add(owner)
                own = number(self._value(node), tags[owner])
                seen[own] += 1
                self.tags[owner] = number(own, seen[own])
                self.owners[self.tags[owner]] = owner
            self.values[node.id] = self._value(node) % PRIME
        self.results: dict[str | int, int] = {n: self.values[id] for n, id in graph.outputs.items()}
        self.carried = sorted(self.values[source] for source in graph.carries.values())
        for id, source in graph.carries.items():
            if id in tags:
                self.results[self.tags[id]] = self.values[source]

    def _value(self, node: Node) -> int:
        graph, reads = self.graph, [self.values[i] for i in node.inputs]
        if passes_on(graph, node):
            self.passed.add(node.id)
            return reads[0]
        match node.op:
            case "add":
                return sum(reads)
            case "sub":
                return reads[0] - reads[1]
            case "affine":
                offset = residue(node.attrs["offset"]) * number("one")
                return residue(node.attrs["factor"]) * reads[0] + offset
            case "mul":  # the same for nested products
                total = 1
                for item, read in zip(graph.inputs_of(node), reads, strict=True):
                    total = total * (read if item.op == "mul" else number("factor", read)) % PRIME
                return total
            case "concat":  # a polynomial in SIDE, which is the same for nested concatenations
                total, channels = 0, 0
                for item, read in zip(graph.inputs_of(node), reads, strict=True):
                    width = item.value.shape[0]
                    part = read if item.op == "concat" else number("part", read, width)
                    total += part * pow(SIDE, channels, PRIME)
                    channels += width
                return total
            case "maximum" | "minimum":  # folded from the left; equal values are skipped
                total = reads[0]
                for read in reads[1:]:
                    if total != read:
                        total = number(node.op, min(total, read), max(total, read))
                if total == reads[0]:
                    self.passed.add(node.id)
                return total
        return number(
            label(graph, node, self.weight_layers),
            reads,
            self.tags.get(graph.shares.get(node.id, node.id)),
        )

    def uses(self) -> Mapping[int, int]:
        """Return a hash of the readers of each node, in linear time: the dual of ``values``."""
        graph, values = self.graph, self.values
        total: dict[int, int] = dict.fromkeys(graph.nodes, 0)
        within: dict[int, int] = dict.fromkeys(graph.nodes, 0)  # uses by the same operation

        def add(to: dict[int, int], id: int, use: int) -> None:
            to[id] = (to[id] + use) % PRIME

        for name, id in graph.outputs.items():
            add(total, id, number("output", name))
        for id, source in graph.carries.items():
            add(total, source, number("carried", values[id]))
        for node in reversed([*graph.nodes.values()]):
            own = total[node.id]
            if node.id in self.passed:
                add(total, node.inputs[0], own)
            elif node.op in LINEAR:
                factors = {"sub": (1, -1), "affine": (residue(node.attrs.get("factor", 1)),)}
                each = factors.get(node.op, (1,) * len(node.inputs))
                for factor, operand in zip(each, node.inputs, strict=True):
                    add(total, operand, factor * own)
            elif node.op in ("mul", "concat", *FOLDED):
                flow = within[node.id] + (number(node.op, values[node.id], own) if own else 0)
                channels = 0
                operands = {values[i]: graph[i] for i in node.inputs}
                for item in operands.values() if node.op in FOLDED else graph.inputs_of(node):
                    at = pow(SIDE, channels, PRIME) if node.op == "concat" else 1
                    add(within if item.op == node.op else total, item.id, flow * at)
                    channels += item.value.shape[0]
            else:
                for position, operand in enumerate(node.inputs):
                    add(total, operand, number("use", values[node.id], position, own))
        return total


def _canonical(graph: Graph) -> Forms:
    """Return the hashes of a graph after colour refinement, with a unique tag per layer."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for node in graph.nodes.values():
        if node.id in graph.carries or has_own_state(graph, node):
            places[graph.shares.get(node.id, node.id)].append(node.id)
    tags, classes = dict.fromkeys(places, 0), 0
    while len({*tags.values()}) > classes:
        classes = len({*tags.values()})
        forms = Forms(graph, tags)
        uses = forms.uses()
        tags = {
            id: number(
                forms.values.get(graph.carries.get(id, -1)),
                sorted((forms.values[place], uses[place]) for place in each),
            )
            for id, each in places.items()
        }
    return Forms(graph, tags, unique=True)


# -- where they differ ----------------------------------------------------------------------------


def _first_difference(left: Forms, right: Forms) -> Different:
    """Return the first node of each graph whose value the other one does not have."""
    mine, other = _first_without(left, right), _first_without(right, left)
    if mine is None and other is None:  # outputs are exchanged
        for name, id in left.graph.outputs.items():
            if left.results[name] != right.results[name]:
                mine, other = left.graph[id], right.graph[right.graph.outputs[name]]
    return Different(_tell(left.graph, mine, right.graph, other), mine, other)


def _first_without(forms: Forms, than: Forms) -> Node | None:
    known = set(than.values.values())
    users, outputs = forms.graph.users(), set(forms.graph.outputs.values())
    for node in forms.graph.nodes.values():
        notation = node.op in LINEAR or node.id in forms.passed
        if notation or forms.values[node.id] in known:
            continue
        within = {forms.graph[user].op for user in users[node.id]} == {node.op}
        if node.op in ("mul", "concat", *FOLDED) and within and node.id not in outputs:
            continue  # part of a nested join
        return node
    return None


def _only(left: Graph, a: Node | None, right: Graph, b: Node | None) -> str:
    graph, node = (left, a) if a is not None else (right, b)
    if node is None:
        return "similar layers are connected differently"
    return f"only {graph.name} has `{node.path}`, {_a(node.op)}"


def _tell(left: Graph, a: Node | None, right: Graph, b: Node | None) -> str:
    """Describe the difference between two nodes."""
    if a is None or b is None:
        return _only(left, a, right, b)
    if a.op != b.op:
        return f"{_a(a.op)} in place of {_a(b.op)}"
    if a.op == "neuron" and left.program(a) != right.program(b):
        return "neurons with different equations, parameters or surrogates"
    changed = [name for name in a.attrs if a.attrs[name] != b.attrs.get(name)]
    if changed and a.op != "neuron":
        parts = (f"{name} {a.attrs[name]} and {b.attrs.get(name)}" for name in changed)
        return f"{_a(a.op)} with {', '.join(parts)}"
    if left.weight_layer(a) != right.weight_layer(b):
        return f"{_a(a.op)} with other layers applied to the weight"
    if a.op != "add":
        for x, y in zip(left.reads(a), right.reads(b), strict=False):
            if (mine := _sum(left, x)) != (other := _sum(right, y)):
                return f"{_a(a.op)} that reads {mine}, and one that reads {other}"
    return f"{_a(a.op)} of different values"


def _a(op: str) -> str:
    word = "delay" if OPS[op].carries else op
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _sum(graph: Graph, id: int) -> str:
    """Return the path of a value, or the paths of the terms of a sum."""
    terms = graph[id].inputs if graph[id].op == "add" else (id,)
    shown = [f"`{graph[term].path}`" for term in terms[:MAX_TERMS_SHOWN]]
    return " + ".join([*shown, "..."] if len(terms) > MAX_TERMS_SHOWN else shown)


Pairs = tuple[tuple[Node, Node], ...]


def paired_weights(left: Graph, right: Graph) -> tuple[Literal["name", "order"] | None, Pairs]:
    """Return pairs of nodes whose weights have the same shapes and initial values.

    Nodes are paired by name if both graphs have the same names, else by order; None if neither fits.
    """
    mine, other = (
        {node.path: (node, _weights_of(graph, node)) for node in graph.nodes.values()
         if weights(graph, node)}
        for graph in (left, right)
    )  # fmt: skip
    if mine.keys() == other.keys() and all(mine[path][1] == other[path][1] for path in mine):
        return "name", tuple((mine[path][0], other[path][0]) for path in mine)
    if [item for _, item in mine.values()] == [item for _, item in other.values()]:
        nodes = ([node for node, _ in side.values()] for side in (mine, other))
        return "order", tuple(zip(*nodes, strict=True))
    return None, ()


def _weights_of(graph: Graph, node: Node) -> object:
    if node.op == "neuron":
        return [replace(item, name="") for item in graph.program(node).learnables]
    return node.op, weights(graph, node), node.attrs.get("init"), node.attrs.get("per_step")


# -- small images ---------------------------------------------------------------------------------


def resized(graph: Graph, height: int, width: int) -> Graph | None:
    """Return the network with the same weights for images of another size, or None.

    None is for weights that depend on the size, loops over time, and inputs of several sizes.
    """
    if graph.carries or graph.packed is None:
        return None
    nodes: dict[int, Node] = {}
    inference = Inference(graph.neurons, nodes)
    for node in graph.nodes.values():
        if node.op == "input":
            if len(node.value.shape) != 3:
                return None
            shape = (node.value.shape[0], height, width)
            nodes[node.id] = replace(node, value=replace(node.value, shape=shape))
            continue
        values = tuple(nodes[i].value for i in node.inputs)
        try:
            value = inference.value(node.op, node.attrs, node.inputs)
        except OpError:
            return None
        at = Site(node.attrs, values, value, graph.steps, graph.neurons)
        if OPS[node.op].weights(at) != weights(graph, node):
            return None
        nodes[node.id] = replace(node, value=value)
    return replace(graph, nodes=nodes)


def smallest_map(graph: Graph) -> int:
    """Return the smallest number of pixels of a map that a convolution reads."""
    sizes = [
        prod(graph[node.inputs[0]].value.shape[1:])
        for node in graph.nodes.values()
        if OPS[node.op].weighted and node.attrs.get("kernel", 1) != 1
    ]
    return min(sizes, default=1)
