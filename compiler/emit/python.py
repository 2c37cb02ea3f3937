"""A network as a standalone ``model.py``: readable, needing torch alone.

It computes what the fx model computes, bit for bit, and names its weights alike. Each scope is a
class; scopes with the same text share one. Layers are copied from ``prelude.py``, neurons are
written from their equations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from danetc.compiler.emit.names import attribute
from danetc.compiler.emit.python_body import Body
from danetc.compiler.emit.python_classes import ClassText, Path, class_text, merge
from danetc.compiler.emit.python_names import (
    class_name,
    free,
    is_plain,
    literal,
    member,
    quoted,
    words,
    wrapped,
)
from danetc.compiler.emit.python_parts import Neurons, Prelude
from danetc.compiler.emit.scopes import ScopeTree, Unit, schedule, scope_tree
from danetc.compiler.ir.at_node import call_of
from danetc.compiler.ir.graph import Graph, Node, Value
from danetc.compiler.ir.ops import Function, Module

_ALWAYS = ("read_safetensors",)
_SEQUENTIAL = frozenset({"append", "extend", "insert", "pop"})  # attributes of nn.Sequential


def emit_python(graph: Graph) -> str:
    """The text of ``model.py``. Raises ValueError for an op that has no form in Python."""
    return _Emitter(graph).text()


# -- classes --------------------------------------------------------------------------------------


class _Emitter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.position = {id: index for index, id in enumerate(graph.nodes)}
        self.prelude = Prelude()
        self.used: set[str] = set(_ALWAYS)
        self.names: set[str] = {*self.prelude.source, *self.prelude.imports, "Model"}
        self.names |= {"build", "load"}
        self.neurons = Neurons(self._claim)
        self.classes: dict[tuple[str, ...], ClassText] = {}
        self.order: list[ClassText] = []
        self.calls: dict[int, Module | Function] = {}
        for node in graph.nodes.values():
            if node.op != "input":
                call = call_of(graph, node)
                if call is None:
                    raise ValueError(f"{words(node.path)}: {words(node.op)} has no form in Python")
                self.calls[node.id] = call

    def text(self) -> str:
        graph = self.graph
        source = graph.input
        tree = scope_tree(node for node in graph.nodes.values() if node is not source)
        root = self._class(tree, [source.id], list(graph.outputs.values()))
        written = merge(self.order)
        root.name = "Model"
        for item in written:
            item.name = item.name or self._claim(class_name(item.paths))
        classes = [class_text(item, self.order) for item in written]
        chosen = self.prelude.chosen(self.used)
        parts = ["\n".join(wrapped(self.prelude.source[name].split("\n"))) for name in chosen]
        parts += [*self.neurons.texts, *classes, _LOADING]
        text = "\n\n\n".join(part.strip("\n") for part in parts)
        needed = {
            line
            for name, line in self.prelude.imports.items()
            if re.search(rf"\b{name}\b", text) is not None
        }
        imports = sorted(needed, key=lambda line: (line.startswith("from"), line))
        standard = [line for line in imports if "torch" not in line]
        torch = [line for line in imports if "torch" in line]
        head = [self._docstring(), "from __future__ import annotations"]
        head += ["\n".join(part) for part in (standard, torch) if part]
        return "\n\n".join(head) + "\n\n\n" + text + "\n"

    def _docstring(self) -> str:
        graph = self.graph
        size = ", ".join(map(str, graph.input.value.shape))
        takes = f"[T, N, {size}]"
        if not graph.input.value.varies:
            takes = f"[N, {size}] (T = {graph.steps}) or {takes}"
        gives = self._sizes(graph.outputs.values())
        name = words(graph.name)
        return "\n".join(
            [
                f'"""{name}: a spiking network of {graph.steps} time steps, written by danetc.',
                "",
                '    model = load("weights.safetensors")  # or build(), with new weights',
                f"    y = model(x)  # x: {takes}",
                "",
                f"It gives {gives}. The file needs torch alone. Values that vary over",
                "time are [T, N, C, H, W] between the modules, others [N, C, H, W].",
                '"""',
            ]
        )

    def _class(self, tree: ScopeTree, inputs: list[int], outputs: list[int]) -> ClassText:
        """The class of a scope, after those below it."""
        lists: dict[Path, int] = {}
        units = self._units(tree, lists)
        flows: dict[Path, tuple[list[int], list[int]]] = {}
        made: dict[Path, str] = {}  # the expression that makes a scope's module
        for unit in units:
            if isinstance(unit, ScopeTree):
                flow = flows[unit.path] = self._flow(unit)
                is_chain = self._is_chain(unit, *flow)
                made[unit.path] = (
                    self._chain(unit) if is_chain else self._class(unit, *flow).reference
                )
        lines = [
            "    def __init__(self) -> None:",
            "        super().__init__()",
            *(f"        {line}" for line in self._registrations(tree, made, lists)),
            "",
        ]

        def access(path: Path) -> str:
            text = "self"
            for depth in range(len(tree.path), len(path)):
                text = member(text, path[depth])
            return text

        lengths = {access(path): length for path, length in lists.items()}
        body = Body(self.graph, self.calls, self._function, access, lengths)
        parameters, forward = body.write(units, flows, inputs, outputs)
        if not tree.path:
            self.used.add("check_input")
            source = self.graph.input.value
            sequence = ", sequence=True" if source.varies else ""
            size = repr(tuple(source.shape))
            forward = [f"check_input(self, {parameters[0]}, {size}{sequence})", *forward]
        several = f"tuple[{', '.join(['Tensor'] * len(outputs))}]"
        result = {0: "None", 1: "Tensor"}.get(len(outputs), several)
        typed = "".join(f", {name}: Tensor" for name in parameters)
        lines += [
            f"    def forward(self{typed}) -> {result}:",
            *(f"        {line}" for line in forward),
        ]
        key = tuple(lines)
        if key not in self.classes:
            numbered = any(name.isdecimal() for name in tree.children)
            self.used |= {"Numbered"} if numbered else set()
            base = "Numbered" if numbered else "nn.Module"
            self.classes[key] = ClassText(key, len(self.order), base)
            self.order.append(self.classes[key])
        item = self.classes[key]
        item.paths.append(tree.path)
        item.flows.add(f"{self._sizes(inputs)} to {self._sizes(outputs)}")
        return item

    def _sizes(self, ids: Iterable[int]) -> str:
        return " and ".join(_dims(self.graph[id].value) for id in ids)

    def _units(self, tree: ScopeTree, lists: dict[Path, int]) -> list[Unit]:
        """What a scope runs, in order. Numbered scopes below it are a list of this class."""
        merged = ScopeTree(tree.path, list(tree.nodes), {}, tree.members)
        todo = list(tree.children.values())
        while True:
            while todo:
                child = todo.pop()
                if self._is_list(child):
                    lists[child.path] = len(child.children)
                    merged.nodes += child.nodes
                    todo += child.children.values()
                else:
                    merged.children[".".join(map(repr, child.path))] = child
            merged.nodes.sort(key=lambda node: self.position[node.id])
            units: list[Unit] = schedule(merged, self.graph)
            inner = [unit for unit in units if isinstance(unit, ScopeTree) and self._is_list(unit)]
            if not inner:
                return units
            # a scope that could not be one call has shown a list: spread that too, and start again
            merged.nodes = [unit for unit in units if isinstance(unit, Node)]
            merged.children = {}
            todo = [unit for unit in units if isinstance(unit, ScopeTree)]

    def _is_list(self, tree: ScopeTree) -> bool:
        names = list(tree.children)
        return (
            names == [str(index) for index in range(len(names))] != []
            and [name for name, entry in tree.entries() if isinstance(entry, ScopeTree)] == names
            and not any(isinstance(self.calls[node.id], Module) for node in tree.nodes)
        )

    def _flow(self, tree: ScopeTree) -> tuple[list[int], list[int]]:
        """The values that cross into a scope and those that cross out of it."""
        members = set(tree.members)
        results = set(self.graph.outputs.values())
        taken = {i for id in members for i in self.graph[id].inputs if i not in members}
        made = {
            id for id in members if id in results or any(u not in members for u in self.users[id])
        }
        order = self.position.__getitem__
        return sorted(taken, key=order), sorted(made, key=order)

    # -- modules ----------------------------------------------------------------------------------

    def _registrations(
        self, tree: ScopeTree, made: Mapping[Path, str], lists: Mapping[Path, int]
    ) -> list[str]:
        lines = []
        for name, text in self._children(tree, made, lists):
            plain = is_plain(name)
            lines.append(
                f"self.{name} = {text}" if plain else f"self.add_module({quoted(name)}, {text})"
            )
        return lines

    def _children(
        self, tree: ScopeTree, made: Mapping[Path, str], lists: Mapping[Path, int]
    ) -> list[tuple[str, str]]:
        """The modules of a scope in the order of the spec: name and constructing expression."""
        found = []
        for name, entry in tree.entries():
            if isinstance(entry, Node):
                call = self.calls[entry.id]
                if isinstance(call, Module):
                    found.append((attribute(name), self._constructor(entry, call)))
            elif entry.path in made:
                found.append((attribute(name), made[entry.path]))
            elif entry.path in lists:
                items = [text for _, text in self._children(entry, made, lists)]
                found.append((attribute(name), f"nn.ModuleList([{', '.join(_compact(items))}])"))
            else:
                self.used.add("Group")
                children = self._children(entry, made, lists)
                if all(is_plain(key) for key, _ in children):
                    inner = ", ".join(f"{key}={text}" for key, text in children)
                else:
                    pairs = ", ".join(f"{quoted(key)}: {text}" for key, text in children)
                    inner = f"**{{{pairs}}}"
                found.append((attribute(name), f"Group({inner})"))
        return found

    def _is_chain(self, tree: ScopeTree, inputs: list[int], outputs: list[int]) -> bool:
        """Whether a scope is modules one after the other and nothing else."""
        order = [entry for _, entry in tree.entries()]
        nodes = [entry for entry in order if isinstance(entry, Node)]
        if len(inputs) != 1 or len(nodes) != len(order) or outputs != [nodes[-1].id]:
            return False
        before = [inputs[0], *(node.id for node in nodes)]
        return all(
            node.inputs == (source,)
            and isinstance(self.calls[node.id], Module)
            and is_plain(attribute(node.name))
            and node.name not in _SEQUENTIAL
            for node, source in zip(nodes, before, strict=False)
        )

    def _chain(self, tree: ScopeTree) -> str:
        self.used.add("Chain")
        children = self._children(tree, {}, {})
        return f"Chain({', '.join(f'{name}={text}' for name, text in children)})"

    def _constructor(self, node: Node, call: Module) -> str:
        namespace, _, name = call.target.rpartition(".")
        args = list(call.args)
        if call.target == "danetc.runtime.layers.neuron.Neuron":
            target = self.neurons.name(str(args.pop(0)))
            labels: tuple[str, ...] = ("steps", "rank")
        elif name in self.prelude.source:
            self.used.add(name)
            target = name
            labels = ("", *self.prelude.parameters.get(name, ())[1:])
        elif namespace == "torch.nn" and call.layout == "any":
            target, labels = f"nn.{name}", ()
        else:
            raise ValueError(f"{words(node.path)}: {call.target} has no standalone form")
        texts = [
            f"{label}={literal(arg)}" if label else literal(arg)
            for arg, label in zip(args, (*labels, *[""] * len(args)), strict=False)
        ]
        rank = len(node.value.shape)
        kwargs = dict(call.kwargs)
        if name == "GroupNorm":
            kwargs["rank"] = rank
        if kwargs.get("rank") == 3:
            del kwargs["rank"]  # the prelude's default
        if node.attrs.get("init", 1.0) != 1.0:
            kwargs["init"] = node.attrs["init"]
        texts += [f"{key}={literal(value)}" for key, value in kwargs.items()]
        return f"{target}({', '.join(texts)})"

    def _function(self, target: str) -> tuple[str, tuple[str, ...]]:
        """The text that calls a function of the table, and the names of its parameters."""
        namespace, _, name = target.rpartition(".")
        if namespace in ("torch", "torch.nn.functional"):
            return target.replace("torch.nn", "nn"), ()
        if name in self.prelude.source:
            self.used.add(name)
            return name, self.prelude.parameters[name]
        raise ValueError(f"{target} has no standalone form")

    # -- texts ------------------------------------------------------------------------------------

    def _claim(self, base: str) -> str:
        name: str = free(base, self.names.__contains__)
        self.names.add(name)
        return name


def _dims(value: Value) -> str:
    leading = ("T", "N") if value.varies else ("N",)
    return f"[{', '.join([*leading, *map(str, value.shape)])}]"


def _compact(items: list[str]) -> list[str]:
    """Constructing expressions of a list, with runs of the same one as a comprehension."""
    result: list[str] = []
    index = 0
    while index < len(items):
        end = index
        while end < len(items) and items[end] == items[index]:
            end += 1
        count = end - index
        if count > 2:
            result.append(f"*({items[index]} for _ in range({count}))")
        else:
            result += items[index:end]
        index = end
    return result


_LOADING = '''
def build() -> Model:
    """The network with new weights."""
    return Model()


def load(path: str = "weights.safetensors") -> Model:
    """The network with the weights of a safetensors file."""
    model = Model()
    model.load_state_dict(read_safetensors(path))
    return model
'''
