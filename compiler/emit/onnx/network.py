"""A network as ONNX.

Operators and values have the names of the modules of the model:
``stages.0.blocks.1.branch.conv2``. Initialisers have the names of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, ValueInfoProto, helper

from danetc.compiler.emit.names import attribute
from danetc.compiler.emit.onnx.writer import Arrays, NodeWriter, StepStates, tensor
from danetc.compiler.emit.scopes import LoopUnit, Scopes, ScopeTree
from danetc.compiler.ir.at_node import same_for_all, site
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS, whole
from danetc.compiler.ir.ops.user import refuse_code
from danetc.dsl.errors import UserError
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction, cheaper, fold

OPSET = 21
"""The latest that onnxruntime 1.32 runs; it has no RandomUniformLike of opset 22."""
IR_VERSION = 10


class NotInOnnx(UserError):
    """Raised if an operation has no form in ONNX. The message names its node."""


def emit_onnx(
    graph: Graph,
    weights: Arrays,
    *,
    streaming: bool = False,
    about: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Return the network with these weights (arrays of a state dict) as an ONNX model for any N.

    Args:
        streaming: Write one time step instead of T = ``graph.steps`` steps in sequence. The values
            that neurons, delays and loops carry are inputs and outputs under the names of their nodes.
        about: Metadata of the file. The start of each carried value (``start of NAME``) is added.

    Raises NotInOnnx, SpecError for layers in Python, and ValueError for one step of a network that needs later steps.
    """
    refuse_code(graph, "has no form in ONNX")
    return _Emitter(graph, weights, streaming).model(dict(about or {}))


