"""Makes the nodes of a graph: infers their values, names them, keeps the bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod

from danetc.compiler.ir.graph import Attribute, Graph, Node, Stage, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.loops import without_detours
from danetc.compiler.ir.ops import OPS, Context, OpError
from danetc.compiler.lowering.values import INVALID, Failed, Invalid, Wire
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reporter
from danetc.dsl.diagnostics.fixes import Fix
from danetc.dsl.loading import is_library
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record
from danetc.dsl.syntax.source import NOWHERE, Span
from danetc.dsl.work import current

MAX_NODES = 200_000
MAX_SCOPES = 20
MAX_OPERANDS = 4_000_000
MAX_WEIGHTS = 20_000_000_000
MAX_ACTIVATIONS = 100_000_000_000
MAX_STEPS = 4096
NODE, COPY, LAYER, FINISHED = 22, 8, 2, 2
"""Steps of work that an operation takes, one that is a copy, a layer that is put somewhere, and an
operation of a whole network, which is named and verified."""


@record(frozen=False)
class Built:
    """Nodes that were made one after the other, in a scope, and what they count for."""

    scope: tuple[str, ...]
    nodes: range = range(0)
    totals: tuple[int, ...] = ()


class Builder:
    """Nodes in the making. ``scope`` is where new ones stand, ``use_sites`` the uses that led here."""

    def __init__(self, reporter: Reporter, steps: int) -> None:
        self.reporter = reporter
        self.work = current()
        self.steps = steps
        self.nodes: dict[int, Node] = {}
        self.neurons: dict[str, NeuronProgram] = {}
        self.inference = Inference(self.neurons, self.nodes)
        self.scope: tuple[str, ...] = ()
        self.use_sites: list[Span] = []
        self.used: dict[int, Span] = {}  # where the user's text leads to nodes of the library's
        self._keys: dict[NeuronProgram, str] = {}
        self._numbers: Counter[str] = Counter()  # of programs by the names of their neurons
        self._taken: Counter[tuple[tuple[str, ...], str]] = Counter()
        self._operands = self._weights = self._activations = 0
        self.carries: dict[int, int] = {}  # see ``Graph``
        self.shares: dict[int, int] = {}
        self._fresh: list[tuple[tuple[str, ...], str]] = []

    # -- readings ---------------------------------------------------------------------------------

    def mark(self) -> tuple[int, ...]:
        """What has been made so far, for ``take_back``."""
        return len(self.nodes), len(self._fresh), *self._totals()

    def take_back(self, mark: tuple[int, ...]) -> int:
        """Forget the nodes that were made since a mark. Gives the id that the next one gets."""
        first, names, *totals = mark
        for id in range(first, len(self.nodes)):
            del self.nodes[id]
            self.used.pop(id, None)
            self.carries.pop(id, None)
            self.shares.pop(id, None)
            self.inference.forget(id)
        for key in self._fresh[names:]:
            self._taken[key] -= 1
        del self._fresh[names:]
        self._operands, self._weights, self._activations = totals
        return first

    # -- errors -----------------------------------------------------------------------------------

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        *,
        label: str = "",
        hint: str | None = None,
        labels: tuple[Label, ...] = (),
        blame: tuple[Label, ...] = (),
        fixes: tuple[Fix, ...] = (),
    ) -> None:
        """Report an error where the user can fix it: never in the library's own text alone.

        ``blame`` are the places where the values were written that the error comes from.
        """
        if is_library(span.source):
            own = next((item for item in blame if not is_library(item.span.source)), None)
            site = own.span if own is not None else self.own_site()
            if site is not None:
                labels = (*labels, Label(span, label or "this is where it fails"))
                span, label = site, own.text if own is not None else ""
                blame = ()
        places = {(place.start, place.source) for place in (span, *(item.span for item in labels))}
        for item in blame:
            if (item.span.start, item.span.source) not in places:
                places.add((item.span.start, item.span.source))
                labels = (*labels, item)
        self.reporter.error(code, message, span, label=label, labels=labels, hint=hint, fixes=fixes)

    def report(self, found: Iterable[Diagnostic]) -> None:
        """Report errors that another reporter has taken."""
        for item in found:
            self.error(
                item.code,
                item.message,
                item.span,
                label=item.label,
                labels=item.labels,
                hint=item.hint,
                fixes=item.fixes,
            )

    def fail(
        self,
        code: str,
        message: str,
        span: Span,
        *,
        label: str = "",
        hint: str | None = None,
        labels: tuple[Label, ...] = (),
        blame: tuple[Label, ...] = (),
    ) -> Failed:
        """Report an error and give the exception that ends the evaluation of this expression."""
        self.error(code, message, span, label=label, hint=hint, labels=labels, blame=blame)
        return Failed()

    @contextmanager
    def site(self, *spans: Span) -> Iterator[None]:
        """Uses that lead to what is made inside, the outermost first."""
        before = len(self.use_sites)
        self.use_sites.extend(spans)
        try:
            yield
        finally:
            del self.use_sites[before:]

    # -- scopes -----------------------------------------------------------------------------------

    @contextmanager
    def within(self, *names: str) -> Iterator[None]:
        """Make nodes in a scope below this one, under exactly these names."""
        outer = self.scope
        self.scope = (*outer, *names)
        try:
            yield
        finally:
            self.scope = outer

    def fresh(self, base: str) -> str:
        """A name for a scope below this one: ``base``, then ``base2``, ``base3``."""
        key = (self.scope, f"/{base}")
        self._taken[key] += 1
        self._fresh.append(key)
        number = self._taken[key]
        return base if number == 1 else f"{base}{number}"

    # -- nodes ------------------------------------------------------------------------------------

    def value(self, wire: Wire) -> Value:
        return self.nodes[wire.id].value

    def add(
        self,
        op: str,
        operands: tuple[Wire | Invalid, ...],
        attrs: Mapping[str, Attribute],
        span: Span,
        role: str | None = None,
        value: Value | None = None,
    ) -> Wire | Invalid:
        """A new node; invalid where an operand is, or where the operation reports that it can't be."""
        self.work.spend(NODE + len(operands), span)
        wires = tuple(wire for wire in operands if isinstance(wire, Wire))
        if len(wires) != len(operands):
            return INVALID
        values = tuple(self.value(wire) for wire in wires)
        attrs = _complete(op, attrs)
        if value is None:
            try:
                value = self.inference.value(op, attrs, tuple(wire.id for wire in wires))
            except OpError as error:
                self.error("E0501", error.message, span, hint=error.hint)
                return INVALID
        self._bound(op, attrs, values, value, span)
        inputs = tuple(wire.id for wire in wires)
        node = Node(len(self.nodes), op, inputs, attrs, value, self.scope, role or op, span)
        self.nodes[node.id] = node
        if self.use_sites and is_library(span.source) and (site := self.own_site()) is not None:
            self.used[node.id] = site
        return Wire(node.id)

    @contextmanager
    def building(self) -> Iterator[Built]:
        """Notes the nodes that are made inside, so that they can be copied."""
        built = Built(self.scope)
        first, before = len(self.nodes), self._totals()
        yield built
        built.nodes = range(first, len(self.nodes))
        built.totals = tuple(b - a for a, b in zip(before, self._totals(), strict=True))

    def copy(self, built: Built, feed: Wire, new_feed: Wire, use_sites: Mapping[Span, Span]) -> int:
        """Make nodes once more, in this scope, reading another value where they read ``feed``.

        That value has the same shape, which is all that an operation may reject. ``use_sites`` are the
        uses that led to the first nodes, with those that lead here. Gives by how much the ids are
        greater than those of the first ones.
        """
        nodes, infer = self.nodes, self.inference
        first, depth = built.nodes.start, len(built.scope)
        span = nodes[first].origin if built.nodes else NOWHERE
        self.work.spend(COPY * len(built.nodes), span)
        shift = len(nodes) - first
        scopes: dict[tuple[str, ...], tuple[str, ...]] = {}
        for id in built.nodes:
            old = nodes[id]
            inputs = tuple(
                [
                    i + shift if i >= first else new_feed.id if i == feed.id else i
                    for i in old.inputs
                ]
            )
            value = infer.value(old.op, old.attrs, inputs) if old.inputs else old.value
            if id in self.carries:  # the same kind comes out, as the same goes in (``Repeats``)
                self.carries[id + shift] = self.carries[id] + shift
            scope = scopes.get(old.scope)
            if scope is None:
                scope = scopes[old.scope] = (*self.scope, *old.scope[depth:])
            nodes[id + shift] = Node(
                id + shift, old.op, inputs, old.attrs, value, scope, old.name, old.origin
            )
            if (site := self.used.get(id)) is not None:
                self.used[id + shift] = use_sites.get(site, site)
        operands, weights, activations = built.totals
        self._operands += operands
        self._weights += weights
        self._activations += activations
        self._check_bounds(span)
        return shift

    def _totals(self) -> tuple[int, ...]:
        return self._operands, self._weights, self._activations

    def own_site(self) -> Span | None:
        """The innermost use that led here and stands in text of the user's own."""
        for site in reversed(self.use_sites):
            if not is_library(site.source):
                return site
        return None

    def _bound(
        self,
        op: str,
        attrs: Mapping[str, Attribute],
        values: tuple[Value, ...],
        value: Value,
        span: Span,
    ) -> None:
        self._operands += len(values)
        weights = OPS[op].weights(attrs, values, Context(self.steps, self.neurons))
        self._weights += sum(map(prod, weights.values()))
        self._activations += prod(value.shape) * (self.steps if value.varies else 1)
        self._check_bounds(span)

    def _check_bounds(self, span: Span) -> None:
        for number, limit, code, what in (
            (len(self.nodes), MAX_NODES, "E0903", "operations"),
            (self._operands, MAX_OPERANDS, "E0903", "connections between operations"),
            (self._weights, MAX_WEIGHTS, "E0904", "parameters"),
            (self._activations, MAX_ACTIVATIONS, "E0905", "activations for one image"),
        ):
            if number > limit:
                raise self._too_large(code, limit, what, span)

    def count_layer(self, span: Span) -> None:
        """Count a layer that is put somewhere, whether or not it makes a node."""
        self.work.spend(LAYER, span)
        if len(self.scope) > MAX_SCOPES:
            raise self.fail(
                "E0902",
                f"layers are nested more than {MAX_SCOPES} deep",
                span,
                hint="give a block its parts side by side, and repeat it by a stage",
            )

    def foresee(self, nodes: int, span: Span) -> None:
        """End early where so many more nodes would pass the limit."""
        if len(self.nodes) + nodes > MAX_NODES:
            raise self._too_large("E0903", MAX_NODES, "operations", span)

    def _too_large(self, code: str, limit: int, what: str, span: Span) -> Failed:
        hint = "make the network narrower, shallower, its image smaller or its steps fewer"
        return self.fail(code, f"the network has more than {limit:,} {what}", span, hint=hint)

    def neuron_key(self, program: NeuronProgram) -> str:
        """The key under which the graph holds a neuron's program."""
        key = self._keys.get(program)
        if key is None:
            self._numbers[program.name] += 1
            number = self._numbers[program.name]
            key = program.name if number == 1 else f"{program.name}_{number}"
            while key in self.neurons:  # the name of another neuron
                number = self._numbers[program.name] = number + 1
                key = f"{program.name}_{number}"
            self._keys[program] = key
            self.neurons[key] = program
        return key

    def finish(
        self, name: str, outputs: Mapping[str, int], stages: tuple[Stage, ...], stem: int
    ) -> Graph:
        """The graph, its nodes named: ``conv`` where a scope has one, else ``conv1``, ``conv2``, ...

        Numbers count from 1 in the order in which nodes were made. A name that a scope has is left
        out: the two would be one module.
        """
        self.work.spend(FINISHED * len(self.nodes))
        stand = {node.scope for node in self.nodes.values()}
        scopes = {scope[:depth] for scope in stand for depth in range(len(scope) + 1)}
        inner = {(scope[:-1], scope[-1]) for scope in scopes if scope}
        places = [(node.scope, node.name) for node in self.nodes.values()]
        taken, counts = Counter(places), Counter[tuple[tuple[str, ...], str]]()
        nodes = {}
        for place, node in zip(places, self.nodes.values(), strict=True):
            if node.op == "input" or (taken[place] == 1 and place not in inner):
                nodes[node.id] = node
                continue
            own = node.name
            while own == node.name or (node.scope, own) in inner or (node.scope, own) in taken:
                counts[place] += 1
                own = f"{node.name}{counts[place]}"
            nodes[node.id] = Node(
                node.id, node.op, node.inputs, node.attrs, node.value, node.scope, own, node.origin
            )
        carries = self.carries
        graph = Graph(name, self.steps, nodes, outputs, stages, dict(self.neurons), stem, carries)
        if self.shares:
            graph = replace(graph, shares=dict(self.shares))
        return without_detours(graph) if carries else graph


_NO_ATTRIBUTES: Mapping[str, Attribute] = {}  # models hold graphs, and pickle takes no view of one


def _complete(op: str, attrs: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    """Attributes with the field's defaults for those that depend on others."""
    # one for all without, by which their values are found again
    return OPS[op].completed(attrs) if OPS[op].parameters or attrs else _NO_ATTRIBUTES
