"""Emission to torch.fx: one GraphModule for each scope of the graph.

A scope takes and returns values with separate time and batch dimensions: [T, N, ...], or [N, ...]
for values that do not vary. Inside, layers of torch.nn get T and N as one dimension, and chains of
them stay in that layout. The code of a model consists of calls to an allow-list of modules
(``bodies.resolve``); no text is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn

from danetc.compiler.analysis.summary import summarise, why_steps_are_fixed, why_whole
from danetc.compiler.emit.bodies import ScopeBody, StepBody, is_stepping, parameter, resolve
from danetc.compiler.emit.init import construct, initialise, seed_of
from danetc.compiler.emit.names import attribute, dotted
from danetc.compiler.emit.scopes import LoopUnit, Path, Scopes, ScopeTree, Unit, members_of
from danetc.compiler.ir.at_node import before_neurons, call_of, same_for_all
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchFunction, TorchModule
from danetc.compiler.passes.fusion_groups import FusionGroup, FusionPlan
from danetc.compiler.passes.recompute import NO_SEGMENTS, Segments
from danetc.dsl.kinds import ANALOG
from danetc.dsl.loading import is_library
from danetc.dsl.syntax.source import NOWHERE
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.loop import Loop, LoopState
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.registered import Registration
from danetc.runtime.layers.segments import KIND, PLACE, SEGMENT, Recomputed, Segment
from danetc.runtime.layers.weight_layer import with_weight_layer
from danetc.runtime.model.built import Model, ModuleGroup, ScopeModule
from danetc.runtime.model.signature import ModelInput, Signature
from danetc.runtime.model.weight_files import once


def _html(graph: Graph) -> str:
    """Picture of the model for a notebook."""
    from danetc.compiler.draw.html import to_html

    return to_html(graph)


class Emitter:
    """Build the model of a graph; with a fusion plan, the model runs ``plan.graph``.

    A backend overrides ``initialise``, ``layer`` and ``neuron``.
    """

    kind: type[Model] = Model

    def __init__(
        self,
        graph: Graph,
        seed: int = 0,
        plan: FusionPlan | None = None,
        segments: Segments = NO_SEGMENTS,
    ) -> None:
        self.whole = graph  # with all modules; ``self.graph`` is what runs
        self.groups: Mapping[int, FusionGroup] = plan.groups if plan is not None else {}
        self.segments = segments
        self.graph = plan.graph if plan is not None else graph
        self.scopes = Scopes(self.graph, graph)
        self.users = self.scopes.users
        self.shared = same_for_all(self.graph)
        self.seed = seed
        self.modules: dict[int, nn.Module] = {}
        self.loops: list[tuple[LoopUnit, Loop, list[str]]] = []
        self.paths = {n.id: dotted(*n.scope, n.name) for n in graph.nodes.values()}

    def model(self) -> Model:
        body, root = self.build()
        graph, sources = self.whole, self.graph.inputs
        packed = graph.packed
        names = [str(node.target) for node in body.graph.find_nodes(op="placeholder")]
        signature = Signature(
            graph.steps,
            packed.shape if packed is not None else (),
            {name: graph[id].value.shape for name, id in graph.outputs.items()},
            any(source.value.varies for source in sources),
            why_steps_are_fixed(graph),
            packed.kind if packed is not None else ANALOG,
            why_whole(graph),
            {
                name: ModelInput(source.value.shape, source.value.varies, source.value.kind)
                for name, source in zip(names, sources, strict=True)
                if len(sources) > 1
            },
            tuple(self.paths[id] for id in before_neurons(graph) if id in self.modules),
        )
        model = self.kind(root, body.graph, signature, graph, _html, summarise)
        self._bind(model)
        if graph.shares:
            shares = {id: of for id, of in graph.shares.items() if id in self.modules}
            once(model, {self.paths[id]: self.paths[of] for id, of in shares.items()})
        return model

    def build(self) -> tuple[ScopeBody, nn.Module]:
        """Construct and initialise all modules, and write the scope of the network."""
        graph = self.whole
        self.calls: dict[int, TorchModule | TorchFunction] = {}
        for node in graph.nodes.values():
            if (call := call_of(graph, node)) is not None:
                self.calls[node.id] = self.layer(node, call)
        for id, call in sorted(self.calls.items()):  # in the order of the spec
            if id in graph.shares and isinstance(call, TorchModule):
                self.modules[id] = self.modules[graph.shares[id]]
            elif isinstance(call, TorchModule):
                self.modules[id] = construct(call, resolve(call.target), self.seed + id)
        for group in self.groups.values():
            self.modules[group.neuron] = self.neuron(group, self.calls[group.neuron])
        self.initialise()
        for id in self.groups.keys() & graph.shares.keys():
            layer, first = self.modules[id], self.modules[graph.shares[id]]
            assert isinstance(layer, Neuron)
            assert isinstance(first, Neuron)
            layer.share(first)
        for node in graph.nodes.values():
            weight_layer = graph.weight_layer(node)
            if weight_layer is not None and node.id not in graph.shares:
                own = Emitter(weight_layer, seed_of(self.seed, f"{node.path}.weight_layer"))
                body, root = own.build()
                made = ScopeModule(root, body.graph, "WeightLayer")
                with_weight_layer(self.modules[node.id], made)
        outputs = list(self.graph.outputs.values())  # may differ from those of ``graph``
        return self._body(self.scopes.tree, [node.id for node in graph.inputs], outputs)

    def _bind(self, model: Model) -> None:
        """Tell layers that call modules registered elsewhere where to find them."""
        for group in self.groups.values():
            neuron = self.modules[group.neuron]
            assert isinstance(neuron, FusedNeuron)
            between = partial(Registration.between, model, self.paths[group.neuron])
            neuron._bind([None if id is None else between(self.paths[id]) for id in group.norms])
        for unit, loop, names in self.loops:
            loop.bind(model.get_submodule(dotted(*unit.path)), names)

    def initialise(self) -> None:
        """Draw the first weights of the modules."""
        initialise(self.whole, self.modules, self.seed)

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        """Return the torch call for a node; ``call`` is the default."""
        return call

    def neuron(self, group: FusionGroup, call: TorchModule | TorchFunction) -> nn.Module:
        """Return the layer of a fusion group, which contains norms of ``self.modules``."""
        raise NotImplementedError

    def _place(self, node: Node) -> str:
        """The path of a node and, if known, the line of the user's text, for messages."""
        span = node.origin
        if is_library(span.source):
            within = (stage for stage in self.whole.stages if _holds(stage.scope, node.scope))
            span = next((stage.origin for stage in within), span)
        known = span.source is not NOWHERE.source
        return f"`{node.path}`" + (f" ({span.source.name}:{span.line})" if known else "")

    def _segment(self, unit: Unit) -> Segment | None:
        """The segment that contains all of a unit, if there is one."""
        found = {self.segments.of.get(id) for id in members_of(unit)}
        index = found.pop()
        return None if found or index is None else Segment(index, index in self.segments.random)

    def _loop(self, unit: LoopUnit, taken: Sequence[int], made: Sequence[int]) -> None:
        """Build the layer of a loop over time."""
        graph = self.graph
        nodes = [graph[id] for id in unit.members]
        carries = [node for node in nodes if node.id in graph.carries]
        body = StepBody(graph.nodes, self.shared, len(unit.path))
        names: set[str] = set()
        for node in (*(graph[id] for id in taken), *carries):
            label = "_".join(_within(unit.path, node))
            body.define(node.id, parameter(body.graph, label, names))
        nodes = [node for node in nodes if node.id not in graph.carries]
        targets = {node.id: body.target((*node.scope, node.name)) for node in nodes}
        stateful = [node.id for node in nodes if is_stepping(self.calls[node.id])]
        body.states = {
            id: parameter(body.graph, f"{targets[id].replace('.', '_')}_state", names)
            for id in stateful
        }
        for node in nodes:
            body.node(node, self.calls[node.id])
            body.seq[node.id].meta[PLACE] = self._place(node)
        results = [*made, *(graph.carries[node.id] for node in carries)]
        body.graph.output(
            (*(body.as_seq(id) for id in results), *(body.states[id] for id in stateful))
        )
        root = ModuleGroup()
        called = {id: target for id, target in targets.items() if id in self.modules}
        for id, target in called.items():
            holder: nn.Module = root
            *holders, last = target.split(".")
            for part in holders:
                if part not in holder._modules:
                    holder.add_module(part, ModuleGroup())
                holder = holder.get_submodule(part)
            holder.add_module(last, self.modules[id])
        loop = Loop(
            ScopeModule(root, body.graph, "Step"),
            [len(graph[id].value.shape) for id in taken],
            [
                LoopState(
                    dotted(*_within(unit.path, node)),
                    int(node.attrs["steps"] or 1),
                    node.value.shape,
                )
                for node in carries
            ],
            [targets[id] for id in stateful],
            len(made),
            graph.steps,
            next(place for place, id in enumerate(taken) if id not in self.shared),
        )
        self.loops.append((unit, loop, list(called.values())))

    def _body(
        self, tree: ScopeTree, inputs: Sequence[int], outputs: Sequence[int], inside: bool = False
    ) -> tuple[ScopeBody, nn.Module]:
        """Write a scope. ``inside`` means that one segment contains all of it."""
        body = ScopeBody(self.graph.nodes, self.shared, len(tree.path))
        names: set[str] = set()
        for id in inputs:
            base = "x" if len(inputs) == 1 else self.graph[id].name
            body.define(id, parameter(body.graph, base, names))
        scopes: dict[Path, nn.Module] = {}
        for unit, taken, made in self.scopes.walk(tree):
            # The root has no segments: a scope in it is a segment by itself.
            body.segment = self._segment(unit) if tree.path and not inside else None
            if isinstance(unit, Node):
                body.node(unit, self.calls[unit.id])
            elif isinstance(unit, LoopUnit):
                self._loop(unit, taken, made)
                body.call(unit.target, unit.name, taken, made)
            else:
                inner, held = self._body(unit, taken, made, inside or body.segment is not None)
                recomputed = any(SEGMENT in node.meta for node in inner.graph.nodes)
                kind = Recomputed if recomputed else ScopeModule
                scopes[unit.path] = kind(held, inner.graph)
                body.call(unit.path, unit.local, taken, made)
        body.segment = None
        body.give(outputs)
        for id, value in (*body.flat.items(), *body.seq.items()):
            value.meta[KIND] = self.whole[id].value.kind
            value.meta[PLACE] = self._place(self.whole[id])
        root = nn.Module()
        self._register(root, self.scopes.holders[tree.path], scopes)
        return body, root

    def _register(
        self, holder: nn.Module, tree: ScopeTree, scopes: Mapping[Path, nn.Module]
    ) -> None:
        """Register the modules of a scope in ``holder`` in the order of the spec."""
        for name, entry in tree.entries():
            if isinstance(entry, Node):
                if entry.id in self.modules:
                    holder.add_module(attribute(name), self.modules[entry.id])
            elif entry.path in scopes:
                holder.add_module(attribute(name), scopes[entry.path])
            else:
                group = ModuleGroup()
                self._register(group, entry, scopes)
                holder.add_module(attribute(name), group)
        for unit, loop, _ in self.loops:
            if unit.path == tree.path:
                holder.add_module(attribute(unit.name), loop)


def _holds(outer: Path, scope: Path) -> bool:
    return scope[: len(outer)] == outer


def _within(scope: Path, node: Node) -> Path:
    """The path of a node from ``scope``; the name alone for a node outside of it."""
    return (*node.scope[len(scope) :], node.name) if _holds(scope, node.scope) else (node.name,)
