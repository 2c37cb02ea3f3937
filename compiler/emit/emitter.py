"""Emission to torch.fx: one GraphModule for each scope of the graph.

A scope takes the values that cross into it and gives those that cross out of it, all of them
with time and batch apart ([T, N, ...], or [N, ...] where they do not vary). Inside, layers of
torch.nn that know no time get T and N as one dimension, and chains of them stay in that layout.
Code is made through torch.fx's graph, from targets of known modules: no text is generated.
"""

from __future__ import annotations

from torch import fx, nn

from danetc.compiler.analysis.facts import described
from danetc.compiler.emit.bodies import ScopeBody, StepBody, parameter
from danetc.compiler.emit.init import construct, initialise
from danetc.compiler.emit.names import attribute, dotted
from danetc.compiler.emit.scopes import (
    LoopUnit,
    ScopeTree,
    Unit,
    by_path,
    crossing,
    loop_units,
    schedule,
    scope_tree,
)
from danetc.compiler.emit.targets import is_stepping, resolve
from danetc.compiler.ir.at_node import call_of, same_for_all, why_fixed
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS, TorchFunction, TorchModule
from danetc.compiler.passes.fusion_groups import FusionGroup, FusionPlan
from danetc.compiler.passes.recompute import NO_SEGMENTS, Segments
from danetc.dsl.kinds import ANALOG
from danetc.dsl.loading import is_library
from danetc.dsl.syntax.source import NOWHERE
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.loop import Carried, Loop
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.registered import Registration
from danetc.runtime.layers.segments import KIND, PLACE, SEGMENT, Recomputed, Segment
from danetc.runtime.model.built import Model, ModuleGroup, ScopeModule
from danetc.runtime.model.sharing import once
from danetc.runtime.model.signature import ModelInput, Signature


def _html(graph: Graph) -> str:
    """The model as a notebook shows it."""
    from danetc.compiler.draw.html import to_html

    return to_html(graph)


