"""Construction of graph nodes: inference, names, limits, errors, and a trace for editors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import field, replace
from math import prod

from danetc.compiler.ir.graph import Attribute, Graph, Node, Stage, Value, unique
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.loops import without_detours
from danetc.compiler.ir.ops import OPS, OpError, Site
from danetc.compiler.lowering.values import Failed, Wire
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reporter
from danetc.dsl.loading import is_library
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.work import current

MAX_NODES = 200_000
MAX_SCOPES = 20
MAX_OPERANDS = 4_000_000
MAX_WEIGHTS = 20_000_000_000
MAX_ACTIVATIONS = 100_000_000_000
MAX_STEPS = 4096
_NO_ATTRIBUTES: Mapping[str, Attribute] = {}  # a mapping proxy cannot be pickled
NODE, FINISHED = 22, 2
"""Steps of work for adding an operation, and for naming it at the end."""


@record(frozen=False)
class Trace:
    """Values of the spans of one network's text, including those computed before an error.

    A note is a span of an expression or layer, its node, and the node of a layer's input. A span in
    a block has one for each use of the block. ``steps`` counts the work of a check of the network.
    """

    nodes: Mapping[int, Node] = field(default_factory=dict)
    carries: Mapping[int, int] = field(default_factory=dict)
    notes: list[tuple[Span, int, int | None]] = field(default_factory=list)
    steps: int = 0


class Builder:
    """Makes nodes in ``scope``; ``use_sites`` lists the uses that lead to it, outermost first."""

    def __init__(self, reporter: Reporter, trace: Trace | None = None) -> None:
        self.reporter = reporter
        self.trace = trace  # requested by an editor
        self.work = current()
        self.steps = 1
        self.nodes: dict[int, Node] = {}
        self.neurons: dict[str, NeuronProgram] = {}
        self.inference = Inference(self.neurons, self.nodes)
        self.scope: tuple[str, ...] = ()
        self.use_sites: tuple[Span, ...] = ()
        self.used: dict[int, Span] = {}  # user's spans of nodes of library code
        self.carries: dict[int, int] = {}  # see ``Graph``
        self.shares: dict[int, int] = {}
        self.weight_layers: dict[str, Graph] = {}
        if trace is not None:
            trace.nodes, trace.carries = self.nodes, self.carries
        self.totals = (0, 0, 0)  # operands, weights, activations
        self._keys: dict[NeuronProgram, str] = {}
        self.taken: Counter[tuple[tuple[str, ...], str]] = Counter()

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
    ) -> Failed:
        """Report an error and return the exception that ends the evaluation of its expression."""
        self.report(Diagnostic(code, message, span, label, labels, hint), blame)
        return Failed()

    def report(self, found: Diagnostic, blame: tuple[Label, ...] = ()) -> None:
        """Report an error; one in the library is reported at the user's text that leads to it.

        ``blame`` labels the spans of the values that cause the error.
        """
        labels = found.labels
        if is_library(found.span.source):
            own = next((item for item in blame if not is_library(item.span.source)), None)
            site = own.span if own is not None else self.own_site()
            if site is not None:
                labels = (*labels, Label(found.span, found.label or "the error occurs here"))
                found = replace(found, span=site, label=own.text if own is not None else "")
                blame = ()
        places = {(it.start, it.source) for it in (found.span, *(label.span for label in labels))}
        for item in blame:
            if (item.span.start, item.span.source) not in places:
                places.add((item.span.start, item.span.source))
                labels = (*labels, item)
        self.reporter.add(replace(found, labels=labels))

    def note(self, span: Span, id: int, before: int | None = None) -> None:
        """Record the value of a span in the trace, unless it lies in the library."""
        if self.trace is not None and not is_library(span.source):
            self.trace.notes.append((span, id, before))

    # -- scopes -----------------------------------------------------------------------------------

    @contextmanager
    def changed(self, **values: object) -> Iterator[None]:
        """Set attributes of this object inside the context."""
        outer = {name: getattr(self, name) for name in values}
        vars(self).update(values)
        try:
            yield
        finally:
            vars(self).update(outer)

    def site(self, *spans: Span) -> AbstractContextManager[None]:
        """Add uses, outermost first, that lead to the nodes made inside the context."""
        return self.changed(use_sites=(*self.use_sites, *spans))

    def within(self, *names: str) -> AbstractContextManager[None]:
        """Make nodes in a scope below the current one."""
        return self.changed(scope=(*self.scope, *names))

    def fresh(self, base: str) -> str:
        """Return an unused name of a scope below this one: ``base``, ``base2``, ``base3``, ..."""
        self.taken[self.scope, base] += 1
        number = self.taken[self.scope, base]
        return base if number == 1 else f"{base}{number}"

    # -- nodes ------------------------------------------------------------------------------------

    def value(self, wire: Wire) -> Value:
        return self.nodes[wire.id].value

    def add(
        self,
        op: str,
        operands: tuple[Wire, ...],
        attrs: Mapping[str, Attribute],
        span: Span,
        role: str | None = None,
        value: Value | None = None,
    ) -> Wire:
        """Add a node. Raises Failed if the operation rejects its operands (E0501)."""
        self.work.spend(NODE + len(operands), span)
        values = tuple(map(self.value, operands))
        ids = tuple(wire.id for wire in operands)
        # all nodes without attributes share one mapping, which is part of the key of their values
        attrs = OPS[op].completed(attrs) if OPS[op].parameters or attrs else _NO_ATTRIBUTES
        if value is None:
            try:
                value = self.inference.value(op, attrs, ids)
            except OpError as error:
                raise self.error("E0501", error.message, span, hint=error.hint) from None
        inputs, numbers, activations = self.totals
        weights = OPS[op].weights(Site(attrs, values, value, self.steps, self.neurons))
        self.totals = (
            inputs + len(values),
            numbers + sum(map(prod, weights.values())),
            activations + prod(value.shape) * (self.steps if value.varies else 1),
        )
        self.check_bounds(span)
        node = Node(len(self.nodes), op, ids, attrs, value, self.scope, role or op, span)
        self.nodes[node.id] = node
        if self.use_sites and is_library(span.source) and (site := self.own_site()) is not None:
            self.used[node.id] = site
        return Wire(node.id)

    def own_site(self) -> Span | None:
        """Return the innermost use in the user's text, or None."""
        own = (site for site in reversed(self.use_sites) if not is_library(site.source))
        return next(own, None)

    def check_bounds(self, span: Span, more: int = 0) -> None:
        """Report a network that is too large, or would be with ``more`` operations."""
        operands, weights, activations = self.totals
        for number, limit, code, what in (
            (len(self.nodes) + more, MAX_NODES, "E0903", "operations"),
            (operands, MAX_OPERANDS, "E0903", "connections between operations"),
            (weights, MAX_WEIGHTS, "E0904", "parameters"),
            (activations, MAX_ACTIVATIONS, "E0905", "activations for one image"),
        ):
            if number > limit:
                message = f"the network has more than {limit:,} {what}"
                hint = "reduce widths, depth, image size or time steps"
                raise self.error(code, message, span, hint=hint)

    def neuron_key(self, program: NeuronProgram) -> str:
        """Return the key of a neuron's program in the graph, which is its name if possible."""
        key = self._keys.get(program)
        if key is None:
            key = unique(program.name, self.neurons.__contains__, "_")
            self._keys[program] = key
            self.neurons[key] = program
        return key

    def finish(
        self, name: str, outputs: Mapping[str, int], stages: tuple[Stage, ...], stem: int
    ) -> Graph:
        """Return the graph. Nodes of a scope that share a name become ``conv1``, ``conv2``, ...

        Names of inner scopes are skipped, because a node and a scope cannot have the same name.
        """
        self.work.spend(FINISHED * len(self.nodes))
        scopes = {node.scope for node in self.nodes.values()}
        inner = {(scope[:d], scope[d]) for scope in scopes for d in range(len(scope))}
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
        neurons, carries, shares = dict(self.neurons), self.carries, dict(self.shares)
        graph = Graph(name, self.steps, nodes, outputs, stages, neurons, stem, carries, shares)
        if self.weight_layers:
            used = {value for node in nodes.values() for value in node.attrs.values()}
            neurons = {key: item for key, item in self.neurons.items() if key in used}
            layers = {key: item for key, item in self.weight_layers.items() if key in used}
            graph = replace(graph, neurons=neurons, weight_layers=layers)
        return without_detours(graph) if carries else graph
