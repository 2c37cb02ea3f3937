"""Operations, neurons and shared layers, applied to values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from danetc.compiler.ir.graph import Attribute, Graph, Node, unique
from danetc.compiler.ir.graph import Value as NodeValue
from danetc.compiler.ir.ops import OPS, OpError, Site, text
from danetc.compiler.ir.ops.row import START, WEIGHT
from danetc.compiler.ir.ops.shapes import is_known
from danetc.compiler.ir.ops.weighted import weight_map
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.environment import Env
from danetc.compiler.lowering.evaluator import numbers_in
from danetc.compiler.lowering.names import NamedValues
from danetc.dsl.diagnostics.diagnostic import Label, Reporter
from danetc.dsl.kinds import ANALOG
from danetc.dsl.loading import is_library
from danetc.dsl.neuron.equations import compile_neuron
from danetc.dsl.neuron.program import Learn, Wired
from danetc.dsl.syntax.source import Span

MAX_LAYERS = 10_000
COMPILATION = 600  # steps of work for a neuron, in addition to those of its operations


class LayerCalls(NamedValues):
    """Application of operations, neurons and shared layers."""

    def apply_operation(self, layer: v.OpLayer, wire: v.Wire) -> v.Wire:
        """Apply an operation, or the operations that replace it."""
        row, place, before = OPS[layer.op], layer.at, len(self.nodes)
        if row.random and row.same(layer.attrs):
            return wire
        start = self.settings.get("init")
        takes_start = START in row.parameters and layer.attrs.get("init") is None
        if takes_start and isinstance(start, v.Initial):
            layer = layer.having(init=start.text)
        weight: Any = None
        if WEIGHT in row.parameters:
            weight = layer.attrs.get("weight") or v.known(self.settings.get("weight"))
        if weight is not None:
            layer = layer.having(weight=None)
        try:
            if row.stands_for is not None:
                op, attrs = row.stands_for(layer.attrs, lambda: self._threshold(layer.span))
                layer = v.OpLayer(op, dict(attrs), layer.span, layer.role)
            if row.chosen is not None:
                *first, layer = _operations_of(layer, self.value(wire), self.steps)
                for step in first:
                    wire = self.add(step.op, (wire,), step.attrs, step.span, step.role)
        except OpError as error:
            raise self.error("E0501", error.message, layer.span, hint=error.hint) from None
        if OPS[layer.op].flattens and len(self.value(wire).shape) == 3:
            wire = self.add("flatten", (wire,), {}, layer.span)
        if OPS[layer.op].takes_steps:
            wire = self.at_each_step(wire, layer.span)
        stated = {item.name for item in OPS[layer.op].parameters if item.shape_of}
        attrs = {name: value for name, value in layer.attrs.items() if name not in stated}
        made = self.add(layer.op, (wire,), attrs, layer.span, layer.role)
        for name in stated & layer.attrs.keys():
            self._check_shape(layer, name, made)
        self._note_place(made, place)
        if v.is_layer(weight) and not isinstance(weight, v.Identity):
            nodes = (self.nodes[id] for id in range(before, len(self.nodes)))
            node = next(node for node in nodes if WEIGHT in OPS[node.op].parameters)
            self._apply_to_weight(weight, node, layer.span)
        return made

    def _apply_to_weight(self, layer: v.Layer, node: Node, span: Span) -> None:
        """Lower a layer with the weight of a node as its input, to a graph of its own."""
        weight = self._weights(node)["weight"]
        if not is_known(weight):
            return  # in the first reading of a loop
        size, first, settings = weight_map(node, weight), len(self.nodes), dict(self.settings)
        settings.pop("weight", None)  # not for layers inside the weight layer
        with self.changed(scope=(), taken=Counter(), settings=settings):
            roll_back = self.mark()
            try:
                of = NodeValue(size, ANALOG, False)
                source = self.add("input", (), {"events": False}, span, "weight", of)
                made = self.apply(layer, source, span)
                if made == source:
                    return
                graph = self._weight_graph(layer, first, made, span)
            finally:
                roll_back()
        known = self.weight_layers.items()
        key = next((key for key, other in known if other == graph), None)
        if key is None:
            key = unique(graph.name, self.weight_layers.__contains__, " ")
            self.weight_layers[key] = graph
        self.nodes[node.id] = replace(node, attrs={**node.attrs, "weight": key})

    def _weight_graph(self, layer: v.Layer, first: int, made: v.Wire, span: Span) -> Graph:
        """Return the nodes from ``first`` on as a graph. Raises Failed if they cannot run on a weight."""
        nodes = [self.nodes[id] for id in range(first, len(self.nodes))]
        for node in nodes:
            if reason := self._why_not_on_weight(node, first):
                raise self.error(
                    "E0510",
                    f"a weight {reason}",
                    span,
                    labels=(Label(node.origin, "this cannot be applied to a weight"),),
                    hint="a layer of weights consists of functions, learnable values and layers without "
                    "time steps, such as `layernorm`",
                )
        wanted, found = nodes[0].value.shape, self.value(made).shape
        if found != wanted:
            message = f"the layer of a weight of {text(wanted)} returns {text(found)}"
            hint = (
                "multiply `in` by the result, or add it: `out = in * (in -> mean(over = pixels))`"
            )
            raise self.error("E0501", message, span, hint=hint)
        own = {
            node.id - first: replace(
                node, id=node.id - first, inputs=tuple(id - first for id in node.inputs)
            )
            for node in nodes
        }
        name = getattr(layer, "name", "") or getattr(layer, "op", "") or "weight"
        with self.changed(nodes=own, carries={}, shares={}):
            return self.finish(name, {"out": made.id - first}, (), 0)

    def _why_not_on_weight(self, node: Node, first: int) -> str:
        """Return why a node cannot run on a weight, or ""."""
        row = OPS[node.op]
        if node.inputs and min(node.inputs) < first:
            return "cannot depend on values of the network"
        if node.id in self.carries or node.value.varies or row.time not in ("pointwise", "neuron"):
            return "has no time steps"
        if node.id in self.shares:
            return "has no layers that other layers share"
        if row.opaque:
            return "cannot go through a layer in Python"
        if row.norm == "channel" or row.random:
            return "has no statistics and no noise"
        return ""

    def _check_shape(self, layer: v.OpLayer, name: str, made: v.Wire) -> None:
        """Report a result whose shape differs from the one that an argument states."""
        shape = self.value(made).shape
        wanted = str(layer.attrs[name]).split("x")
        if list(map(str, shape)) != wanted and is_known(shape):
            stated = f"`{name}` is {' x '.join(wanted)}"
            message = f"{layer.op}: {stated}, but the shape is {text(shape)}"
            hint = f"leave out `{name}`: the shape follows from the input"
            self.error("E0501", message, layer.span, hint=hint)

    def _note_place(self, made: v.Wire, at: Span | None) -> None:
        """Record where the user wrote the `spike` or `norm` of a node."""
        if at is not None:
            site = self.own_site() if is_library(at.source) else None
            self.written_at[made.id] = site or at

    # -- neurons ----------------------------------------------------------------------------------

    def _threshold(self, span: Span) -> float:
        """Return V_th of the network's neuron, which scales the weights of tdBN."""
        setting = self.setting_of("neuron", span)
        assert isinstance(setting, v.Bound)  # checked where it is set
        neuron = self.follow_alias(setting)
        value = numbers_in(self.complete(neuron).values).get("v_threshold")
        if value is not None:
            return value.start if isinstance(value, Learn) else float(value)
        message = f"tdbn needs a constant `v_threshold`, which `{neuron.name}` does not have"
        hint = "give the neuron a parameter `v_threshold`, or choose another norm"
        raise self.error("E0404", message, span, hint=hint)

    def apply_neuron(self, bound: v.Bound, wire: v.Wire) -> v.Wire:
        """Apply a neuron; its equations are compiled once for each set of arguments."""
        span, at = bound.span, bound.at
        bound = self.follow_alias(bound)
        own = self.complete(bound)
        others = {name: value for name, value in own.values.items() if isinstance(value, v.Wire)}
        args = {**numbers_in(own.values), **dict.fromkeys(others, Wired.INPUT)}
        setting = v.known(self.settings.get("surrogate"))
        if setting is None and "heaviside" in self.names_in(bound.declaration):
            self.setting_of("surrogate", span)
        surrogate, stand_in = None, Env(own.module, "surrogate")
        if setting is not None:
            assert isinstance(setting, v.Bound)  # checked where it is set
            setting = self.follow_alias(setting)
            surrogate, stand_in = setting.declaration, self.complete(setting)
        slopes = numbers_in(stand_in.values)
        key = (id(bound.declaration), *args.items(), id(surrogate), *slopes.items())
        if key not in self.programs:
            programs = self.shared.programs
            if key not in programs:
                found = Reporter()
                self.work.spend(COMPILATION, span)
                program = compile_neuron(
                    bound.declaration,
                    args,
                    surrogate,
                    slopes,
                    found,
                    argument_spans=_own_places(own),
                    surrogate_spans=_own_places(stand_in),
                )
                with self.site(span):
                    for item in found.diagnostics:
                        self.report(item)
                if program is None:
                    raise v.Failed
                programs[key] = program
            self.programs[key] = self.neuron_key(programs[key])
        attrs: dict[str, Attribute] = {"neuron": self.programs[key]}
        draws = map(v.LearntValue, self.neurons[self.programs[key]].draws)
        inputs = wire, *others.values(), *(self.parameter(draw, wire, span) for draw in draws)
        if len(inputs) > 1:
            wire = self.join("beside", inputs, span)
            attrs["inputs"] = len(inputs)
        made = self.add("neuron", (wire,), attrs, span, "spike")
        self._note_place(made, at)
        if at is None and (reset := self._reset_settings(bound, own)):
            self.resets[made.id] = reset
        return made

    def _reset_settings(self, bound: v.Bound, own: Env) -> tuple[v.ArgumentOrigin, ...]:
        """Return arguments of the network's neuron that a layer naming it resets to defaults."""
        network = self.settings.get("neuron")
        if not isinstance(network, v.Bound):
            return ()
        network = self.follow_alias(network)
        if network.declaration is not bound.declaration:
            return ()
        return tuple(
            network.given[name]
            for name, value in network.args.items()
            if name not in bound.args and value != own.values[name] and name in network.given
        )

    # -- flows and shared layers ------------------------------------------------------------------

    def flat_layers(self, layer: v.Layer, span: Span) -> list[v.Layer]:
        """Return the layers of a flow; names and nested flows are expanded."""
        layers = list(islice(_flatten(layer), MAX_LAYERS + 1))
        if len(layers) > MAX_LAYERS:
            raise self.error("E0903", f"a flow of more than {MAX_LAYERS:,} layers", span)
        return layers

    def apply_shared(self, part: v.SharedLayer, wire: v.Wire, span: Span) -> v.Wire:
        """Apply a shared layer. Its first use creates the weights; later uses share them."""
        first = len(self.nodes)
        made = self.apply(part.layer, wire, span)
        new = (self.nodes[id] for id in range(first, len(self.nodes)))
        own = tuple(node.id for node in new if self._weights(node) or self._is_stateful(node))
        owners = self.shared_nodes.setdefault(part, own)
        if owners is own:
            return made
        pairs = [(self.nodes[a], self.nodes[b]) for a, b in zip(own, owners, strict=False)]
        if len(own) != len(owners) or not all(self._alike(*pair) for pair in pairs):
            raise self.error(
                "E0411",
                "the layers or weights of a shared layer differ here from its first use",
                span,
                labels=(Label(part.span, "it is shared here"),),
                hint="give it values with the same number of channels, or leave out `shared`",
            )
        for id, owner in zip(own, owners, strict=True):
            self.shares[id] = self.shares.get(owner, owner)
        return made

    def _alike(self, here: Node, there: Node) -> bool:
        """True if a node can use the weights of another."""
        found = self._weights(here)
        return (here.op, here.attrs) == (there.op, there.attrs) and all(
            found[name] == shape or not is_known(found[name]) or not is_known(shape)
            for name, shape in self._weights(there).items()
        )

    def _weights(self, node: Node) -> dict[str, tuple[int, ...]]:
        values = tuple(self.nodes[i].value for i in node.inputs)
        at = Site(node.attrs, values, node.value, self.steps, self.neurons)
        return OPS[node.op].weights(at)

    def _is_stateful(self, node: Node) -> bool:
        """True for layers in Python, a neuron with learnables, and a value that training passes update."""
        if node.op == "neuron":
            return bool(self.neurons[str(node.attrs["neuron"])].learnables)
        row = OPS[node.op]
        return row.opaque or row.drawn or row.time == "constant"