class _Emitter:
    def __init__(self, graph: Graph, weights: Arrays, streaming: bool) -> None:
        self.graph = graph
        self.scopes = Scopes(graph)
        self.streaming = streaming
        self.shared = _same_for_all(graph)
        self.to = NodeWriter(graph, weights, bool(self.shared))
        self.values: dict[int, str] = {}
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []

    def model(self, about: dict[str, str]) -> onnx.ModelProto:
        graph, to = self.graph, self.to
        memory = StepStates(to)
        self._take_inputs()
        regions = [] if self.streaming else self._regions()
        within = {id for region in regions for id in region.members}
        nodes = [n for n in graph.nodes.values() if n.id not in within and n.id not in self.values]
        if self.streaming:
            to.memory, to.step = memory, to.claim("step")
        for unit, taken, made in self.scopes.walk(ScopeTree((), nodes, loops=regions)):
            if isinstance(unit, Node):
                self._write(unit)
            else:
                self._unroll(unit.members, taken, made)
        self._carry_on([*graph.carries] if self.streaming else [])
        self._give_outputs()
        if self.streaming:
            self._give_memory(memory, about)
        inner = helper.make_graph(
            to.nodes, graph.name, self.inputs, self.outputs, to.constants_read()
        )
        model = helper.make_model(
            inner, producer_name="danetc", ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )  # fmt: skip
        helper.set_model_props(model, about)
        return model

    # -- inputs and outputs -----------------------------------------------------------------------

    def _take_inputs(self) -> None:
        to = self.to
        for node in self.graph.inputs:
            name = to.claim(attribute(node.name))
            varies = node.value.varies and not self.streaming
            size: list[int | str] = [*[self.graph.steps] * varies, "N", *node.value.shape]
            self.inputs.append(tensor(name, size, node.value.kind.is_token))
            to.path = node.path
            self.values[node.id] = to.as_batch(name, node.value.shape) if varies else name

    def _give_outputs(self) -> None:
        to, graph = self.to, self.graph
        for label, id in graph.outputs.items():
            node, value = graph[id], self.values[id]
            varies = node.value.varies and not self.streaming
            to.path = node.path
            if varies:
                value = to.as_steps(value, node.value.shape)
            elif id in self.shared:
                ones = to.ints(*[1] * len(node.value.shape))
                value = to.node("Expand", value, to.node("Concat", self._batch(), ones, axis=0))
            name = to.claim(label)
            to.nodes.append(helper.make_node("Identity", [value], [name], name=name))
            self.outputs.append(tensor(name, [*[graph.steps] * varies, "N", *node.value.shape]))

    def _give_memory(self, memory: StepStates, notes: dict[str, str]) -> None:
        """Add the values that a step passes to the next as inputs and outputs."""
        to = self.to
        if any(to.step in node.input for node in to.nodes):
            self.inputs.append(helper.make_tensor_value_info(to.step, TensorProto.INT64, [1]))
            after = to.claim("step_next")
            to.nodes.append(helper.make_node("Add", [to.step, to.ints(1)], [after], after))
            self.outputs.append(helper.make_tensor_value_info(after, TensorProto.INT64, [1]))
            notes["start of step"] = "0"
        self.outputs += memory.results()
        for info, start in memory.starts.values():
            self.inputs.append(info)
            notes[f"start of {info.name}"] = repr(start)

    # -- nodes ------------------------------------------------------------------------------------

    def _write(self, node: Node) -> None:
        """Write the operators of a node, for all time steps or for the current one."""
        to = self.to
        to.path, to.at = node.path, node
        first = len(to.nodes)
        if node.op == "neuron":
            value = self._neuron(node)
        elif node.id in self.graph.carries:
            value = to.before("past", node.value.shape, whole(node.attrs, "steps"))
            if whole(node.attrs, "steps") > 1:
                part = to.node("Slice", value, to.ints(0), to.ints(1), to.ints(0))
                value = to.node("Squeeze", part, to.ints(0))
        else:
            value = self._operation(node)
        self.values[node.id] = to.rename(value, node.path + to.suffix, first)
        if to.memory is not None:
            to.memory.renamed(value, self.values[node.id])

    def _operation(self, node: Node) -> str:
        form = OPS[node.op].onnx
        if form is None:
            raise NotInOnnx(f"{node.path}: {node.op} has no form in ONNX")
        at, taken = site(self.graph, node), [self.values[id] for id in node.inputs]
        varying = [id for id in node.inputs if self.graph[id].value.varies]
        to = self.to
        if to.step or len(taken) < 2 or not varying:
            return form(to, at, taken)
        for place, id in enumerate(node.inputs):
            shape = self.graph[id].value.shape
            ones = to.ints(*[1] * len(shape))
            if not self.graph[id].value.varies and id not in self.shared:  # the same at each step
                times = to.node("Concat", to.length(), ones, axis=0)
                taken[place] = to.node("Tile", taken[place], times)
            elif self.graph[id].value.varies and id in self.shared:  # the same for each sample
                size = to.node("Concat", to.ints(1), self._batch(), ones, axis=0)
                each = to.node("Expand", to.as_steps(taken[place], shape), size)
                taken[place] = to.as_batch(each, shape)
        return form(to, at, taken)

    def _batch(self) -> str:
        """N, [1]."""
        first = self.graph.input
        place = int(first.value.varies and not self.streaming)
        return self.to.node("Shape", self.inputs[0].name, start=place, end=place + 1)

    def _neuron(self, node: Node) -> str:
        to, program = self.to, self.graph.program(node)
        names = [f"{node.path}.{state.name}" for state in program.states]
        states: list[str] = []
        for name, state in zip(names, program.states, strict=True):
            assert to.memory is not None
            states.append(to.memory.before(name, node.value.shape, 1, state.init))
        s, after = _neuron_step(to, program, self.values[node.inputs[0]], states)
        if to.memory is not None:
            to.memory.next |= zip(names, after, strict=True)
        return s

    # -- steps ------------------------------------------------------------------------------------

    def _regions(self) -> list[LoopUnit]:
        """Nodes that run step by step: loops over time, and neurons with states."""
        graph, loops = self.graph, self.scopes.loops
        neurons = (n for n in graph.nodes.values() if n.op == "neuron" and n.id not in loops)
        alone = [LoopUnit((), "", [n.id]) for n in neurons if graph.program(n).varies]
        return [*dict.fromkeys(loops.values()), *alone]

    def _unroll(self, members: list[int], taken: Sequence[int], made: Sequence[int]) -> None:
        to, graph, outer, steps = self.to, self.graph, dict(self.values), self.graph.steps
        to.path = graph[members[-1]].path
        frames = {id: [self.values[id]] * steps for id in taken}
        for id in taken:
            if self.graph[id].value.varies and steps > 1:
                frames[id] = to.nodes_of("Split", [self.values[id]], steps, axis=0, num_outputs=steps)  # fmt: skip
        to.memory = StepStates(to, self._batch() if len(members) > 1 else "")
        given: dict[int, list[str]] = {id: [] for id in made}
        for t in range(steps):
            to.step, to.suffix = to.ints(t), f"/t{t}"
            self.values |= {id: frames[id][t] for id in taken}
            for id in members:
                self._write(graph[id])
            self._carry_on([id for id in members if id in graph.carries])
            for id, values in given.items():
                values.append(self.values[id])
        to.memory, to.step, to.suffix = None, "", ""
        self.values = outer
        for id, values in given.items():
            to.path = self.graph[id].path
            first = len(to.nodes)
            self.values[id] = values[0]
            if steps > 1:
                joined = to.node("Concat", *values, axis=0)
                self.values[id] = to.rename(joined, to.path, first)

    def _carry_on(self, carries: Sequence[int]) -> None:
        """Save the values that later steps read."""
        to = self.to
        for id in carries:
            node, value = self.graph[id], self.values[self.graph.carries[id]]
            to.path, to.at = node.path, node
            count = whole(node.attrs, "steps")
            if count > 1:
                known = to.before("past", node.value.shape, count)
                later = to.node("Slice", known, to.ints(1), to.ints(count), to.ints(0))
                now = to.node("Unsqueeze", value, to.ints(0))
                value = to.node("Concat", later, now, axis=0)
            to.remember("past", value)


