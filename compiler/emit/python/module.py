"""A network as a standalone ``model.py``: readable, needing torch alone.

It computes the same numbers as the fx model, and its weights have the same names. Each scope is a
class; scopes that only differ in sizes share one. Layers are copied (see ``prelude_parts``), and
neurons are written from their equations. Names of the spec are either checked or turned into
constants.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from danetc.compiler.emit.names import attribute, camel, dotted, is_plain, singular, words
from danetc.compiler.emit.python.constructors import (
    Argument,
    Class,
    Draft,
    New,
    grouped,
    listed,
    resolve,
)
from danetc.compiler.emit.python.forward import ForwardWriter, access, loop_method
from danetc.compiler.emit.python.layers import Layers
from danetc.compiler.emit.python.text import class_, constant, method, sequence, signature
from danetc.compiler.emit.scopes import LoopUnit, Path, Scopes, ScopeTree
from danetc.compiler.ir.at_node import call_of
from danetc.compiler.ir.graph import Graph, Node, Value
from danetc.compiler.ir.ops import TorchModule

_SEQUENTIAL = frozenset({"append", "extend", "insert", "pop"})  # attributes of nn.Sequential


def emit_python(graph: Graph, layers: type[Layers] = Layers) -> str:
    """Return the text of ``model.py``.

    ``layers`` chooses the constructors of layers and neurons. Raises ValueError for an operation
    that has no form in Python.
    """
    neurons, graphs = dict(graph.neurons), [graph]
    for each in graphs:  # layers of weights are added, and theirs
        neurons |= each.neurons
        graphs += each.weight_layers.values()
    return _Emitter(graph, layers(replace(graph, neurons=neurons)), []).text()


class _Emitter:
    """Emits a network, or a layer of weights, whose ``classes`` go into the same file."""

    def __init__(self, graph: Graph, layers: Layers, classes: list[Class]) -> None:
        self.graph = graph
        self.scopes = Scopes(graph)
        self.layers = layers
        self.used = self.layers.used
        self.classes = classes
        self.made: dict[Path, New] = {}  # the module of a scope
        self.inner: dict[str, _Emitter] = {}  # layers of weights
        self.blocks = {
            block.scope: (stage.connection, stage.block)
            for stage in graph.stages
            for block in stage.blocks
        }
        self.stages = {stage.scope: (stage.connection, stage.rule) for stage in graph.stages}
        calls = ((node.id, call_of(graph, node)) for node in graph.nodes.values())
        self.calls = {id: call for id, call in calls if call is not None}
        self.writer = ForwardWriter(
            graph, self.calls, self.layers.function, self._is_repeated, self.layers.names
        )

    def text(self) -> str:
        self._make_classes(self._drafts())
        bodies = [self._class(item) for item in self.classes]
        first, last = self.layers.prelude.chosen(self.used)
        text = "\n\n\n".join([*first, *self.layers.neurons.classes, *bodies, *last])
        return "\n\n".join([self._docstring(), *self._imports(text)]) + f"\n\n\n{text}\n"

    def _imports(self, text: str) -> Iterable[str]:
        """The imports of names that the file reads: the standard library, then others."""
        read = {part.id for part in ast.walk(ast.parse(text)) if isinstance(part, ast.Name)}
        known = {**self.layers.prelude.imports, "math": ""}
        lines = [
            f"import {label}" for label, module in known.items() if not module and label in read
        ]
        for module in {*known.values()} - {""}:
            names = (label for label in known if known[label] == module and label in read)
            if found := sorted(names, key=lambda label: (label.islower(), label)):
                lines.append(f"from {module} import {sequence(found)}")
        lines.sort(key=lambda line: (line.startswith("from"), line))
        other = [line for line in lines if line.split()[1].startswith(("torch", "spikingjelly"))]
        standard = [line for line in lines if line not in other]
        return ("\n".join(part) for part in (standard, other) if part)

    # -- scopes -----------------------------------------------------------------------------------

    def _drafts(self) -> list[tuple[_Emitter, Draft]]:
        """The drafts of all scopes; the classes of the layers of weights are made before."""
        inner: list[tuple[_Emitter, Draft]] = []
        for key, layer in self.graph.weight_layers.items():
            nodes = {
                id: replace(node, scope=(layer.name, *node.scope)) if node.op != "input" else node
                for id, node in layer.nodes.items()
            }
            self.inner[key] = _Emitter(replace(layer, nodes=nodes), self.layers, self.classes)
            inner += self.inner[key]._drafts()[:-1]  # without the root, which calls a scope
        self._make_classes(inner)
        drafts: list[Draft] = []
        inputs = [source.id for source in self.graph.inputs]
        self._scan(self.scopes.tree, inputs, [*self.graph.outputs.values()], drafts)
        return [(self, draft) for draft in drafts]

    def _make_classes(self, drafts: Sequence[tuple[_Emitter, Draft]]) -> None:
        for height in sorted({draft.height for _, draft in drafts}):
            level = [each for each in drafts if each[1].height == height]
            for emitter, draft in level:
                draft.parts = emitter._parts(draft.tree, draft.lists)
            for group in grouped([draft for _, draft in level]):
                title = group[0].title
                item = Class(group, self.layers.claim(title) if group[0].tree.path else "Model")
                self.classes.append(item)
                for draft, made in zip(group, resolve(item), strict=True):
                    draft.made[draft.tree.path] = made

    def _scan(
        self, tree: ScopeTree, inputs: Sequence[int], outputs: Sequence[int], drafts: list[Draft]
    ) -> int:
        """Draft the classes of a scope and of those below it; return its height."""
        lists: dict[Path, int] = {}

        def is_spread(inner: ScopeTree) -> bool:
            """Numbered scopes are a list of the class around them."""
            if found := self._is_list(inner):
                lists[inner.path] = len(inner.children)
            return found

        steps = self.scopes.walk(tree, is_spread)
        depth, height = len(tree.path), 0
        methods = []
        for unit, taken, made in steps:
            if isinstance(unit, LoopUnit):
                step = (unit, taken, made)
                methods.append(loop_method(self.writer, step, self._is_stepping, depth))
            elif isinstance(unit, ScopeTree) and self._is_chain(unit, taken, made):
                self._make_chain(unit)
            elif isinstance(unit, ScopeTree):
                height = max(height, 1 + self._scan(unit, taken, made, drafts))
        lengths = {access(path, depth): length for path, length in lists.items()}
        parameters, body = self.writer.write(steps, depth, inputs, outputs, lengths)
        kinds = sequence(["Tensor"] * len(outputs))
        draft = Draft(
            self.made,
            tree,
            lists,
            height,
            *self._title(tree.path),
            f"{self._sizes(inputs)} to {self._sizes(outputs)}",
            parameters,
            body,
            {0: "None", 1: kinds}.get(len(outputs), f"tuple[{kinds}]"),
            methods,
        )
        if any(part.isdecimal() for part in self.scopes.holders[tree.path].children):
            draft.base = "Numbered"
            self.used.add("Numbered")
        drafts.append(draft)
        return height

    def _is_stepping(self, id: int) -> bool:
        target = self.calls.get(id)
        return isinstance(target, TorchModule) and self.layers.steps(target)

    def _title(self, path: Path) -> tuple[str, str]:
        """A name for the class of a scope, and its docstring."""
        if not path:
            return "Model", "The network"
        if path in self.stages:
            connection, rule = self.stages[path]
            by = f" under the rule `{words(rule)}`" if rule else ""
            return "Stage", f"A stage of `{words(connection or 'self-wired')}` blocks{by}"
        if path in self.blocks:
            connection, block = self.blocks[path]
            via = f" wired by the connection `{words(connection)}`" if connection else ""
            title = (camel(connection) if connection else "") + camel(block or "block")
            return title, f"The block `{words(block or path[-1])}`{via}"
        number = path[-1].isdecimal() and len(path) > 1
        return camel(singular(path[-2]) if number else path[-1]), ""

    def _class(self, item: Class) -> str:
        draft = item.drafts[0]
        init = ["super().__init__()", *item.init] if item.init else []
        body = draft.body
        if not draft.tree.path:
            body = [*self._checks(), *body]
            init += self._first_weights()
        parameters = (f"{key}: {kind}" for key, kind in item.parameters.items())
        takes = (f"{key}: Tensor" for key in draft.parameters)
        doc = draft.doc or ".".join(map(words, draft.tree.path))
        if len({each.flow for each in item.drafts}) == 1 and len(doc) + len(draft.flow) < 85:
            doc += f": {draft.flow}"
        methods = [method(signature("forward", takes, draft.result), body), *draft.methods]
        if init:
            methods.insert(0, method(signature("__init__", parameters, "None"), init))
        return class_(item.name, draft.base, f"{doc}.", methods)

    def _is_list(self, tree: ScopeTree) -> bool:
        names = list(tree.children)
        return (
            names == [str(index) for index in range(len(names))] != []
            and [label for label, entry in tree.entries() if isinstance(entry, ScopeTree)] == names
            and not any(isinstance(self.calls.get(n.id), TorchModule) for n in tree.nodes)
        )

    # -- modules ----------------------------------------------------------------------------------

    def _parts(self, tree: ScopeTree, lists: Mapping[Path, int]) -> list[tuple[str, Argument]]:
        """The modules of a scope in the order of the spec: name and constructor call."""
        found: list[tuple[str, Argument]] = []
        for label, entry in self.scopes.holders[tree.path].entries():
            if isinstance(entry, Node):
                target = self.calls.get(entry.id)
                if not isinstance(target, TorchModule):
                    continue
                made = self.layers.new(entry, target, entry.id in self.scopes.loops)
                if (layer := self.graph.weight_layer(entry)) is not None:
                    inner = self.inner[str(entry.attrs["weight"])]
                    self.used.add("with_weight_layer")
                    args = ("", made), ("", inner.made[(layer.name,)])
                    made = New("with_weight_layer", args)
            elif entry.path in self.made:
                made = self.made[entry.path]
            elif entry.path in lists or self._is_list(entry):
                items = [part for _, part in self._parts(entry, lists) if isinstance(part, New)]
                made = New("nn.ModuleList", (("", listed(items)),))
            else:
                self.used.add("Group")
                made = New("Group", tuple(self._parts(entry, lists)))
            found.append((attribute(label), made))
        return found

    def _is_chain(self, tree: ScopeTree, inputs: Sequence[int], outputs: Sequence[int]) -> bool:
        """True if a scope consists of modules and chains in sequence only.

        A numbered scope with child scopes is a class that similar blocks and stages share.
        """
        if tree.children and tree.path[-1].isdecimal():
            return False
        holder = self.scopes.holders[tree.path]
        if self.scopes.loops and (tree.loops or tree.members != holder.members):
            return False
        last = [*inputs]
        for label, entry in tree.entries() if len(last) == 1 else ():
            if not is_plain(attribute(label)) or label in _SEQUENTIAL:
                return False
            if isinstance(entry, Node):
                module = isinstance(self.calls[entry.id], TorchModule)
                if not module or list(entry.inputs) != last or self._is_repeated(entry):
                    return False
                last = [entry.id]
            else:
                taken, made = self.scopes.crossing(entry)
                if taken != last or not self._is_chain(entry, taken, made):
                    return False
                last = made
        return last == [*outputs] and len(inputs) == 1

    def _make_chain(self, tree: ScopeTree) -> None:
        self.used.add("Chain")
        for child in tree.children.values():
            self._make_chain(child)
        self.made[tree.path] = New("Chain", tuple(self._parts(tree, {})))

    def _is_repeated(self, node: Node) -> bool:
        """True for a neuron that varies and whose input is the same at all time steps."""
        if node.op != "neuron" or self.graph[node.inputs[0]].value.varies:
            return False
        return self.graph.program(node).varies

    # -- the class Model --------------------------------------------------------------------------

    def _arguments(self) -> list[tuple[str, Value]]:
        """The inputs by the names of the arguments of the network."""
        names = self.classes[-1].drafts[0].parameters
        return [(name, item.value) for name, item in zip(names, self.graph.inputs, strict=True)]

    def _docstring(self) -> str:
        graph, layers = self.graph, self.layers
        takes = []
        for label, value in self._arguments():
            size = sequence(map(str, value.shape))
            also = f" or [T, N, {size}]" if layers.sequences else ""
            image = f"[N, {size}] (T = {graph.steps}){also}"
            takes.append(f"{label}: {f'[T, N, {size}]' if value.varies else image}")
        called = sequence(label for label, _ in self._arguments())
        gives = self._sizes(graph.outputs.values())
        lines = [
            f'"""{words(graph.name)}: a spiking network of {graph.steps} time steps, by danetc. '
            f"Needs {layers.needs}.",
            "",
            '    model = load("weights.safetensors")  # or Model(), with new weights',
            f"    y = model({called})  # {sequence(takes)}; y: {gives}",
            *[f"    {layers.advice}"] * bool(layers.advice),
            '"""',
        ]
        return "\n".join(lines)

    def _checks(self) -> list[str]:
        """The checks of the inputs."""
        arguments = self._arguments()
        found = [
            f"check_input({label}, {constant(value.shape)}"
            f"{', sequence=True' if value.varies else ''})"
            for label, value in arguments
        ]
        if len(arguments) > 1:
            self.used.add("check_alike")
            leads = [f"({label}, {len(value.shape)})" for label, value in arguments]
            found.append(f"check_alike({sequence([str(self.graph.steps), *leads])})")
        return found

    def _first_weights(self) -> list[str]:
        """The end of the constructor: shared layers and first weights."""
        graph, found = self.graph, []
        if graph.shares:
            self.used.add("share_layers")
            pairs = [
                ": ".join(constant(dotted(*graph[i].scope, graph[i].name)) for i in pair)
                for pair in graph.shares.items()
                if isinstance(self.calls[pair[0]], TorchModule)
            ]
            found.append(f"share_layers(self, {{{sequence(pairs)}}})")
        if any(item.target == "torch.nn.Conv2d" for item in self.calls.values()):
            others = ' and not hasattr(module, "drawn")' if "drawn" in self.used else ""
            weight = "module.weight"
            if "with_weight_layer" in self.used:
                weight = 'getattr(module, "weight_raw", module.weight)'
            found += [
                "for module in self.modules():",
                f"    if isinstance(module, nn.Conv2d){others}:",
                f'        nn.init.kaiming_normal_({weight}, mode="fan_out", nonlinearity="relu")',
            ]
        return found

    def _sizes(self, ids: Iterable[int]) -> str:
        """``[T, N, 64, 8, 8] and [N, 10]``."""
        values = (self.graph[id].value for id in ids)
        return " and ".join(
            f"[{sequence([*('T' * value.varies), 'N', *map(str, value.shape)])}]"
            for value in values
        )