def _operations_of(layer: v.OpLayer, value: NodeValue, steps: int) -> list[v.OpLayer]:
    """Return the operations that a layer consists of for this operand."""
    row = OPS[layer.op]
    assert row.chosen is not None
    attrs = {**{item.name: item.default for item in row.parameters}, **layer.attrs}
    chosen = row.chosen(attrs, (value,), steps)
    named = next((i for i, (op, _) in enumerate(chosen) if OPS[op].weighted), len(chosen) - 1)
    return [
        v.OpLayer(op, dict(attrs), layer.span, layer.role if i == named else OPS[op].role)
        for i, (op, attrs) in enumerate(chosen)
    ]


def _own_places(env: Env) -> dict[str, Span]:
    """Return the spans of the arguments that the user gave to a neuron or surrogate."""
    places = {name: given.span for name, given in env.given.items()}
    return {name: span for name, span in places.items() if not is_library(span.source)}


def _flatten(layer: v.Layer) -> Iterator[v.Layer]:
    match layer:
        case v.Sequence(steps):
            for step in steps:
                yield from _flatten(step)
        case v.Named(_, inner):
            yield from _flatten(inner)
        case _:
            yield layer


def operations(layer: v.Layer) -> list[str]:
    """Return the operations of a layer after the join of ``out``, except those without effect."""
    result: list[str] = []
    for part in _flatten(layer):
        match part:
            case v.OpLayer(op=op, attrs=attrs):
                stands_for = OPS[op].stands_for
                with suppress(OpError):  # reported where the layer is applied
                    if stands_for is not None:
                        op, attrs = stands_for(attrs, lambda: 1.0)
                result += [] if OPS[op].same(attrs) else [op]
            case v.Bound(kind="neuron"):
                result.append("neuron")
            case v.Bound(name=name):
                result.append(f"block {name}")
    return result
