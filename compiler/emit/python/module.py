"""A network as a standalone ``model.py``: readable, needing torch alone.

It computes what the fx model computes, bit for bit, and names its weights alike. Each scope is a
class; scopes that differ in sizes alone share one. Layers are copied (see ``prelude_parts``), neurons
are written from their equations. All else is made as a syntax tree, of checked names and constants.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from danetc.compiler.emit.names import attribute
from danetc.compiler.emit.python.body import Body, Path
from danetc.compiler.emit.python.classes import Class, named, settle
from danetc.compiler.emit.python.forms import (
    Argument,
    Draft,
    New,
    form_of,
    many,
    with_optional,
)
from danetc.compiler.emit.python.layers import Layers
from danetc.compiler.emit.python.loops import Forward
from danetc.compiler.emit.python.names import camel, is_plain, singular, words
from danetc.compiler.emit.python.root import Root, sizes
from danetc.compiler.emit.python.steps import loop_method
from danetc.compiler.emit.python.trees import (
    assign,
    child,
    class_,
    constant,
    function,
    method,
    name,
    template,
    text_of,
)
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
from danetc.compiler.ir.at_node import call_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchFunction, TorchModule
from danetc.dsl.record import record

_SEQUENTIAL = frozenset({"append", "extend", "insert", "pop"})  # attributes of nn.Sequential


def emit_python(graph: Graph, layers: type[Layers] = Layers) -> str:
    """The text of ``model.py``. Raises ValueError for an op that has no form in Python.

    ``layers`` says what its layers and neurons are constructed by.
    """
    return _Emitter(graph, layers).text()


class _Emitter:
    def __init__(self, graph: Graph, layers: type[Layers]) -> None:
        self.graph = graph
        self.users = graph.users()
        self.position = {id: index for index, id in enumerate(graph.nodes)}
        self.layers = layers(graph)
        self.used = self.layers.used
        self.classes: list[Class] = []
        self.made: dict[Path, New] = {}  # what makes the module of a scope
        self.blocks = {
            block.scope: (stage.connection, stage.block)
            for stage in graph.stages
            for block in stage.blocks
        }
        self.stages = {stage.scope: (stage.connection, stage.rule) for stage in graph.stages}
        self.calls: dict[int, TorchModule | TorchFunction] = {}
        self.within = loop_units(graph)
        for node in graph.nodes.values():
            if node.op != "input" and node.id not in graph.carries:
                found = call_of(graph, node)
                if found is None:
                    raise ValueError(f"{words(node.path)}: {words(node.op)} has no form in Python")
                self.calls[node.id] = found

    def text(self) -> str:
        graph = self.graph
        rest = [node for node in graph.nodes.values() if node.op != "input"]
        self.holders = by_path(scope_tree(rest))
        tree = scope_tree(rest, self.within)
        scopes: list[_Scope] = []
        self._scan(
            tree, [source.id for source in graph.inputs], list(graph.outputs.values()), scopes
        )
        loops: dict[object, set[str]] = {}
        for scope in scopes:
            if scope.kind is not None:
                loops.setdefault(scope.kind, set()).update(scope.forward.loops())
        for height in range(scopes[-1].height + 1):
            level = [scope for scope in scopes if scope.height == height]
            self._share(
                [self._draft(scope, frozenset(loops.get(scope.kind, ()))) for scope in level]
            )
        for item in self.classes:
            item.name = (
                "Model" if item is self.classes[-1] else self.layers.claim(item.drafts[0].title)
            )
        bodies = [named(self._class(item), self.classes) for item in self.classes]
        first, last = self.layers.prelude.chosen(self.used)
        written = map(text_of, [*self.layers.neurons.classes, *bodies])
        text = "\n\n\n".join([*first, *written, *last])
        read = {part.id for part in ast.walk(ast.parse(text)) if isinstance(part, ast.Name)}
        known = {**self.layers.prelude.imports, **_IMPORTS}
        needed = {line for label, line in known.items() if label in read}
        imports = sorted(needed, key=lambda line: (line.startswith("from"), line))
        others = ("torch", "spikingjelly")
        standard = [line for line in imports if not any(name in line for name in others)]
        torch = [line for line in imports if line not in standard]
        head = [
            self._root.docstring(self.layers),
            *("\n".join(part) for part in (standard, torch) if part),
        ]
        return "\n\n".join(head) + "\n\n\n" + text + "\n"

    @property
    def _root(self) -> Root:
        parameters = self.classes[-1].drafts[0].parameters
        return Root(self.graph, self.calls, self.used, parameters)

    # -- scopes -----------------------------------------------------------------------------------

    def _scan(
        self, tree: ScopeTree, inputs: list[int], outputs: list[int], scopes: list[_Scope]
    ) -> int:
        """Write the forward methods of a scope and of those below it; the scope's height."""
        lists: dict[Path, int] = {}
        units = self._units(tree, lists)
        flows: dict[object, tuple[list[int], list[int]]] = {}
        height = 0
        for unit in units:
            if isinstance(unit, LoopUnit):
                flows[unit.path, unit.name] = crossing(unit, self.graph, self.users, self.position)
            elif isinstance(unit, ScopeTree):
                flow = flows[unit.path] = crossing(unit, self.graph, self.users, self.position)
                if self._is_chain(unit, *flow):
                    self._make_chain(unit)
                else:
                    height = max(height, 1 + self._scan(unit, *flow, scopes))

        def access(path: Path) -> ast.expr:
            result = name("self")
            for depth in range(len(tree.path), len(path)):
                result = child(result, path[depth])
            return result

        lengths = {ast.unparse(access(path)): length for path, length in lists.items()}
        body = Body(
            self.graph,
            self.calls,
            self.layers.function,
            access,
            self._is_repeated,
            self.layers.names,
        )
        forward = body.write(units, flows, inputs, outputs, lengths)
        flow_text = f"{sizes(self.graph, inputs)} to {sizes(self.graph, outputs)}"
        kind = self.stages.get(tree.path)
        methods = [
            self._loop(body, unit, flows[unit.path, unit.name], access)
            for unit in units
            if isinstance(unit, LoopUnit)
        ]
        scopes.append(_Scope(tree, forward, lists, len(outputs), flow_text, height, kind, methods))
        return height

    def _loop(
        self,
        body: Body,
        unit: LoopUnit,
        flow: tuple[list[int], list[int]],
        access: Callable[[Path], ast.expr],
    ) -> ast.FunctionDef:
        """The method that runs a loop over time."""
        stepping = {}
        for id in unit.members:
            node, target = self.graph[id], self.calls.get(id)
            if isinstance(target, TorchModule) and self.layers.steps(target):
                stepping[id] = access((*node.scope, node.name))
        return loop_method(
            self.graph,
            unit.members,
            flow,
            stepping,
            lambda node, operands: body.statement(node, {}).write(operands),
            self.layers.names,
            unit.name,
        )

    def _draft(self, scope: _Scope, known: frozenset[str]) -> Draft:
        tree = scope.tree
        result = {0: "None", 1: "Tensor"}.get(
            scope.outputs, f"tuple[{', '.join(['Tensor'] * scope.outputs)}]"
        )
        numbered = any(part.isdecimal() for part in self.holders[tree.path].children)
        self.used |= {"Numbered"} if numbered else set()
        title, doc = self._title(tree.path)
        return Draft(
            tree.path,
            "Numbered" if numbered else "nn.Module",
            self._parts(tree, scope.lists),
            scope.forward.parameters,
            scope.forward.body(known),
            result,
            scope.flow,
            title,
            doc,
            scope.methods,
        )

    def _title(self, path: Path) -> tuple[str, str]:
        """A name for a scope's class, and what it says of itself."""
        if not path:
            return "Model", "The network"
        if path in self.stages:
            connection, rule = self.stages[path]
            by = f" under the rule `{words(rule)}`" if rule else ""
            return "Stage", f"A stage of `{words(connection or 'self-wired')}` blocks{by}"
        if path in self.blocks:
            connection, block = self.blocks[path]
            via = f" wired by the connection `{words(connection)}`" if connection else ""
            title = (
                camel(connection) + camel(block or "block")
                if connection
                else camel(block or "block")
            )
            return title, f"The block `{words(block or path[-1])}`{via}"
        number = path[-1].isdecimal() and len(path) > 1
        return camel(singular(path[-2]) if number else path[-1]), ""

    def _share(self, drafts: list[Draft]) -> None:
        """Make classes of scopes of one height, whose inner classes have been made."""
        groups: dict[object, list[Draft]] = {}
        for draft in drafts:
            groups.setdefault(form_of(draft), []).append(draft)
        for group in with_optional([*groups.values()]):
            item = Class(len(self.classes), group)
            self.classes.append(item)
            for draft, values in zip(group, settle(item), strict=True):
                self.made[draft.path] = item.instance(values)

    def _class(self, item: Class) -> ast.ClassDef:
        draft = item.drafts[0]
        init: list[ast.stmt] = [ast.Expr(template("super().__init__()"))] if item.parts else []
        for label, value in item.parts:
            if isinstance(value, ast.IfExp):  # a shortcut that some blocks have
                init.append(assign([f"self.{label}"], value.orelse))
                given = assign([f"self.{label}"], value.body)
                init.append(ast.If(value.test, [given], []))
            elif is_plain(label):
                init.append(assign([f"self.{label}"], value))
            else:
                init.append(ast.Expr(method(name("self"), "add_module", constant(label), value)))
        body = draft.body
        if not draft.path:
            body = [*self._root.checks(), *body]
            init += self._root.init(drawn="drawn" in self.used)
        parameters = [("self", "", None)]
        parameters += [(key, kind, None) for key, kind in zip(item.names, item.kinds, strict=True)]
        takes = [("self", "", None), *((key, "Tensor", None) for key in draft.parameters)]
        flows = {draft.flow for draft in item.drafts}
        path = ".".join(map(words, draft.path))
        doc = draft.doc or path
        if len(item.drafts) > 1 and not draft.doc:
            doc += f" and {len(item.drafts) - 1} more like it"
        if len(flows) == 1:
            doc += f": {draft.flow}" if len(doc) + len(draft.flow) < 85 else f".\n\n{draft.flow}"
        return class_(
            item.name,
            [draft.base],
            f"{doc}.\n" if "\n" in doc else f"{doc}.",
            [
                *([function("__init__", parameters, "None", init)] if init else []),
                function("forward", takes, draft.result, body),
                *draft.methods,
            ],
        )

    def _units(self, tree: ScopeTree, lists: dict[Path, int]) -> list[Unit]:
        """What a scope runs, in order. Numbered scopes below it are a list of this class."""
        merged = ScopeTree(tree.path, list(tree.nodes), {}, tree.members, list(tree.loops))
        todo = list(tree.children.values())
        while True:
            while todo:
                inner = todo.pop()
                if self._is_list(inner):
                    lists[inner.path] = len(inner.children)
                    merged.nodes += inner.nodes
                    merged.loops += inner.loops
                    todo += inner.children.values()
                else:
                    merged.children[".".join(map(repr, inner.path))] = inner
            merged.nodes.sort(key=lambda node: self.position[node.id])
            units: list[Unit] = schedule(merged, self.graph)
            if not any(isinstance(unit, ScopeTree) and self._is_list(unit) for unit in units):
                return units
            # a scope that could not be one call has shown a list: spread that too, and start again
            merged.nodes = [unit for unit in units if isinstance(unit, Node)]
            merged.loops = [unit for unit in units if isinstance(unit, LoopUnit)]
            merged.children = {}
            todo = [unit for unit in units if isinstance(unit, ScopeTree)]

    def _is_list(self, tree: ScopeTree) -> bool:
        names = list(tree.children)
        return (
            names == [str(index) for index in range(len(names))] != []
            and [label for label, entry in tree.entries() if isinstance(entry, ScopeTree)] == names
            and not any(isinstance(self.calls.get(n.id), TorchModule) for n in tree.nodes)
        )

    # -- modules ----------------------------------------------------------------------------------

    def _parts(self, tree: ScopeTree, lists: Mapping[Path, int]) -> list[tuple[str, Argument]]:
        """The modules of a scope in the order of the spec: name and constructing call."""
        found: list[tuple[str, Argument]] = []
        for label, entry in self.holders[tree.path].entries():
            key = attribute(label)
            if isinstance(entry, Node):
                target = self.calls.get(entry.id)
                if isinstance(target, TorchModule):
                    found.append((key, self.layers.new(entry, target, entry.id in self.within)))
            elif entry.path in self.made:
                found.append((key, self.made[entry.path]))
            elif entry.path in lists or self._is_list(entry):
                items = [part for _, part in self._parts(entry, lists) if isinstance(part, New)]
                found.append((key, New("nn.ModuleList", (("", many(items, label)),))))
            else:
                self.used.add("Group")
                found.append((key, New("Group", tuple(self._parts(entry, lists)))))
        return found

    def _is_chain(self, tree: ScopeTree, inputs: list[int], outputs: list[int]) -> bool:
        """Whether a scope is modules and chains one after the other, and nothing else.

        What is numbered and holds a scope has a class, which others like it share: blocks, stages.
        """
        if tree.children and tree.path[-1].isdecimal():
            return False
        if self.within and (tree.loops or tree.members != self.holders[tree.path].members):
            return False
        if len(inputs) != 1:
            return False
        last = inputs
        for label, entry in tree.entries():
            if not is_plain(attribute(label)) or label in _SEQUENTIAL:
                return False
            if isinstance(entry, Node):
                module = isinstance(self.calls[entry.id], TorchModule)
                if not module or list(entry.inputs) != last or self._is_repeated(entry):
                    return False
                last = [entry.id]
            else:
                flow = crossing(entry, self.graph, self.users, self.position)
                if flow[0] != last or not self._is_chain(entry, *flow):
                    return False
                last = flow[1]
        return last == outputs

    def _make_chain(self, tree: ScopeTree) -> None:
        self.used.add("Chain")
        for _, entry in tree.entries():
            if isinstance(entry, ScopeTree):
                self._make_chain(entry)
        self.made[tree.path] = New("Chain", tuple(self._parts(tree, {})))

    def _is_repeated(self, node: Node) -> bool:
        """Whether a node is a neuron that varies whose input is the same at all time steps."""
        if node.op != "neuron" or self.graph[node.inputs[0]].value.varies:
            return False
        return self.graph.program(node).varies


@record
class _Scope:
    """A scope with its forward method; ``kind`` is what stages of one text have in common."""

    tree: ScopeTree
    forward: Forward
    lists: Mapping[Path, int]
    outputs: int
    flow: str
    height: int
    kind: object
    methods: list[ast.FunctionDef]


_IMPORTS = {"math": "import math"}  # of neurons