def _same_for_all(graph: Graph) -> frozenset[int]:
    """Values that are written once for all samples, [1, ...], such as running statistics."""
    found = set(same_for_all(graph))
    for node in graph.nodes.values():
        if OPS[node.op].time == "constant" or (node.inputs and found.issuperset(node.inputs)):
            found.add(node.id)
    return frozenset(found)


def _neuron_step(
    to: NodeWriter, program: NeuronProgram, x: str, states: Sequence[str]
) -> tuple[str, list[str]]:
    """Write one time step of a neuron; return the output and the next states.

    The last dimension of ``x`` holds several inputs. A state may come as one number.
    """
    values = {"x": x}
    if program.inputs:
        for place, name in enumerate(program.takes):
            index = to.node("Squeeze", to.ints(place), to.ints(0))
            values[name] = to.node("Gather", x, index, axis=-1)
    values |= zip((state.name for state in program.states), states, strict=True)
    for item in program.learnables:
        weight = to.weight(item.parameter)
        if item.per_step:
            weight = to.node("Gather", weight, to.step, axis=0)
        values[item.parameter] = weight
    results = [program.output, *program.next_states]
    of_input = {*program.takes}  # values with the shape of the input

    def apply(op: Instruction, operands: list[str]) -> str:
        if not of_input.isdisjoint(arg for arg in op.args if isinstance(arg, str)):
            of_input.add(op.name)
        row = OPCODES[op.opcode]
        if row.onnx is None:
            raise NotImplementedError(f"the function {op.opcode} has no form in ONNX")
        for name in row.onnx:
            operator, *numbers = name.split()
            taken = [*operands, *(to.array(float(number)) for number in numbers)]
            attributes = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
            operands = [to.node(operator, *taken[: 1 if attributes else None], **attributes)]
        return operands[0]

    values = fold(cheaper(program.ops, results), values, apply, to.array)
    found: list[str] = []
    for result in results:
        value = to.array(result) if isinstance(result, float) else values[result]
        if result not in of_input:
            value = to.node("Expand", value, to.node("Shape", x))
        found.append(value)
    s, *after = found
    return s, after