class Emitter:
    """Makes the model of a graph: ``plan.graph`` of it runs where there is a plan.

    ``initialise``, ``layer`` and ``neuron`` are what a backend changes.
    """

    kind: type[Model] = Model

    def __init__(
        self,
        graph: Graph,
        seed: int = 0,
        plan: FusionPlan | None = None,
        segments: Segments = NO_SEGMENTS,
    ) -> None:
        self.whole = graph  # all that has a module; ``graph`` is what runs
        self.plan = plan
        self.segments = segments
        self.graph = graph = plan.graph if plan is not None else graph
        self.position = {id: index for index, id in enumerate(graph.nodes)}
        self.users = graph.users()
        self.shared = same_for_all(graph)
        self.seed = seed
        self.modules: dict[int, nn.Module] = {}
        self.loops: dict[tuple[str, ...], list[tuple[str, Loop]]] = {}
        self.looped: list[tuple[tuple[str, ...], Loop, list[str]]] = []

    def model(self) -> Model:
        graph = self.whole
        calls: dict[int, TorchModule | TorchFunction] = {}
        for node in graph.nodes.values():
            if node.op == "input" or node.id in graph.carries:
                continue
            call = call_of(graph, node)
            if call is None:
                raise ValueError(f"{node.path}: {node.op} has no form in torch")
            calls[node.id] = self.layer(node, call)
        for id in sorted(calls):  # in the order of the spec, whatever the passes did
            call = calls[id]
            if id in graph.shares and isinstance(call, TorchModule):
                self.modules[id] = self.modules[graph.shares[id]]
            elif isinstance(call, TorchModule):
                self.modules[id] = construct(call, resolve(call.target), self.seed + id)
        self.initialise()
        if self.plan is not None:
            for group in self.plan.groups.values():
                self.modules[group.neuron] = self.neuron(group, calls[group.neuron])
            for id in self.plan.groups.keys() & graph.shares.keys():
                layer, first = self.modules[id], self.modules[graph.shares[id]]
                assert isinstance(layer, Neuron)
                assert isinstance(first, Neuron)
                layer.share(first)

        self.calls = calls
        sources = graph.inputs
        self.holders = by_path(scope_tree(n for n in graph.nodes.values() if n.op != "input"))
        rest = (node for node in self.graph.nodes.values() if node.op != "input")
        tree = scope_tree(rest, loop_units(self.graph))
        outputs = list(self.graph.outputs.values())  # a plan may have led them over
        body, root = self._body(tree, [source.id for source in sources], outputs)
        packed, several = graph.packed, len(sources) > 1
        signature = Signature(
            graph.steps,
            packed.shape if packed is not None else (),
            {name: graph[id].value.shape for name, id in graph.outputs.items()},
            any(source.value.varies for source in sources),
            _why_fixed(graph),
            packed.kind if packed is not None else ANALOG,
            _why_whole(graph),
            {
                str(taken.target): ModelInput(
                    source.value.shape, source.value.varies, source.value.kind
                )
                for taken, source in zip(
                    body.graph.find_nodes(op="placeholder"), sources, strict=True
                )
                if several
            },
        )
        model = self.kind(root, body.graph, signature, graph, _html, described)
        self._bind(model)
        if graph.shares:
            path = {n.id: dotted(*n.scope, n.name) for n in graph.nodes.values()}
            shares = graph.shares.items()
            once(model, {path[id]: path[of] for id, of in shares if id in self.modules})
        return model

    def _bind(self, model: Model) -> None:
        """Tell the layers that call modules registered elsewhere where these are."""
        path = {n.id: dotted(*n.scope, n.name) for n in self.whole.nodes.values()}
        for group in self.plan.groups.values() if self.plan is not None else ():
            neuron = self.modules[group.neuron]
            assert isinstance(neuron, FusedNeuron)
            neuron._bind(
                [
                    None
                    if id is None
                    else Registration.between(model, path[group.neuron], path[id])
                    for id in group.norms
                ]
            )
        for part in model.modules():
            if isinstance(part, ScopeModule) and self.plan is not None:
                calls = part.graph.find_nodes(op="call_module")
                layers = {str(call.target): part.get_submodule(str(call.target)) for call in calls}
                part._set_groups(
                    {
                        target: layer
                        for target, layer in layers.items()
                        if isinstance(layer, FusedNeuron) and layer._is_group
                    }
                )
        for scope, loop, names in self.looped:
            loop.bind(model.get_submodule(dotted(*scope)), names)

    def initialise(self) -> None:
        """Give the modules their first weights."""
        initialise(self.whole, self.modules, self.seed)

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        """What a node becomes."""
        return call

    def neuron(self, group: FusionGroup, call: TorchModule | TorchFunction) -> nn.Module:
        """What runs a fusion group of the plan, with the norms of ``self.modules`` that stand in it."""
        raise NotImplementedError

    def place(self, node: Node) -> str:
        """A node for a message: its path, and the line of the user's text where that is known."""
        span = node.origin
        if is_library(span.source):
            within = (stage for stage in self.whole.stages if _holds(stage.scope, node.scope))
            span = next((stage.origin for stage in within), span)
        known = span.source is not NOWHERE.source
        return f"`{node.path}`" + (f" ({span.source.name}:{span.line})" if known else "")

    def segment(self, unit: Unit) -> Segment | None:
        """The segment that all of a unit belongs to."""
        members = [unit.id] if isinstance(unit, Node) else unit.members
        found = {self.segments.of.get(id) for id in members}
        index = found.pop()
        return None if found or index is None else Segment(index, index in self.segments.random)

    def scope(self, tree: ScopeTree, inside: bool) -> tuple[ScopeModule, list[int], list[int]]:
        """A scope below the root, the values it takes and those it gives.

        ``inside`` says that a segment holds all of it: it then has none of its own.
        """
        taken, made = crossing(tree, self.graph, self.users, self.position)
        body, root = self._body(tree, taken, made, inside)
        kind = Recomputed if any(SEGMENT in node.meta for node in body.graph.nodes) else ScopeModule
        return kind(root, body.graph), taken, made

    def loop(self, unit: LoopUnit) -> tuple[Loop, list[int], list[int]]:
        """A loop over time, the values it takes and those it gives."""
        taken, made = crossing(unit, self.graph, self.users, self.position)
        nodes = {id: self.graph[id] for id in unit.members}
        carries = [id for id in unit.members if id in self.graph.carries]
        body = StepBody(self.graph.nodes, self.shared, len(unit.path))
        taken_names: set[str] = set()

        def placeholder(base: str) -> fx.Node:
            return parameter(body.graph, base, taken_names)

        for id in (*taken, *carries):
            body.define(id, placeholder("_".join(_from(unit.path, self.graph[id]))))
        calls = {id: self.calls[id] for id in nodes if id not in self.graph.carries}
        stateful = [id for id, call in calls.items() if is_stepping(call)]
        targets = {id: body.target((*nodes[id].scope, nodes[id].name)) for id in stateful}
        body.states = {id: placeholder(f"{targets[id].replace('.', '_')}_state") for id in stateful}
        for id, call in calls.items():
            body.node(nodes[id], call)
            body.seq[id].meta[PLACE] = self.place(nodes[id])
        carried = [self.graph.carries[id] for id in carries]
        body.graph.output(
            (*(body.as_seq(id) for id in (*made, *carried)), *(body.states[id] for id in stateful))
        )
        root = ModuleGroup()
        names = {id: body.target((*nodes[id].scope, nodes[id].name)) for id in calls}
        names = {id: name for id, name in names.items() if id in self.modules}
        for id, name in names.items():
            *holders, last = name.split(".")
            holder: nn.Module = root
            for part in holders:
                if part not in holder._modules:
                    holder.add_module(part, ModuleGroup())
                holder = holder.get_submodule(part)
            holder.add_module(last, self.modules[id])
        steps = [
            Carried(
                dotted(*_from(unit.path, nodes[id])),
                int(nodes[id].attrs["steps"] or 1),
                nodes[id].value.shape,
            )
            for id in carries
        ]
        made_of = ScopeModule(root, body.graph, "Step")
        ranks = [len(self.graph[id].value.shape) for id in taken]
        sampled = next(place for place, id in enumerate(taken) if id not in self.shared)
        loop = Loop(
            made_of, ranks, steps, list(targets.values()), len(made), self.graph.steps, sampled
        )
        self.loops.setdefault(unit.path, []).append((unit.name, loop))
        self.looped.append((unit.path, loop, list(names.values())))
        return loop, taken, made

    def _body(
        self, tree: ScopeTree, inputs: list[int], outputs: list[int], inside: bool = False
    ) -> tuple[ScopeBody, nn.Module]:
        body = ScopeBody(self.graph.nodes, self.shared, len(tree.path))
        names: set[str] = set()
        for id in inputs:
            base = "x" if len(inputs) == 1 else self.graph[id].name
            body.define(id, parameter(body.graph, base, names))
        scopes: dict[tuple[str, ...], nn.Module] = {}
        for unit in schedule(tree, self.graph):
            # The root has no segments of its own: a scope in it then is one for itself.
            body.segment = self.segment(unit) if tree.path and not inside else None
            if isinstance(unit, Node):
                body.node(unit, self.calls[unit.id])
            elif isinstance(unit, LoopUnit):
                _, taken, made = self.loop(unit)
                body.call((*unit.path, unit.name), unit.name, taken, made)
            else:
                within = inside or body.segment is not None
                scopes[unit.path], taken, made = self.scope(unit, within)
                body.call(unit.path, unit.local, taken, made)
        body.segment = None
        body.give(outputs)
        for id, value in (*body.flat.items(), *body.seq.items()):
            value.meta[KIND] = self.whole[id].value.kind
            value.meta[PLACE] = self.place(self.whole[id])
        root = nn.Module()
        self._register(root, self.holders[tree.path], scopes)
        return body, root

    def _register(
        self, holder: nn.Module, tree: ScopeTree, scopes: dict[tuple[str, ...], nn.Module]
    ) -> None:
        """Hang a scope's modules into ``holder`` in the order of the spec."""
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
        for name, loop in self.loops.get(tree.path, ()):
            holder.add_module(attribute(name), loop)


def _holds(outer: tuple[str, ...], scope: tuple[str, ...]) -> bool:
    return scope[: len(outer)] == outer


def _from(scope: tuple[str, ...], node: Node) -> tuple[str, ...]:
    """What a node is called in a scope: by its name alone where it stands outside of it."""
    if not _holds(scope, node.scope):
        return (node.name,)
    return (*node.scope[len(scope) :], node.name)


def _why_fixed(graph: Graph) -> str:
    """Why a model runs for T = ``graph.steps`` alone; empty where it takes sequences of any length."""
    timeless: set[int] = set()  # made of means over time alone
    for node in graph.nodes.values():
        if what := why_fixed(graph, node):
            return f"{node.path} has {what} for each of them"
        if OPS[node.op].time in ("reduces", "constant"):
            timeless.add(node.id)
        elif node.inputs and timeless.issuperset(node.inputs):
            if node.value.varies:
                return f"{node.path}, behind a mean over time, runs that long"
            timeless.add(node.id)
    return ""


def _why_whole(graph: Graph) -> str:
    """Why a model cannot run step by step; empty where it can."""
    for node in graph.nodes.values():
        if OPS[node.op].ahead(node.attrs):
            return f"what {node.path} gives at a step depends on later ones"
    return ""
