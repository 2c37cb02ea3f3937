"""Makes the nodes of a graph: infers their values, names them, keeps the bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod

from danetc.compiler.graph import Attribute, Graph, Node, Stage, Value
from danetc.compiler.infer import Inference
from danetc.compiler.ops import OPS, OpError
from danetc.compiler.values import POISON, Failed, Poison, Wire
from danetc.dsl.diagnostics import Label, Reporter
from danetc.dsl.modules import is_library
from danetc.dsl.neuron_program import NeuronProgram
from danetc.dsl.source import Span

MAX_NODES = 200_000
MAX_WORK = 2_000_000
MAX_SCOPES = 20
MAX_OPERANDS = 4_000_000
MAX_WEIGHTS = 20_000_000_000
MAX_ACTIVATIONS = 100_000_000_000
MAX_STEPS = 4096


class Builder:
    """Nodes in the making. ``scope`` is where new ones stand, ``sites`` the uses that led here."""

    def __init__(self, reporter: Reporter, steps: int) -> None:
        self.reporter = reporter
        self.steps = steps
        self.nodes: dict[int, Node] = {}
        self.neurons: dict[str, str] = {}
        self.inference = Inference(self.neurons, self.nodes)
        self.scope: tuple[str, ...] = ()
        self.sites: list[Span] = []
        self.used: dict[int, Span] = {}  # where the user's text leads to nodes of the library's
        self._taken: Counter[tuple[tuple[str, ...], str]] = Counter()
        self._operands = self._weights = self._activations = self._work = 0

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
    ) -> None:
        """Report an error where the user can mend it: never in the library's own text alone.

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
        self.reporter.error(code, message, span, label=label, labels=labels, hint=hint)

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
        before = len(self.sites)
        self.sites.extend(spans)
        try:
            yield
        finally:
            del self.sites[before:]

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
        number = self._taken[key]
        return base if number == 1 else f"{base}{number}"

    # -- nodes ------------------------------------------------------------------------------------

    def value(self, wire: Wire) -> Value:
        return self.nodes[wire.id].value

    def add(
        self,
        op: str,
        operands: tuple[Wire | Poison, ...],
        attrs: Mapping[str, Attribute],
        span: Span,
        role: str | None = None,
        value: Value | None = None,
    ) -> Wire | Poison:
        """A new node; poison where an operand is, or where the operation reports that it can't be."""
        wires = tuple(wire for wire in operands if isinstance(wire, Wire))
        if len(wires) != len(operands):
            return POISON
        values = tuple(self.value(wire) for wire in wires)
        attrs = _complete(op, attrs)
        if value is None:
            try:
                value = self.inference.value(op, attrs, tuple(wire.id for wire in wires))
            except OpError as error:
                self.error("E0501", error.message, span, hint=error.hint)
                return POISON
        self._bound(op, attrs, values, value, span)
        role = role or op
        key = (self.scope, role)
        self._taken[key] += 1
        node = Node(
            len(self.nodes),
            op,
            tuple(wire.id for wire in wires),
            attrs,
            value,
            self.scope,
            role,
            span,
        )
        self.nodes[node.id] = node
        if self.sites and is_library(span.source) and (site := self.own_site()) is not None:
            self.used[node.id] = site
        return Wire(node.id)

    def own_site(self) -> Span | None:
        """The innermost use that led here and stands in text of the user's own."""
        for site in reversed(self.sites):
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
        self._weights += sum(prod(shape) for shape in OPS[op].weights(attrs, values).values())
        self._activations += prod(value.shape) * (self.steps if value.varies else 1)
        for number, limit, code, what in (
            (len(self.nodes), MAX_NODES, "E0903", "operations"),
            (self._operands, MAX_OPERANDS, "E0903", "connections between operations"),
            (self._weights, MAX_WEIGHTS, "E0904", "parameters"),
            (self._activations, MAX_ACTIVATIONS, "E0905", "activations for one image"),
        ):
            if number > limit:
                raise self._too_large(code, limit, what, span)

    def work(self, span: Span) -> None:
        """Count a layer that is put somewhere, whether or not it makes a node."""
        self._work += 1
        if len(self.scope) > MAX_SCOPES:
            raise self.fail(
                "E0902",
                f"layers are nested more than {MAX_SCOPES} deep",
                span,
                hint="give a block its parts side by side, and repeat it by a stage",
            )
        if self._work > MAX_WORK:
            raise self._too_large("E0903", MAX_WORK, "layers", span)

    def foresee(self, nodes: int, span: Span) -> None:
        """End early where so many more nodes would pass the limit."""
        if len(self.nodes) + nodes > MAX_NODES:
            raise self._too_large("E0903", MAX_NODES, "operations", span)

    def _too_large(self, code: str, limit: int, what: str, span: Span) -> Failed:
        hint = "make the network narrower, shallower, its image smaller or its steps fewer"
        return self.fail(code, f"the network has more than {limit:,} {what}", span, hint=hint)

    def neuron_key(self, program: NeuronProgram) -> str:
        """The key under which the graph holds a neuron's program."""
        text = program.text()
        number = 1
        while True:
            key = program.name if number == 1 else f"{program.name}_{number}"
            known = self.neurons.get(key)
            if known == text:
                return key
            if known is None:
                self.neurons[key] = text
                return key
            number += 1

    def finish(
        self, name: str, outputs: Mapping[str, int], stages: tuple[Stage, ...], stem: int
    ) -> Graph:
        """The graph, its nodes named: ``conv`` where a scope has one, else ``conv1``, ``conv2``, ...

        Numbers count from 1 in the order in which nodes were made. A name that a scope has is left
        out: the two would be one module.
        """
        scopes = {
            node.scope[:depth]
            for node in self.nodes.values()
            for depth in range(len(node.scope) + 1)
        }
        counts: Counter[tuple[tuple[str, ...], str]] = Counter()
        nodes = {}
        for node in self.nodes.values():
            place = (node.scope, node.name)
            if self._taken[place] == 1 and (*node.scope, node.name) not in scopes:
                nodes[node.id] = node
                continue
            counts[place] += 1
            while (*node.scope, f"{node.name}{counts[place]}") in scopes:
                counts[place] += 1
            nodes[node.id] = replace(node, name=f"{node.name}{counts[place]}")
        return Graph(name, self.steps, nodes, outputs, stages, dict(self.neurons), stem)


def _complete(op: str, attrs: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Attributes with the field's defaults for those that depend on others."""
    result = dict(attrs)
    for parameter in OPS[op].parameters:
        result.setdefault(parameter.name, parameter.default)
    if op == "conv" and result["padding"] is None:
        result["padding"] = int(result["dilation"]) * (int(result["kernel"]) // 2)  # type: ignore[arg-type]
    if op in ("maxpool", "avgpool"):
        if result["stride"] is None:
            result["stride"] = result["kernel"]
        if result["padding"] is None:
            odd_max = op == "maxpool" and int(result["kernel"]) % 2 == 1  # type: ignore[arg-type]
            result["padding"] = int(result["kernel"]) // 2 if odd_max else 0  # type: ignore[arg-type]
    return result
